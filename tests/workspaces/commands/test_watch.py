"""What watchers and sweepers find: live output, ends, lost commands, bounds; and what a removal takes with it."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from studio import topics
from studio.kernel.clock import now
from studio.queue import Names
from tests.factories import make_user
from tests.real.parts import wait_until
from tests.workspaces.commands.conftest import PATIENCE, Run, marked
from workspaces.commands import keep, output, places, services, settling, watch
from workspaces.commands.files import OutputWriter, active_folders
from workspaces.commands.watch import BEHIND_BYTES, Watcher
from workspaces.jobs import end_command
from workspaces.models import Command, CommandState, WorkspaceState
from workspaces.services import remove_project, remove_workspace, sweep

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_process_left")]


@pytest.fixture
def pieces(monkeypatch):
    """The live pieces that were sent."""
    sent = []
    monkeypatch.setattr("studio.doorbell.send_pieces", sent.extend)
    return sent


def test_tick__costs_no_query_while_nothing_ends(run, data):
    watcher = Watcher()
    with CaptureQueriesContext(connection) as queries:
        assert watcher.tick() == 0
    command = run("echo up; sleep 600").says(b"up")
    with CaptureQueriesContext(connection) as queries:
        assert watcher.tick() == 1
    assert len(queries) == 0
    services.request_end(command.row.pk, "Enough.")
    command.folder.ask_to_end("cancelled")
    wait_until(lambda: watcher.tick() == 0, seconds=PATIENCE, what="the end")
    assert command.fresh().state == CommandState.CANCELLED
    assert active_folders(data) == []


def test_live_output__is_sent_in_order_and_can_be_put_together(run, checkout, pieces):
    os.mkfifo(checkout / "go")
    command = run("echo one; read -r _ < go; echo two").says(b"one\n")
    watcher = Watcher()
    watcher.tick()
    watcher.tick()
    assert pieces == [(f"command:{command.row.pk}", "0-4", "one\n", False)]
    (checkout / "go").write_text("\n")
    wait_until(lambda: watcher.tick() == 0, seconds=PATIENCE, what="the end")
    assert pieces[1:] == [(f"command:{command.row.pk}", "4-8", "two\n", False)]


def test_flood__sends_the_end_and_not_all_of_it(data, pieces):
    folder = places.folder_of("6a7b7e0e-6b0e-4a51-8f5f-a76e0f6a3a11")
    folder.prepare()
    writer = OutputWriter(folder.output)
    watcher = Watcher()
    watcher.tick()
    for _ in range(10 * BEHIND_BYTES // 50):
        writer.append(b"x" * 49 + b"\n")
    watcher.tick()
    watcher.tick()
    writer.close()
    assert sum(len(text) for _, _, text, _ in pieces) <= watch.PIECE_BYTES
    assert pieces[-1][1].endswith(f"-{writer.total}")


def test_follow__ends_when_told(run):
    command = run("exit 4")
    stop = threading.Event()
    thread = threading.Thread(target=watch.follow, args=[stop])
    thread.start()
    wait_until(lambda: command.fresh().state == CommandState.FAILED, seconds=PATIENCE, what="the end")
    stop.set()
    thread.join(PATIENCE)
    assert command.row.exit_code == 4


def test_sweep__rings_for_a_start_that_was_missed(workspace, requested_jobs, monkeypatch):
    monkeypatch.setattr(watch, "OVERDUE", timedelta(hours=1))  # however slow the machine is
    row = services.start_command(workspace=workspace, text="true", actor=None)
    requested_jobs.clear()
    sweep()
    assert requested_jobs == []
    Command.objects.update(created_at=now() - timedelta(hours=2))
    sweep()
    assert requested_jobs == [(Names.START_COMMAND, (str(row.pk),))]


def test_sweep__settles_what_nobody_watched(run, requested_jobs):
    done, killed, gone = run("true"), run("echo up; sleep 600").says(b"up"), run("echo up; sleep 2").says(b"up")
    killed.kill_wrapper()
    wait_until(lambda: not any(one.folder.is_kept() for one in (done, killed, gone)), seconds=PATIENCE, what="the ends")
    shutil.rmtree(gone.folder.root)
    sweep()
    assert done.fresh().state == CommandState.SUCCEEDED
    assert (killed.fresh().state, killed.row.note) == (CommandState.LOST, settling.LOST)
    assert (gone.fresh().state, "files are gone" in gone.row.note) == (CommandState.LOST, True)
    assert (Names.END_COMMAND, (str(killed.row.pk),)) in requested_jobs
    for process in marked(places.settings.DATA):
        process.kill()


def test_sweep__rings_again_for_an_end_that_was_missed(run, requested_jobs, monkeypatch):
    monkeypatch.setattr(watch, "OVERDUE", timedelta(hours=1))  # however slow the machine is
    command = run("echo up; sleep 600").says(b"up")
    services.cancel_command(command=command.row, actor=None)
    requested_jobs.clear()
    sweep()
    assert requested_jobs == []
    Command.objects.update(cancel_requested_at=now() - timedelta(hours=2))
    sweep()
    assert requested_jobs == [(Names.END_COMMAND, (str(command.row.pk),))]
    command.folder.ask_to_end("cancelled")
    command.ended()


def test_sweep__rings_for_a_wrapper_that_sleeps_past_the_limit(run, requested_jobs):
    command = run("echo up; sleep 600", time_limit=5).says(b"up")
    os.kill(command.wrapper, signal.SIGSTOP)
    Command.objects.update(started_at=now() - timedelta(seconds=70))
    requested_jobs.clear()
    sweep()
    assert requested_jobs == [(Names.END_COMMAND, (str(command.row.pk),))]
    end_command(str(command.row.pk))
    row = command.fresh()
    assert row.state == CommandState.TIMED_OUT
    assert "had to be killed" in row.note


def test_other_hosts_command__is_left_alone_until_nobody_can_hope(workspace):
    row = services.start_command(workspace=workspace, text="true", actor=None)
    Command.objects.update(host="elsewhere-1", state=CommandState.RUNNING, started_at=now())
    sweep()
    assert Command.objects.get().state == CommandState.RUNNING
    Command.objects.update(started_at=now() - timedelta(seconds=row.time_limit) - timedelta(hours=2))
    sweep()
    assert Command.objects.get().state == CommandState.LOST


def test_removed_workspace__ends_its_commands_and_takes_their_output(run, workspace):
    done = run("echo kept")
    done.ended()
    running = run("trap '' TERM; echo up; sleep 600 & wait").says(b"up")
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    assert workspace.state == WorkspaceState.REMOVED
    assert (running.fresh().state, running.row.note) == (CommandState.CANCELLED, "Its checkout was removed.")
    assert (done.fresh().output_gone, running.row.output_gone) == (True, True)
    assert not done.folder.root.exists()
    assert not running.folder.root.exists()


def test_removed_project__leaves_nothing(run, project, owner, data):
    command = run("echo up; sleep 600").says(b"up")
    remove_project(actor=owner, project=project)
    assert not Command.objects.exists()
    assert not command.folder.root.exists()
    assert active_folders(data) == []


def ended(workspace, count):
    rows = []
    for _ in range(count):
        row = services.start_command(workspace=workspace, text="true", actor=None)
        folder = places.folder_of(row.pk)
        folder.prepare()
        OutputWriter(folder.output).close()
        services.settle_command(row.pk, services.Ending(CommandState.SUCCEEDED))
        settling.tidy(folder)
        rows.append(row)
    return rows


def test_outputs__are_bounded_in_number(workspace, data, monkeypatch):
    monkeypatch.setattr(keep, "OUTPUTS", 3)
    rows = ended(workspace, 5)
    stray = places.folder_of("00000000-0000-4000-8000-000000000000")
    stray.prepare()
    keep.prune()
    assert [places.folder_of(row.pk).root.exists() for row in rows] == [False, False, True, True, True]
    assert not stray.root.exists()
    assert sorted(Command.objects.filter(output_gone=True).values_list("pk", flat=True)) == sorted(
        row.pk for row in rows[:2]
    )
    assert (data / "commands" / "active").is_dir()


def test_commands_of_a_workspace__are_bounded_in_number(workspace, monkeypatch):
    monkeypatch.setattr(keep, "PER_WORKSPACE", 2)
    rows = ended(workspace, 4)
    assert Run(workspace, "true").begin().ended().state == CommandState.SUCCEEDED
    left = set(Command.objects.values_list("pk", flat=True))
    assert {row.pk for row in rows[:2]}.isdisjoint(left)
    assert len(left) == 3


@pytest.mark.parametrize("kind", ["command", "workspace"])
def test_topics__are_for_those_who_may_see_the_project(workspace, owner, kind):
    row = services.start_command(workspace=workspace, text="true", actor=None)
    name = f"{kind}:{row.pk if kind == 'command' else workspace.pk}"
    assert topics.visible(kind, owner, [name]) == {name}
    assert topics.visible(kind, make_user(), [name]) == set()
    assert topics.head_of(name) > 0
    [event] = topics.read_many(kind, {name: 0}, 10)
    assert event.data["command"] == str(row.pk)
    if kind == "command":
        assert (event.kind, event.data["state"]) == ("command.state", "starting")


def test_read_end__of_a_running_command_has_no_half_line_at_its_beginning(run):
    command = run("seq 1 5000; sleep 600").says(b"5000\n")
    piece = output.read_end(command.folder.output, 100, ended=False)
    assert piece.text.splitlines()[-1] == "5000"
    assert piece.text.startswith("49")
    command.folder.ask_to_end("cancelled")
    command.ended()
