from __future__ import annotations

from pathlib import Path

import pytest

from studio.kernel.errors import Conflict, Forbidden, Invalid
from studio.kernel.permissions import Role
from studio.models import FeedEvent
from studio.queue import Names
from tests.factories import make_member
from tests.repositories import git
from workspaces import jobs
from workspaces.commands import selectors
from workspaces.commands.services import start_command
from workspaces.models import CommandKind, CommandState, Workspace, WorkspaceSetup
from workspaces.services import (
    commit_left,
    diff_for,
    discard_workspace,
    ensure_workspace,
    look_before_removal,
    release_workspace,
    remove_project,
    remove_workspace,
)
from workspaces.setup import servers, services
from workspaces.setup.ports import FIRST, LAST, reserve
from workspaces.setup.selectors import read_row, standing_of

pytestmark = pytest.mark.django_db


def output(command):
    return selectors.output_of(command, 0, 1 << 20).text


def stands(workspace):
    return standing_of(read_row(workspace.pk))


def test_ensure_setup__nothing_to_do_leaves_nothing(workspace):
    assert services.ensure_setup(workspace, origin="run").state == "none"
    assert not WorkspaceSetup.objects.exists()


def test_ensure_setup__once_with_everything_in_its_place(
    workspace, checkout, repository, configure, steps, no_process_left
):
    (repository / ".env").write_text("SECRET=1")
    (repository / "node_modules").mkdir()
    script = 'echo "$WORKSPACE_KEY $WEB $WORKSPACE_PORT"; cat .env; test -L node_modules; echo made > made.txt'
    environment = {"WEB": "http://localhost:{port}/{key}"}
    configure(copy=[".env*"], link=["node_modules"], environment=environment, script=script, script_seconds=50)
    standing = services.ensure_setup(workspace, origin="run")
    assert (standing.state, standing.command.kind, standing.command.time_limit) == ("running", "setup", 50)
    assert services.ensure_setup(workspace, origin="run").command == standing.command
    command = steps.settle(standing.command)
    port = WorkspaceSetup.objects.get().port
    assert FIRST <= port <= LAST
    assert output(command) == f"DEMO-1 http://localhost:{port}/DEMO-1 {port}\nSECRET=1"
    for origin in ("run", "another run"):
        assert services.ensure_setup(workspace, origin=origin).state == "done"
    assert workspace.commands.count() == 1
    assert [file.new_path for file in diff_for(workspace).files] == ["made.txt"]
    commit_left(workspace, message="Work", author_name="agent")
    committed = git(checkout, "ls-tree", "-r", "--name-only", "HEAD").split()
    assert {"made.txt", "app.py"} <= set(committed)
    assert not {".env", "node_modules", ".opencode-studio/env"} & set(committed)
    told = FeedEvent.objects.filter(topic=f"workspace:{workspace.pk}", kind="workspace.setup").order_by("seq")
    assert [event.payload["state"] for event in told] == ["running", "done"]


@pytest.mark.parametrize(
    ("script", "seconds", "words"),
    [
        ("echo before; false; echo after", 60, ("has failed (exit code 1", "before")),
        ("sleep 600", 1, ("was ended at its time limit", "1 second")),
        ("nonsense_command", 60, ("exit code 127", "command not found")),
    ],
)
def test_ensure_setup__fails_with_its_last_lines(workspace, configure, steps, no_process_left, script, seconds, words):
    configure(script=script, script_seconds=seconds)
    steps.settle(services.ensure_setup(workspace, origin="run").command)
    standing = services.ensure_setup(workspace, origin="run")
    assert standing.state == "failed"
    assert all(word in f"{standing.sentence}\n{standing.log}" for word in words)
    assert "after" not in standing.log
    again = services.ensure_setup(workspace, origin="the next run")  # a retry runs it again
    assert (again.state, again.command == standing.command) == ("running", False)
    configure(script="true")
    steps.settle(again.command)


def test_ensure_setup__a_script_that_writes_without_end_and_holds_the_pipe(
    workspace, configure, steps, no_process_left
):
    configure(script="head -c 100000000 /dev/zero | tr '\\0' x; (sleep 600 &) ; setsid sleep 600 & disown; echo end")
    command = steps.settle(services.ensure_setup(workspace, origin="run").command)
    assert (command.state, command.output_cut, command.output_bytes) == (CommandState.SUCCEEDED, True, 100_000_004)
    assert stands(workspace).state == "done"


def test_ensure_setup__a_lost_process_is_no_failure_of_the_script_until_it_happens_again_and_again(
    workspace, configure
):
    configure(script="true")
    for _ in range(services.LOST_TRIES):
        standing = services.ensure_setup(workspace, origin="run")
        assert standing.state == "running"
        workspace.commands.update(state=CommandState.LOST)
    assert services.ensure_setup(workspace, origin="run").state == "failed"


def test_ensure_setup__a_death_after_placing_leaves_nothing_that_is_committed(
    workspace, repository, configure, monkeypatch
):
    (repository / ".env").write_text("SECRET=1")
    configure(copy=[".env"], script="true")
    with monkeypatch.context() as patched:
        patched.setattr(services, "_start_script", lambda *_: pytest.fail("not reached", pytrace=False))
        with pytest.raises(BaseException, match="not reached"):
            services.ensure_setup(workspace, origin="run")
    assert diff_for(workspace).files == []
    assert stands(workspace).state == "pending"
    assert services.ensure_setup(workspace, origin="run").state == "running"


def test_run_again__places_anew_and_runs_once(
    workspace, checkout, repository, configure, owner, requested_jobs, django_capture_on_commit_callbacks
):
    (repository / ".env").write_text("1")
    configure(copy=[".env"])
    assert services.ensure_setup(workspace, origin="run").state == "done"
    (repository / ".env").write_text("2")
    (checkout / "mine.txt").touch()
    configure(script="true")
    with django_capture_on_commit_callbacks(execute=True):
        services.run_again(workspace=workspace, actor=owner)
    assert (Names.RUN_SETUP, (str(workspace.pk),)) in requested_jobs
    with pytest.raises(Conflict, match="running already"):
        services.run_again(workspace=workspace, actor=owner)
    services.run_asked(workspace.pk)
    services.run_asked(workspace.pk)
    assert (checkout / ".env").read_text() == "2"
    assert workspace.commands.filter(kind=CommandKind.SETUP).count() == 1
    assert stands(workspace).state == "running"


def test_run_again__who_may_and_what_is_said(workspace, project, configure, bring, owner):
    with pytest.raises(Forbidden):
        services.run_again(workspace=workspace, actor=make_member(project, Role.REVIEWER))
    bring("[setup]\nscript = 3\n")
    Workspace.objects.update(base_commit=git(project.path, "rev-parse", "HEAD").strip())
    services.run_again(workspace=workspace, actor=owner)
    services.run_asked(workspace.pk)
    standing = stands(workspace)
    assert standing.state == "failed"
    assert standing.sentence.startswith(".opencode-studio/config.toml: line 2, [setup] script")
    with pytest.raises(Invalid, match="line 2"):
        services.ensure_setup(Workspace.objects.get(), origin="run")


def test_reserve__each_checkout_has_its_own(project, workspace):
    other = ensure_workspace(project=project, label="DEMO-2")
    port = reserve(workspace)
    assert reserve(workspace) == port
    Workspace.objects.filter(pk=other.pk)
    assert reserve(other) != port
    assert reserve(workspace, anew=True) not in (port, reserve(other))


def test_commands__see_the_variables(workspace, configure, steps):
    configure(environment={"GREETING": "hi from {branch}", "EMPTY": ""})
    command = start_command(workspace=workspace, text='echo "$GREETING" "${EMPTY-unset}"', actor=None)
    assert output(steps.settle(command)) == "hi from studio/demo-1 \n"


def test_cleanup__runs_before_the_removal_once_and_its_log_stays(
    workspace, checkout, configure, steps, no_process_left, requested_jobs, django_capture_on_commit_callbacks
):
    configure(cleanup='echo "gone from $PWD"; ls app.py; exit 3', cleanup_seconds=30)
    remove_workspace(workspace.pk)
    remove_workspace(workspace.pk)
    command = workspace.commands.get()
    assert (command.kind, command.state, checkout.exists()) == ("cleanup", "starting", True)
    with django_capture_on_commit_callbacks(execute=True):
        command = steps.settle(command)
    assert (Names.REMOVE_WORKSPACE, (str(workspace.pk),)) in requested_jobs
    remove_workspace(workspace.pk)
    assert not checkout.exists()
    assert Workspace.objects.get().state == "removed"
    row = WorkspaceSetup.objects.get()
    assert (row.cleanup_note, row.port) == ("The clean-up script has failed.", None)
    assert output(command) == f"gone from {checkout}\napp.py\n"


def test_cleanup__what_it_changes_is_confirmed_with_the_removal(workspace, checkout, configure, steps, owner):
    configure(cleanup="echo 1 > left.log; rm app.py", cleanup_seconds=30)
    (checkout / ".gitignore").write_text("*.log\n")
    release_workspace(workspace)
    shown = look_before_removal(actor=owner, workspace=workspace)
    discard_workspace(actor=owner, workspace=workspace, confirm=shown.fingerprint)
    jobs.remove(str(workspace.pk))
    steps.settle(workspace.commands.get())
    jobs.remove(str(workspace.pk))
    assert (Workspace.objects.get().state, checkout.exists()) == ("removed", False)


def test_cleanup__neither_a_broken_file_nor_a_missing_checkout_keeps_the_row(workspace, project, bring, configure):
    configure(cleanup="true")
    bring("[cleanup]\nscript = 3\n")
    Workspace.objects.update(base_commit=git(project.path, "rev-parse", "HEAD").strip())
    remove_workspace(workspace.pk)
    assert Workspace.objects.get().state == "removed"


def test_cleanup__a_project_waits_for_it(workspace, project, configure, steps, owner):
    configure(cleanup="true")
    with pytest.raises(Conflict, match="The clean-up script of DEMO-1 is running"):
        remove_project(actor=owner, project=project)
    steps.settle(workspace.commands.get())
    remove_project(actor=owner, project=project)
    assert not Path(workspace.path).exists()


def test_want_at_review__only_where_the_project_wants_it(workspace, configure):
    servers.want_at_review(workspace)
    configure(server="true")
    servers.want_at_review(workspace)
    assert not hasattr(Workspace.objects.get(), "server")
