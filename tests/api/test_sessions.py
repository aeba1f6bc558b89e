"""Sessions over REST: what they are, their log by cursor, and the log in words."""

from __future__ import annotations

import pytest

from agents.backend import LogEntry
from sessions_app import log
from sessions_app.condensed import KINDS, condense
from sessions_app.models import TurnOutcome, TurnState
from studio.kernel.clock import now
from studio.kernel.ids import new_id
from studio.topics import Event
from tests.api.conftest import error_of
from tests.factories import make_session, make_turn, make_workspace, settle_turn


@pytest.fixture
def session(project):
    return make_session(make_workspace(project), title="Planning", external_id="ses_1")


def write(session, *entries: tuple[str, dict]) -> None:
    """Append entries to the log."""
    log.append(
        session.pk,
        [LogEntry(kind=kind, key=f"{kind}:{new_id()}", data=data, at=now()) for kind, data in entries],
    )


def url(session, part: str = "") -> str:
    """The address of a session or a part of it."""
    return f"/api/v1/sessions/{session.pk}{part}"


def test_session__with_turns_tokens_and_cost(viewer, session):
    turn = make_turn(session, prompt="A secret prompt")
    write(session, ("step.finished", {"cost": 0.25, "tokens": {"input": 10, "output": 5, "reasoning": 1, "cached": 3}}))
    body = viewer.get(url(session)).json()
    assert (body["title"], body["external_id"], body["busy"]) == ("Planning", "ses_1", True)
    assert body["tokens"] == {"input": 10, "output": 5, "reasoning": 1, "cached": 3}
    assert (body["cost"], body["last_seq"]) == (0.25, 1)
    assert [(one["id"], one["number"], one["state"]) for one in body["turns"]] == [(str(turn.pk), 1, "admitted")]
    assert "prompt" not in body["turns"][0]
    settle_turn(turn, TurnOutcome.FAILED, error_code="rate_limited")
    body = viewer.get(url(session)).json()
    assert body["busy"] is False
    assert (body["turns"][0]["outcome"], body["turns"][0]["error_code"]) == ("failed", "rate_limited")


def test_session__unknown_is_404(viewer):
    error_of(viewer.get(f"/api/v1/sessions/{new_id()}"), 404, "not_found")
    error_of(viewer.get(f"/api/v1/sessions/{new_id()}/events"), 404, "not_found")
    error_of(viewer.get(f"/api/v1/sessions/{new_id()}/transcript"), 404, "not_found")
    error_of(viewer.get("/api/v1/sessions/not-an-id"), 404, "not_found")


def test_events__are_read_by_cursor_without_gap_or_double(viewer, session):
    write(session, *(("text", {"text": f"T{number}", "part": f"p{number}"}) for number in range(5)))
    first = viewer.get(url(session, "/events?limit=2")).json()
    assert [event["seq"] for event in first["results"]] == [1, 2]
    assert first["results"][0]["data"] == {"text": "T0", "part": "p0"}
    assert (first["head"], first["previous"]) == (5, None)
    second = viewer.get(first["next"]).json()
    assert [event["seq"] for event in second["results"]] == [3, 4]
    last = viewer.get(second["next"]).json()
    assert [event["seq"] for event in last["results"]] == [5]
    assert last["next"] is None
    assert viewer.get(url(session, "/events?after=5")).json()["results"] == []
    assert viewer.get(url(session, "/events?after=999")).json()["results"] == []


@pytest.mark.parametrize(
    "query",
    ["after=-1", "after=x", "after=1.5", f"after={2**63}", f"after={'9' * 5000}", "limit=0", "limit=501", "limit=-3"],
)
@pytest.mark.parametrize("part", ["/events", "/transcript"])
def test_cursor__that_is_none_is_400(viewer, session, part, query):
    error = error_of(viewer.get(url(session, f"{part}?{query}")), 400, "invalid")
    assert error["detail"]["field"] == query.partition("=")[0]


def test_transcript__has_one_entry_for_each_tool(viewer, session):
    tool = {"part": "p1", "call": "c1", "tool": "bash", "title": "List files", "input": {"command": "ls"}}
    write(
        session,
        ("user", {"text": "Phase: planning"}),
        ("tool.started", tool),
        ("tool.finished", {**tool, "output": "README.md", "status": "completed", "error": "", "ms": 12}),
        ("tool.started", {**tool, "part": "p2"}),
        ("text", {"text": "Done.", "part": "p3"}),
    )
    body = viewer.get(url(session, "/transcript")).json()
    assert [(entry["seq"], entry["kind"], entry["status"]) for entry in body["results"]] == [
        (1, "user", ""),
        (3, "tool", "completed"),
        (4, "tool", "running"),
        (5, "text", ""),
    ]
    assert body["results"][1]["text"] == "bash: List files\nREADME.md"
    assert body["results"][3]["text"] == "Done."


def test_reading__asks_the_database_equally_often_for_many(viewer, session, django_assert_max_num_queries):
    write(session, *(("text", {"text": "x", "part": f"p{number}"}) for number in range(50)))
    for _ in range(3):
        make_turn(session, state=TurnState.SETTLED)
    for part in ("", "/events", "/transcript"):
        with django_assert_max_num_queries(6):
            assert viewer.get(url(session, part)).status_code == 200


# ---- each kind in words

DATA = {
    "user": ({"text": "Do it."}, "Do it."),
    "text": ({"text": "Hello."}, "Hello."),
    "reasoning": ({"text": "Hm."}, "Hm."),
    "tool.started": ({"tool": "read", "input": {"path": "a.py"}}, "read: a.py"),
    "tool.finished": (
        {"tool": "edit", "title": "a.py", "error": "No such file", "status": "error"},
        "edit: a.py\nNo such file",
    ),
    "step.finished": ({"tokens": {"input": 7, "output": 3}, "cost": 0.5}, "7 tokens in, 3 out, $0.5"),
    "todo": (
        {"items": [{"content": "A", "status": "completed"}, {"content": "B", "status": "pending"}, "rubbish"]},
        "[x] A\n[ ] B",
    ),
    "file.edited": ({"file": "a.py"}, "a.py"),
    "retry": ({"message": "Slow down", "attempt": 1}, "Slow down"),
    "error": ({"name": "APIError", "message": "401"}, "APIError: 401"),
    "ask.rejected": ({"what": "bash", "detail": "rm"}, "Asked for something that is not allowed: bash rm"),
    "compacted": ({}, "The conversation was summarised to make room."),
    "turn.started": ({"turn": 1, "model": "p/m"}, "Turn 1 began with p/m."),
    "ask.opened": (
        {"kind": "permission", "title": "git push", "asker": "Fixer"},
        "Fixer asks for permission: git push",
    ),
    "ask.answered": ({"by": "ada", "reply": "reject", "message": "Not now"}, "ada rejected it: Not now"),
    "ask.lost": ({}, "The agent server forgot the question in a restart; the agent asks again."),
    "ask.expired": ({}, "Nobody answered in time."),
    "ask.withdrawn": ({}, "The question is void: the turn ended first."),
    "inbox.accepted": ({"author": "ada", "delivery": "steer", "text": "Stop"}, "ada wrote for the running turn: Stop"),
    "inbox.edited": ({"author": "ada", "by": "bob", "text": "Go"}, "bob changed a message that waits: Go"),
    "inbox.removed": ({"author": "ada", "text": "Go"}, "ada took a message back: Go"),
    "inbox.moved": (
        {"author": "ada", "by": "bob", "up": True, "text": "Go"},
        "bob moved a message that waits forward: Go",
    ),
    "inbox.delivered": ({"author": "ada"}, "ada's message has reached the agent."),
    "budget.reached": (
        {"scope": "task", "message": "This task has used $2.61 of $2.50.", "action": "stop"},
        "This task has used $2.61 of $2.50. The turn is stopped.",
    ),
    "session.continued": (
        {"session": "x", "reason": "the agent profile was changed since"},
        "The conversation goes on in a fresh session, because the agent profile was changed since.",
    ),
    "turn.resumed": ({"turn": 1}, "Turn 1 was interrupted; it goes on where it was."),
    "turn.retrying": (
        {"turn": 1, "error_code": "rate_limited", "message": "429", "attempt": 2, "of": 8},
        "The model provider's rate limit is reached; the turn is tried again by itself (try 2 of 8): 429",
    ),
    "turn.unknown": ({"turn": 3, "message": "Its data is gone."}, "Nobody can say how turn 3 ended. Its data is gone."),
    "command.started": ({"command": "make test"}, "Background command: make test"),
    "command.finished": ({"command": "make", "state": "failed", "exit": 2}, "Background command failed (exit 2): make"),
    "command.lost": ({"command": "make", "state": "lost"}, "Background command lost: make"),
    "command.cancelled": ({"command": "make", "state": "cancelled"}, "Background command cancelled: make"),
    "turn.settled": ({"turn": 2, "outcome": "failed", "message": "Why."}, "Turn 2 ended: failed. Why."),
}


def test_condense__has_a_case_for_each_kind():
    assert set(DATA) == set(KINDS)


@pytest.mark.parametrize("kind", list(DATA))
def test_condense__says_it_in_words(kind):
    data, text = DATA[kind]
    assert condense(Event("session:x", 1, kind, data, now()))["text"] == text


@pytest.mark.parametrize("kind", [*DATA, "notice", "something.new"])
def test_condense__never_fails_on_what_an_agent_may_leave_out(kind):
    entry = condense(Event("session:x", 1, kind, {}, now()))
    assert isinstance(entry["text"], str)


def test_condense__shortens_outputs():
    entry = condense(
        Event("session:x", 1, "tool.finished", {"tool": "bash", "output": "y" * 9_000, "input": {}}, now())
    )
    assert len(entry["text"]) < 2_100
