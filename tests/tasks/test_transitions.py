"""Every situation of a task x every action: done for real, written down as docs/transitions.md, and compared with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from django_fsm import can_proceed

from studio.kernel.errors import Conflict
from tasks.actions import ROLES, possible, possible_for
from tasks.choices import Needs, Phase, RunPhaseState, RunState, Status
from tasks.models import Task
from tasks.services.lifecycle import act, allowed_actions
from tasks.services.runs import PHASES
from tests.factories import (
    make_plan,
    make_profiles,
    make_project,
    make_run,
    make_session,
    make_task,
    make_turn,
    make_workspace,
)
from tests.tasks.golden import same_as
from workspaces.models import MergeAttempt, Project, Workspace

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "transitions.md"

WORKING = [Status.PLANNING, Status.IN_PROGRESS, Status.AI_REVIEW]
ENDS: dict[str, str] = {
    RunState.FAILED: RunPhaseState.FAILED,
    RunState.STOPPED: RunPhaseState.STOPPED,
    RunState.QUEUED: RunPhaseState.QUEUED,
}
SITUATIONS = [
    (Status.TODO, RunState.IDLE),
    *(
        (status, state)
        for status in WORKING
        for state in (RunState.QUEUED, RunState.RUNNING, RunState.WAITING, RunState.FAILED, RunState.STOPPED)
    ),
    (Status.PLANNING_REVIEW, RunState.WAITING),
    (Status.REVIEW, RunState.WAITING),
    (Status.REVIEW, RunState.RUNNING),
    (Status.DONE, RunState.IDLE),
    (Status.CANCELLED, RunState.IDLE),
]
SITUATIONS.sort(key=lambda pair: list(Status).index(pair[0]))
# What a merge has to do with the task besides, by the name of the row.
MERGES = {
    "in_progress, failed, resolving a conflict": (Status.IN_PROGRESS, RunState.FAILED, {"resolving": "main"}),
    "review, waiting, conflict": (Status.REVIEW, RunState.WAITING, {"needs": Needs.CONFLICT}),
    "done, idle, merged": (Status.DONE, RunState.IDLE, {"completed_commit": "abc"}),
    "done, idle, merged and reverted": (
        Status.DONE,
        RunState.IDLE,
        {"completed_commit": "abc", "reverted_commit": "def"},
    ),
    "done, running, being reverted": (Status.DONE, RunState.RUNNING, {"completed_commit": "abc"}),
}
# The same while a message that somebody sent has an agent at work in the checkout.
AT_WORK = {
    "review, waiting, an agent at work": (Status.REVIEW, RunState.WAITING),
    "review, running, an agent at work": (Status.REVIEW, RunState.RUNNING),
    "done, idle, an agent at work": (Status.DONE, RunState.IDLE),
}
STUDIO = [
    "start", "plan_ready", "plan_accepted", "approve_plan", "reject_plan", "implemented", "replan", "ai_approve",
    "ai_request_changes", "ai_give_up", "skip_ai_review", "request_changes", "resolve", "abort", "complete", "cancel",
    "reopen",
]  # fmt: skip

INTRODUCTION = """# Transitions

Made by `tests/tasks/test_transitions.py`, which does every action in every situation and compares what happens with this
page. Do not edit it by hand.

## What people can do

Each row is a column with what its card shows; each cell is the column to which the action leads. A dash is a refusal:
HTTP 409 with the actions of the row that have no dash. `complete` was asked for with `none`; with a merge the task stays in
review until the merge has settled, and nothing else is possible meanwhile (the row "review, running"). A conflict is resolved
by an agent (`resolve`), by a person (`complete` again), or given up (`abort`). What was merged can be taken back (`revert`):
the task stays done, with a mark. While an agent is at work in the checkout without a run, because a message opened a turn, it
can be stopped, and what takes the checkout as it lies there (`complete`, `abort`) waits.
"""
MIDDLE = """
## What the state machine allows

Each cell is the column to which the transition of `tasks/models/task.py` leads. `plan_accepted` is the studio's `plan_ready`
in a project that needs no approval, and `ai_give_up` its `ai_request_changes` when the review rounds are used up; the history
names the actions.
"""


@pytest.fixture(scope="module")
def ground(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        make_profiles()
        project = make_project()
        yield project, make_workspace(project)
        project.delete()


def in_situation(project: Project, workspace: Workspace, status: str, run_state: str, **fields: str) -> Task:
    task = make_task(project, status=status, run_state=run_state, **fields)
    if fields:
        task.workspace = make_workspace(project)
        task.save()
        common = {"workspace": task.workspace, "how": "merge", "target_branch": "main", "message": "m"}
        MergeAttempt.objects.create(state="conflicted", source_commit="abc", **common)
        MergeAttempt.objects.create(state="merged", target_before="aaa", result_commit="abc", **common)
    make_plan(task)
    if run_state in ENDS:
        make_run(task, phase=PHASES[status][0], state=ENDS[run_state])
    elif run_state in (RunState.RUNNING, RunState.WAITING) and status in PHASES:
        turn = make_turn(make_session(workspace))
        make_run(task, phase=PHASES[status][0], turn=turn, session=turn.session)
    return task


def answering(project: Project, workspace: Workspace, status: str, run_state: str) -> Task:
    task = in_situation(project, workspace, status, run_state)
    task.workspace = make_workspace(project)
    task.save()
    make_turn(make_session(task.workspace))
    return task


def outcome(task: Task, action: str) -> str:
    offered = possible_for(task)
    try:
        done = act(
            actor=None,
            task_ref=task,
            action=action,
            feedback="x",
            reason="x",
            how="none" if action == "complete" else "",
        )
    except Conflict as refusal:
        allowed, target = refusal.allowed, "-"
    else:
        allowed, target = offered, done.status
    assert allowed == offered
    assert (action in allowed) == (target != "-")
    return target


def grid(corner: str, columns: list[str], rows: list[tuple[str, list[str]]]) -> str:
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    return "\n".join([*lines, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows)]) + "\n"


@pytest.mark.django_db
def test_transitions__every_situation_and_action_is_as_written_down(ground):
    people = []
    for status, run_state in SITUATIONS:
        cells = [outcome(in_situation(*ground, status, run_state), action) for action in ROLES]
        people.append((f"{status}, {run_state}", cells))
    for label, (status, run_state, fields) in MERGES.items():
        people.append((label, [outcome(in_situation(*ground, status, run_state, **fields), one) for one in ROLES]))
    for label, situation in AT_WORK.items():
        people.append((label, [outcome(answering(*ground, *situation), action) for action in ROLES]))
    machine = []
    for status in Status:
        task = make_task(ground[0], status=status)
        cells = []
        for name in STUDIO:
            fresh = Task.objects.get(pk=task.pk)
            if can_proceed(getattr(fresh, name)):
                getattr(fresh, name)()
                cells.append(fresh.status)
            else:
                cells.append("-")
        machine.append((status, cells))
    roles = "\n".join(f"- `{action}`: {role}" for action, role in ROLES.items())
    same_as(
        DOCUMENT,
        f"{INTRODUCTION}\n{grid('situation', list(ROLES), people)}\nThe role in the project that each action takes, at least:\n\n{roles}\n"
        f"{MIDDLE}\n{grid('column', STUDIO, machine)}",
    )


@pytest.mark.parametrize(("status", "run_state"), SITUATIONS)
def test_allowed_actions__is_the_table(status, run_state):
    task = Task(run_state=run_state)
    task.__dict__["status"] = status
    assert allowed_actions(task) == possible(status, run_state)


def test_machine__names_every_transition_of_the_model():
    found = {transition.name for transition in Task._meta.get_field("status").get_all_transitions(Task)}
    assert found == set(STUDIO)


def test_phases__cover_every_phase():
    assert sorted(phase for phases in PHASES.values() for phase in phases) == sorted(Phase.values)
