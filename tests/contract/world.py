"""Real rows that the contract test talks to, and real names in place of most of the generated ones."""

from __future__ import annotations

import itertools
from typing import Any

from knox.models import AuthToken

from agents.backend import LogEntry
from sessions_app import log
from sessions_app.models import PermissionRule
from studio.kernel.clock import now
from tasks.choices import Phase, Status
from tasks.models import Task
from tests.factories import (
    make_ask,
    make_finding,
    make_plan,
    make_project,
    make_repository,
    make_review,
    make_run,
    make_session,
    make_task,
    make_turn,
    make_user,
    make_workspace,
)
from workspaces.commands.services import start_command


class World:
    """A project with tasks in several columns, a worktree, a session with a log, and an account that may do everything."""

    def __init__(self) -> None:
        self.account = make_user(superuser=True)
        _, self.token = AuthToken.objects.create(self.account)
        self.project = make_project(key="DEMO")
        self.workspace = make_workspace(self.project)
        self.session = make_session(self.workspace)
        self.command = start_command(workspace=self.workspace, text="make test", actor=None)
        turn = make_turn(self.session, state="settled", outcome="completed")
        log.append(
            self.session.pk, [LogEntry("text", f"text:{n}", {"text": f"T{n}", "part": str(n)}, now()) for n in range(4)]
        )
        self.ask = make_ask(self.session, turn)
        self.rule = PermissionRule.objects.create(
            project=self.project, permission="edit", pattern="docs/*", action="ask"
        )
        done = make_task(self.project, status=Status.REVIEW, workspace=self.workspace, labels=["a"])
        make_plan(done, approved_by=self.account, approved_at=now())
        make_run(done, phase=Phase.IMPLEMENTATION, state="succeeded", session=self.session, turn=turn)
        make_finding(done, review=make_review(done, verdict="approved"))
        make_task(self.project, status=Status.TODO)
        make_plan(make_task(self.project, status=Status.PLANNING_REVIEW))
        self.repository = str(make_repository())
        self.answers: list[int] = []  # the statuses that came back
        self._numbers = itertools.count()

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.token}"}

    def name_things(self, case: Any) -> None:
        """Put names that exist into three of four requests; the fourth keeps what was generated."""
        number = next(self._numbers)
        if number % 4 == 3:
            return
        tasks = list(Task.objects.order_by("number").values_list("key", flat=True)) or ["DEMO-1"]
        known = {
            "ref": tasks[number % len(tasks)],
            "session_id": str(self.session.pk),
            "ask_id": str(self.ask.pk),
            "rule_id": self.rule.pk,
            "workspace_id": str(self.workspace.pk),
            "command_id": str(self.command.pk),
            "project_ref": "DEMO",
            "project": "DEMO",
        }
        if "/projects/" in case.path:
            known |= {"ref": "DEMO"}
        if case.path.endswith(("/file", "/tree")):
            known |= {"path": "app.py" if case.path.endswith("/file") else ""}
        for part in (case.path_parameters, case.query):
            for name in part or {}:
                if name in known:
                    part[name] = known[name]
        if isinstance(case.body, dict):
            for name, value in (
                ("project", "DEMO"),
                ("path", self.repository),
                ("after", tasks[0]),
                ("before", tasks[0]),
            ):
                if name in case.body:
                    case.body[name] = value
