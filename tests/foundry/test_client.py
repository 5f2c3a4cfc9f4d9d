"""Each operation's request and answer, against answers made up on the spot."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from session_pool.errors import (
    AgentUnavailable,
    AuthError,
    RemoteMalformed,
    RemoteRejected,
    RemoteUnavailable,
    SessionGone,
)
from session_pool.foundry import FoundryClient, StaticToken
from tests.foundry.stub import (
    AGENT,
    MESSAGE,
    SESSION,
    SESSIONS,
    TRACE,
    URL,
    Remote,
    error_json,
    result_json,
    session_json,
)

ONE = f"{SESSIONS}/{SESSION}"


def sent_json(remote: Remote, index: int = 0) -> Any:
    return json.loads(remote.asked[index]["data"])


async def test_create_sends_an_empty_object_with_preview_and_token(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("POST", SESSIONS, session_json())
    await client.create_session(AGENT, timeout_s=5)
    assert remote.addresses == [("POST", f"{SESSIONS}?preview=true")]
    assert remote.asked[0]["data"] == b"{}"
    headers = remote.asked[0]["headers"]
    assert headers["Authorization"] == "Bearer t0ken"
    assert headers["Content-Type"] == "application/json"
    assert remote.asked[0]["allow_redirects"] is False


async def test_create_asks_for_a_version(remote: Remote, client: FoundryClient) -> None:
    remote.answers("POST", SESSIONS, session_json())
    await client.create_session(AGENT, agent_version="2.1", timeout_s=5)
    assert sent_json(remote) == {"agentVersion": "2.1"}


async def test_a_session_is_read_as_the_model_has_it(remote: Remote, client: FoundryClient) -> None:
    remote.answers("GET", ONE, session_json())
    session = (await client.get_session(AGENT, SESSION, timeout_s=5)).session
    assert (session.rid, session.agent_rid, session.agent_version) == (SESSION, AGENT, "1.0")
    assert session.message_count == 6
    assert session.created_time == datetime(2024, 10, 1, 20, 4, 24, 962583, UTC)
    assert session.title == "about the harbour"
    assert "harbour" not in repr(session)


async def test_what_is_left_after_a_creation_counts_from_updated_time(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("POST", SESSIONS, session_json())
    assert (await client.create_session(AGENT, timeout_s=5)).remaining_s == 86400.0


async def test_what_is_left_at_a_look_counts_from_the_answers_date_and_a_second(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("GET", ONE, session_json(estimatedExpiresTime="2024-10-01T22:14:30Z"))
    remote.answers("GET", SESSIONS, {"data": [session_json()]})
    assert (await client.get_session(AGENT, SESSION, timeout_s=5)).remaining_s == 599.0
    page = await client.list_sessions(AGENT, timeout_s=5)
    assert page.sessions[0].remaining_s == pytest.approx(86400 - 5.037417 - 1)


async def test_the_time_that_the_request_took_is_taken_off(remote: Remote) -> None:
    ticks = iter([100.0, 100.7, 200.0, 203.0])
    client = FoundryClient(URL, StaticToken("t0ken"), clock=lambda: next(ticks))
    await client.open()
    remote.answers("POST", SESSIONS, session_json())
    remote.answers("GET", ONE, session_json(estimatedExpiresTime="2024-10-01T22:14:30Z"))
    made = await client.create_session(AGENT, timeout_s=5)
    seen = await client.get_session(AGENT, SESSION, timeout_s=5)
    await client.aclose()
    assert made.remaining_s == pytest.approx(86400 - 0.7)
    assert seen.remaining_s == pytest.approx(599 - 3)


async def test_without_a_date_a_look_promises_nothing_and_a_creation_still_does(
    remote: Remote,
) -> None:
    drift: list[str] = []
    client = FoundryClient(URL, StaticToken("t"), clock=lambda: 0.0, on_drift=drift.append)
    await client.open()
    for _ in range(2):
        remote.answers("GET", ONE, session_json(), headers={"Date": ""})
    remote.answers("POST", SESSIONS, session_json(), headers={"Date": ""})
    for _ in range(2):
        seen = await client.get_session(AGENT, SESSION, timeout_s=5)
        assert (seen.remaining_s, seen.said, seen.said_s) == (0.0, False, None)
    assert (await client.create_session(AGENT, timeout_s=5)).remaining_s == 86400.0
    await client.aclose()
    assert len(drift) == 1
    assert "Date" in drift[0]


async def test_without_an_estimate_nothing_is_promised(
    remote: Remote,
) -> None:
    drift: list[str] = []
    client = FoundryClient(URL, StaticToken("t"), on_drift=drift.append)
    await client.open()
    remote.answers("POST", SESSIONS, session_json(estimatedExpiresTime=...))
    sighting = await client.create_session(AGENT, timeout_s=5)
    await client.aclose()
    assert sighting.remaining_s == 0.0
    assert sighting.session.lifetime_s == 0.0
    assert len(drift) == 1
    assert "estimatedExpiresTime" in drift[0]


async def test_an_answer_about_another_session_is_refused(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("GET", f"{SESSIONS}/ri.aip-agents..session.other", session_json())
    with pytest.raises(RemoteMalformed, match="another session"):
        await client.get_session(AGENT, "ri.aip-agents..session.other", timeout_s=5)


async def test_list_passes_size_and_token_and_ends_at_an_empty_token(
    remote: Remote, client: FoundryClient
) -> None:
    asked = f"{SESSIONS}?preview=true&pageSize=50"
    remote.answers("GET", asked, {"data": [session_json()], "nextPageToken": "v1.Q+/="})
    remote.answers("GET", f"{asked}&pageToken=v1.Q%2B%2F%3D", {"data": [], "nextPageToken": ""})
    first = await client.list_sessions(AGENT, page_size=50, timeout_s=5)
    assert first.next_page_token == "v1.Q+/="
    last = await client.list_sessions(
        AGENT, page_size=50, page_token=first.next_page_token, timeout_s=5
    )
    assert last[:2] == ((), None)


@pytest.mark.parametrize("status", [200, 204])
async def test_delete_takes_any_2xx_and_no_body(
    remote: Remote, client: FoundryClient, status: int
) -> None:
    remote.answers("DELETE", ONE, status=status)
    await client.delete_session(AGENT, SESSION, timeout_s=5)
    assert "Content-Type" not in remote.asked[0]["headers"]


async def test_delete_of_what_is_gone_says_so(remote: Remote, client: FoundryClient) -> None:
    remote.answers("DELETE", ONE, error_json("SessionNotFound"), status=404)
    with pytest.raises(SessionGone):
        await client.delete_session(AGENT, SESSION, timeout_s=5)


async def test_blocking_continue_omits_what_was_not_given(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("POST", f"{ONE}/blockingContinue", result_json("Ahoy."))
    exchange = await client.blocking_continue(
        AGENT, SESSION, text="hello", trace_id=TRACE, timeout_s=5
    )
    assert sent_json(remote) == {
        "userInput": {"text": "hello"},
        "parameterInputs": {},
        "sessionTraceId": TRACE,
    }
    assert exchange.text == "Ahoy."
    assert exchange.tokens_used == 42
    assert exchange.parameter_updates == {"port": {"type": "string", "value": "Cork"}}
    assert not exchange.interrupted
    assert "Ahoy" not in repr(exchange)
    assert "Cork" not in repr(exchange)


async def test_blocking_continue_passes_parameters_and_contexts(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("POST", f"{ONE}/blockingContinue", result_json())
    port = {"type": "string", "value": "Cork"}
    await client.blocking_continue(
        AGENT,
        SESSION,
        text="hello",
        trace_id=TRACE,
        parameter_inputs={"port": port},
        contexts_override=[],
        timeout_s=5,
    )
    assert sent_json(remote)["parameterInputs"] == {"port": port}
    assert sent_json(remote)["contextsOverride"] == []


async def test_half_a_surrogate_pair_is_sent_and_no_error(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("POST", f"{ONE}/blockingContinue", result_json())
    await client.blocking_continue(AGENT, SESSION, text="\ud83d", trace_id=TRACE, timeout_s=5)
    assert sent_json(remote)["userInput"] == {"text": "\ud83d"}


async def test_the_answer_to_another_exchange_is_nobodys(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("POST", f"{ONE}/blockingContinue", result_json(trace_id=MESSAGE))
    with pytest.raises(RemoteMalformed, match="sessionTraceId") as caught:
        await client.blocking_continue(AGENT, SESSION, text="x", trace_id=TRACE, timeout_s=5)
    assert "Ahoy" not in str(caught.value)


async def test_a_trace_id_may_come_back_in_other_letters(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("POST", f"{ONE}/blockingContinue", result_json(trace_id=TRACE.upper()))
    await client.blocking_continue(AGENT, SESSION, text="x", trace_id=TRACE, timeout_s=5)


async def test_cancel_with_a_response_returns_what_was_stored(
    remote: Remote, client: FoundryClient
) -> None:
    stored = result_json("enough") | {"interruptedOutput": True}
    remote.answers("POST", f"{ONE}/cancel", {"result": stored})
    exchange = await client.cancel(
        AGENT, SESSION, message_id=MESSAGE, response="enough", timeout_s=5
    )
    assert sent_json(remote) == {"messageId": MESSAGE, "response": "enough"}
    assert exchange is not None
    assert exchange.interrupted


async def test_cancel_without_a_response_returns_nothing(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("POST", f"{ONE}/cancel", {})
    assert await client.cancel(AGENT, SESSION, message_id=MESSAGE, timeout_s=5) is None
    assert sent_json(remote) == {"messageId": MESSAGE}


async def test_content_is_oldest_first(remote: Remote, client: FoundryClient) -> None:
    exchanges = [
        {"userInput": {"text": "q"}, "result": result_json(text)} for text in ("one", "two")
    ]
    remote.answers("GET", f"{ONE}/content", {"exchanges": exchanges})
    content = await client.content(AGENT, SESSION, timeout_s=5)
    assert [exchange.text for exchange in content] == ["one", "two"]


@pytest.mark.parametrize(("status", "complete"), [("COMPLETE", True), ("IN_PROGRESS", False)])
async def test_a_trace_tells_whether_it_is_over(
    remote: Remote, client: FoundryClient, status: str, complete: bool
) -> None:
    remote.answers(
        "GET", f"{ONE}/sessionTraces/{TRACE}", {"id": TRACE, "status": status, "toolCallGroups": []}
    )
    assert await client.trace_complete(AGENT, SESSION, TRACE, timeout_s=5) is complete


async def test_an_unknown_trace_is_a_rejection_by_name(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers(
        "GET", f"{ONE}/sessionTraces/{TRACE}", error_json("SessionTraceNotFound"), status=404
    )
    with pytest.raises(RemoteRejected) as caught:
        await client.trace_complete(AGENT, SESSION, TRACE, timeout_s=5)
    assert caught.value.error_name == "SessionTraceNotFound"


async def test_path_parts_are_percent_encoded(remote: Remote, client: FoundryClient) -> None:
    odd = f"{SESSIONS}/a%2Fb%3Fc%20d/content"
    remote.answers("GET", odd, {"exchanges": []})
    await client.content(AGENT, "a/b?c d", timeout_s=5)
    assert remote.addresses == [("GET", f"{odd}?preview=true")]


async def test_a_refused_token_is_renewed_once_and_the_request_sent_once_more(
    remote: Remote,
) -> None:
    class Renewing:
        renewed: list[str] = []  # noqa: RUF012 - one test's own

        async def token(self) -> str:
            return "old"

        async def renew(self, stale: str) -> str:
            self.renewed.append(stale)
            return "new"

    auth = Renewing()
    client = FoundryClient(URL, auth)
    await client.open()
    for _ in range(2):
        remote.answers("POST", SESSIONS, error_json("Default:Unauthorized"), status=401)
    remote.answers("POST", SESSIONS, session_json())
    with pytest.raises(AuthError) as caught:
        await client.create_session(AGENT, timeout_s=5)
    assert caught.value.status == 401
    assert auth.renewed == ["old"]
    assert [call["headers"]["Authorization"] for call in remote.asked] == [
        "Bearer old",
        "Bearer new",
    ]
    await client.create_session(AGENT, timeout_s=5)
    await client.aclose()


async def test_a_static_token_that_is_refused_is_an_auth_error_at_the_first_answer(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("GET", ONE, status=401)
    with pytest.raises(AuthError, match="401") as caught:
        await client.get_session(AGENT, SESSION, timeout_s=5)
    assert "t0ken" not in str(caught.value)
    assert len(remote.asked) == 1


@pytest.mark.looptime
async def test_an_auth_that_hangs_is_bounded_and_nothing_was_sent(remote: Remote) -> None:
    class Hanging:
        async def token(self) -> str:
            await asyncio.Event().wait()
            return ""

        async def renew(self, stale: str) -> str:
            return stale

    client = FoundryClient(URL, Hanging())
    await client.open()
    with pytest.raises(RemoteUnavailable) as caught:
        await client.create_session(AGENT, timeout_s=3)
    await client.aclose()
    assert not caught.value.sent
    assert asyncio.get_running_loop().time() == 3
    assert remote.asked == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"<html>secret words</html>", "body"),
        (b'{"rid": "x"', "body"),
        (b"[]", "body"),
        (json.dumps(session_json(messageCount="secret words")).encode(), "metadata.messageCount"),
        (json.dumps(session_json(createdTime=...)).encode(), "metadata.createdTime"),
        (json.dumps(session_json(updatedTime="2024-10-01T22:04:24")).encode(), "updatedTime"),
        (json.dumps(session_json() | {"rid": 7}).encode(), "rid"),
    ],
)
async def test_a_body_that_does_not_fit_names_the_field_and_quotes_nothing(
    remote: Remote, client: FoundryClient, body: bytes, field: str
) -> None:
    remote.answers("GET", ONE, body=body)
    with pytest.raises(RemoteMalformed, match=field) as caught:
        await client.get_session(AGENT, SESSION, timeout_s=5)
    assert "secret words" not in repr(caught.value)
    # Nor through what it is chained to: reporters print whole chains.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_an_empty_404_is_an_absent_api_and_no_dead_session(
    remote: Remote, client: FoundryClient
) -> None:
    remote.answers("GET", ONE, status=404)
    with pytest.raises(AgentUnavailable, match="preview") as caught:
        await client.get_session(AGENT, SESSION, timeout_s=5)
    assert caught.value.error_name is None
