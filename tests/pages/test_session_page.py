"""A session's page: the order of its entries, tools across stretches, sub-agents, the head, and what a long log costs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.backend import LogEntry
from agents.models import ModelCatalog
from sessions_app import entries, transcripts
from sessions_app.log import append
from sessions_app.models import AgentSession, SessionEvent, SubSession, Turn, TurnState, Usage
from studio.kernel.clock import now
from tests import factories
from tests.pages.conftest import body

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def entry(kind, key="", **data):
    return LogEntry(kind=kind, key=key or f"{kind}:{data.get('part') or data.get('turn')}", data=data, at=AT)


def part(number):
    return f"prt_1fbd2f{number:06d}"


def tool(number, **data):
    """The start and the end of a tool."""
    same = {"part": part(number), "tool": "bash", "title": f"make {number}", "input": {"command": f"make {number}"}}
    same |= {name: data.pop(name) for name in ("child", "tool") if name in data}
    ended = {**same, "output": "ok", "status": "completed", "exit": 0, **data}
    return entry("tool.started", **same), entry("tool.finished", **ended)


def step(number):
    return entry("step.finished", part=part(number), reason="stop", cost=0, tokens={})


def page_of(client, session, query=""):
    return body(client.get(f"/sessions/{session.pk}/{query}"))


def stretch(client, session, query=""):
    return body(client.get(f"/sessions/{session.pk}/entries/{query}", headers={"HX-Request": "true"}))


def parts(page):
    return re.findall(r'id="e-(prt_\w+)"', page)


# ---- order


def test_a_text_stands_before_the_tool_that_was_called_after_it(as_owner, session):
    started, ended = tool(3)
    append(session.pk, [started, ended, entry("text", part=part(2), text="First I look."), step(4)])
    page = page_of(as_owner, session)
    assert parts(page) == [part(2), part(3), part(4)]


def test_the_order_of_one_step_does_not_reach_into_the_step_before(as_owner, session):
    append(session.pk, [*tool(5), step(6), entry("text", part=part(2), text="A part with an older number."), step(7)])
    assert parts(page_of(as_owner, session)) == [part(5), part(6), part(2), part(7)]


def test_notes_between_a_tool_and_its_text_do_not_change_their_order(as_owner, session):
    started, ended = tool(3)
    asked = entry("ask.opened", key="ask", title="git push")
    append(session.pk, [started, asked, ended, entry("text", part=part(2), text="I push."), step(4)])
    assert parts(page_of(as_owner, session)) == [part(2), part(3), part(4)]


# ---- tools across stretches


def across(session, started, ended):
    """A tool that begins in one stretch and ends in the next."""
    between = [entry("text", part=f"{part(n)}t", text="x") for n in range(100, 100 + transcripts.PAGE)]
    append(session.pk, [started, *between, ended])
    session.refresh_from_db()


def test_a_tool_is_shown_once_where_it_began_with_its_end(as_owner, session):
    started, ended = tool(1, exit=3)
    across(session, started, ended)
    end = page_of(as_owner, session)
    assert f'id="e-{part(1)}"' not in end
    begin = stretch(as_owner, session, "?before=3")
    assert f'id="e-{part(1)}"' in begin
    assert "exit 3" in begin
    assert "spin" not in begin.split('class="entries"')[1]


def test_the_end_of_a_tool_reaches_a_reader_who_has_its_start(as_owner, session):
    started, ended = tool(1)
    across(session, started, ended)
    fresh = stretch(as_owner, session, f"?after={session.last_seq - 1}")
    assert re.search(rf'id="e-{part(1)}"[^>]* data-elsewhere', fresh)


def test_a_tool_that_never_ended_says_so(as_owner, session, turn):
    append(session.pk, [tool(1)[0]])
    running = page_of(as_owner, session)
    assert "running</span>" in running
    assert re.search(r"<live-transcript[^>]* data-busy", running)
    Turn.objects.filter(pk=turn.pk).update(state=TurnState.SETTLED)
    assert not re.search(r"<live-transcript[^>]* data-busy", page_of(as_owner, session))


@pytest.mark.parametrize(
    ("data", "state", "words"),
    [
        ({"exit": 0}, "done", ""),
        ({"exit": 2}, "failed", "exit 2"),
        ({"exit": None}, "stopped", "stopped"),
        ({"status": "error", "error": "No such file"}, "failed", "failed"),
    ],
)
def test_the_state_of_a_tool_is_said(as_owner, session, data, state, words):
    append(session.pk, tool(1, **data))
    page = page_of(as_owner, session)
    assert f'class="is-{state}"' in page
    assert words in page


def test_a_failed_tool_of_the_studio_bears_no_check_mark(as_owner, session):
    append(session.pk, tool(1, tool="studio_submit_plan", status="error", error="Timed out"))
    append(session.pk, tool(2, tool="studio_submit_plan"))
    failed, done = re.findall(r'<li class="e e-tool_finished".*?</summary>', page_of(as_owner, session), re.DOTALL)
    assert "i-check" not in failed
    assert "i-check" in done


# ---- sub-agents


def test_what_a_sub_agent_does_stands_together_under_its_name(as_owner, session):
    SubSession.objects.create(session=session, external_id="ses_a", parent_external_id="x", title="Read <the> tests")
    task = tool(1, tool="task")
    mine, theirs = tool(2), tool(3, child="ses_a")
    append(session.pk, [task[0], theirs[0], mine[0], theirs[1], entry("text", part=part(4), child="ses_a", text="Done."), mine[1], task[1]])  # fmt: skip
    page = page_of(as_owner, session)
    group = re.search(r'<li class="e e-sub" data-sub="ses_a">.*?</ol></details></li>', page, re.DOTALL)[0]
    assert parts(group) == [part(3), part(4)]
    assert "Read &lt;the&gt; tests" in group
    assert "2 entries" in group
    assert parts(page) == [part(1), part(3), part(4), part(2)]


def test_two_sub_agents_do_not_mix(as_owner, session):
    a, b = tool(1, child="ses_a"), tool(2, child="ses_b")
    append(session.pk, [a[0], b[0], a[1], b[1]])
    groups = re.findall(r'data-sub="(ses_\w)">(.*?)</ol>', page_of(as_owner, session), re.DOTALL)
    assert [(name, parts(group)) for name, group in groups] == [("ses_a", [part(1)]), ("ses_b", [part(2)])]


# ---- the head


def test_the_context_gauge_warns_when_it_is_nearly_full(as_owner, session):
    ModelCatalog.objects.create(
        server=session.server, provider="practice", model="practice", name="P", context_limit=1000, seen_at=now()
    )
    AgentSession.objects.filter(pk=session.pk).update(context_tokens=420)
    page = page_of(as_owner, session)
    assert 'value="42"' in page
    assert 'class="gauge muted"' in page
    AgentSession.objects.filter(pk=session.pk).update(context_tokens=810)
    assert 'class="gauge ink-amber"' in page_of(as_owner, session)


def test_without_a_known_limit_there_is_no_gauge(as_owner, session):
    AgentSession.objects.filter(pk=session.pk).update(context_tokens=420)
    assert 'class="gauge' not in page_of(as_owner, session)


def test_the_chain_of_sessions_is_linked(as_owner, session):
    before = factories.make_session(session.workspace)
    after = factories.make_session(session.workspace, previous=session)
    AgentSession.objects.filter(pk=session.pk).update(previous=before)
    page = page_of(as_owner, session)
    assert f'href="/sessions/{before.pk}/"' in page
    assert f'href="/sessions/{after.pk}/"' in page


def test_a_planned_try_is_said_with_its_time(as_owner, as_viewer, session, turn):
    at = now() + timedelta(seconds=90)
    Turn.objects.filter(pk=turn.pk).update(
        state=TurnState.ADMITTED, retry_code="rate_limited", error_message="429 slow down", next_try_at=at
    )
    page = page_of(as_owner, session)
    assert "429 slow down" in page
    assert f'data-until="{int(at.timestamp())}"' in page
    assert "try-now" in page
    assert "try-now" not in page_of(as_viewer, session)


def test_a_retry_of_the_server_is_said_with_its_time(as_owner, session, turn):
    at = now() + timedelta(seconds=30)
    Turn.objects.filter(pk=turn.pk).update(retry_note="Rate limit reached", retry_at=at)
    page = page_of(as_owner, session)
    assert "The model provider says: Rate limit reached" in page
    assert f'data-until="{int(at.timestamp())}"' in page


def test_a_silent_model_is_noticed(as_owner, session, turn):
    assert re.search(r'class="note tone-grey silent" hidden', page_of(as_owner, session))
    Turn.objects.filter(pk=turn.pk).update(last_event_at=now() - timedelta(seconds=60))
    page = page_of(as_owner, session)
    assert not re.search(r'class="note tone-grey silent" hidden', page)
    assert "No answer from the model" in page
    Turn.objects.filter(pk=turn.pk).update(waiting_since=now())
    assert re.search(r'class="note tone-grey silent" hidden', page_of(as_owner, session))


def test_each_turn_says_what_it_used(as_owner, session):
    turn = factories.make_turn(session, started_at=AT, state=TurnState.RUNNING)
    for number in range(2):
        Usage.objects.create(session=session, turn=turn, project=session.project, key=f"k{number}", role="x", cost="0.25", tokens_input=600, tokens_output=7, day=AT.date(), at=AT)  # fmt: skip
    Turn.objects.filter(pk=turn.pk).update(state=TurnState.SETTLED, outcome="completed", settled_at=AT + timedelta(seconds=75))  # fmt: skip
    append(session.pk, [entry("turn.settled", turn=turn.number, outcome="completed")])
    settled = re.search(r'<p class="cut ink-green">.*?</p>', page_of(as_owner, session), re.DOTALL)[0]
    assert "took 1:15" in settled
    assert "2 steps · 1.2k in · 14 out · $0.5" in settled
    turns = body(as_owner.get(f"/sessions/{session.pk}/turns/"))
    assert "1.2k in · 14 out · $0.5" in turns
    assert "?turn=1" in turns


def test_the_turns_are_not_for_strangers(as_stranger, session):
    assert as_stranger.get(f"/sessions/{session.pk}/turns/").status_code == 404


# ---- going somewhere


def test_a_turn_is_found_in_a_long_log(as_owner, session):
    first, second = factories.make_turn(session), None
    append(session.pk, [entry("turn.started", f"turn.started:{first.pk}:0", turn=1)])
    append(session.pk, [entry("text", part=f"{part(n)}t", text="x") for n in range(300)])
    Turn.objects.filter(pk=first.pk).update(state=TurnState.SETTLED)
    second = factories.make_turn(session, resumes=2)
    append(session.pk, [entry("turn.resumed", f"turn.resumed:{second.pk}:1", turn=2)])
    append(session.pk, [entry("text", part=f"{part(n)}u", text="y") for n in range(300)])
    page = page_of(as_owner, session, "?turn=2")
    assert 'data-first="302"' in page
    assert 'data-first="1"' in page_of(as_owner, session, "?turn=1")
    assert f'data-last="{session.events.count()}"' in page_of(as_owner, session, "?turn=9")


def test_without_a_script_one_goes_back_and_forth_by_links(as_owner, session):
    append(session.pk, [entry("text", part=f"{part(n)}t", text="x") for n in range(250)])
    page = page_of(as_owner, session)
    assert f'href="/sessions/{session.pk}/?before=151"' in page
    earlier = page_of(as_owner, session, "?before=151")
    assert 'data-first="51" data-last="150"' in earlier
    assert f'href="/sessions/{session.pk}/?after=150"' in earlier
    assert 'data-first="151" data-last="250"' in page_of(as_owner, session, "?after=150")


def test_what_stands_around_is_read_without_the_entries(as_owner, session):
    append(session.pk, [entry("text", part=part(1), text="x")])
    page = stretch(as_owner, session, "?after=0&around=1")
    assert "e-text" not in page
    assert 'class="shead"' in page
    assert 'class="pending"' in page


# ---- bounds


def test_long_texts_leave_room_for_each_other(as_owner, session):
    long = "word " * 30_000
    append(session.pk, [entry("text", part=part(n), text=long) for n in range(transcripts.PAGE)])
    response = as_owner.get(f"/sessions/{session.pk}/")
    assert len(response.content) < 600_000
    assert body(response).count("Show all of it") == transcripts.PAGE
    assert len(as_owner.get(f"/sessions/{session.pk}/entries/1/").content) > 140_000


def test_terminal_codes_are_not_shown(as_owner, session):
    SessionEvent.objects.create(
        session=session,
        seq=1,
        kind="tool.finished",
        upstream_key="k",
        data={
            "part": "p",
            "tool": "bash",
            "title": "\x1b[31mred",
            "output": "\x1b[31mred\x1b[0m\x00",
            "error": "\x1b]0;t\x07e",
        },
        at=AT,
    )
    AgentSession.objects.filter(pk=session.pk).update(last_seq=1)
    page = page_of(as_owner, session)
    assert "\x1b" not in page
    assert "\x00" not in page
    assert "red</span>" in page


def test_hostile_words_are_escaped_everywhere(as_owner, session, turn):
    evil = "<img src=x onerror=alert(1)>"
    SubSession.objects.create(session=session, external_id="ses_a", parent_external_id="x", title=evil)
    kinds = ["inbox.accepted", "ask.opened", "turn.retrying", "turn.unknown", "budget.reached", "command.finished", "something.new"]  # fmt: skip
    append(session.pk, [entry(kind, kind, text=evil, message=evil, title=evil, author=evil, asker=evil, by=evil) for kind in kinds])  # fmt: skip
    append(session.pk, [entry("todo", "t", items=[{"content": evil, "status": evil}])])
    append(session.pk, tool(1, child="ses_a", tool=evil, title=evil, output=evil))
    Turn.objects.filter(pk=turn.pk).update(retry_note=evil)
    page = page_of(as_owner, session)
    assert "<img src" not in page.replace('<img src="/static', "")
    assert page.count("&lt;img src=x") > 8


# ---- a long log costs what a short one costs


def queries(client, address):
    with CaptureQueriesContext(
        connection,
    ) as caught:
        assert client.get(address).status_code == 200
    return [one["sql"] for one in caught.captured_queries]


def test_a_long_log_takes_no_more_queries_than_a_short_one(as_owner, session):
    def grow(first, count):
        made = []
        for number in range(first, first + count):
            made += [*tool(number), entry("text", part=f"{part(number)}t", text="x"), step(number + 500_000)]
        append(session.pk, made)

    grow(0, 30)
    page, entries_ = f"/sessions/{session.pk}/", f"/sessions/{session.pk}/entries/?before=100"
    few = len(queries(as_owner, page)), len(queries(as_owner, entries_))
    grow(30, 400)
    assert (len(queries(as_owner, page)), len(queries(as_owner, entries_))) == few


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads SQLite's plans")
def test_every_question_to_the_log_goes_through_an_index(as_owner, session):
    started, ended = tool(1)
    across(session, started, ended)
    asked = queries(as_owner, f"/sessions/{session.pk}/entries/?before=3") + queries(
        as_owner, f"/sessions/{session.pk}/"
    )
    asked += queries(as_owner, f"/sessions/{session.pk}/?turn=1")
    of_log = [sql for sql in asked if 'FROM "sessions_app_sessionevent"' in sql]
    assert len(of_log) >= 5
    with connection.cursor() as cursor:
        for sql in of_log:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = " ".join(str(row[-1]) for row in cursor.fetchall())
            assert "SCAN" not in plan, plan
            assert "TEMP B-TREE" not in plan, plan
            if "'todo'" in sql:
                assert "session_event_todo" in plan


def test_a_tool_without_a_name_is_a_tool(session):
    append(session.pk, [entry("tool.started", part="p")])
    assert entries.tool_state(transcripts.selectors.read_session(str(session.pk), 0)[0]) == ("running", "")
