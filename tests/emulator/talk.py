"""A plain client for the emulator's tests: it says what it is told to, and hides nothing.

It shares no code with the package's own client, so that the two cannot agree on a mistake.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from session_pool.emulator import Emulator


class Said(NamedTuple):
    """An answer: status, headers, and the JSON body (None where there was none)."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def error(self) -> str | None:
        return self.body.get("errorName") if isinstance(self.body, dict) else None


class Talk:
    """Requests to one emulator with one token; every method is one request."""

    def __init__(self, emu: Emulator, http: aiohttp.ClientSession, token: str) -> None:
        self.emu = emu
        self.http = http
        self.token = token
        self.agent = emu.agent_rid

    def by(self, token: str) -> Talk:
        """The same with another token."""
        return Talk(self.emu, self.http, token)

    def at(self, session: str, tail: str = "") -> str:
        return f"{self.agent}/sessions/{session}{tail}"

    def ask_for(
        self, method: str, path: str, *, preview: str | None = "true", **options: Any
    ) -> Any:
        """The request's context manager, for those who read the answer themselves."""
        params = dict(options.pop("params", {}))
        if preview is not None:
            params["preview"] = preview
        return self.http.request(
            method,
            f"{self.emu.url}/api/v2/aipAgents/agents/{path}",
            params=params,
            headers={"Authorization": f"Bearer {self.token}"},
            **options,
        )

    async def say(self, method: str, path: str, **options: Any) -> Said:
        async with self.ask_for(method, path, **options) as response:
            text = await response.read()
            body = await response.json() if text else None
            return Said(response.status, dict(response.headers), body)

    async def create(self, **body: Any) -> Said:
        return await self.say("POST", f"{self.agent}/sessions", json=body)

    async def new(self) -> str:
        """A fresh session's RID."""
        said = await self.create()
        assert said.status == 200, said
        rid: str = said.body["rid"]
        return rid

    async def get(self, session: str) -> Said:
        return await self.say("GET", self.at(session))

    async def page(self, **params: Any) -> Said:
        return await self.say("GET", f"{self.agent}/sessions", params=params)

    async def delete(self, session: str) -> Said:
        return await self.say("DELETE", self.at(session))

    async def blocking(self, session: str, text: str = "hello", **more: Any) -> Said:
        body = continuing(text, **more)
        return await self.say("POST", self.at(session, "/blockingContinue"), json=body)

    def streaming(self, session: str, text: str = "hello", **more: Any) -> Any:
        """The context manager of a stream."""
        body = continuing(text, **more)
        return self.ask_for("POST", self.at(session, "/streamingContinue"), json=body)

    async def stream(self, session: str, text: str = "hello", **more: Any) -> bytes:
        """A whole stream."""
        async with self.streaming(session, text, **more) as response:
            assert response.status == 200
            octets: bytes = await response.read()
            return octets

    async def cancel(self, session: str, message_id: str, **more: Any) -> Said:
        body = {"messageId": message_id, **more}
        return await self.say("POST", self.at(session, "/cancel"), json=body)

    async def content(self, session: str) -> list[Any]:
        said = await self.say("GET", self.at(session, "/content"))
        assert said.status == 200, said
        exchanges: list[Any] = said.body["exchanges"]
        return exchanges

    async def trace(self, session: str, trace_id: str) -> Said:
        return await self.say("GET", self.at(session, f"/sessionTraces/{trace_id}"))

    async def trace_status(self, session: str, trace_id: str) -> str | None:
        said = await self.trace(session, trace_id)
        return said.body.get("status") or said.error

    async def oauth(self, path: str, **form: str) -> Said:
        url = f"{self.emu.url}/multipass/api/oauth2/{path}"
        async with self.http.post(url, data=form) as response:
            return Said(response.status, dict(response.headers), await response.json())

    async def oauth_status(self, path: str, **form: str) -> int:
        url = f"{self.emu.url}/multipass/api/oauth2/{path}"
        async with self.http.post(url, data=form) as response:
            return response.status


def continuing(text: str, **more: Any) -> dict[str, Any]:
    """The body of a continue."""
    return {"userInput": {"text": text}, "parameterInputs": {}, **more}


def fresh_id() -> str:
    return str(uuid.uuid4())


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Talk]:
    """An emulator and a talk with it.

    In the test and not in a fixture: a looptime test has another clock than its fixtures.
    """
    async with (
        Emulator(**settings) as emu,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http,
    ):
        yield Talk(emu, http, emu.token)
