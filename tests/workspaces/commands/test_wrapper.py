"""What a command does to its wrapper, with real processes: exits, daemons, floods, deaf children, killed wrappers."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.real.parts import wait_until
from tests.workspaces.commands.conftest import PATIENCE, Run, marked
from workspaces.commands import ending, launch, services
from workspaces.commands.files import HEAD_BYTES, TAIL_BYTES, read_json, read_output
from workspaces.models import CommandState

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_process_left")]


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    monkeypatch.setattr("celery.canvas.Signature.apply_async", lambda *_, **__: None)


def text(run):
    return read_output(run.folder.output, 0, 10**6, ended=True).data.decode()


@pytest.mark.parametrize(
    ("command", "state", "code"),
    [
        ("echo out; echo err >&2", CommandState.SUCCEEDED, 0),
        ("exit 3", CommandState.FAILED, 3),
        ("no-such-program-here", CommandState.FAILED, 127),
        ("if", CommandState.FAILED, 2),
        ("kill -SEGV $$", CommandState.FAILED, 128 + signal.SIGSEGV),
    ],
)
def test_end__becomes_state_and_exit_code(run, command, state, code):
    row = run(command).ended()
    assert (row.state, row.exit_code) == (state, code)
    assert row.ended_at is not None
    assert row.started_at is not None


def test_command__runs_in_the_checkout_with_few_variables(run, checkout, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "very secret")
    monkeypatch.setenv("STUDIO_SUPERVISED", "/data")
    command = run("pwd; cat; env; ls")
    assert command.ended().state == CommandState.SUCCEEDED
    said = text(command)
    assert said.splitlines()[0] == str(checkout)
    assert "README.md" in said
    assert "TERM=dumb" in said
    assert "HOME=" in said
    assert "SECRET_KEY" not in said
    assert "STUDIO_SUPERVISED" not in said


def test_end__takes_daemons_with_it_even_those_without_mark_and_session(run):
    command = run("sleep 600 & setsid env -i /bin/sleep 601 & (setsid setsid sleep 602 &) & sleep 0.3; echo done")
    row = command.ended()
    assert (row.state, row.exit_code) == (CommandState.SUCCEEDED, 0)
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] in (["/bin/sleep", "601"],)]


def test_stdout_closed__the_command_goes_on(run, checkout):
    command = run("exec >&- 2>&-; sleep 0.5; touch done")
    assert command.ended().state == CommandState.SUCCEEDED
    assert (checkout / "done").exists()


def test_flood__keeps_beginning_and_end_and_says_what_was_cut(run):
    command = run("echo first; head -c 1000000000 /dev/zero; echo; echo last")
    row = command.ended(seconds=120)
    assert row.state == CommandState.SUCCEEDED
    assert row.output_bytes == 1_000_000_000 + 6 + 1 + 5
    assert row.output_cut
    assert command.folder.output.stat().st_size <= HEAD_BYTES + TAIL_BYTES + 16
    head = read_output(command.folder.output, 0, 10**9, ended=True)
    assert head.data.startswith(b"first\n")
    assert (len(head.data), head.cut) == (HEAD_BYTES, row.output_bytes - HEAD_BYTES - TAIL_BYTES)
    tail = read_output(command.folder.output, head.end, 10**9, ended=True)
    assert tail.start == row.output_bytes - TAIL_BYTES
    assert tail.data.endswith(b"\0\nlast\n")
    assert tail.end == row.output_bytes


def test_cancel__ends_the_whole_family(run, data):
    command = run("sleep 600 & sleep 601 & echo up; wait").says(b"up")
    assert len(marked(data)) >= 4
    services.cancel_command(command=command.fresh(), actor=None, by="Ada")
    ending.end(command.row.pk)
    row = command.ended()
    assert (row.state, row.exit_code, row.note) == (CommandState.CANCELLED, None, "Cancelled by Ada.")


def test_deaf_command__is_killed_after_the_grace_period(run, monkeypatch):
    command = run(
        "trap '' TERM; bash -c 'trap \"\" TERM; echo up; sleep 600 & wait; sleep 600' & wait; sleep 600"
    ).says(b"up")
    services.cancel_command(command=command.fresh(), actor=None)
    ending.end(command.row.pk)
    assert command.ended().state == CommandState.CANCELLED


def test_time_limit__ends_it(run):
    row = run("echo begun; sleep 600", time_limit=3).ended()
    assert row.state == CommandState.TIMED_OUT
    assert "limit of 3 seconds." in row.note
    assert row.output_bytes == 6


def test_wrapper_killed__is_lost_and_its_family_ended(run, data, requested_jobs):
    command = run("echo up; sleep 600 & sleep 601").says(b"up")
    command.kill_wrapper()
    row = command.ended()
    assert row.state == CommandState.LOST
    assert "Nobody knows how it ended" in row.note
    assert row.output_bytes == 3
    ending.end(row.pk)  # the job that was requested with the settling
    wait_until(lambda: not marked(data), seconds=PATIENCE, what="the end of its family")


def test_shell_killed__is_an_end_like_any_other(run):
    command = run("echo up; sleep 600").says(b"up")
    [shell] = psutil.Process(command.wrapper).children()
    shell.kill()
    row = command.ended()
    assert (row.state, row.exit_code) == (CommandState.FAILED, 137)
    assert "SIGKILL" in row.note


def test_wrapper_told_to_end__ends_the_command(run):
    command = run("echo up; sleep 600").says(b"up")
    os.kill(command.wrapper, signal.SIGTERM)
    row = command.ended()
    assert row.state == CommandState.CANCELLED
    assert "shuts down" in row.note


def test_stopped_wrapper__is_killed_when_it_does_not_obey(run, monkeypatch):
    command = run("echo up; sleep 600").says(b"up")
    os.kill(command.wrapper, signal.SIGSTOP)
    services.cancel_command(command=command.fresh(), actor=None, by="Ada")
    ending.end(command.row.pk)
    assert command.fresh().state == CommandState.RUNNING
    monkeypatch.setattr(ending, "PATIENCE", ending.timedelta(0))
    ending.end(command.row.pk)
    row = command.fresh()
    assert (row.state, row.note) == (CommandState.CANCELLED, "Cancelled by Ada. It had to be killed.")


def test_started_twice__runs_once(run, checkout):
    command = run("echo x >> count; sleep 600").begin().begin()
    wait_until(lambda: (checkout / "count").exists(), seconds=PATIENCE, what="its file")
    first = command.wrapper
    command.begin()
    assert (checkout / "count").read_text() == "x\n"
    assert command.wrapper == first
    assert command.fresh().pid == first
    services.cancel_command(command=command.row, actor=None)
    ending.end(command.row.pk)
    command.ended()


def test_job_that_died_after_the_spawn__is_adopted_by_the_next(workspace, monkeypatch):
    command = Run(workspace, "echo up; sleep 0.5")
    monkeypatch.setattr(launch, "_adopt", lambda *_: None)
    command.begin()
    monkeypatch.undo()
    assert command.fresh().state == CommandState.STARTING
    command.begin()
    assert command.fresh().state == CommandState.RUNNING
    assert command.ended().state == CommandState.SUCCEEDED
    assert text(command) == "up\n"


def test_job_that_died_and_the_command_ended__is_settled_not_run_again(workspace, checkout, monkeypatch):
    command = Run(workspace, "echo x >> count")
    monkeypatch.setattr(launch, "_adopt", lambda *_: None)
    command.begin()
    monkeypatch.undo()
    wait_until(lambda: not command.folder.is_kept(), seconds=PATIENCE, what="its end")
    command.begin()
    assert command.fresh().state == CommandState.SUCCEEDED
    assert (checkout / "count").read_text() == "x\n"


def test_cancelled_before_it_began__never_runs(workspace, checkout):
    command = Run(workspace, "touch ran")
    services.cancel_command(command=command.row, actor=None, by="Ada")
    ending.end(command.row.pk)
    row = command.fresh()
    assert (row.state, row.note) == (CommandState.CANCELLED, "Cancelled by Ada. It had not begun.")
    command.begin()
    assert not (checkout / "ran").exists()
    assert not command.folder.root.exists()


def test_checkout_gone__fails_with_the_reason(workspace, checkout):
    command = Run(workspace, "true")
    checkout.rename(checkout.with_name("elsewhere"))
    row = command.begin().fresh()
    assert (row.state, row.note) == (CommandState.FAILED, "The checkout is gone, so it never ran.")


def test_checkout_deleted_while_it_runs__is_no_trouble(run, checkout):
    command = run('cd /; rm -rf "$OLDPWD"; echo gone')
    assert command.ended().state == CommandState.SUCCEEDED


def test_wrapper__is_small_and_survives_the_death_of_its_starter(run):
    command = run("echo up; sleep 600").says(b"up")
    wrapper = psutil.Process(command.wrapper)
    assert wrapper.ppid() != os.getpid()
    assert wrapper.memory_info().rss < 25 * 1024 * 1024
    assert os.getpgid(wrapper.pid) != os.getpgid(0)
    assert read_json(command.folder.spec)["argv"][-1] == "echo up; sleep 600"
    assert command.folder.spec.stat().st_mode & 0o077 == 0
    began = sum(wrapper.cpu_times()[:2])
    time.sleep(1)
    assert sum(wrapper.cpu_times()[:2]) - began < 0.05  # it waits, it does not poll
    services.cancel_command(command=command.fresh(), actor=None)
    ending.end(command.row.pk)
    command.ended()
