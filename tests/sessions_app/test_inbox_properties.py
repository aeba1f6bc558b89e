"""Random interleavings of people, jobs, crashes and a dying server: each message reaches the agent exactly once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from sessions_app.models import InboxItem, SessionEvent, Turn
from sessions_app.services import abort, dispatch, follow_up, inbox, pause, reconcile, steer, stopping, turns
from studio.kernel.clock import now
from studio.kernel.errors import Conflict
from tests.factories import make_profiles, make_project, make_server, make_workspace
from tests.fakes.model_server import Crash, ModelServer

CRASHES = st.sampled_from(["", "", "", "before", "after"])


class Conversation(RuleBasedStateMachine):
    """One session, its people, its jobs in any order, and its server."""

    workspace: Any
    row: Any

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.server = ModelServer()
        self.patches = [
            patch(f"sessions_app.services.{module}.backend_for", lambda _: self.server)
            for module in ("dispatch", "reconcile", "abort", "pause", "steer", "stopping")
        ]
        for one in self.patches:
            one.start()
        self.session = turns.open_session(
            workspace=self.workspace, server=self.row, role="planner", title="S", agent="studio-planner", model=""
        )
        turns.admit_turn(session=self.session, prompt="<0>", max_steps=99, wall_seconds=999, idle_seconds=999)
        self.count = 0

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            for one in self.patches:
                one.stop()
            transaction.set_rollback(True)
            self.example.__exit__(None, None, None)

    # People

    @rule(delivery=st.sampled_from(["steer", "queue"]))
    def post(self, delivery: str) -> None:
        self.count += 1
        inbox.post(session=self.session, text=f"<{self.count}>", delivery=delivery)

    @rule(data=st.data(), what=st.sampled_from(["edit", "remove", "up", "down", "send_now"]))
    def change(self, data: st.DataObject, what: str) -> None:
        items = list(InboxItem.objects.filter(session=self.session).values_list("pk", "text"))
        if not items:
            return
        pk, text = data.draw(st.sampled_from(items))
        try:
            if what == "edit":
                inbox.edit(item_id=pk, text=text + "'")
            elif what == "remove":
                inbox.remove(item_id=pk)
            elif what == "send_now":
                inbox.send_now(item_id=pk)
            else:
                inbox.move(item_id=pk, up=what == "up")
        except Conflict:
            pass

    @rule()
    def interrupt(self) -> None:
        inbox.interrupt(session=self.session)

    @rule()
    def pause(self) -> None:
        for turn_id in self.unsettled():
            pause.pause_turn(turn_id=turn_id, reason="budget")

    @rule()
    def release(self) -> None:
        for turn_id in self.unsettled():
            pause.release_turn(turn_id=turn_id)

    # Jobs, delivered late, twice, or cut off

    @rule(crash=CRASHES)
    def dispatch(self, crash: str) -> None:
        for turn_id in self.unsettled():
            self.job(lambda turn_id=turn_id: dispatch.dispatch(turn_id), crash)

    @rule(crash=CRASHES)
    def deliver(self, crash: str) -> None:
        self.job(lambda: steer.deliver(self.session.pk), crash)

    @rule()
    def open_next(self) -> None:
        with transaction.atomic():
            follow_up.open_next(self.session.pk)

    @rule()
    def reconcile(self) -> None:
        for turn_id in self.unsettled():
            reconcile.reconcile(turn_id)

    @rule()
    def stop_what_was_asked(self) -> None:
        for turn_id in self.unsettled():
            abort.abort(turn_id)
            pause.stop_on_server(turn_id)
        for turn_id in Turn.objects.filter(session=self.session, unconfirmed=True).values_list("pk", flat=True):
            stopping.confirm_stopped(turn_id)

    @rule()
    def time_passes(self) -> None:
        past = now() - timedelta(minutes=1)
        Turn.objects.filter(session=self.session).update(lease_until=None, lease_owner="", last_event_at=past)
        Turn.objects.filter(session=self.session, next_try_at__isnull=False).update(next_try_at=past)
        InboxItem.objects.filter(session=self.session, next_try_at__isnull=False).update(next_try_at=past)
        InboxItem.objects.filter(session=self.session, delivered_at__isnull=False).update(delivered_at=past)

    # The server

    @rule(more=st.booleans())
    def step(self, more: bool) -> None:
        for name in list(self.server.messages):
            self.server.step(name, more=more)

    @rule()
    def die(self) -> None:
        self.server.die()

    @rule(down=st.booleans())
    def network(self, down: bool) -> None:
        self.server.down = down

    @precondition(lambda self: Turn.objects.filter(session=self.session, state="running").exists())
    @rule()
    def accept_and_lose(self) -> None:
        self.server.forget_next = True

    # What must hold

    @invariant()
    def log_has_neither_gap_nor_double(self) -> None:
        rows = list(SessionEvent.objects.filter(session=self.session).order_by("seq"))
        self.session.refresh_from_db(fields=["last_seq"])
        assert [row.seq for row in rows] == list(range(1, self.session.last_seq + 1))
        assert len({row.upstream_key for row in rows}) == len(rows)

    @invariant()
    def one_turn_at_a_time(self) -> None:
        assert len(self.unsettled()) <= 1

    @invariant()
    def nothing_was_said_twice_or_after_it_was_taken_back(self) -> None:
        said = self.said()
        assert len(said) == len(set(said)), said
        taken_back = InboxItem.objects.filter(session=self.session, state="removed").values_list("text", flat=True)
        assert not set(taken_back) & set(said)

    def said(self) -> list[str]:
        self.session.refresh_from_db(fields=["external_id"])
        return [word for text in self.server.said(self.session.external_id) for word in text.split()]

    def unsettled(self) -> list[Any]:
        return list(Turn.objects.filter(session=self.session).exclude(state="settled").values_list("pk", flat=True))

    def job(self, work, crash: str) -> None:
        self.server.crash = crash
        try:
            work()
        except Crash:
            pass
        finally:
            self.server.crash = ""

    def come_to_rest(self) -> None:
        """With everything up again, all that was accepted is said once, and nothing is left open."""
        self.server.down = self.server.forget_next = False
        for _ in range(60):
            self.time_passes()
            self.release()
            self.stop_what_was_asked()
            self.dispatch("")
            self.reconcile()
            self.deliver("")
            self.step(more=False)
            self.reconcile()
            self.open_next()
            waiting = InboxItem.objects.filter(session=self.session, state__in=["waiting", "sending"]).exists()
            if not self.unsettled() and not waiting:
                break
        assert not self.unsettled(), (
            Turn.objects.filter(session=self.session)
            .exclude(state="settled")
            .values_list(
                "state", "hold", "abort_reason", "next_try_at", "error_message", "attempts", "resumes", "started_at"
            )
        )
        said = self.said()
        accepted = InboxItem.objects.filter(session=self.session).exclude(state="removed").order_by("position")
        assert {item.state for item in accepted} <= {"delivered"}
        # A turn that is ended before its prompt went out ends with it, visibly.
        ended = [
            item.text
            for item in accepted
            if item.turn is not None and item.turn.outcome == "aborted" and item.text not in said
        ]
        assert sorted(said) == sorted(
            ["<0>"][: "<0>" in said] + [item.text for item in accepted if item.text not in ended]
        )
        queued = [item.text for item in accepted if item.delivery == "queue"]
        assert [text for text in said if text in queued] == [text for text in queued if text not in ended]
        self.log_has_neither_gap_nor_double()


@pytest.fixture
def ground(db):
    """What every conversation shares."""
    make_profiles()
    workspace, row = make_workspace(make_project()), make_server()
    with (
        patch.object(Conversation, "workspace", workspace, create=True),
        patch.object(Conversation, "row", row, create=True),
    ):
        yield


def test_inbox__under_random_interleavings(ground):
    run_state_machine_as_test(
        Conversation,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        ),
    )
