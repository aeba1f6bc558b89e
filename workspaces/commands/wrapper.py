"""`python -S -E -m workspaces.commands.wrapper FOLDER`: run one command, keep its output, write down how it ended.

It belongs to no process of the studio: it goes on when they die, and they find it again by its folder. It inherits a
descriptor that holds the folder's lock, and so holds it until it ends. Standard library only, so it stays small.

When the command ends, everything that it left running ends with it: its process group, what moved out of the group (on
Linux all of it becomes a child of this process), and what carries the command's mark in its environment.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from workspaces.commands.files import MARK, PIECE_BYTES, CommandFolder, OutputWriter, read_json, write_json

GRACE_SECONDS = 5.0  # between asking a command to end and ending it
BACKGROUND_SECONDS = 1.0  # the same for what it left in the background
AGAIN_SECONDS = 0.2  # between two tries to kill
KILL_SECONDS = 10.0  # for killing whatever is there; a process in the kernel's hands may take longer
DRAIN_SECONDS = 2.0  # for reading what was still in the pipe
PR_SET_CHILD_SUBREAPER = 36
PROC = Path("/proc")


def main(folder: CommandFolder) -> int:
    """Detach, then keep the command. The calling process returns as soon as the wrapper has said that it runs."""
    ready, told = os.pipe()
    starter = os.getpid()
    if os.fork():
        os.close(told)
        return 0 if os.read(ready, 1) else 1
    os.close(ready)
    os.setsid()
    write_json(folder.started, {"pid": os.getpid(), "at": time.time()})
    os.write(told, b".")
    os.close(told)
    spec = read_json(folder.spec)
    ending = (
        Keeper(folder, spec, starter).run()
        if spec
        else {"outcome": "failed", "note": "Its description cannot be read."}
    )
    write_json(folder.ended, {**ending, "at": time.time()})
    return 0


class Keeper:
    """One command from its start to its end."""

    def __init__(self, folder: CommandFolder, spec: dict[str, Any], starter: int) -> None:
        self.folder, self.spec = folder, spec
        self.spared = {os.getpid(), starter}  # the latter carries the mark too, and may take a moment to end
        self.output = OutputWriter(folder.output)
        self.selector = selectors.DefaultSelector()
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe = -1
        self.code: int | None = None
        self.why = ""  # the outcome, when it is not the command's own: cancelled or timed_out
        self.reason = ""
        self.kill_at = 0.0

    def run(self) -> dict[str, Any]:
        """Run it; how it ended."""
        _become_subreaper()
        self._listen()
        self._look_for_cancel()
        if self.why:
            return self._ending()
        try:
            self._start()
        except (OSError, ValueError) as error:
            return {"outcome": "failed", "note": f"It could not be started: {error}.", "bytes": 0}
        deadline = time.monotonic() + float(self.spec["seconds"])
        while self.code is None:
            self._turn(deadline)
        self._end_what_is_left()
        self._drain()
        return self._ending()

    def _listen(self) -> None:
        """Hear the folder's bell, the end of children, and being told to end."""
        with suppress(FileExistsError):
            os.mkfifo(self.folder.bell, 0o600)
        self.bell = os.open(self.folder.bell, os.O_RDONLY | os.O_NONBLOCK)
        os.open(self.folder.bell, os.O_WRONLY | os.O_NONBLOCK)  # so that the last one who rings does not close it
        self.selector.register(self.bell, selectors.EVENT_READ)
        self.wake, waker = os.pipe()
        for descriptor in (self.wake, waker):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self._end("cancelled", "terminated"))
        self.selector.register(self.wake, selectors.EVENT_READ)

    def _start(self) -> None:
        self.pipe, write_end = os.pipe()
        os.set_blocking(self.pipe, False)
        try:
            self.process = subprocess.Popen(
                self.spec["argv"],
                cwd=self.spec["cwd"],
                env={**self.spec["environment"], MARK: str(self.folder.root)},
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        self.selector.register(self.pipe, selectors.EVENT_READ)

    def _turn(self, deadline: float) -> None:
        """Wait for the next thing that happens, and deal with it."""
        until = self.kill_at if self.why else deadline
        for key, _ in self.selector.select(max(0.0, until - time.monotonic())):
            if key.fd == self.pipe:
                self._read()
            else:
                with suppress(BlockingIOError):
                    os.read(key.fd, 4096)
                self._look_for_cancel()
        self._reap()
        at = time.monotonic()
        if not self.why and at >= deadline:
            self._end("timed_out", "")
        elif self.why and at >= self.kill_at:
            self.kill_at = at + AGAIN_SECONDS
            _signal(self._kin(), signal.SIGKILL)

    def _look_for_cancel(self) -> None:
        asked = None if self.why else read_json(self.folder.cancel)
        if asked is not None:
            self._end("cancelled", str(asked.get("reason", "")))

    def _end(self, why: str, reason: str) -> None:
        """Ask everything to end; what does not is killed after the grace period."""
        if self.why:
            return
        self.why, self.reason = why, reason
        self.kill_at = time.monotonic() + float(self.spec.get("grace", GRACE_SECONDS))
        _signal(self._kin(), signal.SIGTERM)

    def _read(self) -> bool:
        """Store the next piece of output; False when there is none now."""
        try:
            data = os.read(self.pipe, PIECE_BYTES)
        except BlockingIOError:
            return False
        if data:
            self.output.append(data)
            return True
        self.selector.unregister(self.pipe)
        os.close(self.pipe)
        self.pipe = -1
        return False

    def _reap(self) -> None:
        """Take note of children that have ended, orphans of the command's among them."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self.process is not None and pid == self.process.pid:
                    self.code = self.process.returncode = os.waitstatus_to_exitcode(status)

    def _end_what_is_left(self) -> None:
        """What the command left in the background ends with it."""
        began, asked = time.monotonic(), False
        while (left := self._kin()) and (passed := time.monotonic() - began) < KILL_SECONDS:
            if not asked:
                _signal(left, signal.SIGTERM)
                asked = True
            elif passed > BACKGROUND_SECONDS:
                _signal(left, signal.SIGKILL)
            self._drain()
            self._reap()
            time.sleep(0.02)
        self._reap()

    def _drain(self) -> None:
        """Read what was written before the end; something that cannot be ended may hold the pipe."""
        end = time.monotonic() + DRAIN_SECONDS
        while self.pipe >= 0 and self._read() and time.monotonic() < end:
            pass

    def _kin(self) -> list[int]:
        """Everything that the command has started and that still runs."""
        if self.process is None:
            return []
        found = set(_descendants_and_marked(os.getpid(), str(self.folder.root))) - self.spared
        if not PROC.is_dir() and self.code is None:
            found.add(-self.process.pid)  # its group; elsewhere there is no list of processes to read
        return sorted(found)

    def _ending(self) -> dict[str, Any]:
        outcome = self.why or "exited"
        note = f"The output could not be stored: {self.output.broken}." if self.output.broken else ""
        total = self.output.total
        self.output.close()
        return {"outcome": outcome, "code": self.code, "reason": self.reason, "note": note, "bytes": total}


def _become_subreaper() -> None:
    """Let what loses its parent become a child of this process, so that nothing escapes. Linux only; else it is left out."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants_and_marked(own: int, mark: str) -> list[int]:
    """The living processes below `own`, and those of this account whose environment has the mark."""
    parents: dict[int, int] = {}
    marked: list[int] = []
    needle = f"{MARK}={mark}".encode("utf-8", "surrogateescape")
    for entry in PROC.glob("[0-9]*") if PROC.is_dir() else ():
        pid = int(entry.name)
        with suppress(OSError, ValueError, IndexError):
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] in (b"Z", b"X"):
                continue
            parents[pid] = int(fields[1])
            if needle in (entry / "environ").read_bytes().split(b"\0"):
                marked.append(pid)
    found = set(marked)
    for pid in parents:
        line = [pid]
        while line[-1] in parents and line[-1] != own:
            line.append(parents[line[-1]])
        if line[-1] == own:
            found.update(line[:-1])
    return sorted(found)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main(CommandFolder(Path(sys.argv[1]))))
