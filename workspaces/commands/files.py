"""The folder of one command, which its wrapper and the studio share. Standard library only: the wrapper has nothing else.

    spec.json      what to run; written once, before the wrapper starts
    lock           held by the wrapper as long as it lives: the kernel frees it however the wrapper ends
    started.json   the wrapper runs (written before the command is started, so without it the command never began)
    output         the kept output, see `Output`
    cancel.json    the command is to end, and why; `bell` is a pipe that tells a running wrapper to look
    ended.json     how the command ended; written in one step, as the last thing

Whether a command still runs is asked of the lock, not of a process id: an id may belong to somebody else by now, and in a
container it is not even the same number everywhere.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Names the command's folder in the environment of the wrapper and of everything that the command starts.
MARK = "OPENCODE_STUDIO_COMMAND"
FOLDER = "commands"  # in the data folder
ACTIVE = "active"  # in it: an empty file per command that may be running

COUNT_BYTES = 16  # the number of bytes written so far, and room
HEAD_BYTES = 256 * 1024  # of the output's beginning are kept
TAIL_BYTES = 768 * 1024  # of its end, in a ring
PIECE_BYTES = 65_536  # at most this much is written at once


@dataclass(frozen=True, slots=True)
class CommandFolder:
    """Where things are in the folder of one command."""

    root: Path

    @property
    def spec(self) -> Path:
        """What to run."""
        return self.root / "spec.json"

    @property
    def lock(self) -> Path:
        """Held by the wrapper."""
        return self.root / "lock"

    @property
    def started(self) -> Path:
        """The wrapper runs, or has run."""
        return self.root / "started.json"

    @property
    def output(self) -> Path:
        """The kept output."""
        return self.root / "output"

    @property
    def cancel(self) -> Path:
        """The command is to end."""
        return self.root / "cancel.json"

    @property
    def bell(self) -> Path:
        """A named pipe at which a running wrapper listens."""
        return self.root / "bell"

    @property
    def ended(self) -> Path:
        """How the command ended."""
        return self.root / "ended.json"

    @property
    def active(self) -> Path:
        """The marker by which watchers find the command without a database."""
        return self.root.parent / ACTIVE / self.root.name

    def prepare(self) -> None:
        """Make the folder and the marker, for this account only. Idempotent."""
        for path in (self.root.parent, self.root, self.active.parent):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.active.touch(mode=0o600)

    def remove(self) -> None:
        """Delete everything of the command. Idempotent."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.active.unlink(missing_ok=True)

    def take_lock(self) -> int | None:
        """A descriptor that holds the lock until it and all its copies are closed; None when a wrapper holds it."""
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def is_kept(self) -> bool:
        """Whether a wrapper lives."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def wrapper_pid(self) -> int | None:
        """The wrapper's process id as it knew it itself; None when it has not begun."""
        pid = (read_json(self.started) or {}).get("pid")
        return pid if isinstance(pid, int) else None

    def ask_to_end(self, reason: str) -> None:
        """Ask the wrapper to end the command; `reason` (cancelled, stopped, …) is for the record. The first one stays."""
        if not self.cancel.exists():
            write_json(self.cancel, {"reason": reason})
        # Nobody listens: it has ended, or has not begun and will find the file.
        with suppress(OSError):
            descriptor = os.open(self.bell, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(descriptor, b".")
            finally:
                os.close(descriptor)


def command_folder(data: Path, command_id: object) -> CommandFolder:
    """The folder of a command of the studio whose data folder is `data`."""
    return CommandFolder(data / FOLDER / str(command_id))


def active_folders(data: Path) -> list[CommandFolder]:
    """The commands that may be running. Costs one look into a folder."""
    try:
        names = os.listdir(data / FOLDER / ACTIVE)  # noqa: PTH208 -- the cheapest way, ten times a second
    except OSError:
        return []
    return [command_folder(data, name) for name in names if not name.startswith(".")]


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a small file in one step, readable by this account only."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        json.dump(value, handle)
    scratch.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What such a file says; None when there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class OutputWriter:
    """Keeps the first HEAD_BYTES and the last TAIL_BYTES of what it is given, in a file of bounded size.

    The count of all bytes is written after the bytes it counts: a reader, or a reader after a crash, never sees bytes that
    are not there. When the disk is full the rest is counted and dropped, and `broken` says why.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.total = 0
        self.broken = ""
        self._note()

    def append(self, data: bytes) -> None:
        """Store at most PIECE_BYTES."""
        position = self.total
        self.total += len(data)
        if self.broken:
            return
        try:
            for start, size in _places(position, len(data)):
                taken = start - position
                self._put(_offset(start), data[taken : taken + size])
            self._note()
        except OSError as error:
            self.broken = error.strerror or str(error)
            self.total = position
            self._note_if_possible()

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _put(self, offset: int, data: bytes) -> None:
        while data:
            written = os.pwrite(self._file, data, offset)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data, offset = data[written:], offset + written

    def _note(self) -> None:
        os.pwrite(self._file, self.total.to_bytes(8, "little"), 0)

    def _note_if_possible(self) -> None:
        with suppress(OSError):
            self._note()


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of the output: `data` begins at byte `start`. `total` bytes were written; `cut` of them are not kept."""

    start: int
    data: bytes
    total: int
    cut: int

    @property
    def end(self) -> int:
        """Where the next reading goes on."""
        return self.start + len(self.data)


def read_output(path: Path, after: int, limit: int, *, ended: bool) -> Stretch | None:
    """At most `limit` bytes that follow byte `after`, or the first kept ones after it; None when there is no output file.

    While the command runs (`ended` false) the oldest bytes of the ring are left out: they may be written over just now.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        total = _count(file)
        start = _kept_from(after, _oldest(total, ended=ended))
        data = b""
        if start < total:
            boundary = HEAD_BYTES if start < HEAD_BYTES else total
            data = b"".join(
                os.pread(file, size, _offset(position))
                for position, size in _places(start, min(limit, boundary - start, total - start))
            )
        now = _count(file)  # what was overwritten meanwhile is not what it was
        oldest = _oldest(now, ended=ended)
        if HEAD_BYTES <= start < oldest:
            data, start = data[oldest - start :], oldest
        start = min(start, now)
        return Stretch(start, data, now, max(0, oldest - HEAD_BYTES))
    finally:
        os.close(file)


def output_total(path: Path) -> int:
    """How many bytes were written; 0 without a file."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return 0
    try:
        return _count(file)
    finally:
        os.close(file)


def _count(file: int) -> int:
    return int.from_bytes(os.pread(file, 8, 0), "little")


def _oldest(total: int, *, ended: bool) -> int:
    """The first byte of the ring that is kept."""
    return max(HEAD_BYTES, total + (0 if ended else PIECE_BYTES) - TAIL_BYTES)


def _kept_from(after: int, oldest: int) -> int:
    return after if after < HEAD_BYTES else max(after, oldest)


def _places(start: int, size: int) -> Iterator[tuple[int, int]]:
    """(position, size) of the pieces in which `size` bytes from `start` on stand in the file without a break."""
    while size > 0:
        room = HEAD_BYTES - start if start < HEAD_BYTES else TAIL_BYTES - (start - HEAD_BYTES) % TAIL_BYTES
        piece = min(size, room)
        yield start, piece
        start, size = start + piece, size - piece


def _offset(position: int) -> int:
    """Where the byte number `position` stands in the file."""
    if position < HEAD_BYTES:
        return COUNT_BYTES + position
    return COUNT_BYTES + HEAD_BYTES + (position - HEAD_BYTES) % TAIL_BYTES
