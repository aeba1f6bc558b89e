"""The data folder as the launcher uses it: usable at all, held by one `up` at a time, cleaned up afterwards."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from studio.env import valkey_socket
from studio.launcher.child import PLAN
from studio.launcher.errors import LauncherError

NEEDED_BYTES = 100 * 1024 * 1024
ANOTHER = "Choose another folder with --data or STUDIO_HOME."
REASONS = {
    errno.EROFS: f"The data folder {{path}} is on a read-only file system. {ANOTHER}",
    errno.EACCES: f"The data folder {{path}} cannot be written to by this account. Change its owner. {ANOTHER}",
    errno.EPERM: f"The data folder {{path}} cannot be written to by this account. Change its owner. {ANOTHER}",
    errno.ENOSPC: f"There is no space left at the data folder {{path}}. Make room. {ANOTHER}",
    errno.EDQUOT: f"The disk quota at the data folder {{path}} is used up. Make room. {ANOTHER}",
    errno.ENOTDIR: f"The data folder {{path}} lies below something that is not a folder. {ANOTHER}",
}


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Where things are in a data folder."""

    root: Path

    @property
    def run(self) -> Path:
        """What exists only while the studio runs."""
        return self.root / "run"

    @property
    def log(self) -> Path:
        """The logs of all parts."""
        return self.root / "log"

    @property
    def lock(self) -> Path:
        """Held by the `up` that runs this folder."""
        return self.root / "up.lock"

    @property
    def record(self) -> Path:
        """What the running `up` says of itself."""
        return self.run / "studio.json"

    @property
    def parts(self) -> Path:
        """How each part is started."""
        return self.root / PLAN

    @property
    def sockets(self) -> Path:
        """The folder of the unix sockets: `run`, or a short path where that one is too long."""
        return valkey_socket(self.root).parent

    @property
    def supervisor_socket(self) -> Path:
        """Where the supervisor takes orders. Its name is short: the supervisor appends a pid to it while it binds."""
        return self.sockets / "sv.sock"

    def prepare(self) -> None:
        """Make the folder and prove that it can be used. Raises LauncherError, and then leaves nothing behind."""
        made: list[Path] = []
        try:
            if self.root.exists() and not self.root.is_dir():
                raise LauncherError(f"The data folder {self.root} is a file. {ANOTHER}")
            for path in reversed([self.root, *self.root.parents]):
                if not path.exists():
                    path.mkdir(mode=0o700)
                    made.append(path)
            self._require_space()
            with tempfile.NamedTemporaryFile(dir=self.root, prefix=".probe-") as probe:
                probe.write(b"\0" * 65536)
                probe.flush()
                os.fsync(probe.fileno())
        except (OSError, LauncherError) as error:
            for path in reversed(made):
                with suppress(OSError):
                    path.rmdir()
            if isinstance(error, LauncherError):
                raise
            sentence = REASONS.get(error.errno or 0, f"The data folder {{path}} cannot be used ({{error}}). {ANOTHER}")
            raise LauncherError(sentence.format(path=self.root, error=error.strerror)) from error

    def _require_space(self) -> None:
        free = shutil.disk_usage(self.root).free
        if free < NEEDED_BYTES:
            raise LauncherError(
                f"Only {free // 1024**2} MB are free at the data folder {self.root}; the studio needs "
                f"{NEEDED_BYTES // 1024**2} MB. Make room. {ANOTHER}"
            )

    def prepare_run(self) -> None:
        """Make the folders of a run. The one of the sockets must not be one that another account has prepared."""
        for path in (self.run, self.log, self.sockets):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.sockets.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise LauncherError(
                f"{self.sockets} must be a folder that only this account can enter; remove it and start again."
            )

    def clear(self) -> None:
        """Remove what exists only while the studio runs. Called while the lock is held and nothing runs any more."""
        shutil.rmtree(self.run, ignore_errors=True)
        if self.sockets != self.run:
            shutil.rmtree(self.sockets, ignore_errors=True)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock and remove its file afterwards; yields False at once when somebody else holds it.

        The lock belongs to the open file, so it is free as soon as its process has ended, however it ended.
        """
        descriptor = self._take()
        if descriptor is None:
            yield False
            return
        try:
            yield True
        finally:
            self.lock.unlink(missing_ok=True)
            os.close(descriptor)

    def _take(self) -> int | None:
        while True:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            # Whoever held it before may have removed the file between our open and our lock: then lock the new one.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), self.lock.stat()):
                    return descriptor
            os.close(descriptor)
