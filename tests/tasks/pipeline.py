"""Drives a task through the services as the jobs do, with a person at one end and an agent's hands at the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db import transaction

from agents.models import AgentRole, AgentServer
from sessions_app.models import AgentSession, Delivery, Turn, TurnOutcome, TurnState
from sessions_app.services import inbox
from sessions_app.services.follow_up import open_next
from tasks.choices import ACTIVE_RUN_STATES, Phase
from tasks.models import PhaseRun, Task
from tasks.services import results
from tasks.services.advance import advance_turn
from tasks.services.board import create_task
from tasks.services.lifecycle import act
from tasks.services.prepare import prepare_run
from tasks.services.schedule import schedule
from tasks.verdicts import FoundFinding
from tests.factories import make_profiles, make_project, make_server, settle_turn


class Pipeline:
    """One task and what happens to it. Nothing here is faked but the agent: its turns are settled by hand."""

    def __init__(self, **project: Any) -> None:
        make_profiles()
        if not AgentServer.objects.exists():
            make_server(max_parallel_runs=64)
        self.task = create_task(
            actor=None, project=make_project(**project), title="Add a farewell", description="Politely."
        )

    def act(self, action: str, **given: Any) -> Task:
        """What a person (here the studio itself, who may do everything) asks for."""
        self.task = act(actor=None, task_ref=self.task, action=action, **given)
        return self.task

    def fresh(self) -> Task:
        """The task as it is now."""
        self.task = Task.objects.select_related("project", "workspace").get(pk=self.task.pk)
        return self.task

    @property
    def shown(self) -> tuple[str, str, str, str]:
        """Column, run state, need and error code as the card shows them."""
        task = self.fresh()
        return (task.status, task.run_state, task.needs, task.error_code)

    def run(self) -> PhaseRun:
        """The active run, else the newest."""
        runs = self.task.runs.select_related("turn", "session__workspace", "task__project")
        return runs.filter(state__in=ACTIVE_RUN_STATES).first() or runs.order_by("-created_at")[0]

    def begin(self) -> PhaseRun:
        """The queued run gets its place, its workspace and its turn."""
        schedule()
        prepare_run(self.run().pk)
        return self.run()

    def write(self, name: str, text: str) -> Path:
        """The agent writes a file of its workspace."""
        session = self.run().session
        assert session is not None
        path = Path(session.workspace.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def settle(self, outcome: TurnOutcome = TurnOutcome.COMPLETED, **settled: Any) -> PhaseRun:
        """The turn ends, and the job draws the conclusion."""
        run = self.run()
        assert run.turn is not None
        settle_turn(run.turn, outcome, **settled)
        advance_turn(run.turn.pk)
        run.refresh_from_db()
        self.fresh()
        return run

    def plan(self, text: str = "1. Write goodbye().") -> PhaseRun:
        """A planning turn that hands in a plan."""
        run = self.begin()
        results.submit_plan(str(run.pk), text)
        return self.settle()

    def implement(self, name: str = "goodbye.py", text: str = "print('bye')\n") -> PhaseRun:
        """An implementation or fix turn that writes a file."""
        self.begin()
        self.write(name, text)
        return self.settle(result_text="It says goodbye now.")

    def review(self, verdict: str = "approved", *findings: FoundFinding, summary: str = "") -> PhaseRun:
        """A review turn that hands in findings and a verdict."""
        run = self.begin()
        for finding in findings:
            results.report_finding(str(run.pk), finding)
        results.submit_verdict(str(run.pk), verdict, summary)
        return self.settle()

    def to(self, phase: str) -> PhaseRun:
        """Everything goes well until a run of `phase` has begun (its turn is admitted)."""
        self.act("start")
        if phase != Phase.PLANNING:
            self.plan()
            self.act("approve_plan")
        if phase in (Phase.REVIEW, Phase.FIX):
            self.implement()
        if phase == Phase.FIX:
            self.review("changes_requested", ERROR, summary="One error.")
        return self.begin()

    def to_review(self) -> Task:
        """Everything goes well until a person reviews."""
        self.to(Phase.IMPLEMENTATION)
        self.write("goodbye.py", "print('bye')\n")
        self.settle()
        self.review()
        return self.fresh()

    def follow_up(self, text: str = "Also rename it.") -> Turn:
        """A message to the implementer, whose phase is over, opens a turn; it is at work."""
        session = AgentSession.objects.get(workspace=self.task.workspace, role=AgentRole.IMPLEMENTER)
        inbox.post(session=session, text=text, delivery=Delivery.QUEUE)
        with transaction.atomic():
            turn = open_next(session.pk)
        assert turn is not None
        Turn.objects.filter(pk=turn.pk).update(state=TurnState.RUNNING)
        return turn

    def history(self) -> list[tuple[str, str, str]]:
        """(action, from, to) of each history row."""
        return list(self.task.history.values_list("action", "from_status", "to_status"))

    def phases(self) -> list[tuple[str, int, int]]:
        """(phase, round, retry) of each run."""
        return list(self.task.runs.order_by("created_at").values_list("phase", "round", "retry"))


ERROR = FoundFinding("error", "It says hello", "It must say goodbye.", "goodbye.py", 1)
WARNING = FoundFinding("warning", "No test", "", "", None)
