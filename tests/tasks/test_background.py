"""Commands that agents ask for: in their own checkout, by their own rules, in their own phases."""

from __future__ import annotations

import uuid

import pytest

from sessions_app.models import PermissionRule, SessionEvent
from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from tasks.choices import Phase
from tasks.services import background
from tests.factories import make_project, make_workspace
from workspaces.commands.services import Ending, settle_command, start_command
from workspaces.models import Command, CommandState, RequestedBy

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.DATA = tmp_path / "data"
    settings.DATA.mkdir()


@pytest.fixture
def run(pipeline):
    """A running implementation."""
    return pipeline.to(Phase.IMPLEMENTATION)


def test_command__belongs_to_the_runs_checkout_and_session(run):
    command, new = background.run_command(str(run.pk), " make test ", title="Tests", time_limit=60, wake=True)
    assert new
    assert command.workspace_id == run.session.workspace_id
    assert (command.text, command.title, command.time_limit, command.wake) == ("make test", "Tests", 60, True)
    assert (command.requested_by, command.started_by_name) == (RequestedBy.AGENT, run.session.agent)
    assert (command.deliver_to, command.origin) == (str(run.session_id), str(run.pk))
    event = SessionEvent.objects.get(session=run.session, kind="command.started")
    assert event.data == {"command": str(command.pk), "title": "Tests"}


def test_asked_again_while_it_runs__it_is_the_same(run):
    first, _ = background.run_command(str(run.pk), "make test")
    again, new = background.run_command(str(run.pk), "make test")
    assert (again.pk, new) == (first.pk, False)
    settle_command(first.pk, Ending(CommandState.SUCCEEDED))
    other, new = background.run_command(str(run.pk), "make test")
    assert new
    assert other.pk != first.pk


@pytest.mark.parametrize("phase", Phase.values)
def test_phases__only_those_that_implement(pipeline, phase):
    run = pipeline.to(phase)
    if phase in background.PHASES:
        background.run_command(str(run.pk), "true")
        return
    with pytest.raises(Forbidden):
        background.run_command(str(run.pk), "true")
    assert not Command.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        "git push",
        "git push origin main",
        "make && git push --force",
        "true; git -C . push",
        "(git push)",
        "echo $(git push)",
        "true |git push",
        "if true; then git push; fi",
        "A=1 B=2 git push",
        "sudo env X=y git push",
        'bash -c "git push"',
        "true &\n  git push",
    ],
)
def test_push__is_denied_however_it_is_wrapped(run, text):
    with pytest.raises(Forbidden, match="not allowed"):
        background.run_command(str(run.pk), text)
    assert not Command.objects.exists()


@pytest.mark.parametrize("text", ["git log --grep push", "make push-button", "git status; echo pushed"])
def test_what_only_looks_like_it__is_allowed(run, text):
    assert background.run_command(str(run.pk), text)[1]


@pytest.mark.parametrize(("action", "words"), [("deny", "not allowed"), ("ask", "person's permission")])
def test_rules_of_the_project__hold_in_the_background_too(run, action, words):
    PermissionRule.objects.create(project=run.task.project, permission="bash", pattern="terraform *", action=action)
    with pytest.raises(Forbidden, match=words):
        background.run_command(str(run.pk), "cd infra && terraform apply")
    background.run_command(str(run.pk), "make test")


def test_bad_input__is_said(run):
    for text in ("", " \n", "x" * 10_001, "echo \0"):
        with pytest.raises(Invalid):
            background.run_command(str(run.pk), text)


def test_run_is_over__nothing_is_started(run):
    type(run).objects.filter(pk=run.pk).update(state="succeeded")
    for call in (
        lambda: background.run_command(str(run.pk), "true"),
        lambda: background.command_of(str(run.pk), str(uuid.uuid4())),
        lambda: background.end_command(str(run.pk), str(uuid.uuid4())),
    ):
        with pytest.raises(Conflict, match="over"):
            call()


def test_commands_of_others__are_not_seen_and_not_ended(run):
    elsewhere = start_command(workspace=make_workspace(make_project()), text="true", actor=None)
    for wanted in (str(elsewhere.pk), "nonsense", ""):
        with pytest.raises(NotFound):
            background.command_of(str(run.pk), wanted)
    persons = start_command(workspace=run.session.workspace, text="true", actor=None, author_name="Ada")
    assert background.command_of(str(run.pk), str(persons.pk)).pk == persons.pk
    with pytest.raises(Forbidden, match="A person started"):
        background.end_command(str(run.pk), str(persons.pk))


def test_end__is_asked_for_once_it_runs(run):
    command, _ = background.run_command(str(run.pk), "sleep 600")
    assert background.end_command(str(run.pk), str(command.pk)).cancel_note == "Cancelled by the agent."
    settle_command(command.pk, Ending(CommandState.CANCELLED))
    with pytest.raises(Conflict, match="ended already"):
        background.end_command(str(run.pk), str(command.pk))
