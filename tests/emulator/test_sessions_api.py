"""Sessions over HTTP: creating, reading, listing, deleting, and who may (contract 1 to 6)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from session_pool.emulator import AgentSetup
from tests.emulator.talk import Talk, continuing, fresh_id, running

OTHER = "ri.aip-agents..agent.00000000-0000-4000-8000-00000000000b"


async def test_a_fresh_session_is_as_in_the_wire_example() -> None:
    async with running() as talk:
        said = await talk.create()
        assert said.status == 200
        assert set(said.body) == {"rid", "metadata", "agentRid", "agentVersion"}
        assert re.fullmatch(r"ri\.aip-agents\.\.session\.[0-9a-f-]{36}", said.body["rid"])
        assert said.body["agentRid"] == talk.agent
        assert said.body["agentVersion"] == "1.0"
        metadata = said.body["metadata"]
        assert metadata["title"] == "New session"
        assert metadata["messageCount"] == 0
        assert metadata["createdTime"] == metadata["updatedTime"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", metadata["createdTime"])
        lived = _instant(metadata["estimatedExpiresTime"]) - _instant(metadata["updatedTime"])
        assert lived.total_seconds() == 86400
        assert (await talk.get(said.body["rid"])).body == said.body


async def test_fractions_of_seconds_may_have_any_length_and_never_go_back() -> None:
    async with running(fraction_digits="vary") as talk:
        texts = [(await talk.create()).body["metadata"]["createdTime"] for _ in range(12)]
    lengths = {len(text.rpartition(".")[2]) if "." in text else 0 for text in texts}
    assert len(lengths) > 1
    assert [_instant(text) for text in texts] == sorted(_instant(text) for text in texts)


async def test_a_clock_that_is_off_shows_in_timestamps_and_date_alike() -> None:
    async with running(clock=lambda: 1_700_000_000.5, clock_offset_s=-300) as talk:
        said = await talk.create()
        assert said.body["metadata"]["createdTime"] == "2023-11-14T22:08:20.500000000Z"
        assert said.headers["Date"] == "Tue, 14 Nov 2023 22:08:20 GMT"


async def test_without_a_version_the_latest_published_one_is_pinned() -> None:
    async with running() as talk:
        old = await talk.new()
        assert talk.emu.publish(talk.agent) == "2.0"
        assert talk.emu.save(talk.agent) == "2.1"
        assert (await talk.create()).body["agentVersion"] == "2.0"
        assert (await talk.get(old)).body["agentVersion"] == "1.0"
        assert (await talk.create(agentVersion="2.1")).body["agentVersion"] == "2.1"


async def test_versions_that_cannot_be_are_refused_by_name() -> None:
    async with running(agents={OTHER: AgentSetup(published=())}) as talk:
        assert (await talk.create(agentVersion="one")).error == "InvalidAgentVersion"
        missing = await talk.create(agentVersion="9.9")
        assert (missing.status, missing.error) == (404, "AgentVersionNotFound")
        assert missing.body["parameters"] == {
            "agentRid": talk.agent,
            "agentVersionString": "9.9",
        }
        talk.agent = OTHER
        assert (await talk.create()).error == "NoPublishedAgentVersion"
        talk.agent = talk.emu.agent_rid
        talk.emu.unpublish(talk.agent)
        assert (await talk.create()).error == "NoPublishedAgentVersion"


async def test_agents_are_found_unless_they_are_not_there() -> None:
    async with running() as talk:
        session = await talk.new()
        talk.emu.forget_agent(talk.agent)
        for said in (await talk.create(), await talk.get(session), await talk.page()):
            assert (said.status, said.error) == (404, "AgentNotFound")
            assert said.body["parameters"] == {"agentRid": talk.agent}
        talk.emu.restore_agent(talk.agent)
        assert (await talk.get(session)).status == 200
        talk.agent = "ri.compass.main.folder.x"
        assert (await talk.create()).error == "AgentNotFound"
        talk.agent = "nonsense"
        assert (await talk.create()).error == "Conjure:InvalidArgument"
    async with running(any_agent=False) as talk:
        assert (await talk.create()).error == "AgentNotFound"


async def test_agent_and_versions_are_shown() -> None:
    setup = AgentSetup(
        versions=("1.0", "1.1", "2.0"), published=("1.0",), parameters={"place": "string"}
    )
    async with running(agents={OTHER: setup}) as talk:
        agent = (await talk.say("GET", OTHER)).body
        assert agent["version"] == "1.0"
        assert agent["parameters"]["place"]["parameterType"] == {"type": "string"}
        newer = await talk.say("GET", OTHER, params={"version": "2.0"})
        assert newer.body["version"] == "2.0"
        pages = [
            await talk.say("GET", f"{OTHER}/agentVersions", params={"pageSize": "2"}),
        ]
        token = pages[0].body["nextPageToken"]
        pages.append(
            await talk.say(
                "GET", f"{OTHER}/agentVersions", params={"pageSize": "2", "pageToken": token}
            )
        )
        shown = [version["string"] for page in pages for version in page.body["data"]]
        assert shown == ["2.0", "1.1", "1.0"]
        assert "nextPageToken" not in pages[1].body
        one = await talk.say("GET", f"{OTHER}/agentVersions/1.1")
        assert one.body == {"string": "1.1", "version": {"major": 1, "minor": 1}}
        assert (await talk.say("GET", f"{OTHER}/agentVersions/x")).error == "InvalidAgentVersion"


async def test_a_deleted_session_is_gone_and_a_second_delete_says_so() -> None:
    async with running() as talk:
        session = await talk.new()
        said = await talk.delete(session)
        assert (said.status, said.body) == (204, None)
        again = await talk.delete(session)
        assert (again.status, again.error) == (404, "SessionNotFound")
        assert again.body["parameters"] == {"agentRid": talk.agent, "sessionRid": session}
        assert (await talk.page()).body == {"data": []}
        assert talk.emu.sessions[session].deleted


async def test_a_session_is_found_under_its_own_agent_only() -> None:
    async with running() as talk:
        session = await talk.new()
        talk.agent = OTHER
        assert (await talk.get(session)).error == "SessionNotFound"


@pytest.mark.parametrize(("how", "status"), [("not_found", 404), ("denied", 403)])
async def test_sessions_belong_to_the_user_of_the_token(how: str, status: int) -> None:
    async with running(foreign_session=how) as talk:
        session = await talk.new()
        stranger = talk.by("another-token")
        assert (await stranger.get(session)).status == status
        assert (await stranger.blocking(session)).status == status
        assert (await stranger.delete(session)).status == status
        assert (await stranger.page()).body["data"] == []
        assert (await talk.get(session)).status == 200
        assert "another-token" not in repr(talk.emu.calls)


async def test_a_listing_shows_what_this_client_made_for_this_user() -> None:
    async with running() as talk:
        ours = talk.by(talk.emu.issue_token("alice", client="ours"))
        theirs = talk.by(talk.emu.issue_token("alice", client="theirs"))
        session = await ours.new()
        assert (await theirs.page()).body["data"] == []
        assert (await theirs.get(session)).status == 200  # hers, though not listed
        assert [one["rid"] for one in (await ours.page()).body["data"]] == [session]


async def test_listings_are_paged_latest_update_first() -> None:
    async with running() as talk:
        sessions = [await talk.new() for _ in range(5)]
        await talk.blocking(sessions[1])
        expected = [sessions[1], sessions[4], sessions[3], sessions[2], sessions[0]]
        assert await _all(talk, f"{talk.agent}/sessions", pageSize="2") == expected
        talk.agent = OTHER
        other = await talk.new()
        assert await _all(talk, "allSessions", pageSize="4") == [other, *expected]
        assert [one["rid"] for one in (await talk.page()).body["data"]] == [other]


async def test_a_page_holds_a_hundred_at_most() -> None:
    async with running() as talk:
        for _ in range(101):
            await talk.new()
        first = await talk.page()
        assert len(first.body["data"]) == 100
        rest = await talk.page(pageToken=first.body["nextPageToken"])
        assert len(rest.body["data"]) == 1
        assert "nextPageToken" not in rest.body


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"pageSize": "0"}, "InvalidPageSize"),
        ({"pageSize": "-1"}, "InvalidPageSize"),
        ({"pageSize": "101"}, "InvalidPageSize"),
        ({"pageSize": "many"}, "Conjure:InvalidArgument"),
        ({"pageToken": "made-up"}, "InvalidPageToken"),
        ({"pageToken": "v1.W10="}, "InvalidPageToken"),
    ],
)
async def test_page_parameters_that_cannot_be_are_refused(
    params: dict[str, str], error: str
) -> None:
    async with running() as talk:
        said = await talk.page(**params)
        assert (said.status, said.error) == (400, error)


async def test_an_oversized_page_may_be_capped_instead() -> None:
    async with running(oversized_page="cap", max_page_size=2) as talk:
        for _ in range(3):
            await talk.new()
        assert len((await talk.page(pageSize=1000)).body["data"]) == 2


async def test_titles_are_cut_at_200_characters_and_extend_nothing() -> None:
    async with running() as talk:
        session = await talk.new()
        before = (await talk.get(session)).body["metadata"]
        said = await talk.say("PUT", talk.at(session, "/updateTitle"), json={"title": "t" * 300})
        assert said.status == 204
        after = (await talk.get(session)).body["metadata"]
        assert after == before | {"title": "t" * 200}


async def test_a_title_is_an_update_where_that_is_set() -> None:
    async with running(title_touches=True) as talk:
        session = await talk.new()
        before = (await talk.get(session)).body["metadata"]
        await talk.say("PUT", talk.at(session, "/updateTitle"), json={"title": "t"})
        after = (await talk.get(session)).body["metadata"]
        assert _instant(after["updatedTime"]) > _instant(before["updatedTime"])
        assert after["estimatedExpiresTime"] == before["estimatedExpiresTime"]


async def test_preview_is_needed_unless_that_is_set() -> None:
    async with running(preview_required=False) as talk:
        session = await talk.new()
        async with talk.ask_for("GET", talk.at(session), preview=None) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("preview", [None, "false", "True"])
async def test_everything_needs_preview(preview: str | None) -> None:
    async with running() as talk:
        said = await talk.say("POST", f"{talk.agent}/sessions", json={}, preview=preview)
        assert (said.status, said.error) == (400, "ApiFeaturePreviewUsageOnly")
        assert said.body["parameters"] == {}
        assert not talk.emu.sessions


async def test_bodies_that_are_none_are_refused() -> None:
    async with running() as talk:
        path = f"{talk.agent}/sessions"
        json_type = {"Content-Type": "application/json"}
        plain = await talk.http.post(
            f"{talk.emu.url}/api/v2/aipAgents/agents/{path}?preview=true",
            data=b"{}",
            headers={"Authorization": "Bearer x", "Content-Type": "text/plain"},
        )
        assert plain.status == 415
        broken = await talk.http.post(
            f"{talk.emu.url}/api/v2/aipAgents/agents/{path}?preview=true",
            data=b"{",
            headers={"Authorization": "Bearer x", **json_type},
        )
        assert (await broken.json())["errorName"] == "InvalidJson"
        assert (await talk.say("POST", path, json=[1])).error == "Conjure:InvalidArgument"
        assert (await talk.create(agentVersion=1)).error == "Conjure:InvalidArgument"


@pytest.mark.parametrize(
    ("inputs", "error"),
    [
        ({"place": "bare"}, "InvalidJson"),
        ({"place": {"string": {"value": "x"}}}, "InvalidJson"),
        ({"time": {"type": "string", "value": "x"}}, "InvalidParameter"),
        (
            {"place": {"type": "objectSet", "objectSet": {}, "ontology": "o"}},
            "InvalidParameterType",
        ),
        ({"place": {"type": "string", "value": "x"}}, None),
    ],
)
async def test_parameter_inputs_are_checked_against_the_agent(
    inputs: dict[str, Any], error: str | None
) -> None:
    async with running(agents={OTHER: AgentSetup(parameters={"place": "string"})}) as talk:
        talk.agent = OTHER
        session = await talk.new()
        body = continuing("x") | {"parameterInputs": inputs}
        for method, tail in (("POST", "/blockingContinue"), ("PUT", "/ragContext")):
            said = await talk.say(method, talk.at(session, tail), json=body)
            assert said.error == error


async def test_rag_context_answers_the_two_lists() -> None:
    async with running() as talk:
        session = await talk.new()
        said = await talk.say("PUT", talk.at(session, "/ragContext"), json=continuing("x"))
        assert said.body == {"objectContexts": [], "functionRetrievedContexts": []}
        missing = await talk.say("PUT", talk.at(session, "/ragContext"), json={})
        assert missing.error == "Conjure:InvalidArgument"


async def test_permissions_are_denied_by_the_operations_own_name() -> None:
    async with running() as talk:
        session = await talk.new()
        talk.emu.deny("any", talk.agent)
        talk.emu.deny("all_sessions")
        assert (await talk.create()).error == "CreateSessionPermissionDenied"
        assert (await talk.delete(session)).error == "DeleteSessionPermissionDenied"
        assert (await talk.blocking(session)).error == "BlockingContinueSessionPermissionDenied"
        assert (await talk.cancel(session, fresh_id())).error == "CancelSessionPermissionDenied"
        assert (await talk.get(session)).error == "Default:PermissionDenied"
        assert (
            await talk.say("GET", "allSessions")
        ).error == "ListSessionsForAgentsPermissionDenied"
        talk.emu.allow("any", talk.agent)
        assert (await talk.get(session)).status == 200


async def test_a_path_that_the_contract_has_not_is_an_empty_404() -> None:
    async with running() as talk:
        for method, path in (("GET", "x/y/z"), ("PATCH", f"{talk.agent}/sessions")):
            said = await talk.say(method, path)
            assert (said.status, said.body) == (404, None)


async def test_unknown_keys_may_be_everywhere() -> None:
    async with running(extra_keys=True, error_descriptions=True) as talk:
        said = await talk.create()
        assert "emulatedNovelty" in said.body
        assert "emulatedNovelty" in said.body["metadata"]
        refused = await talk.get("ri.aip-agents..session.none")
        assert "emulatedNovelty" in refused.body
        assert "errorDescription" in refused.body


async def test_limits_throttle_one_user_and_not_another() -> None:
    async with running(requests_per_minute=2) as talk:
        assert [(await talk.create()).status for _ in range(3)] == [200, 200, 429]
        assert (await talk.by("another").create()).status == 200
        assert talk.emu.audit().throttled == 1
    async with running(requests_per_minute=1, throttle_status=503) as talk:
        assert [(await talk.create()).status for _ in range(2)] == [200, 503]


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


async def _all(talk: Talk, path: str, **params: str) -> list[str]:
    rids: list[str] = []
    token: str | None = None
    while True:
        paged = params if token is None else {**params, "pageToken": token}
        body = (await talk.say("GET", path, params=paged)).body
        rids += [one["rid"] for one in body["data"]]
        token = body.get("nextPageToken")
        if not token:
            return rids
