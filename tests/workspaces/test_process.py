"""Starting programs: bounds in time and size, no leftovers, few variables."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from workspaces.process import ProcessError, run


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_run__gives_output_and_exit_code(tmp_path):
    done = run(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), cwd=tmp_path, timeout=20)
    assert (done.code, done.stdout, done.stderr, done.truncated) == (3, b"out\n", b"err\n", False)


def test_run__feeds_more_than_a_pipe_holds(tmp_path):
    given = os.urandom(3_000_000)
    done = run(
        python("import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"), cwd=tmp_path, timeout=30, input=given
    )
    assert done.stdout == given


def test_run__survives_a_program_that_does_not_read(tmp_path):
    done = run(python("import os; os.close(0); print('bye')"), cwd=tmp_path, timeout=20, input=b"x" * 1_000_000)
    assert done.stdout == b"bye\n"


def test_run__ends_the_whole_group_after_the_time(tmp_path):
    marker = f"sleep-{os.getpid()}-{time.monotonic_ns()}"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', '{marker}'])"
    with pytest.raises(ProcessError) as caught:
        run(python(code), cwd=tmp_path, timeout=1)
    assert caught.value.transient
    assert "1 seconds" in caught.value.message
    left = [one for one in psutil.process_iter(["cmdline"]) if marker in (one.info["cmdline"] or [])]
    for process in left:
        process.wait(5)  # ended, perhaps not yet collected
    assert not [one for one in psutil.process_iter(["cmdline"]) if marker in (one.info["cmdline"] or [])]


def test_run__does_not_wait_for_what_a_program_left_running(tmp_path):
    code = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print('done')"
    )
    assert run(python(code), cwd=tmp_path, timeout=30).stdout == b"done\n"


def test_run__throws_away_what_is_too_much(tmp_path):
    done = run(python("print('x' * 1_000_000)"), cwd=tmp_path, timeout=20, max_output=1_000)
    assert (done.code, len(done.stdout), done.truncated) == (0, 1_000, True)


def test_run__stops_a_program_at_the_limit(tmp_path):
    code = "import sys\nwhile True: sys.stdout.write('x' * 1000)"
    done = run(python(code), cwd=tmp_path, timeout=30, max_output=10_000, stop_at_limit=True)
    assert (len(done.stdout), done.truncated) == (10_000, True)


def test_run__passes_on_only_what_is_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "do not tell")
    monkeypatch.setenv("GIT_DIR", "/somewhere/else")
    done = run(python("import os; print(sorted(os.environ))"), cwd=tmp_path, timeout=20, env={"EXTRA": "1"})
    names = done.stdout.decode()
    assert "EXTRA" in names
    assert "PATH" in names
    assert "SECRET_KEY" not in names
    assert "GIT_DIR" not in names


def test_run__says_what_is_missing(tmp_path):
    with pytest.raises(ProcessError, match="no-such-program does not exist"):
        run(["no-such-program"], cwd=tmp_path, timeout=5)
    with pytest.raises(ProcessError, match="nowhere does not exist"):
        run(["git"], cwd=tmp_path / "nowhere", timeout=5)


def test_run__loses_nothing_of_a_program_that_ends_between_two_looks(monkeypatch, tmp_path):
    """On a busy machine a program may write all it has and end while the studio waits for its turn."""
    poll = subprocess.Popen.poll

    def late(process):
        process.wait()
        return poll(process)

    monkeypatch.setattr(subprocess.Popen, "poll", late)
    assert run(["sh", "-c", "sleep 0.2; echo late"], cwd=tmp_path, timeout=20).stdout == b"late\n"
