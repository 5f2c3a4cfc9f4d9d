"""Exchanges: blocking, streamed, cancelled, concurrent, abandoned (contract 6.4 to 6.7)."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from session_pool.emulator import Ask, Reply
from tests.emulator.talk import Talk, fresh_id, running

pytestmark = pytest.mark.looptime


async def test_a_blocking_exchange_is_answered_stored_and_counted() -> None:
    async with running() as talk:
        session, trace_id = await talk.new(), fresh_id()
        said = await talk.blocking(session, "hello [[c1]]", sessionTraceId=trace_id)
        assert said.body["agentMarkdownResponse"] == "#1 c1 → hello [[c1]]"
        assert said.body["sessionTraceId"] == trace_id
        assert said.body["interruptedOutput"] is False
        assert said.body["parameterUpdates"] == {}
        assert said.body["totalTokensUsed"] > 0
        assert await talk.content(session) == [
            {"userInput": {"text": "hello [[c1]]"}, "result": said.body}
        ]
        assert (await talk.get(session)).body["metadata"]["messageCount"] == 2
        assert await talk.trace_status(session, trace_id) == "COMPLETE"
        assert await talk.trace_status(session, fresh_id()) == "SessionTraceNotFound"


async def test_answers_are_of_the_test_if_it_wants() -> None:
    asked: list[Ask] = []

    def reply(ask: Ask) -> Reply:
        asked.append(ask)
        return Reply("yes", parameter_updates={"place": {"type": "string", "value": "here"}})

    async with running(reply=reply, token_counts=False) as talk:
        session = await talk.new()
        said = await talk.blocking(session, "one")
        await talk.blocking(session, "two")
    assert said.body["agentMarkdownResponse"] == "yes"
    assert said.body["parameterUpdates"] == {"place": {"type": "string", "value": "here"}}
    assert "totalTokensUsed" not in said.body
    assert asked[1].history == ("one",)
    assert asked[1].number == 2
    assert "two" not in repr(asked[1])


async def test_a_stream_is_raw_octets_in_chunks_that_may_split_a_character() -> None:
    async with running(stream_chunk_bytes=6, exchange_latency_s=3, first_byte_delay_s=15) as talk:
        session, loop = await talk.new(), asyncio.get_running_loop()
        start = loop.time()
        async with talk.streaming(session, "hello") as response:
            assert response.headers["Content-Type"] == "application/octet-stream"
            assert loop.time() - start >= 15
            chunks = [chunk async for chunk in response.content.iter_any()]
        assert loop.time() - start == pytest.approx(18, abs=0.01)
        assert b"".join(chunks).decode() == "#1 - → hello"
        assert len(chunks) > 1
        with pytest.raises(UnicodeDecodeError):
            chunks[0].decode()
        (stored,) = await talk.content(session)
        assert stored["result"]["agentMarkdownResponse"] == "#1 - → hello"


async def test_a_streams_headers_may_come_before_its_first_octet() -> None:
    async with running(stream_headers="at_once", first_byte_delay_s=15) as talk:
        session, loop = await talk.new(), asyncio.get_running_loop()
        start = loop.time()
        async with talk.streaming(session) as response:
            assert loop.time() - start < 1
            assert (await response.read()).decode() == "#1 - → hello"


async def test_a_trace_id_serves_once_in_a_session() -> None:
    async with running() as talk:
        session, other, trace_id = await talk.new(), await talk.new(), fresh_id()
        await talk.blocking(session, sessionTraceId=trace_id)
        again = await talk.blocking(session, sessionTraceId=trace_id)
        assert (again.status, again.error) == (400, "SessionTraceIdAlreadyExists")
        assert again.body["parameters"]["sessionTraceId"] == trace_id
        assert (await talk.blocking(other, sessionTraceId=trace_id)).status == 200
        assert (await talk.blocking(session, sessionTraceId="no-uuid")).status == 400


async def test_contexts_that_were_given_are_shown_in_content_and_trace() -> None:
    given = {
        "type": "functionRetrievedContext",
        "functionRid": "ri.function-registry.main.function.x",
        "functionVersion": "1.0.0",
        "retrievedPrompt": "look here",
    }
    async with running() as talk:
        session, trace_id = await talk.new(), fresh_id()
        await talk.blocking(session, contextsOverride=[given], sessionTraceId=trace_id)
        shown = {"objectContexts": [], "functionRetrievedContexts": [given]}
        assert (await talk.content(session))[0]["contexts"] == shown
        assert (await talk.trace(session, trace_id)).body["contexts"] == shown
        wrong = await talk.blocking(session, contextsOverride=[{"type": "?"}])
        assert wrong.error == "InvalidJson"


@pytest.mark.parametrize("status", [400, 409])
async def test_a_second_continue_is_refused_with_a_generic_error(status: int) -> None:
    async with running(exchange_latency_s=10, concurrent_status=status) as talk:
        session = await talk.new()
        first = asyncio.create_task(talk.blocking(session, "first"))
        await talk.emu.wait_for(lambda: talk.emu.sessions[session].running)
        second = await talk.blocking(session, "second")
        assert second.status == status
        assert second.error in ("Conjure:InvalidArgument", "Default:Conflict")
        assert (await first).status == 200
        assert (await talk.blocking(session, "third")).status == 200
        assert len(await talk.content(session)) == 2


async def test_continues_may_wait_for_each_other_in_silence() -> None:
    async with running(exchange_latency_s=10, concurrent_continue="serialise") as talk:
        session, loop = await talk.new(), asyncio.get_running_loop()
        start = loop.time()
        answers = await asyncio.gather(*(talk.blocking(session, f"t{n}") for n in range(3)))
        assert loop.time() - start == pytest.approx(30, abs=0.01)
        numbers = [said.body["agentMarkdownResponse"][:2] for said in answers]
        assert sorted(numbers) == ["#1", "#2", "#3"]


async def test_continues_may_get_mixed_up() -> None:
    async with running(exchange_latency_s=10, concurrent_continue="interleave") as talk:
        session = await talk.new()
        answers = await asyncio.gather(*(talk.blocking(session, f"t{n}") for n in range(2)))
        assert [said.body["agentMarkdownResponse"][:2] for said in answers] == ["#1", "#1"]
        assert len(await talk.content(session)) == 2


async def test_an_exchange_goes_on_when_its_client_hangs_up() -> None:
    async with running(exchange_latency_s=10) as talk:
        session, trace_id = await talk.new(), fresh_id()
        await _hang_up(talk, session, trace_id)
        assert await talk.trace_status(session, trace_id) == "IN_PROGRESS"
        assert await talk.content(session) == []
        assert talk.emu.in_flight("exchange") == 1
        await talk.emu.wait_for(lambda: talk.emu.in_flight("exchange") == 0)
        assert await talk.trace_status(session, trace_id) == "COMPLETE"
        assert len(await talk.content(session)) == 1
        assert talk.emu.audit().clients_gone == 1


async def test_a_stream_goes_on_when_its_client_hangs_up() -> None:
    async with running(exchange_latency_s=10) as talk:
        session = await talk.new()
        async with talk.streaming(session) as response:
            await response.content.readany()
        assert await talk.content(session) == []
        await talk.emu.wait_for(lambda: talk.emu.in_flight("exchange") == 0)
        assert len(await talk.content(session)) == 1


async def test_an_exchange_may_be_abandoned_with_its_client() -> None:
    async with running(
        exchange_latency_s=10, on_disconnect="abandon", unrecorded_trace="not_found"
    ) as talk:
        session, trace_id = await talk.new(), fresh_id()
        await _hang_up(talk, session, trace_id)
        await talk.emu.wait_for(lambda: talk.emu.in_flight("exchange") == 0)
        assert await talk.trace_status(session, trace_id) == "SessionTraceNotFound"
        await asyncio.sleep(20)
        assert await talk.content(session) == []
        assert (await talk.blocking(session)).status == 200


async def test_cancelling_with_a_response_stores_that_and_leaves_the_stream_open() -> None:
    async with running(exchange_latency_s=10) as talk:
        session, message_id = await talk.new(), fresh_id()
        async with talk.streaming(session, messageId=message_id) as response:
            first = await response.content.readany()
            said = await talk.cancel(session, message_id, response="stopped")
            assert said.body["result"]["agentMarkdownResponse"] == "stopped"
            assert said.body["result"]["interruptedOutput"] is True
            assert (first + await response.read()).decode() == "#1 - → hello"
        (stored,) = await talk.content(session)
        assert stored["result"] == said.body["result"]
        again = await talk.cancel(session, message_id)
        assert (again.status, again.error) == (400, "CancelSessionFailedMessageNotInProgress")
        assert again.body["parameters"]["messageId"] == message_id


async def test_cancelling_without_a_response_stores_nothing() -> None:
    async with running(exchange_latency_s=10) as talk:
        session, message_id, trace_id = await talk.new(), fresh_id(), fresh_id()
        more = {"messageId": message_id, "sessionTraceId": trace_id}
        async with talk.streaming(session, **more) as response:
            await response.content.readany()
            assert (await talk.cancel(session, message_id)).body == {}
            # The session is free again although the stream goes on.
            assert (await talk.blocking(session, "next")).status == 200
            await response.read()
        assert [one["userInput"]["text"] for one in await talk.content(session)] == ["next"]
        assert await talk.trace_status(session, trace_id) == "COMPLETE"


async def test_a_cancel_may_come_too_early_or_too_late() -> None:
    async with running(exchange_latency_s=10, cancel_lag_s=5) as talk:
        session, message_id = await talk.new(), fresh_id()
        stream = asyncio.create_task(talk.stream(session, messageId=message_id))
        await talk.emu.wait_for(lambda: talk.emu.sessions[session].running)
        early = await talk.cancel(session, message_id)
        assert early.error == "CancelSessionFailedMessageNotInProgress"
        await stream
        late = await talk.cancel(session, message_id)
        assert late.error == "CancelSessionFailedMessageNotInProgress"
        assert len(await talk.content(session)) == 1


async def test_content_and_trace_may_lag() -> None:
    async with running(content_lag_s=5, trace_lag_s=3) as talk:
        session, trace_id = await talk.new(), fresh_id()
        await talk.blocking(session, sessionTraceId=trace_id)
        assert await talk.trace_status(session, trace_id) == "SessionTraceNotFound"
        assert await talk.content(session) == []
        assert (await talk.get(session)).body["metadata"]["messageCount"] == 0
        await asyncio.sleep(3)
        assert await talk.trace_status(session, trace_id) == "COMPLETE"
        await asyncio.sleep(2)
        assert len(await talk.content(session)) == 1


async def test_content_of_a_fresh_session_may_be_none() -> None:
    async with running(fresh_content="not_found") as talk:
        session = await talk.new()
        said = await talk.say("GET", talk.at(session, "/content"))
        assert (said.status, said.error) == (404, "ContentNotFound")


async def test_a_context_that_is_full_is_refused() -> None:
    async with running(context_limit=1) as talk:
        session = await talk.new()
        assert (await talk.blocking(session)).status == 200
        full = await talk.blocking(session)
        assert (full.status, full.error) == (400, "ContextSizeExceededLimit")


async def test_a_stream_breaks_off_when_its_session_dies() -> None:
    async with running(exchange_latency_s=10) as talk:
        session = await talk.new()
        async with talk.streaming(session) as response:
            await response.content.readany()
            talk.emu.expire(session)
            with pytest.raises(aiohttp.ClientError):
                await response.read()


async def test_a_session_that_dies_before_the_first_octet_is_not_found() -> None:
    async with running(first_byte_delay_s=10) as talk:
        session = await talk.new()
        stream = asyncio.create_task(
            talk.say(
                "POST",
                talk.at(session, "/streamingContinue"),
                json={"userInput": {"text": "x"}, "parameterInputs": {}},
            )
        )
        await talk.emu.wait_for(lambda: talk.emu.sessions[session].running)
        talk.emu.expire(session)
        assert (await stream).error == "SessionNotFound"


async def test_an_exchange_from_elsewhere_shows() -> None:
    async with running() as talk:
        session = await talk.new()
        talk.emu.exchange_elsewhere(session)
        assert (await talk.get(session)).body["metadata"]["messageCount"] == 2
        assert len(await talk.content(session)) == 1
        assert talk.emu.audit().exchanges == 0


async def _hang_up(talk: Talk, session: str, trace_id: str) -> None:
    """Begin a blocking exchange, and leave when the server has begun it."""
    call = asyncio.create_task(talk.blocking(session, sessionTraceId=trace_id))
    await talk.emu.wait_for(lambda: talk.emu.sessions[session].running)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
