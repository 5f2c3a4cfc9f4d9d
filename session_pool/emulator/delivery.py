"""Putting an answer on the wire, whole or as a script spoils it.

It knows aiohttp and the faults of answers; what the answer says was decided before.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from .errors import ERRORS, ApiError, no_such_api, refusal, throttled
from .faults import Fault, Plan
from .sessions import ExchangeRecord
from .settings import EmulatorSettings
from .times import ServerClock

# Long enough for a client in the same loop, or on the same machine, to read what was sent before
# the connection breaks: a reset may overtake octets that nobody has read yet.
_CUT_PAUSE_S: Final = 0.01

_JSON: Final = "application/json"
_DEEPER: Final = ("metadata", "data", "exchanges", "result")


class Broken(Exception):
    """A script says that the connection breaks here."""


class Delivery:
    """Writes answers.

    Args:
        settings, clock: of the emulator; each answer's `Date` is the server's belief.
    """

    def __init__(self, settings: EmulatorSettings, clock: ServerClock) -> None:
        self._settings = settings
        self._clock = clock

    async def value(
        self, request: web.Request, plan: Plan, value: dict[str, Any] | None
    ) -> web.StreamResponse:
        """Send a JSON object, or nothing at all.

        Raises:
            Broken: a script cuts the answer.
        """
        if value is None and plan.of("malformed") is None:
            return self._response(self._settings.no_content_status, b"", {})
        body = self._encoded(plan, value or {})
        cut = plan.of("cut_before", "cut_after")
        slow = plan.of("slow_body")
        if cut is None and slow is None:
            return self._response(200, body, {"Content-Type": _JSON})
        headers = {"Content-Type": _JSON, "Content-Length": str(len(body))}
        response = await self._begin(request, headers)
        if cut is not None:
            sent = len(body) // 2 if cut.at_bytes is None else min(cut.at_bytes, len(body))
            await response.write(body[:sent])
            await self._cut()
        await self._write(response, body, slow)
        return response

    def error(self, error: ApiError) -> web.Response:
        """A refusal."""
        body = error.body(described=self._settings.error_descriptions)
        if body is None:
            return self._response(error.status, b"", error.headers)
        if self._settings.extra_keys:
            body = _with_extra(body)
        return self._response(
            error.status, json.dumps(body).encode(), {"Content-Type": _JSON, **error.headers}
        )

    def oauth(self, status: int, body: dict[str, Any]) -> web.Response:
        """An answer of a token endpoint."""
        return self._response(status, json.dumps(body).encode(), {"Content-Type": _JSON})

    async def stream(
        self, request: web.Request, plan: Plan, exchange: ExchangeRecord, gone: ApiError
    ) -> web.StreamResponse:
        """Send a stream as the exchange says it: raw octets, no framing of its own.

        Args:
            gone: what to answer where the session ends before the first octet.

        Raises:
            ApiError: `gone`.
            Broken: the session ended, or the exchange was abandoned, in mid-stream; or a script
                cuts it: after `at_bytes`, or after the first chunk.
        """
        cut, slow = plan.of("cut_before", "cut_after"), plan.of("slow_body")
        response: web.StreamResponse | None = None
        if self._settings.stream_headers == "at_once":
            response = await self._begin(request, {"Content-Type": "application/octet-stream"})
        sent = octets = 0
        while sent < len(exchange.chunks) or not exchange.done.is_set():
            if sent == len(exchange.chunks):
                exchange.news.clear()
                await exchange.news.wait()
                continue
            chunk = exchange.chunks[sent]
            sent += 1
            if response is None:
                response = await self._begin(request, {"Content-Type": "application/octet-stream"})
                if plan.of("malformed") is not None:
                    await response.write(b"\xff\xfe")
            limit = len(chunk) if cut is None or cut.at_bytes is None else cut.at_bytes - octets
            await self._write(response, chunk if cut is None else chunk[:limit], slow)
            octets += len(chunk)
            if cut is not None and limit <= len(chunk):
                await self._cut()
        if cut is not None:
            await self._cut()
        if exchange.state in ("gone", "abandoned"):
            if response is None:
                raise gone
            await self._cut()
        if response is None:
            response = await self._begin(request, {"Content-Type": "application/octet-stream"})
        await response.write_eof()
        return response

    async def _begin(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(headers={**headers, "Date": self._clock.date_header()})
        await response.prepare(request)
        return response

    async def _write(self, response: web.StreamResponse, body: bytes, slow: Fault | None) -> None:
        if slow is None:
            await response.write(body)
            # Let it go out by itself: chunks that meet in a buffer split no characters.
            await asyncio.sleep(0)
            return
        for at in range(len(body)):
            await asyncio.sleep(slow.delay_s)
            await response.write(body[at : at + 1])

    async def _cut(self) -> None:
        await asyncio.sleep(_CUT_PAUSE_S)
        raise Broken

    def _response(self, status: int, body: bytes, headers: Mapping[str, str]) -> web.Response:
        dated = {**headers, "Date": self._clock.date_header()}
        return web.Response(status=status, body=body or None, headers=dated)

    def _encoded(self, plan: Plan, value: dict[str, Any]) -> bytes:
        for fault in plan.each("missing_field"):
            value = _without(value, fault.field.split("."))
        if self._settings.extra_keys:
            value = _with_extra(value)
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        # Without its last brace it is no JSON, whatever it was.
        return body[:-1] if plan.of("malformed") is not None else body


def scripted(fault: Fault, about: Mapping[str, str], clock: ServerClock) -> ApiError:
    """The refusal that a fault asks for, about the request's own agent and session."""
    if fault.kind in ("429", "503"):
        error = throttled(int(fault.kind))
    elif fault.kind == "empty_404":
        error = no_such_api()
    elif fault.kind == "error" and fault.error not in ERRORS:
        error = ApiError(fault.error, status=fault.status, code=fault.code, parameters=about)
    else:
        generic = {
            "401": "Default:Unauthorized",
            "403": "Default:PermissionDenied",
            "500": "Default:Internal",
        }
        error = refusal(fault.error or generic[fault.kind], **about)
    if fault.retry_after_s is not None:
        error.headers["Retry-After"] = clock.retry_after(
            fault.retry_after_s, as_date=fault.retry_after_date
        )
    if fault.retry_hint is not None:
        error.headers["QoS-Retry-Hint"] = fault.retry_hint
    if fault.due_to is not None:
        error.headers["QoS-Due-To"] = fault.due_to
    return error


def break_connection(request: web.Request) -> None:
    """Reset the connection: what is on the way is lost, and the client sees an error."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        # Linger on, for no time: closing sends a reset instead of a farewell.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _without(value: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """A copy that lacks the field at a path; in lists, each element does."""
    first, rest = path[0], path[1:]
    if not rest:
        return {name: inner for name, inner in value.items() if name != first}
    changed = dict(value)
    inner = value.get(first)
    if isinstance(inner, dict):
        changed[first] = _without(inner, rest)
    elif isinstance(inner, list):
        changed[first] = [_without(one, rest) if isinstance(one, dict) else one for one in inner]
    return changed


def _with_extra(value: dict[str, Any]) -> dict[str, Any]:
    """A copy with a key that no client knows, inside as well, but in maps of the caller's own."""
    changed: dict[str, Any] = {"emulatedNovelty": {"since": "the next release"}}
    for name, inner in value.items():
        if name in _DEEPER and isinstance(inner, dict):
            changed[name] = _with_extra(inner)
        elif name in _DEEPER and isinstance(inner, list):
            changed[name] = [_with_extra(one) if isinstance(one, dict) else one for one in inner]
        else:
            changed[name] = inner
    return changed
