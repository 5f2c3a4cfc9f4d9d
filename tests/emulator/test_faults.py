"""Scripted faults: that each does what its name says, and strikes when it should."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from session_pool.emulator import ERRORS, KINDS, Fault
from tests.emulator.talk import Talk, continuing, fresh_id, running

pytestmark = pytest.mark.looptime

BROKEN = (aiohttp.ClientError, ConnectionError)


# ------------------------------------------------------------------------------ lost and cut


async def test_lost_before_nothing_has_happened() -> None:
    async with running(faults=[Fault("create", "lost_before", nth=2)]) as talk:
        await talk.new()
        with pytest.raises(BROKEN):
            await talk.create()
        await talk.new()
        assert len(talk.emu.sessions) == 2
        assert talk.emu.audit().answers_lost == 1
        assert [call.outcome for call in talk.emu.calls] == ["answered", "lost", "answered"]


async def test_lost_after_an_orphan_is_left() -> None:
    async with running(faults=["create:1:lost_after"]) as talk:
        with pytest.raises(BROKEN):
            await talk.create()
        assert len((await talk.page()).body["data"]) == 1


async def test_an_exchange_whose_answer_is_lost_is_stored() -> None:
    async with running(faults=["exchange:1:lost_after"], exchange_latency_s=10) as talk:
        session = await talk.new()
        with pytest.raises(BROKEN):
            await talk.blocking(session)
        assert len(await talk.content(session)) == 1


async def test_an_exchange_that_is_lost_on_the_way_is_still_in_progress() -> None:
    async with running(faults=["exchange:*:lost_during"], exchange_latency_s=10) as talk:
        session, trace_id = await talk.new(), fresh_id()
        with pytest.raises(BROKEN):
            await talk.blocking(session, sessionTraceId=trace_id)
        assert await talk.trace_status(session, trace_id) == "IN_PROGRESS"
        await asyncio.sleep(10)
        assert await talk.trace_status(session, trace_id) == "COMPLETE"


@pytest.mark.parametrize(("kind", "stored"), [("cut_before", 0), ("cut_after", 1)])
async def test_a_stream_is_cut_in_the_middle(kind: str, stored: int) -> None:
    fault = Fault("streaming_continue", kind, nth=1, at_bytes=9)
    async with running(faults=[fault], exchange_latency_s=5) as talk:
        session = await talk.new()
        got = bytearray()

        async def listen() -> None:
            async with talk.streaming(session) as response:
                async for chunk in response.content.iter_any():
                    got.extend(chunk)

        with pytest.raises(BROKEN):
            await listen()
        assert bytes(got) == "#1 - → hello".encode()[:9]
        await talk.emu.wait_for(lambda: not talk.emu.sessions[session].running)
        assert len(await talk.content(session)) == stored


async def test_a_stream_shorter_than_its_cut_lacks_its_end() -> None:
    async with running(faults=["exchange:1:cut:at_bytes=1000"]) as talk:
        session = await talk.new()
        with pytest.raises(BROKEN):
            await talk.stream(session)


@pytest.mark.parametrize(("kind", "made"), [("cut_before", 0), ("cut_after", 1)])
async def test_a_json_answer_is_cut_in_the_middle(kind: str, made: int) -> None:
    async with running(faults=[Fault("create", kind)]) as talk:
        with pytest.raises(BROKEN):
            await talk.create()
        assert len(talk.emu.sessions) == made


@pytest.mark.parametrize(("kind", "made"), [("hang_before", 0), ("hang_after", 1)])
async def test_a_hanging_request_ends_with_its_client(kind: str, made: int) -> None:
    async with running(faults=[Fault("create", kind)]) as talk:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await talk.create()
        await talk.emu.wait_for(lambda: talk.emu.in_flight("create") == 0)
        assert len(talk.emu.sessions) == made


# ------------------------------------------------------------------------------ slow and ill


async def test_delays_add_up_on_both_sides_of_the_effect() -> None:
    faults = ["create:1:delay:delay=3", "create:1:delay_after:delay=4"]
    async with running(faults=faults, create_latency_s=2) as talk:
        loop = asyncio.get_running_loop()
        start = loop.time()
        call = asyncio.create_task(talk.create())
        await talk.emu.wait_for(lambda: talk.emu.sessions)
        assert loop.time() - start == pytest.approx(5, abs=0.01)
        await call
        assert loop.time() - start == pytest.approx(9, abs=0.01)
        assert talk.emu.calls[0].took_s == pytest.approx(9, abs=0.01)
        assert talk.emu.calls[0].faults == ("delay_before", "delay_after")


async def test_a_body_may_come_octet_by_octet() -> None:
    async with running(faults=["any:*:slow_body:delay=2"]) as talk:
        loop = asyncio.get_running_loop()
        start = loop.time()
        said = await talk.create()
        assert said.status == 200
        length = int(said.headers["Content-Length"])
        assert loop.time() - start == pytest.approx(2 * length, abs=0.1)
        start = loop.time()
        assert (await talk.stream(said.body["rid"])).decode() == "#1 - → hello"
        assert loop.time() - start >= 2 * len("#1 - → hello".encode())


async def test_a_malformed_body_is_no_json_and_the_effect_stands() -> None:
    async with running(faults=["create:*:malformed", "exchange:*:malformed"]) as talk:
        async with talk.ask_for("POST", f"{talk.agent}/sessions", json={}) as response:
            assert response.status == 200
            with pytest.raises(json.JSONDecodeError):
                await response.json()
        (session,) = talk.emu.sessions
        with pytest.raises(UnicodeDecodeError):
            (await talk.stream(session)).decode()


async def test_a_field_may_be_missing_at_any_depth() -> None:
    async with running(
        faults=[
            "create:*:missing_field",
            "get:*:missing_field:field=metadata.estimatedExpiresTime",
            "list:*:missing_field:field=data.agentVersion",
        ]
    ) as talk:
        assert "rid" not in (await talk.create()).body
        (session,) = talk.emu.sessions
        assert "estimatedExpiresTime" not in (await talk.get(session)).body["metadata"]
        assert "agentVersion" not in (await talk.page()).body["data"][0]


# --------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("status", [429, 503])
async def test_throttles_have_no_body_and_the_headers_asked_for(status: int) -> None:
    line = f"exchange:1:{status}:retry_after=1.5:retry_hint=do-not-retry:due_to=custom"
    async with running(faults=[line]) as talk:
        session = await talk.new()
        said = await talk.blocking(session)
        assert (said.status, said.body) == (status, None)
        assert said.headers["Retry-After"] == "2"
        assert said.headers["QoS-Retry-Hint"] == "do-not-retry"
        assert said.headers["QoS-Due-To"] == "custom"
        assert (await talk.blocking(session)).status == 200
        assert len(await talk.content(session)) == 1
        audit = talk.emu.audit()
        assert (audit.throttled, audit.errors_by_name) == (1, {str(status): 1})


async def test_a_bare_throttle_has_no_hints() -> None:
    async with running(faults=["create:*:429"]) as talk:
        headers = (await talk.create()).headers
        assert not {"Retry-After", "QoS-Retry-Hint", "QoS-Due-To"} & set(headers)


async def test_retry_after_may_be_a_date_by_the_servers_clock() -> None:
    fault = Fault("create", "503", retry_after_s=60, retry_after_date=True)
    async with running(faults=[fault], clock=lambda: 1_700_000_000.0) as talk:
        assert (await talk.create()).headers["Retry-After"] == "Tue, 14 Nov 2023 22:14:20 GMT"


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("401", 401, "Default:Unauthorized"),
        ("403", 403, "Default:PermissionDenied"),
        ("500", 500, "Default:Internal"),
        ("empty_404", 404, None),
    ],
)
async def test_refusals_without_a_name_of_this_api(
    kind: str, status: int, error: str | None
) -> None:
    async with running(faults=[Fault("create", kind)]) as talk:
        said = await talk.create()
        assert (said.status, said.error) == (status, error)
        assert (said.body is None) is (error is None)
        assert not talk.emu.sessions


@pytest.mark.parametrize("name", sorted(ERRORS))
async def test_every_named_error_has_its_status_code_and_parameters(name: str) -> None:
    async with running(faults=[f"blocking_continue:1:{name}"]) as talk:
        session = await talk.new()
        said = await talk.blocking(session)
        kind = ERRORS[name]
        assert said.status == kind.status
        assert said.body["errorCode"] == kind.code
        assert said.body["errorName"] == name
        assert len(said.body["errorInstanceId"]) == 36
        assert set(said.body["parameters"]) == set(kind.parameters) - {"missingScope"}
        if "sessionRid" in kind.parameters:
            assert said.body["parameters"]["sessionRid"] == session
        assert talk.emu.audit().errors_by_name == {name: 1}
        assert await talk.content(session) == []


async def test_a_configuration_error_at_creation_names_no_session() -> None:
    async with running(faults=["create:*:ActionTypeNotFound"]) as talk:
        parameters = (await talk.create()).body["parameters"]
        assert set(parameters) == {"agentRid", "actionRid"}


async def test_an_error_nobody_has_heard_of() -> None:
    fault = Fault("create", "error", error="TeapotRefused", status=418, code="CUSTOM_CLIENT")
    async with running(faults=[fault]) as talk:
        said = await talk.create()
        assert (said.status, said.error) == (418, "TeapotRefused")


@pytest.mark.parametrize("kind", ["500", "SessionExecutionFailed", "503"])
async def test_a_refusal_may_hide_that_the_exchange_was_stored(kind: str) -> None:
    async with running(faults=[Fault("exchange", kind, nth=1, effect=True)]) as talk:
        session = await talk.new()
        assert (await talk.blocking(session)).status >= 500
        assert len(await talk.content(session)) == 1
        talk.emu.inject(Fault("exchange", kind, nth=1, effect=True))
        body = continuing("x")
        path = talk.at(session, "/streamingContinue")
        assert (await talk.say("POST", path, json=body)).status >= 500
        assert len(await talk.content(session)) == 2


# ------------------------------------------------------------------------------ which calls


@pytest.mark.parametrize(
    ("which", "struck"),
    [
        ({"nth": 3}, [3]),
        ({"nth": 3, "times": 2}, [3, 4]),
        ({"times": 2}, [1, 2]),
        ({"every": 2}, [2, 4, 6]),
        ({"every": 2, "times": 1}, [2]),
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"probability": 0.0}, []),
        ({"probability": 1.0}, [1, 2, 3, 4, 5, 6]),
    ],
)
async def test_a_fault_strikes_the_calls_it_names(which: dict[str, Any], struck: list[int]) -> None:
    async with running(faults=[Fault("create", "503", **which)]) as talk:
        assert [n for n in range(1, 7) if (await talk.create()).status == 503] == struck


async def test_chance_is_repeatable_by_its_seed() -> None:
    async def struck(seed: int | None) -> tuple[int, list[int]]:
        async with running(faults=["create:50%:503"], seed=seed) as talk:
            statuses = [(await talk.create()).status for _ in range(20)]
            assert talk.emu.audit().seed == talk.emu.seed
            return talk.emu.seed, statuses

    seed, first = await struck(None)
    assert (await struck(seed))[1] == first
    assert {200, 503} == set(first)


async def test_faults_may_be_put_in_force_and_out_of_it_at_run_time() -> None:
    async with running() as talk:
        await talk.new()
        talk.emu.inject("create:1:503")
        assert (await talk.create()).status == 503
        talk.emu.inject("create:*:503")
        talk.emu.clear_faults()
        assert (await talk.create()).status == 200


async def test_groups_name_several_operations() -> None:
    async with running(faults=["exchange:2:503", "api:4:500"]) as talk:
        session = await talk.new()
        await talk.stream(session)
        assert (await talk.blocking(session)).status == 503
        assert (await talk.get(session)).status == 500
        assert (await talk.oauth("token", client_id="?")).status == 401


# ---------------------------------------------------------------------------- the one line


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("create:3:lost_after", Fault("create", "lost_after", nth=3)),
        ("exchange:*:429:retry_after=2", Fault("exchange", "429", retry_after_s=2.0)),
        ("*:1%:503", Fault("any", "503", probability=0.01)),
        ("blockingContinue:/5:hang", Fault("blocking_continue", "hang_before", every=5)),
        ("rag-context:*:delay:delay_s=0.5", Fault("rag_context", "delay_before", delay_s=0.5)),
        (
            "create:4:SessionExecutionFailed:times=3:effect=yes",
            Fault("create", "SessionExecutionFailed", nth=4, times=3, effect=True),
        ),
        ("get:1:Conjure:InvalidArgument", Fault("get", "Conjure:InvalidArgument", nth=1)),
        ("get:*:error:error=New:status=418", Fault("get", "error", error="New", status=418)),
        ("get:2:503:probability=0.5", Fault("get", "503", nth=2, probability=0.5)),
    ],
)
def test_a_line_says_what_a_value_says(line: str, fault: Fault) -> None:
    assert Fault.parse(line) == fault


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("create:lost_after", "expected operation:which:kind"),
        ("creat:3:lost_after", "unknown operation 'creat'; known are"),
        ("create:3:lost_aftr", "did you mean 'lost_after'"),
        ("create:3:SesionNotFound", "did you mean 'SessionNotFound'"),
        ("create:third:503", "'third' says no calls"),
        ("create:0:503", "nth: 0 is less than 1"),
        ("create:*:503:retry=2", "options are"),
        ("create:*:503:retry_after=soon", "'soon' is not a number"),
        ("create:*:503:effect=maybe", "'maybe' is not yes or no"),
        ("create:200%:503", "probability"),
        ("create:*:delay:delay=-1", "negative"),
        ("create:*:error", "error=<name>"),
    ],
)
def test_a_line_that_is_wrong_is_told_so(line: str, words: str) -> None:
    with pytest.raises(ValueError, match="fault '") as caught:
        Fault.parse(line)
    assert words in str(caught.value)
    assert line in str(caught.value)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"error"}))
async def test_no_kind_of_fault_breaks_the_emulator(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever strikes whichever operation, it ends, and nothing of ours fails."""
    async with running() as talk:
        session = await talk.new()
        talk.emu.inject(Fault("any", kind, delay_s=0.01))
        body = continuing("x")
        for method, path in (
            ("POST", f"{talk.agent}/sessions"),
            ("GET", talk.at(session)),
            ("POST", talk.at(session, "/blockingContinue")),
            ("POST", talk.at(session, "/streamingContinue")),
            ("DELETE", talk.at(session)),
        ):
            await _try(talk, method, path, {} if path.endswith("sessions") else body)
        talk.emu.clear_faults()
        assert (await talk.create()).status == 200
        assert talk.emu.in_flight("any") == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def _try(talk: Talk, method: str, path: str, body: dict[str, Any]) -> None:
    try:
        async with asyncio.timeout(1000), talk.ask_for(method, path, json=body) as response:
            await response.read()
    except (*BROKEN, TimeoutError):
        assert talk.emu.calls[-1].outcome in ("lost", "gone", "in flight")
