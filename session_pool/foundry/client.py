"""The AIP Agents API over HTTP: each operation is one request, and its answer a noun of the model.

This room puts the others together: paths from `address`, bodies from `wire`, the token from
`auth`, connections from `transport`, failures from `translate`. It knows no pool, no policy and no
budget. A request is sent once; only a 401, which says that nothing was begun, is answered by
renewing the token and sending once more.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from yarl import URL

from session_pool.errors import RemoteMalformed, RemoteUnavailable, SessionPoolError
from session_pool.foundry import address, translate, wire
from session_pool.foundry.api import Background, SessionPage
from session_pool.foundry.auth import Auth, NeedsHost
from session_pool.foundry.translate import Operation
from session_pool.foundry.transport import Clock, Incoming, Request, TextStream, Transport
from session_pool.model import Exchange, Sighting

# HTTP's `Date` has whole seconds, cut: the remote's clock may be up to this much further (B20).
_DATE_IS_CUT_BY_S: Final = 1.0


def _version() -> str:
    from importlib import metadata  # costs as much to import as the rest of this room

    try:
        return metadata.version("session-pool")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"


class FoundryClient:
    """The remote API of one stack, for one principal; implements `Api`, see there for the methods.

    Args:
        url: the stack's address, `https://host[:port]`.
        auth: whose token to use. `ClientCredentials` are bound to this client while it is open.
        allow_http: take plain `http` beyond loopback too.
        connect_timeout_s: seconds for DNS, connection and TLS together, within each call's own.
        ssl_context: how to trust the stack; None is the system's, with SSL_CERT_FILE heeded.
        proxy: URL of an HTTP proxy.
        clock: seconds, for what requests take; None is the loop's, sleep of the machine counted.
        on_drift: told, once for each, what the answers lack that the contract has (B32).

    Raises:
        ConfigError: `url` is none.
    """

    def __init__(
        self,
        url: str,
        auth: Auth,
        *,
        allow_http: bool = False,
        connect_timeout_s: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        clock: Clock | None = None,
        on_drift: Callable[[str], None] | None = None,
    ) -> None:
        self.url = address.check_url(url, allow_http=allow_http)
        self._auth = auth
        self._on_drift = on_drift
        self._drifted: set[str] = set()
        self._transport = Transport(
            user_agent=f"session-pool/{_version()}",
            connect_timeout_s=connect_timeout_s,
            ssl_context=ssl_context,
            proxy=proxy,
            clock=clock,
        )

    async def open(self) -> None:
        """Bind to the running loop; see `Api.open`.

        Raises:
            PoolClosed: it is open in another loop.
            ConfigError: its `ClientCredentials` serve another client.
        """
        if not self._transport.is_open and isinstance(self._auth, NeedsHost):
            self._auth.bind(self._post_form)
        await self._transport.open()

    async def aclose(self) -> None:
        """Close all connections; see `Api.aclose`."""
        try:
            if self._transport.is_open and isinstance(self._auth, NeedsHost):
                await self._auth.unbind()
        finally:
            await self._transport.aclose()

    def background(self) -> Background:
        """Return the renewal of the token, where there is one to be renewed."""
        return self._auth.background() if isinstance(self._auth, NeedsHost) else ()

    # ------------------------------------------------------------------------------- sessions

    async def create_session(
        self, agent_rid: str, *, agent_version: str | None = None, timeout_s: float
    ) -> Sighting:
        """Make a session; see `Api.create_session`.

        Its life counts from `updatedTime`, the one instant known to be the same clock's as the
        estimate's and to lie within this request (B20).
        """
        incoming, found = await self._ask(
            wire.WireSession,
            Operation.CREATE,
            "POST",
            address.sessions_path(agent_rid),
            timeout_s,
            body=wire.encode({"agentVersion": agent_version}),
        )
        session = found.noun()
        if not found.has_estimate:
            return self._without_estimate(found)
        return Sighting(session, session.lifetime_s - incoming.elapsed_s)

    async def get_session(self, agent_rid: str, session_rid: str, *, timeout_s: float) -> Sighting:
        """Look at one session; see `Api.get_session`.

        Raises:
            RemoteMalformed: also where the answer is about another session.
        """
        incoming, found = await self._ask(
            wire.WireSession,
            Operation.GET,
            "GET",
            address.session_path(agent_rid, session_rid),
            timeout_s,
        )
        if found.rid != session_rid:
            raise RemoteMalformed("get_session: rid: the answer is about another session")
        return self._sighting(found, incoming)

    async def list_sessions(
        self,
        agent_rid: str,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout_s: float,
    ) -> SessionPage:
        """Look at one page of sessions; see `Api.list_sessions`."""
        incoming, page = await self._ask(
            wire.WireSessionPage,
            Operation.LIST,
            "GET",
            address.sessions_path(agent_rid),
            timeout_s,
            query={"pageSize": page_size, "pageToken": page_token},
        )
        sessions = tuple(self._sighting(found, incoming) for found in page.data)
        said_s = translate.http_date_s(incoming.headers.get("Date", ""))
        date = None if said_s is None else datetime.fromtimestamp(said_s, UTC)
        return SessionPage(sessions, page.next_page_token or None, date)

    async def delete_session(self, agent_rid: str, session_rid: str, *, timeout_s: float) -> None:
        """Delete one session; see `Api.delete_session`."""
        path = address.session_path(agent_rid, session_rid)
        request = self._request(Operation.DELETE, "DELETE", path)
        await (await self._send(request, timeout_s)).body()

    # ------------------------------------------------------------------------------ exchanges

    async def blocking_continue(
        self,
        agent_rid: str,
        session_rid: str,
        *,
        text: str,
        trace_id: str,
        parameter_inputs: Mapping[str, Any] | None = None,
        contexts_override: Sequence[Any] | None = None,
        timeout_s: float,
    ) -> Exchange:
        """Say something and wait for the answer; see `Api.blocking_continue`.

        Raises:
            RemoteMalformed: also where the answer is to another exchange: nobody gets another's.
        """
        said = wire.Said(text, trace_id, None, parameter_inputs, contexts_override)
        _, result = await self._ask(
            wire.WireResult,
            Operation.BLOCKING,
            "POST",
            address.session_path(agent_rid, session_rid, "blockingContinue"),
            timeout_s,
            body=said.body(),
        )
        if result.session_trace_id.lower() != trace_id.lower():
            raise RemoteMalformed("blocking_continue: sessionTraceId: not the exchange's own")
        return result.noun()

    @asynccontextmanager
    async def streaming_continue(
        self,
        agent_rid: str,
        session_rid: str,
        *,
        text: str,
        trace_id: str,
        message_id: str,
        parameter_inputs: Mapping[str, Any] | None = None,
        contexts_override: Sequence[Any] | None = None,
        timeout_s: float,
    ) -> AsyncGenerator[AsyncIterator[str]]:
        """Say something and read the answer as it comes; see `Api.streaming_continue`."""
        said = wire.Said(text, trace_id, message_id, parameter_inputs, contexts_override)
        path = address.session_path(agent_rid, session_rid, "streamingContinue")
        request = self._request(Operation.STREAMING, "POST", path, body=said.body())
        incoming = await self._send(request, timeout_s)
        try:
            yield TextStream(Operation.STREAMING, incoming)
        finally:
            incoming.close()

    async def cancel(
        self,
        agent_rid: str,
        session_rid: str,
        *,
        message_id: str,
        response: str | None = None,
        timeout_s: float,
    ) -> Exchange | None:
        """Stop a streamed exchange; see `Api.cancel`."""
        _, cancelled = await self._ask(
            wire.WireCancelled,
            Operation.CANCEL,
            "POST",
            address.session_path(agent_rid, session_rid, "cancel"),
            timeout_s,
            body=wire.encode({"messageId": message_id, "response": response}),
        )
        return None if cancelled.result is None else cancelled.result.noun()

    async def content(
        self, agent_rid: str, session_rid: str, *, timeout_s: float
    ) -> tuple[Exchange, ...]:
        """Read a session's exchanges; see `Api.content`."""
        path = address.session_path(agent_rid, session_rid, "content")
        _, content = await self._ask(wire.WireContent, Operation.CONTENT, "GET", path, timeout_s)
        return tuple(exchange.result.noun() for exchange in content.exchanges)

    async def trace_complete(
        self, agent_rid: str, session_rid: str, trace_id: str, *, timeout_s: float
    ) -> bool:
        """Tell whether an exchange is over; see `Api.trace_complete`."""
        path = address.session_path(agent_rid, session_rid, "sessionTraces", trace_id)
        _, trace = await self._ask(wire.WireTrace, Operation.TRACE, "GET", path, timeout_s)
        return trace.status == "COMPLETE"

    # ------------------------------------------------------------------------------- sending

    async def _ask(
        self,
        shape: type[wire.Shape],
        operation: Operation,
        method: str,
        path: str,
        timeout_s: float,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: bytes | None = None,
    ) -> tuple[Incoming, wire.Shape]:
        """Send a request and read its whole answer as JSON."""
        request = self._request(operation, method, path, query=query, body=body)
        incoming = await self._send(request, timeout_s)
        return incoming, wire.read(shape, await incoming.body(), operation)

    def _request(
        self,
        operation: Operation,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: bytes | None = None,
    ) -> Request:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        url = URL(f"{self.url}{path}?{urlencode({'preview': 'true', **given})}", encoded=True)
        headers = {"Accept": "application/json"}
        if operation is Operation.STREAMING:
            # Whoever compresses a stream gathers it first, and the first words come late.
            headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return Request(operation, method, url, headers, body)

    async def _send(self, request: Request, timeout_s: float) -> Incoming:
        """Send a request with a token; return the answer if it is 2xx, its body unread."""
        self._transport.check_open()
        deadline = self._deadline(timeout_s)
        token = await self._token(deadline, request.operation, self._auth.token)
        incoming = await self._transport.begin(_bearing(request, token), deadline)
        if incoming.status == 401:
            await incoming.error_body()
            stale = token
            token = await self._token(deadline, request.operation, lambda: self._auth.renew(stale))
            incoming = await self._transport.begin(_bearing(request, token), deadline)
        if 200 <= incoming.status < 300:
            return incoming
        body = await incoming.error_body()
        raise translate.of_answer(request.operation, incoming.status, incoming.headers, body)

    async def _token(
        self, deadline: float, operation: Operation, ask: Callable[[], Awaitable[str]]
    ) -> str:
        try:
            async with asyncio.timeout_at(deadline):
                return await ask()
        except TimeoutError as error:
            raise RemoteUnavailable(f"{operation}: no token in time", sent=False) from error
        except SessionPoolError:
            raise
        except Exception as error:  # whatever an auth of the user's own lets out: it may pass
            kind = type(error).__name__
            raise RemoteUnavailable(
                f"{operation}: no token: {type(self._auth).__name__} raised {kind}", sent=False
            ) from error

    async def _post_form(self, form: Mapping[str, str], timeout_s: float) -> bytes:
        """Post to the token endpoint, for `ClientCredentials`."""
        request = Request(
            Operation.TOKEN,
            "POST",
            URL(self.url + address.TOKEN_PATH, encoded=True),
            {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"},
            urlencode(form).encode("ascii"),
        )
        try:
            incoming = await self._transport.begin(request, self._deadline(timeout_s))
            if 200 <= incoming.status < 300:
                return await incoming.body()
        except RemoteUnavailable as error:
            error.sent = False  # the form perhaps, but not the request that wants the token
            raise
        body = await incoming.error_body()
        raise translate.of_token_answer(incoming.status, incoming.headers, body)

    def _deadline(self, timeout_s: float) -> float:
        return asyncio.get_running_loop().time() + timeout_s

    # ------------------------------------------------------------------------------ durations

    def _sighting(self, found: wire.WireSession, incoming: Incoming) -> Sighting:
        """Return a session with what is left of its life by the answer's own `Date` (B20).

        Without one nothing is left, as far as can be known: this machine's clock is no measure of
        the remote's, and `updatedTime` may lie long ago. It is alive all the same, which is what a
        GET before use asks.
        """
        if not found.has_estimate:
            return self._without_estimate(found)
        session = found.noun()
        said_s = translate.http_date_s(incoming.headers.get("Date", ""))
        if said_s is None:
            self._drift("answers carry no Date: what is left of a session cannot be told")
            return Sighting(session, 0.0, said=False)
        left_s = session.estimated_expires_time.timestamp() - (said_s + _DATE_IS_CUT_BY_S)
        return Sighting(session, left_s - incoming.elapsed_s)

    def _without_estimate(self, found: wire.WireSession) -> Sighting:
        self._drift("sessions carry no estimatedExpiresTime: each is looked at before its use")
        return Sighting(found.noun(), 0.0, said=False)

    def _drift(self, what: str) -> None:
        if self._on_drift is not None and what not in self._drifted:
            self._drifted.add(what)
            self._on_drift(what)

    def __repr__(self) -> str:
        state = "open" if self._transport.is_open else "closed"
        return f"<FoundryClient {self.url}, {type(self._auth).__name__}, {state}>"


def _bearing(request: Request, token: str) -> Request:
    headers = {**request.headers, "Authorization": f"Bearer {token}"}
    return request._replace(headers=headers)
