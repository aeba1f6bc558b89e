"""Real rows that the contract test talks to, and real names in place of most of the generated ones."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from django.conf import settings
from knox.models import AuthToken

from agents.backend import LogEntry
from sessions_app import log
from sessions_app.models import Budget, InboxItem, PermissionRule, Turn, TurnState
from studio.kernel.clock import now
from tasks.choices import Phase, Status
from tasks.models import ImportedIssue, Task
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
from tests.repositories import git
from workspaces.commands.services import start_command
from workspaces.forge.connections import save_connection
from workspaces.models import KeptWork, ProjectSetup, PullRequest, PullRequestState, ReviewComment, Workspace

FORGE = {"kind": "gitea", "base_url": "http://127.0.0.1:9", "repository": "octo/app", "token": "a-token"}
BUDGET = {"scope": "task", "metric": "tokens", "amount": "1000", "action": "warn"}

# Bodies that are accepted, where generated ones hardly ever are.
BODIES: dict[str, dict[str, Any]] = {
    "POST /api/v1/asks/{ask_id}/answer": {"reply": "once"},
    "POST /api/v1/budgets": BUDGET,
    "PATCH /api/v1/budgets/{budget_id}": {"amount": "5"},
    "POST /api/v1/projects/{ref}/budgets": BUDGET,
    "PATCH /api/v1/projects/{ref}/budgets/{budget_id}": {"amount": "5"},
    "PUT /api/v1/projects/{ref}/forge": FORGE,
    "PATCH /api/v1/inbox/{item_id}": {"text": "Do it otherwise."},
    "POST /api/v1/inbox/{item_id}/move": {"direction": "up"},
    "PATCH /api/v1/kept/{kept_id}": {"keep": True},
    "POST /api/v1/tasks/{ref}/pull_request/fix_check": {"check_id": "status-1"},
}
# Operations that cannot succeed here, and why.
ONLY_REFUSALS: dict[str, str] = {
    "POST /api/v1/projects/{ref}/forge/check": "It asks the forge, and none listens here.",
    "POST /api/v1/projects/{ref}/issues/import": "It reads the issues from the forge, and none listens here.",
    "POST /api/v1/tasks/{ref}/pull_request/comment": "It writes to the forge, and none listens here.",
}


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
        self.budget = Budget.objects.create(project=self.project, scope="turn", metric="cost", amount=5, action="warn")
        self.budget_everywhere = Budget.objects.create(scope="turn", metric="cost", amount=5, action="warn")
        self._make_lost_turn()
        self._make_kept_work()
        self._make_forge(done)
        ProjectSetup.objects.create(project=self.project, server="python -m http.server")
        self.operation = ""
        self.answers: list[int] = []  # the statuses that came back
        self._numbers = itertools.count()

    def _make_lost_turn(self) -> None:
        """A session whose turn the server has lost, with a message that waits."""
        self.lost = make_session(self.workspace)
        make_turn(self.lost, state="unknown")
        self.item = InboxItem.objects.create(
            session=self.lost, delivery="queue", text="And then?", position=1, author_name="ada"
        )

    def _make_kept_work(self) -> None:
        """Files that a removed workspace left."""
        folder = Path(settings.DATA) / "kept" / "DEMO"
        folder.mkdir(parents=True, exist_ok=True)
        for form in ("patch", "bundle"):
            (folder / f"work.{form}").write_text("kept\n")
        self.kept = KeptWork.objects.create(
            project=self.project, project_key="DEMO", label="DEMO-0", branch=self.workspace.branch, base_branch="main",
            base_commit=self.workspace.base_commit, head_commit=self.workspace.base_commit,
            patch=str(folder / "work.patch"), patch_bytes=5, bundle=str(folder / "work.bundle"), bundle_bytes=5,
        )  # fmt: skip

    def _make_forge(self, task: Task) -> None:
        """A connection, a pull request with a failed check and a comment, and the issue that it is about."""
        save_connection(actor=self.account, project=self.project, **FORGE)
        row = PullRequest.objects.create(
            workspace=self.workspace, state=PullRequestState.OPEN, repository="octo/app", number=1, title="T",
            head_branch=self.workspace.branch, base_branch="main",
            checks=[{"id": "status-1", "name": "tests", "state": "failed", "url": "", "summary": "1 failed"}],
        )  # fmt: skip
        ReviewComment.objects.create(pull_request=row, upstream_id="comment-1", author="ada", body="Hm.")
        ImportedIssue.objects.create(
            task=task,
            project=self.project,
            repository="octo/app",
            number=12,
            url="http://127.0.0.1:9/octo/app/issues/12",
        )

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.token}"}

    def name_things(self, case: Any) -> None:
        """Put names that exist into three of four requests; the fourth keeps what was generated."""
        number = next(self._numbers)
        self.operation = f"{case.method} {case.operation.path}"
        if number % 4 == 3:
            return
        if number % 4 == 0 and self.operation in BODIES:
            case.body, case.media_type = dict(BODIES[self.operation]), "application/json"
        if number == 0:
            self._prepare()
        tasks = list(Task.objects.order_by("number").values_list("key", flat=True)) or ["DEMO-1"]
        known = {
            "ref": tasks[number % len(tasks)],
            "session_id": str(self.session.pk),
            "ask_id": str(self.ask.pk),
            "rule_id": self.rule.pk,
            "workspace_id": str(self.workspace.pk),
            "command_id": str(self.command.pk),
            "budget_id": str((self.budget if "/projects/" in case.path else self.budget_everywhere).pk),
            "item_id": str(self.item.pk),
            "kept_id": str(self.kept.pk),
            "number": 1,
            "project_ref": "DEMO",
            "project": "DEMO",
        }
        if "/turns/" in case.path:
            known |= {"session_id": str(self.lost.pk)}
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

    def _prepare(self) -> None:
        """Bring about what an operation is for, where it would spoil the others."""
        if self.operation.endswith("/relocate"):
            self.repository = str(Path(self.project.path).rename(f"{self.project.path}-moved"))
        if self.operation.endswith("/restore"):
            git(self.project.path, "bundle", "create", "-q", self.kept.bundle, self.kept.branch)
        if self.operation.endswith("/remove"):
            Workspace.objects.update(finished_at=now())
        if self.operation == "DELETE /api/v1/projects/{ref}":
            Turn.objects.update(state=TurnState.SETTLED)
