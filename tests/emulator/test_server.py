"""The server itself: starting, stopping, outages, gates, conditions, settings."""

from __future__ import annotations

import asyncio
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from session_pool.emulator import (
    AgentSetup,
    Emulator,
    EmulatorSettings,
    settings_markdown,
    settings_table,
)
from tests.emulator.talk import running

pytestmark = pytest.mark.looptime


async def test_leaving_cuts_off_whatever_hangs_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as http:
        async with Emulator(exchange_latency_s=1e6, faults=["get:*:hang"]) as emu:
            url = f"{emu.url}/api/v2/aipAgents/agents/{emu.agent_rid}/sessions"
            options: dict[str, Any] = {
                "params": {"preview": "true"},
                "headers": {"Authorization": f"Bearer {emu.token}"},
            }
            async with http.post(url, json={}, **options) as response:
                session = f"{url}/{(await response.json())['rid']}"
            body = {"userInput": {"text": "x"}, "parameterInputs": {}}
            emu.hold("delete")
            calls = [
                asyncio.create_task(_status(http.get(session, **options))),
                asyncio.create_task(_status(http.delete(session, **options))),
                asyncio.create_task(
                    _status(http.post(f"{session}/streamingContinue", json=body, **options))
                ),
            ]
            await emu.wait_for(lambda: emu.in_flight("any") == 3)
            start = loop.time()
        assert loop.time() - start < 1
        for call in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(call, aiohttp.ClientError)
    assert asyncio.all_tasks() == before
    assert emu.url == ""


async def test_it_starts_once() -> None:
    async with running() as talk:
        with pytest.raises(RuntimeError, match="starts once"):
            await talk.emu.start()


async def test_an_address_in_use_is_told_and_leaves_nothing() -> None:
    async with running() as talk:
        before = asyncio.all_tasks()
        with pytest.raises(OSError, match="in use"):
            await Emulator(listen=talk.emu.host).start()
        assert asyncio.all_tasks() == before


@pytest.mark.parametrize("listen", ["8760", "localhost", "127.0.0.1:port", "unix://", ":1"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="listen"):
        Emulator(listen=listen)


async def test_it_listens_on_a_unix_socket_too(tmp_path: Path) -> None:
    path = tmp_path / "emulator.sock"
    async with (
        Emulator(listen=f"unix://{path}") as emu,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http,
    ):
        assert emu.url == f"unix://{path}"
        async with http.get("http://emulator/nothing") as response:
            assert response.status == 404
    assert not path.exists()


async def test_serve_runs_until_it_is_cancelled() -> None:
    emu, started = Emulator(), asyncio.Event()
    task = asyncio.create_task(emu.serve(on_start=lambda _: started.set()))
    async with aiohttp.ClientSession() as http:
        await started.wait()
        async with http.get(emu.url) as response:
            assert response.status == 404
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert emu.url == ""


async def test_an_outage_breaks_connections_and_refuses_new_ones_and_ends() -> None:
    async with running(exchange_latency_s=10) as talk:
        session, url = await talk.new(), talk.emu.url
        call = asyncio.create_task(talk.blocking(session))
        await talk.emu.wait_for(lambda: talk.emu.sessions[session].running)
        async with talk.emu.outage():
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await call
            with pytest.raises(aiohttp.ClientConnectorError):
                await talk.create()
            await asyncio.sleep(20)
        assert talk.emu.url == url
        assert len(await talk.content(session)) == 1


async def test_a_gate_holds_requests_before_anything_happens() -> None:
    async with running() as talk:
        async with talk.emu.hold("create") as gate:
            calls = [asyncio.create_task(talk.create()) for _ in range(3)]
            await gate.wait_waiting(3)
            assert talk.emu.in_flight("create") == 3
            assert not talk.emu.sessions
            assert (await talk.page()).status == 200
            gate.let(1)
            await talk.emu.wait_for(lambda: len(talk.emu.sessions) == 1)
            assert gate.waiting == 2
        assert [said.status for said in await asyncio.gather(*calls)] == [200] * 3
        assert gate.reached == 3
        assert (await talk.create()).status == 200


async def test_a_gate_may_hold_the_answer_after_the_effect() -> None:
    async with running() as talk:
        gate = talk.emu.gate("create", stage="after")
        call = asyncio.create_task(talk.create())
        await gate.wait_waiting()
        assert len(talk.emu.sessions) == 1
        assert not call.done()
        gate.open()
        assert (await call).status == 200


async def test_passes_given_ahead_let_later_requests_through() -> None:
    async with running() as talk:
        gate = talk.emu.hold("create")
        gate.let(1)
        assert (await talk.create()).status == 200
        call = asyncio.create_task(talk.create())
        await gate.wait_waiting()
        gate.open()
        await call


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    async with running() as talk:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await talk.emu.wait_for(lambda: False)
        await talk.emu.wait_for(lambda: True)
        assert (await talk.create()).status == 200


async def test_a_condition_that_fails_fails_its_waiter_and_not_the_server() -> None:
    async with running() as talk:
        wait = asyncio.create_task(
            talk.emu.wait_for(lambda: talk.emu.requests("create") and talk.emu.sessions["none"])
        )
        await asyncio.sleep(0)
        assert (await talk.create()).status == 200
        with pytest.raises(KeyError):
            await wait


async def test_latencies_jitter_by_the_seed() -> None:
    async def took(seed: int) -> float:
        async with running(create_latency_s=10, latency_jitter=0.5, seed=seed) as talk:
            await talk.create()
            seconds = talk.emu.calls[0].took_s
            assert seconds is not None
            return seconds

    first = await took(1)
    assert 5 <= first <= 15
    assert await took(1) == pytest.approx(first)
    assert await took(2) != pytest.approx(first)


async def test_a_reply_that_fails_is_told_in_the_log_and_the_server_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def reply(_: object) -> str:
        raise LookupError("no answer")

    async with running(reply=reply) as talk:
        session = await talk.new()
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await talk.blocking(session)
        assert (await talk.get(session)).status == 200
    assert "a task of the emulator failed" in caplog.text


async def test_reprs_hold_no_token_and_no_text() -> None:
    async with running() as talk:
        session = await talk.new()
        await talk.blocking(session, "my secret text")
        shown = f"{talk.emu!r} {talk.emu.sessions!r} {talk.emu.calls!r} {talk.emu.audit()!r}"
        shown += repr(talk.emu.sessions[session].exchanges)
    assert "secret" not in shown
    assert talk.token not in shown


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lifetime_s": -1.0}, "lifetime_s"),
        ({"lifetime_s": float("nan")}, "lifetime_s"),
        ({"create_latency_s": float("inf")}, "finite"),
        ({"stream_chunk_bytes": 0}, "stream_chunk_bytes"),
        ({"concurrent_continue": "perhaps"}, "'reject', 'interleave', 'serialise'"),
        ({"expired_error": "Gone"}, "expired_error"),
        ({"latency_jitter": 2.0}, "latency_jitter"),
        ({"fraction_digits": 10}, "fraction_digits"),
        ({"faults": ["create:1:nonsense"]}, "unknown kind"),
        ({"clock_offset_s": float("nan")}, "clock_offset_s: must be finite"),
        ({"expiry_error_s": float("-inf")}, "expiry_error_s: must be finite"),
        ({"lifetime_s": "60"}, "lifetime_s: '60' is not a number"),
        ({"lifetime_s": True}, "lifetime_s: True is not a number"),
        ({"calls_kept": 1.5}, "calls_kept: 1.5 is not a whole number"),
        ({"context_limit": "few"}, "context_limit: 'few' is not a whole number or None"),
        ({"fraction_digits": "many"}, "fraction_digits: 'many' is not a whole number or 'vary'"),
        ({"any_agent": "no"}, "any_agent: 'no' is not True or False"),
        ({"fresh_title": None}, "fresh_title: None is not a text"),
        ({"extended_by": "get"}, "extended_by: 'get' is not a tuple of names"),
        ({"extended_by": ("gett",)}, "extended_by: unknown operation 'gett'; known are "),
        ({"extended_by": ("create",)}, "extended_by: unknown operation 'create'; known are "),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_name(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Emulator(**settings)


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="lifetime"):
        Emulator(lifetime=3)


def test_agents_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"major\.minor"):
        AgentSetup(versions=("one",))
    with pytest.raises(ValueError, match="not among"):
        AgentSetup(versions=("1.0",), published=("2.0",))


def test_every_setting_says_where_it_comes_from_and_what_it_is_worth() -> None:
    table = settings_table()
    assert [row.name for row in table] == [one.name for one in fields(EmulatorSettings)]
    for row in table:
        assert row.status in ("documented", "inferred", "unknown", "knob")
        assert row.meaning
        assert row.section
        assert not row.verified
    markdown = settings_markdown()
    assert "| `concurrent_continue` | `'reject'` | 6.4 | unknown | no |" in markdown
    assert len(markdown.splitlines()) == len(table) + 2


async def _status(request: Any) -> int:
    async with request as response:
        await response.read()
        status: int = response.status
        return status
