"""From a queued run to a prompt that is on its way: workspace, prompt, session, turn. Nothing here waits for an agent."""

from __future__ import annotations

import uuid

from django.db import transaction

from agents.models import AgentProfile, AgentRole
from agents.roles import system_text
from agents.selectors import profile_for
from sessions_app.models import AgentSession, InboxState, Turn, TurnState
from sessions_app.services.follow_up import carry_over, continue_session, fingerprint_of
from sessions_app.services.turns import admit_turn, open_session
from sessions_app.services.warming import warm_ahead
from studio import outbox
from studio.kernel.claim import claim, fenced, renew
from studio.kernel.clock import now
from studio.kernel.faultpoints import reach
from tasks import prompts, selectors
from tasks.choices import FindingState, Phase, RunPhaseState
from tasks.models import Finding, PhaseRun, Task
from tasks.services.moves import RUNNING, lock, show
from tasks.services.results import review_of
from tasks.services.runs import requeue_run
from tasks.services.setup import is_set_up
from tasks.services.steps import failing_as, wait, work_on
from workspaces.models import Workspace
from workspaces.services import (
    Away,
    bring_up_to_date,
    diff_for,
    ensure_workspace,
    left_markers,
    read_text,
    require_repository,
    take_back_update,
)

LEASE_SECONDS = 300.0
BUSY_SECONDS = 5.0  # until a workspace whose last turn still ends is looked at again
AWAY_SECONDS = 20.0  # until a repository that is not at its place is looked for again
INSTRUCTIONS_FILE = "AGENTS.md"

ROLES: dict[str, str] = {
    Phase.PLANNING: AgentRole.PLANNER,
    Phase.IMPLEMENTATION: AgentRole.IMPLEMENTER,
    Phase.FIX: AgentRole.IMPLEMENTER,
    Phase.REVIEW: AgentRole.REVIEWER,
}


def prepare_run(run_id: uuid.UUID | str) -> None:
    """Give a run that has a place its workspace and admit its turn. Idempotent; returns when another worker holds it."""
    run = PhaseRun.objects.select_related("task__project", "task__workspace", "server").filter(pk=run_id).first()
    if run is None or run.state != RunPhaseState.PREPARING or (run.next_try_at and run.next_try_at > now()):
        return
    epoch = claim(PhaseRun.objects.filter(pk=run.pk, state=RunPhaseState.PREPARING), seconds=LEASE_SECONDS)
    if epoch is None:
        return
    reach("prepare.after_claim")
    if run.server is None:
        requeue_run(run.pk, epoch=epoch)  # the server was removed: another one takes it
        return
    work_on(run, epoch, lambda: _prepare(run, epoch))


def _prepare(run: PhaseRun, epoch: int) -> None:
    try:
        require_repository(run.task.project)
    except Away as away:
        wait(run, epoch, AWAY_SECONDS, away.message)
        return
    with failing_as("workspace_failed"):
        workspace = _workspace(run.task)
    if run.server is not None:
        warm_ahead(run.server, [workspace])  # it loads while the prompt is rendered
    reach("prepare.workspace_made")
    if Turn.objects.filter(session__workspace=workspace).exclude(state=TurnState.SETTLED).exists():
        wait(run, epoch, BUSY_SECONDS, "Waiting: the last turn in this workspace is still ending.")
        return
    if not is_set_up(run, epoch, workspace):
        return
    renew(PhaseRun, run.pk, epoch, seconds=LEASE_SECONDS)
    with failing_as("model_not_found"):
        profile = profile_for(ROLES[run.phase])
    with failing_as("workspace_failed"):
        updated = _bring_up_to_date(run, epoch, workspace)
        prompt = render_prompt(run, workspace, updated)
        system = prompts.system_prompt(
            role=system_text(profile.role, profile.instructions),
            repository=read_text(workspace, INSTRUCTIONS_FILE, limit=prompts.INSTRUCTIONS_LIMIT + 1),
        )
    reach("prepare.before_turn")
    _begin(run, epoch, workspace, profile, prompt, system)


def _workspace(task: Task) -> Workspace:
    """The workspace of the task's present attempt. Its id follows from task and attempt, so a crash leaves no second one."""
    wanted = task.workspace_id or uuid.uuid5(task.pk, f"attempt-{task.attempt}")
    return ensure_workspace(project=task.project, label=task.key, workspace_id=wanted)


def _bring_up_to_date(run: PhaseRun, epoch: int, workspace: Workspace) -> prompts.Updated | None:
    """Merge the branch into the checkout that the run is to resolve conflicts with; what the agent is told of it.

    What an earlier merge left half made is put back in any case: the agent would take it for its own work.
    """
    if not run.update_from:
        take_back_update(workspace)
        return None
    done = bring_up_to_date(workspace, run.update_from)
    files = done.files or left_markers(workspace, run.conflicts)
    run.conflicts = list(dict.fromkeys([*done.files, *run.conflicts]))
    fenced(PhaseRun, run.pk, epoch).update(conflicts=run.conflicts)
    reach("prepare.updated")
    return prompts.Updated(run.update_from, [prompts.Conflict(name, done.places.get(name, "")) for name in files])


def _begin(run: PhaseRun, epoch: int, workspace: Workspace, profile: AgentProfile, prompt: str, system: str) -> None:
    """Session, turn and run change together; nothing changes when the run went elsewhere meanwhile."""
    with transaction.atomic():
        task = lock(run.task_id)
        held = fenced(PhaseRun, run.pk, epoch).filter(state=RunPhaseState.PREPARING, server__isnull=False)
        if not held.update(
            state=RunPhaseState.RUNNING,
            base_commit=workspace.head_commit or workspace.base_commit,
            started_at=now(),
            note="",
            next_try_at=None,
            failures=0,
            lease_owner="",
            lease_until=None,
        ):
            return
        if task.workspace_id != workspace.pk:
            task.workspace = workspace
            task.save(update_fields=["workspace", "updated_at"])
            _publish(task, "workspace.updated", workspace=str(workspace.pk), head=workspace.head_commit)
        begun = PhaseRun.objects.select_related("server").get(pk=run.pk)
        session, preface = _session_for(task, begun, workspace, profile)
        _take_over_messages(task, session)
        turn = admit_turn(
            session=session,
            prompt=f"{preface}{prompt}",
            system=system,
            tool_subject=str(run.pk),
            max_steps=profile.max_steps,
            wall_seconds=profile.wall_seconds,
            idle_seconds=profile.idle_seconds,
        )
        begun.session, begun.turn = session, turn
        begun.save(update_fields=["session", "turn"])
        if run.phase == Phase.REVIEW:
            review_of(task, begun)
        kind = "session.opened" if turn.number == 1 else "session.resumed"
        _publish(task, kind, session=str(session.pk), role=session.role, phase=run.phase, run=str(run.pk))
        show(task, RUNNING, run=begun)
        reach("prepare.in_transaction")


def _session_for(task: Task, run: PhaseRun, workspace: Workspace, profile: AgentProfile) -> tuple[AgentSession, str]:
    """The session of the run, and what goes before its prompt: a fresh one, or for a fix round, where the profile wants
    it, the implementer's last one as far as that can go on."""
    assert run.server is not None  # noqa: S101 -- for the type checker: the run was claimed with one
    title = f"{task.key} {Phase(run.phase).label.lower()}, round {run.round}"
    if run.phase == Phase.FIX and profile.continue_session:
        mine = AgentSession.objects.filter(workspace=workspace, subject=str(task.pk), role=profile.role)
        last = mine.select_related("workspace", "server").order_by("-created_at").first()
        if last is not None:
            return continue_session(last, server=run.server, title=title)
    session = open_session(
        workspace=workspace,
        server=run.server,
        role=profile.role,
        title=title,
        agent=profile.agent,
        model=profile.model,
        subject=str(task.pk),
        fingerprint=fingerprint_of(profile),
    )
    return session, ""


def _take_over_messages(task: Task, session: AgentSession) -> None:
    """What people said to an earlier session of the role and was not sent yet is for the session that goes on with it."""
    waiting = AgentSession.objects.filter(subject=str(task.pk), role=session.role, inbox__state=InboxState.WAITING)
    for earlier in waiting.exclude(pk=session.pk).distinct().order_by("created_at"):
        carry_over(earlier, session)


def render_prompt(run: PhaseRun, workspace: Workspace, updated: prompts.Updated | None = None) -> str:
    """The prompt of a run, from what is stored now; `updated` when a branch was merged into the checkout for it."""
    task = run.task
    brief = prompts.Brief(run.phase, run.round, task.key, task.title, task.description, task.project.vcs)
    approved = selectors.current_plan(task)
    plan = approved.text if approved is not None else ""
    if run.phase == Phase.PLANNING:
        last = task.plans.order_by("-version").first() if run.round > 1 else None
        return prompts.planning_prompt(brief, previous_plan=last.text if last else "", feedback=run.feedback)
    if run.phase == Phase.IMPLEMENTATION:
        return prompts.implementation_prompt(brief, plan=plan, feedback=run.feedback)
    if run.phase == Phase.FIX:
        findings = _listed(task, [FindingState.OPEN])
        return prompts.fix_prompt(
            brief, plan=plan, findings=findings, feedback=run.feedback, updated=updated, material=run.material
        )
    work = selectors.last_work(task)
    return prompts.review_prompt(
        brief,
        plan=plan,
        change=_change(workspace),
        findings=_listed(task, [FindingState.OPEN, FindingState.FIXED]),
        summary=work.summary if work else "",
        note=_review_note(run, work),
    )


def _review_note(run: PhaseRun, work: PhaseRun | None) -> str:
    notes = []
    if work is not None and work.phase == Phase.FIX and work.head_commit and work.head_commit == work.base_commit:
        notes.append("The last fix round changed no file.")
    if run.feedback:
        notes.append(f"A person asks the reviewer to regard: {run.feedback}")
    return "\n".join(notes)


def _listed(task: Task, states: list[str]) -> list[prompts.ListedFinding]:
    return [_listed_one(finding) for finding in selectors.attempt_findings(task).filter(state__in=states)]


def _listed_one(finding: Finding) -> prompts.ListedFinding:
    place = f"{finding.file}:{finding.line}" if finding.file and finding.line else finding.file
    return prompts.ListedFinding(
        finding.number, finding.severity, finding.state, finding.title, finding.body, place, finding.note
    )


def _publish(task: Task, kind: str, **payload: str) -> None:
    outbox.publish(task.project_id, f"task:{task.pk}", kind, {"task": str(task.pk), **payload})


def _change(workspace: Workspace) -> prompts.Change:
    """The whole change against the workspace's base: committed, staged, unstaged and untracked."""
    diff = diff_for(workspace)
    files = [
        prompts.ChangedFile(
            path=file.path,
            status=f"{file.status}, binary" if file.binary else file.status,
            additions=file.additions,
            deletions=file.deletions,
            text="" if file.binary else file.patch or None,
        )
        for file in diff.files
    ]
    more = diff.total_files - len(files)
    return prompts.Change(diff.base, workspace.head_commit, files, more=more, vcs=workspace.project.vcs)
