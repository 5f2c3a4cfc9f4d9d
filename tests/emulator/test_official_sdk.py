"""The official SDK, unchanged, against the emulator: every endpoint and error type, both clients.

How it gets here: `hostname` is the emulator's `host` ("127.0.0.1:port"), and the SDK's own public
`Config(scheme="http")` makes it speak plain HTTP. No certificate, no patch, no other transport.

These tests run in real time: the synchronous client works in a thread. The one thing they reach
into is the SDK's cache of connection pools, which it keeps for the whole process and never closes;
a pool that belongs to a loop that is over would fail the next test.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from typing import Any, TypeVar, cast

import pytest
from foundry_sdk import ConfidentialClientAuth, Config, UserTokenAuth, v2
from foundry_sdk import _errors as sdk
from foundry_sdk._core import http_client
from foundry_sdk.v2.aip_agents import errors as named
from foundry_sdk.v2.aip_agents import models

from session_pool.emulator import ERRORS, AgentSetup, Emulator, Fault

T = TypeVar("T")
OTHER = "ri.aip-agents..agent.00000000-0000-4000-8000-00000000000b"
HELLO = models.UserTextInput(text="grüß dich [[c1]]")
ANSWER = "#1 c1 → grüß dich [[c1]]"


class Sync:
    """The synchronous client, each call in a thread."""

    def __init__(self, emu: Emulator, auth: Any) -> None:
        config = Config(scheme="http", backoff_slot_size_ms=1)
        self.agents = v2.FoundryClient(auth=auth, hostname=emu.host, config=config).aip_agents.Agent

    async def call(self, method: Callable[..., T], *args: Any, **options: Any) -> T:
        return await asyncio.to_thread(method, *args, preview=True, **options)

    async def close(self) -> None:
        self.agents._api_client._session.close()

    async def rids(self, method: Callable[..., Any], *args: Any, **options: Any) -> list[str]:
        def read() -> list[str]:
            return [one.rid for one in method(*args, preview=True, **options)]

        return await asyncio.to_thread(read)

    async def octets(self, *args: Any, **options: Any) -> list[bytes]:
        def read() -> list[bytes]:
            streaming = self.agents.Session.with_streaming_response.streaming_continue
            with streaming(*args, preview=True, **options) as response:
                return list(response.iter_bytes())

        return await asyncio.to_thread(read)


class Async:
    """The asynchronous client, in the emulator's own loop."""

    def __init__(self, emu: Emulator, auth: Any) -> None:
        config = Config(scheme="http")
        self.agents = v2.AsyncFoundryClient(
            auth=auth, hostname=emu.host, config=config, preview=True
        ).aip_agents.Agent

    async def call(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return await method(*args, preview=True, **options)

    async def close(self) -> None:
        await self.agents._api_client._client.aclose()

    async def rids(self, method: Callable[..., Any], *args: Any, **options: Any) -> list[str]:
        return [one.rid async for one in method(*args, preview=True, **options)]

    async def octets(self, *args: Any, **options: Any) -> list[bytes]:
        streaming = self.agents.Session.with_streaming_response.streaming_continue
        async with streaming(*args, preview=True, **options) as response:
            return [chunk async for chunk in response.aiter_bytes()]


Client = Sync | Async
both = pytest.mark.parametrize("kind", [Sync, Async])


@asynccontextmanager
async def connected(
    kind: type[Client], auth: Any = None, **settings: Any
) -> AsyncIterator[tuple[Emulator, Any]]:
    """An emulator and one of the SDK's clients; the SDK's connections are closed at the end."""
    async with Emulator(**settings) as emu:
        client = kind(emu, auth or UserTokenAuth(token=emu.token))
        try:
            yield emu, client
        finally:
            await client.close()
            cast("Any", http_client._get_async_transport).cache_clear()
            cast("Any", http_client._get_transport).cache_clear()


@both
async def test_a_session_lives_from_creation_to_deletion(kind: type[Client]) -> None:
    async with connected(kind) as (emu, sdk_client):
        call, sessions = sdk_client.call, sdk_client.agents.Session
        session = await call(sessions.create, emu.agent_rid)
        assert session.agent_version == "1.0"
        assert session.metadata.message_count == 0
        lived = session.metadata.estimated_expires_time - session.metadata.updated_time
        assert lived.total_seconds() == 86400
        assert session.metadata.created_time.tzinfo is UTC or (
            session.metadata.created_time.utcoffset().total_seconds() == 0
        )

        assert await call(sessions.get, emu.agent_rid, session.rid) == session
        assert await call(sessions.update_title, emu.agent_rid, session.rid, title="t") is None
        assert (await call(sessions.get, emu.agent_rid, session.rid)).metadata.title == "t"
        assert await call(sessions.delete, emu.agent_rid, session.rid) is None
        with pytest.raises(named.SessionNotFound) as caught:
            await call(sessions.get, emu.agent_rid, session.rid)
        assert caught.value.parameters["sessionRid"] == session.rid


@both
async def test_exchanges_are_continued_traced_and_read_back(kind: type[Client]) -> None:
    async with connected(kind, stream_chunk_bytes=3) as (emu, sdk_client):
        call, sessions = sdk_client.call, sdk_client.agents.Session
        rid = (await call(sessions.create, emu.agent_rid, agent_version="1.0")).rid
        trace_id = str(uuid.uuid4())
        result = await call(
            sessions.blocking_continue,
            emu.agent_rid,
            rid,
            user_input=HELLO,
            parameter_inputs={"place": models.StringParameterValue(value="here")},
            contexts_override=[
                models.FunctionRetrievedContext(
                    function_rid="ri.function-registry.main.function.x",
                    function_version="1.0.0",
                    retrieved_prompt="look",
                )
            ],
            session_trace_id=trace_id,
        )
        assert result.agent_markdown_response == ANSWER
        assert result.session_trace_id == trace_id
        trace = await call(sessions.SessionTrace.get, emu.agent_rid, rid, trace_id)
        assert trace.status == "COMPLETE"

        streamed = str(uuid.uuid4())
        options = {"user_input": HELLO, "parameter_inputs": {}, "session_trace_id": streamed}
        whole = await call(sessions.streaming_continue, emu.agent_rid, rid, **options)
        assert whole.decode() == ANSWER.replace("#1", "#2")
        chunks = await sdk_client.octets(emu.agent_rid, rid, user_input=HELLO, parameter_inputs={})
        assert b"".join(chunks).decode() == ANSWER.replace("#1", "#3")

        content = await call(sessions.Content.get, emu.agent_rid, rid)
        assert [one.user_input.text for one in content.exchanges] == [HELLO.text] * 3
        assert content.exchanges[0].result == result
        assert content.exchanges[0].contexts.function_retrieved_contexts[0].retrieved_prompt
        assert content.exchanges[1].result.session_trace_id == streamed

        context = await call(
            sessions.rag_context, emu.agent_rid, rid, user_input=HELLO, parameter_inputs={}
        )
        assert context.object_contexts == []


@both
async def test_a_streamed_exchange_is_cancelled(kind: type[Client]) -> None:
    async with connected(kind, exchange_latency_s=0.3) as (emu, sdk_client):
        call, sessions = sdk_client.call, sdk_client.agents.Session
        rid = (await call(sessions.create, emu.agent_rid)).rid
        message_id = str(uuid.uuid4())
        options = {"user_input": HELLO, "parameter_inputs": {}, "message_id": message_id}
        stream = asyncio.create_task(
            call(sessions.streaming_continue, emu.agent_rid, rid, **options)
        )
        await emu.wait_for(lambda: emu.sessions[rid].running)
        cancelled = await call(
            sessions.cancel, emu.agent_rid, rid, message_id=message_id, response="stop"
        )
        assert cancelled.result.agent_markdown_response == "stop"
        assert cancelled.result.interrupted_output is True
        assert (await stream).decode() == ANSWER
        with pytest.raises(named.CancelSessionFailedMessageNotInProgress):
            await call(sessions.cancel, emu.agent_rid, rid, message_id=message_id)


@both
async def test_listings_are_paged_through(kind: type[Client]) -> None:
    async with connected(kind) as (emu, sdk_client):
        call, sessions = sdk_client.call, sdk_client.agents.Session
        made = [(await call(sessions.create, emu.agent_rid)).rid for _ in range(5)]
        assert await sdk_client.rids(sessions.list, emu.agent_rid, page_size=2) == made[::-1]
        assert emu.requests("list") == 3
        everywhere = (await call(sessions.create, OTHER)).rid
        listed = await sdk_client.rids(sdk_client.agents.all_sessions, page_size=4)
        assert listed == [everywhere, *made[::-1]]


@both
async def test_agents_and_versions_are_read(kind: type[Client]) -> None:
    setup = AgentSetup(
        versions=("1.0", "2.0"), parameters={"place": "string", "things": "objectSet"}
    )
    async with connected(kind, agents={OTHER: setup}) as (_, sdk_client):
        call, agents = sdk_client.call, sdk_client.agents
        agent = await call(agents.get, OTHER)
        assert agent.version == "2.0"
        assert set(agent.parameters) == {"place", "things"}
        assert (await call(agents.get, OTHER, version="1.0")).version == "1.0"
        version = await call(agents.AgentVersion.get, OTHER, "1.0")
        assert (version.version.major, version.version.minor) == (1, 0)
        with pytest.raises(named.InvalidAgentVersion):
            await call(agents.AgentVersion.get, OTHER, "one")


@both
async def test_odd_but_lawful_answers_are_understood(kind: type[Client]) -> None:
    settings: dict[str, Any] = {
        "extra_keys": True,
        "fraction_digits": "vary",
        "lifetime_s": float("inf"),
        "no_content_status": 200,
        "token_counts": False,
    }
    async with connected(kind, **settings) as (emu, sdk_client):
        call, sessions = sdk_client.call, sdk_client.agents.Session
        for _ in range(6):
            session = await call(sessions.create, emu.agent_rid)
            assert session.metadata.estimated_expires_time.year == 9999
        options = {"user_input": HELLO, "parameter_inputs": {}}
        result = await call(sessions.blocking_continue, emu.agent_rid, session.rid, **options)
        assert result.total_tokens_used is None
        assert await call(sessions.delete, emu.agent_rid, session.rid) is None


BASES = {
    400: sdk.BadRequestError,
    401: sdk.UnauthorizedError,
    403: sdk.PermissionDeniedError,
    404: sdk.NotFoundError,
    409: sdk.ConflictError,
    413: sdk.RequestEntityTooLargeError,
    415: sdk.PalantirRPCException,
    422: sdk.UnprocessableEntityError,
    500: sdk.InternalServerError,
}


@both
async def test_every_named_error_is_the_type_that_the_sdk_has_for_it(kind: type[Client]) -> None:
    """Each operation answers each error; the SDK raises its own class where the operation lists
    it, and else the class of the status. Over all operations each of its classes is seen."""
    seen: set[str] = set()
    async with connected(kind) as (emu, sdk_client):
        for op, call in await _operations(emu, sdk_client):
            for name, error in ERRORS.items():
                emu.inject(Fault(op, name, nth=1))
                with pytest.raises(BASES[error.status]) as caught:
                    await call()
                assert caught.value.name == name
                if type(caught.value) is getattr(named, name, None):
                    seen.add(name)
                emu.clear_faults()
    assert seen == {name for name in ERRORS if hasattr(named, name)}
    assert {name for name in named.__all__ if hasattr(named, name)} <= set(ERRORS)


@both
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("create:*:429", sdk.RateLimitError),
        ("create:*:503", sdk.ServiceUnavailable),
        ("create:*:empty_404", sdk.ApiNotFoundError),
        ("create:*:500", sdk.InternalServerError),
        ("create:*:401", sdk.UnauthorizedError),
    ],
)
async def test_answers_without_a_name_are_the_sdks_own_types(
    kind: type[Client], fault: str, error: type[Exception]
) -> None:
    async with connected(kind, faults=[fault]) as (emu, sdk_client):
        with pytest.raises(error):
            await sdk_client.call(sdk_client.agents.Session.create, emu.agent_rid)
        retried = kind is Sync and fault.endswith(("429", "503"))
        assert emu.requests("create") == (4 if retried else 1)


async def test_a_do_not_retry_hint_is_heeded() -> None:
    fault = Fault("create", "429", retry_hint="do-not-retry", due_to="custom")
    async with connected(Sync, faults=[fault]) as (emu, sdk_client):
        with pytest.raises(sdk.RateLimitError) as caught:
            await sdk_client.call(sdk_client.agents.Session.create, emu.agent_rid)
        assert caught.value.retry_hint is not None
        assert caught.value.due_to is not None
        assert emu.requests("create") == 1


async def test_preview_is_asked_for() -> None:
    async with connected(Sync) as (emu, sdk_client):
        with pytest.raises(sdk.BadRequestError) as caught:
            await asyncio.to_thread(sdk_client.agents.Session.create, emu.agent_rid)
        assert caught.value.name == "ApiFeaturePreviewUsageOnly"


async def test_client_credentials_work_and_are_given_back() -> None:
    """In a thread only: the SDK's asynchronous client fetches tokens by blocking its loop, which
    here is the emulator's own."""
    auth = ConfidentialClientAuth(
        client_id="emulated-client",
        client_secret="emulated-client-secret",
        scopes=["api:aip-agents-read", "api:aip-agents-write"],
        should_refresh=False,
    )
    async with connected(Sync, auth) as (emu, sdk_client):
        sessions = sdk_client.agents.Session
        session = await sdk_client.call(sessions.create, emu.agent_rid)
        assert emu.sessions[session.rid].owner == "service-user-emulated-client"
        assert await sdk_client.rids(sessions.list, emu.agent_rid) == [session.rid]
        await asyncio.to_thread(auth.sign_out)
        assert emu.requests("revoke") == 1
        assert emu.requests("token") == 1


async def _operations(
    emu: Emulator, sdk_client: Any
) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
    """Each operation with a call of it."""
    agents, sessions, agent = sdk_client.agents, sdk_client.agents.Session, emu.agent_rid
    rid = (await sdk_client.call(sessions.create, agent)).rid
    an_id = str(uuid.uuid4())
    said = {"user_input": HELLO, "parameter_inputs": {}}

    def of(method: Callable[..., Any], *args: Any, **options: Any) -> Callable[[], Awaitable[Any]]:
        return lambda: sdk_client.call(method, *args, **options)

    return [
        ("create", of(sessions.create, agent)),
        ("get", of(sessions.get, agent, rid)),
        ("list", lambda: sdk_client.rids(sessions.list, agent)),
        ("delete", of(sessions.delete, agent, rid)),
        ("blocking_continue", of(sessions.blocking_continue, agent, rid, **said)),
        ("streaming_continue", of(sessions.streaming_continue, agent, rid, **said)),
        ("cancel", of(sessions.cancel, agent, rid, message_id=an_id)),
        ("rag_context", of(sessions.rag_context, agent, rid, **said)),
        ("update_title", of(sessions.update_title, agent, rid, title="t")),
        ("content", of(sessions.Content.get, agent, rid)),
        ("trace", of(sessions.SessionTrace.get, agent, rid, an_id)),
        ("all_sessions", lambda: sdk_client.rids(agents.all_sessions)),
        ("agent", of(agents.get, agent)),
        ("versions", lambda: _versions(sdk_client, agent)),
        ("version", of(agents.AgentVersion.get, agent, "1.0")),
    ]


async def _versions(sdk_client: Any, agent: str) -> object:
    """The first page of the versions; a version has no RID to collect."""
    listing = sdk_client.agents.AgentVersion.list
    if isinstance(sdk_client, Async):
        return [one async for one in listing(agent, preview=True)]
    return await asyncio.to_thread(lambda: list(listing(agent, preview=True)))
