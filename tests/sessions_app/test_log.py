"""The log: gapless numbers, no doubles, usage counted once."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from django.db import connection

from agents.backend import LogEntry
from sessions_app import log, selectors
from sessions_app.models import AgentSession, SessionEvent
from studio import topics
from studio.kernel.clock import now


def text(key: str) -> LogEntry:
    return LogEntry("text", f"text:{key}", {"text": key, "part": key}, now())


def step(key: str, **tokens: int) -> LogEntry:
    return LogEntry("step.finished", f"step:{key}", {"part": key, "cost": 0.25, "tokens": tokens}, now())


@pytest.fixture
def other_session(session):
    session_2 = AgentSession.objects.get(pk=session.pk)
    session_2.pk, session_2._state.adding, session_2.external_id = uuid4(), True, ""
    session_2.save()
    return session_2


def test_append__numbers_without_a_gap(session):
    log.append(session.pk, [text("a"), text("b")])
    log.append(session.pk, [text("c")])
    assert [event.seq for event in selectors.read_session(str(session.pk), 0)] == [1, 2, 3]
    assert selectors.session_head(str(session.pk)) == 3


def test_append__same_key_again_changes_nothing(session):
    log.append(session.pk, [text("a"), text("b")])
    new = log.append(session.pk, [text("b"), text("c"), text("c")])
    assert [entry.key for entry in new] == ["text:c"]
    assert SessionEvent.objects.count() == 3


def test_append__usage_is_counted_once(session):
    for _ in range(2):
        log.append(session.pk, [step("s1", input=10, output=5), step("s2", input=1, cached=7, reasoning=2)])
    session.refresh_from_db()
    assert (session.tokens_input, session.tokens_output) == (11, 5)
    assert (session.tokens_cached, session.tokens_reasoning) == (7, 2)
    assert str(session.cost) == "0.500000"


@pytest.mark.parametrize("tokens", [None, [], "many", {"input": None, "output": "7", "cached": -1, "reasoning": True}])
@pytest.mark.parametrize("cost", [None, "no number", "NaN", -3, 10**9])
def test_append__a_step_with_rubbish_for_tokens_counts_nothing(session, tokens, cost):
    log.append(session.pk, [LogEntry("step.finished", "step:s", {"part": "s", "cost": cost, "tokens": tokens}, now())])
    session.refresh_from_db()
    assert (session.last_seq, session.cost, session.tokens_input, session.tokens_output) == (1, 0, 0, 0)


def test_append__of_an_hour_long_turn_is_written_in_pages(session, monkeypatch):
    monkeypatch.setattr(log, "PAGE_ENTRIES", 10)
    new = log.append(session.pk, [text(str(n)) for n in range(25)] + [text("3")])
    assert [entry.key for entry in new] == [f"text:{n}" for n in range(25)]
    assert [event.seq for event in selectors.read_session(str(session.pk), 0)] == list(range(1, 26))


def test_append__to_a_session_that_is_gone_is_an_error(db):
    with pytest.raises(AgentSession.DoesNotExist):
        log.append(uuid4(), [text("a")])


def test_append_many__writes_each_log_under_its_own_numbers(session, other_session, silent_doorbell):
    log.append(session.pk, [text("a")])
    new = log.append_many({session.pk: [text("a"), text("b")], other_session.pk: [text("a")], uuid4(): [text("x")]})
    assert {pk: [entry.key for entry in entries] for pk, entries in new.items()} == {
        session.pk: ["text:b"],
        other_session.pk: ["text:a"],
    }
    for one, seqs in ((session, [1, 2]), (other_session, [1])):
        one.refresh_from_db()
        assert [event.seq for event in selectors.read_session(str(one.pk), 0)] == seqs
        assert one.last_seq == len(seqs)


def test_append_many__costs_a_fixed_number_of_statements(session, other_session, django_assert_max_num_queries):
    with django_assert_max_num_queries(8):
        log.append_many({one.pk: [text(str(n)) for n in range(30)] for one in (session, other_session)})


def test_read_sessions__reads_several_logs_after_their_cursors(session, other_session):
    log.append_many({session.pk: [text("a"), text("b")], other_session.pk: [text("c"), text("d")]})
    found = selectors.read_sessions({str(session.pk): 1, str(other_session.pk): 0}, 500)
    assert sorted((event.topic, event.seq) for event in found) == sorted(
        [(f"session:{session.pk}", 2), (f"session:{other_session.pk}", 1), (f"session:{other_session.pk}", 2)]
    )
    assert len(selectors.read_sessions({str(session.pk): 0, str(other_session.pk): 0}, 3)) == 3
    many = {str(uuid4()): 0 for _ in range(3_000)}  # SQLite refuses an expression of so many parts
    found = selectors.read_sessions({**many, str(session.pk): 0, str(other_session.pk): 0}, 3)
    assert len(found) == 3
    assert selectors.read_sessions({}, 3) == []


def test_append__steps_of_sub_agents_cost_but_do_not_count(session, turn):
    turn.state = "running"
    turn.save(update_fields=["state"])
    child = LogEntry("step.finished", "step:c", {"part": "c", "cost": 1, "tokens": {}, "child": "ses_9"}, now())
    log.append(session.pk, [step("s1"), child])
    turn.refresh_from_db()
    session.refresh_from_db()
    assert turn.steps == 1
    assert session.cost == pytest.approx(1.25)


def test_append__rings_after_the_commit(session, silent_doorbell, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        log.append(session.pk, [text("a")])
        assert silent_doorbell == []
    assert silent_doorbell == [f"session:{session.pk}"]


@pytest.mark.django_db(transaction=True)
def test_append__from_eight_threads_is_gapless(workspace, server):
    session = AgentSession.objects.create(
        project=workspace.project, workspace=workspace, server=server, role="planner", title="t", directory="/srv/tree"
    )

    def write(worker: int) -> None:
        for index in range(20):
            log.append(session.pk, [text(f"{worker}.{index}"), text(f"shared.{index}")])
        connection.close()

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seqs = list(SessionEvent.objects.filter(session=session).order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, 8 * 20 + 20 + 1))


def test_transcript__a_finished_tool_shows_once(session):
    started = LogEntry("tool.started", "tool.started:p", {"part": "p", "tool": "bash"}, now())
    finished = LogEntry("tool.finished", "tool.finished:p", {"part": "p", "tool": "bash"}, now())
    log.append(session.pk, [started, finished])
    assert [event.kind for event in selectors.transcript(session)] == ["tool.finished"]


def test_topic__members_only(session, owner, stranger):
    topic = f"session:{session.pk}"
    assert topics.visible("session", owner, [topic]) == {topic}
    assert topics.visible("session", stranger, [topic]) == set()
