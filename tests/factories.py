"""Plain functions that make rows for tests, with real repositories (tests/repositories.py). Every value has a default; pass what the test is about.

Columns are reached through the model's own transitions, never by writing `status`.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import F
from django.utils import timezone

from agents.models import AgentProfile, AgentRole, AgentServer, ServerState
from sessions_app.models import AgentSession, Ask, AskKind, Turn, TurnOutcome
from sessions_app.services.settle import settle
from sessions_app.services.turns import admit_turn, open_session
from studio.kernel.ids import new_id
from studio.kernel.permissions import Role
from tasks.choices import Needs, Phase, RunPhaseState, RunState, Severity, Status
from tasks.models import Finding, PhaseRun, Plan, Review, Task
from tests.repositories import git, make_repository
from workspaces.models import Project, ProjectMembership, Workspace, WorkspaceState

_numbers = itertools.count(1)


def make_user(username: str | None = None, *, superuser: bool = False) -> Any:
    """An account; a superuser is owner of every project."""
    name = username or f"user{next(_numbers)}"
    manager = get_user_model().objects
    create = manager.create_superuser if superuser else manager.create_user
    return create(name, f"{name}@example.invalid", "a-password")


def make_project(
    *, path: Path | str | None = None, key: str | None = None, owner: Any = None, branch: str = "main", **fields: Any
) -> Project:
    """A registered project on a real repository (a new one unless `path` names it)."""
    number = next(_numbers)
    return Project.objects.create(
        name=fields.pop("name", f"Project {number}"),
        key=key or f"P{number}"[:10],
        path=str(path or make_repository(branch=branch)),
        default_branch=branch,
        created_by=owner,
        **fields,
    )


def make_member(project: Project, role: Role = Role.MAINTAINER, user: Any = None) -> Any:
    """An account with `role` in `project`."""
    user = user or make_user()
    ProjectMembership.objects.create(project=project, user=user, role=role)
    return user


def make_server(name: str | None = None, **fields: Any) -> AgentServer:
    """An agent server that is said to be ready. Nothing listens at its address."""
    values = {
        "url": "http://127.0.0.1:9",
        "state": ServerState.READY,
        "default_model": "practice/practice",
        "boot": "b1",
    }
    return AgentServer.objects.create(name=name or f"server-{next(_numbers)}", **{**values, **fields})


def make_profiles(**fields: Any) -> dict[str, AgentProfile]:
    """The default profile of each role, made when it is not there yet."""
    return {
        role: AgentProfile.objects.update_or_create(
            role=role, is_default=True, defaults={"name": f"Default {role}", "agent": f"studio-{role}", **fields}
        )[0]
        for role in AgentRole.values
    }


# How each column is reached from "To do".
PATHS: dict[str, tuple[str, ...]] = {
    Status.TODO: (),
    Status.PLANNING: ("start",),
    Status.PLANNING_REVIEW: ("start", "plan_ready"),
    Status.IN_PROGRESS: ("start", "plan_accepted"),
    Status.AI_REVIEW: ("start", "plan_accepted", "implemented"),
    Status.REVIEW: ("start", "plan_accepted", "implemented", "ai_approve"),
    Status.DONE: ("start", "plan_accepted", "implemented", "ai_approve", "complete"),
    Status.CANCELLED: ("cancel",),
}
RESTING: dict[str, tuple[str, str]] = {
    Status.PLANNING_REVIEW: (RunState.WAITING, Needs.PLAN_APPROVAL),
    Status.REVIEW: (RunState.WAITING, Needs.REVIEW),
}


def make_task(project: Project | None = None, *, status: str = Status.TODO, **fields: Any) -> Task:
    """A task in the column `status`, as it rests there: rows only, no run and no workspace (see make_run)."""
    project = project or make_project()
    Project.objects.filter(pk=project.pk).update(next_number=F("next_number") + 1)
    project.refresh_from_db(fields=["next_number"])
    number = project.next_number - 1
    run_state, needs = RESTING.get(status, (RunState.IDLE, Needs.NOTHING))
    values = {"title": f"Task {number}", "position": float(number), "run_state": run_state, "needs": needs, **fields}
    task: Task = Task(project=project, number=number, key=f"{project.key}-{number}", **values)
    for transition in PATHS[status]:
        getattr(task, transition)()
    task.save()
    return task


def make_workspace(project: Project, *, label: str = "WORK", **fields: Any) -> Workspace:
    """A workspace with a real git worktree where the studio makes them."""
    number = next(_numbers)
    path = Path(settings.STUDIO_WORKSPACE_ROOT).resolve() / project.key / f"worktree-{number}-{new_id().hex[:6]}"
    branch = f"studio/{label.lower()}-{number}"
    base = git(project.path, "rev-parse", "HEAD").strip()
    git(project.path, "worktree", "add", "-q", "-b", branch, str(path), base)
    values = {"state": WorkspaceState.READY, "base_commit": base, "head_commit": base}
    return Workspace.objects.create(
        project=project,
        label=label,
        path=str(path),
        branch=branch,
        base_branch=project.default_branch,
        **{**values, **fields},
    )


def make_session(
    workspace: Workspace | None = None,
    *,
    server: AgentServer | None = None,
    role: str = AgentRole.IMPLEMENTER,
    **fields: Any,
) -> AgentSession:
    """A session; `external_id` and other fields may be given."""
    session = open_session(
        workspace=workspace or make_workspace(make_project()),
        server=server or make_server(),
        role=role,
        title=fields.pop("title", "A session"),
        agent=fields.pop("agent", f"studio-{role}"),
        model=fields.pop("model", ""),
    )
    if fields:
        AgentSession.objects.filter(pk=session.pk).update(**fields)
        session.refresh_from_db()
    return session


def make_turn(session: AgentSession | None = None, *, prompt: str = "Do it.", **fields: Any) -> Turn:
    """An admitted turn; fields such as `state` may be given."""
    turn = admit_turn(
        session=session or make_session(), prompt=prompt, max_steps=25, wall_seconds=3600, idle_seconds=600
    )
    if fields:
        Turn.objects.filter(pk=turn.pk).update(**fields)
        turn.refresh_from_db()
    return turn


def make_ask(session: AgentSession, turn: Turn, **fields: Any) -> Ask:
    """A permission that an agent asks for: a row only, nothing waits."""
    values = {
        "kind": AskKind.PERMISSION,
        "external_id": f"per_{next(_numbers)}",
        "directory": session.directory,
        "asker": "Implementer",
        "title": "Run npm test",
        "permission": "bash",
        "patterns": ["npm test"],
        "always": ["npm test *"],
        "detail": {"command": "npm test"},
    }
    return Ask.objects.create(session=session, turn=turn, **{**values, **fields})


def settle_turn(
    turn: Turn, outcome: TurnOutcome = TurnOutcome.COMPLETED, *, result_text: str = "", error_code: str = ""
) -> Turn:
    """End a turn as the sessions' own service does, without a server."""
    settle(turn.pk, outcome, error_code=error_code, result_text=result_text)
    turn.refresh_from_db()
    return turn


def make_run(
    task: Task | None = None, *, phase: str = Phase.PLANNING, state: str = RunPhaseState.RUNNING, **fields: Any
) -> PhaseRun:
    """A run of `task` as a row; pass `turn` and `session` for one that has begun."""
    task = task or make_task(status=Status.PLANNING)
    values: dict[str, Any] = {"attempt": task.attempt}
    if state in (RunPhaseState.SUCCEEDED, RunPhaseState.FAILED, RunPhaseState.STOPPED):
        values["ended_at"] = timezone.now()
    return PhaseRun.objects.create(task=task, phase=phase, state=state, **{**values, **fields})


def make_plan(task: Task, *, text: str = "1. Do it.\n2. Test it.", **fields: Any) -> Plan:
    """The task's next plan version."""
    return Plan.objects.create(task=task, version=task.plans.count() + 1, text=text, **fields)


def make_review(task: Task, *, verdict: str = "", **fields: Any) -> Review:
    """A review with a run of its own."""
    run = fields.pop("run", None) or make_run(task, phase=Phase.REVIEW, state=RunPhaseState.SUCCEEDED)
    return Review.objects.create(task=task, run=run, attempt=run.attempt, round=run.round, verdict=verdict, **fields)


def make_finding(task: Task, *, review: Review | None = None, severity: str = Severity.ERROR, **fields: Any) -> Finding:
    """The task's next finding."""
    number = task.findings.count() + 1
    values = {"title": f"Finding {number}", **fields}
    return Finding.objects.create(
        task=task, review=review or make_review(task), number=number, severity=severity, **values
    )
