"""The transcript: its stretches, its cursor, and how each kind of entry reads."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from agents.backend import LogEntry
from sessions_app import entries, transcripts
from sessions_app.log import append
from sessions_app.models import Ask, AskState, SessionEvent
from tests import factories
from tests.pages.conftest import body

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def entry(kind, key, **data):
    return LogEntry(kind=kind, key=key, data=data, at=AT)


def fill(session, count):
    append(session.pk, [entry("text", f"t{n}", part=f"prt_{n:06d}", text=f"line {n}") for n in range(1, count + 1)])
    session.refresh_from_db()


def url(session, query=""):
    return f"/sessions/{session.pk}/entries/{query}"


def numbers(page):
    return [int(n) for n in re.findall(r'data-seq="(\d+)"', page)]


def cursor(page):
    return int(re.search(r'<data value="(\d+)"', page)[1])


def test_a_session_has_a_page_for_members_only(as_viewer, as_stranger, session):
    assert as_viewer.get(f"/sessions/{session.pk}/").status_code == 200
    assert as_stranger.get(f"/sessions/{session.pk}/").status_code == 404
    assert as_stranger.get(url(session)).status_code == 404


def test_the_page_begins_with_the_end_and_offers_what_is_before(as_owner, session):
    fill(session, transcripts.PAGE + 10)
    page = body(as_owner.get(f"/sessions/{session.pk}/"))
    assert numbers(page) == list(range(11, transcripts.PAGE + 11))
    assert f'data-cursor="{transcripts.PAGE + 10}"' in page
    assert 'data-first="11"' in page


def test_what_came_after_a_cursor(as_owner, session):
    fill(session, 5)
    page = body(as_owner.get(url(session, "?after=3")))
    assert numbers(page) == [4, 5]
    assert cursor(page) == 5
    assert "data-full" not in page


def test_a_long_stretch_says_that_there_is_more(as_owner, session):
    fill(session, transcripts.PAGE + 1)
    page = body(as_owner.get(url(session, "?after=0")))
    assert cursor(page) == transcripts.PAGE
    assert 'data-full="1"' in page


def test_reading_on_from_each_cursor_gives_everything_once(as_owner, session):
    fill(session, transcripts.PAGE * 2 + 7)
    seen, at = [], 0
    while True:
        page = body(as_owner.get(url(session, f"?after={at}")))
        seen += numbers(page)
        if cursor(page) == at:
            break
        at = cursor(page)
    assert seen == list(range(1, transcripts.PAGE * 2 + 8))


def test_what_came_before(as_owner, session):
    fill(session, transcripts.PAGE + 10)
    page = body(as_owner.get(url(session, "?before=11")))
    assert numbers(page) == list(range(1, 11))
    assert "data-earlier" not in page
    assert numbers(body(as_owner.get(url(session, "?before=1")))) == []


@pytest.mark.parametrize("query", ["?after=-1", "?after=x", "?before=99999999999999999999999", "?after=²", "?before=0"])
def test_an_odd_cursor_harms_nothing(as_owner, session, query):
    fill(session, 3)
    assert as_owner.get(url(session, query)).status_code == 200


def test_nothing_new_keeps_the_cursor(as_owner, session):
    fill(session, 3)
    page = body(as_owner.get(url(session, "?after=3")))
    assert numbers(page) == []
    assert cursor(page) == 3


def test_hidden_entries_still_move_the_cursor(as_owner, session):
    append(session.pk, [entry("file.edited", "f1", file="a.py"), entry("todo", "td", items=[])])
    page = body(as_owner.get(url(session, "?after=0")))
    assert numbers(page) == []
    assert cursor(page) == 2


def test_a_tools_end_takes_the_place_of_its_start(as_owner, session):
    started = {"part": "prt_9", "call": "c", "tool": "bash", "title": "make test", "input": {"command": "make test"}}
    append(session.pk, [entry("tool.started", "s", **started)])
    assert 'id="e-prt_9"' in body(as_owner.get(url(session, "?after=0")))
    append(session.pk, [entry("tool.finished", "f", **started, output="ok", status="completed", error="", ms=1500)])
    after = body(as_owner.get(url(session, "?after=1")))
    assert 'id="e-prt_9"' in after
    assert "1.5 s" in after
    assert body(as_owner.get(url(session, "?after=0"))).count('id="e-prt_9"') == 1


KINDS = [
    (entry("user", "k", text="Phase: planning"), "Phase: planning"),
    (entry("text", "k", part="p", text="**bold**"), "<strong>bold</strong>"),
    (entry("reasoning", "k", part="p", text="I think"), "Thinking"),
    (entry("step.finished", "k", part="p", reason="stop", cost=0.25, tokens={"input": 12_345, "output": 7}), "12k in"),
    (entry("step.finished", "k", part="p", reason="length", cost=0, tokens={}), "Cut off at the output limit"),
    (entry("retry", "k", attempt=2, message="429"), "(attempt 2): 429"),
    (entry("error", "k", name="ProviderAuthError", message="no key"), "ProviderAuthError"),
    (entry("ask.rejected", "k", what="bash", detail="rm -rf"), "not allowed: bash rm -rf"),
    (entry("notice", "k", message="Look"), "Look"),
    (entry("compacted", "k"), "summarised"),
    (entry("turn.started", "k", turn=3, model="m/x"), "Turn 3 · m/x"),
    (entry("turn.resumed", "k", turn=3), "it goes on where it was"),
    (entry("turn.settled", "k", turn=3, outcome="failed", message="why"), "Failed: why"),
    (
        entry("turn.settled", "k", turn=3, outcome="failed", error_code="step_limit", message="MessageAbortedError"),
        "Failed: It made more steps than the profile allows. MessageAbortedError",
    ),
    (entry("something.new", "k", message="from the future"), "from the future"),
    (entry("tool.finished", "k", part="p", tool="edit", title="a.py", input={"filePath": "a.py", "oldString": "x1", "newString": "y2"}, status="completed"), "y2</pre>"),
    (entry("tool.finished", "k", part="p", tool="bash", title="false", input={"command": "false"}, status="completed", exit=1), "exit 1"),
    (entry("tool.finished", "k", part="p", tool="read", title="a", input={"filePath": "a"}, status="error", error="gone"), "gone</pre>"),
    (entry("tool.finished", "k", part="p", tool="studio_submit_plan", input={"plan": "p"}, status="completed"), "<b>submit plan</b>"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "words"), KINDS)
def test_each_kind_reads_well(as_owner, session, one, words):
    append(session.pk, [one])
    assert words in body(as_owner.get(url(session, "?after=0")))


@pytest.mark.parametrize("kind", ["text", "user", "tool.finished", "tool.started", "step.finished", "retry", "error", "todo", "turn.settled", "reasoning"])  # fmt: skip
def test_an_entry_without_its_data_breaks_nothing(as_owner, session, kind):
    append(session.pk, [entry(kind, "k")])
    assert as_owner.get(url(session, "?after=0")).status_code == 200
    odd = {"part": None, "input": "text", "tokens": None, "items": "no", "tool": 7, "title": ["x"], "ms": "soon"}
    SessionEvent.objects.create(session=session, seq=2, kind=kind, upstream_key="k2", data=odd, at=AT)
    assert as_owner.get(url(session, "?after=0")).status_code == 200


def test_the_newest_todo_list_stands_above(as_owner, session):
    items = [{"content": "Read", "status": "completed"}, {"content": "Write", "status": "in_progress"}]
    append(session.pk, [entry("todo", "a", items=[]), entry("todo", "b", items=items)])
    page = body(as_owner.get(f"/sessions/{session.pk}/"))
    assert "1/2" in page
    assert page.index("Write") < page.index('class="log"')


def test_tokens_and_cost_are_summed_up(as_owner, session):
    usage = {"input": 1_200_000, "output": 950, "reasoning": 1, "cached": 2_500}
    append(session.pk, [entry("step.finished", "s", part="p", reason="stop", cost=1.5, tokens=usage)])
    page = body(as_owner.get(f"/sessions/{session.pk}/"))
    assert "1.2M in · 950 out · 1 thinking · 2.5k cached · $1.50" in page


@pytest.mark.parametrize(
    ("milliseconds", "words"), [(0, "0 ms"), (999, "999 ms"), (1_500, "1.5 s"), (61_000, "1:01 min")]
)
def test_durations(milliseconds, words):
    assert entries.duration(milliseconds) == words


def test_what_is_folded_is_shortened_until_it_is_asked_for(as_owner, as_stranger, session):
    output = "x" * entries.FOLDED + "the end"
    append(session.pk, [entry("tool.finished", "f", part="p", tool="bash", output=output, status="completed")])
    page = body(as_owner.get(url(session, "?after=0")))
    assert "the end" not in page
    assert f'hx-get="{url(session)}1/"' in page
    whole = body(as_owner.get(f"{url(session)}1/"))
    assert "the end</pre>" in whole
    assert '<details class="is-done" open>' in whole
    assert "Show all of it" not in whole
    assert as_owner.get(f"{url(session)}2/").status_code == 404
    assert as_owner.get(f"{url(session)}99999999999999999999/").status_code == 404
    assert as_stranger.get(f"{url(session)}1/").status_code == 404


def test_a_page_of_long_outputs_stays_small(as_owner, session):
    long = {"tool": "bash", "title": "make", "input": {"command": "y" * 9_000}, "output": "z" * 29_000}
    append(session.pk, [entry("tool.finished", f"f{n}", part=f"p{n}", **long) for n in range(transcripts.PAGE)])
    assert len(as_owner.get(f"/sessions/{session.pk}/").content) < 1_000_000


def test_a_long_prompt_is_shortened_too(as_owner, session):
    append(session.pk, [entry("user", "u", text="w " * 50_000)])
    assert len(as_owner.get(url(session, "?after=0")).content) < 20_000
    assert body(as_owner.get(f"{url(session)}1/")).count("w ") >= 50_000


def test_no_two_sessions_share_an_id(as_owner, session):
    other = factories.make_session(session.workspace)
    for one in (session, other):
        append(one.pk, [entry("turn.started", "a", turn=1), entry("notice", "b", message="x")])
    ids = [
        set(re.findall(r'<li [^>]*id="([^"]+)"', body(as_owner.get(url(one, "?after=0"))))) for one in (session, other)
    ]
    assert all(len(some) == 2 for some in ids)
    assert not ids[0] & ids[1]


def test_a_tools_time_leaves_out_what_a_person_took(as_owner, session):
    turn = factories.make_turn(session)
    asks = [
        {"detail": {"call": "c1", "command": "make"}},
        {"detail": {"call": "inner"}, "external_session": "ses_sub"},
    ]
    for fields in asks:
        ask = factories.make_ask(session, turn, state=AskState.ANSWERED, reply="once", **fields)
        Ask.objects.filter(pk=ask.pk).update(created_at=AT, answered_at=AT + timedelta(seconds=40))
    finished = {"status": "completed", "error": "", "ms": 42_500}
    task = {"part": "p2", "call": "c2", "tool": "task", "output": '<task id="ses_sub" state="completed">', **finished}
    untouched = {"part": "p3", "call": "c3", "tool": "read", "output": "", **finished, "ms": 45_000}
    append(session.pk, [entry("tool.finished", "a", part="p1", call="c1", tool="bash", output="ok", **finished)])
    append(session.pk, [entry("tool.finished", "b", **task), entry("tool.finished", "c", **untouched)])
    page = body(as_owner.get(url(session, "?after=0")))
    assert page.count("waited 40 s for you") == 2
    assert page.count("2.5 s") == 2
    assert page.count("45.0 s") == 1
    assert "waited 40 s for you" in body(as_owner.get(f"{url(session)}1/"))
