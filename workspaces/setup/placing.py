"""Putting copies, links and the file of variables into a checkout.

The agent's checkout is hostile ground: a folder in it may be a symbolic link that leads out. So every target is reached from
the checkout's root, folder by folder, and a link on the way is never followed. What is there already and was not put there by
an earlier setup is left alone.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from workspaces.setup.config import Setup
from workspaces.setup.patterns import is_inside, matching
from workspaces.vcs.base import readable

VARIABLES = ".opencode-studio/env"  # where an agent's shell and tools find the variables
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Plan:
    """What goes where: path in the checkout -> source. Links by the same. `notes` say what was left out."""

    copies: dict[str, Path] = field(default_factory=dict)
    links: dict[str, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    variables: bool = True  # whether the file of variables is written

    @property
    def paths(self) -> list[str]:
        """Everything that is put into the checkout."""
        return [*self.links, *self.copies, *([VARIABLES] if self.variables else [])]

    def leave_out(self, path: str, why: str) -> None:
        """Do not place `path` after all."""
        self.variables = self.variables and path != VARIABLES
        self.copies.pop(path, None)
        self.links.pop(path, None)
        self.notes.append(f"{readable(path)}: {why}")


def plan(setup: Setup, repository: Path, checkout: Path, earlier: list[str]) -> Plan:
    """What is to be placed. `earlier`: what a setup of this checkout has placed before, which is placed anew."""
    root = repository.resolve()
    found = matching(root, setup.copy)
    made = Plan({path: (root / path).resolve() for path in found.files}, {}, found.notes)
    for path in setup.link:
        real = Path(os.path.realpath(root / path))
        if not real.exists():
            made.notes.append(f"{readable(path)}: the repository's checkout has no such folder.")
        elif not is_inside(real, root):
            made.notes.append(f"{readable(path)}: it leads out of the repository, so it is not linked.")
        else:
            made.links[path] = real
            for inner in [one for one in made.copies if one == path or one.startswith(f"{path}/")]:
                made.leave_out(inner, f"it is in {readable(path)}, which is linked.")
    made.copies.pop(VARIABLES, None)
    for path in made.paths:
        if path not in earlier and os.path.lexists(checkout / path):
            made.leave_out(path, "the checkout has it already, so it is left alone.")
    return made


def place(made: Plan, checkout: Path, variables: Mapping[str, str]) -> list[str]:
    """Carry the plan out; what could not be placed, in words. Raises OSError when the disk is full. May be repeated."""
    notes = []
    for path, source in made.copies.items():
        notes += _tried(path, partial(_copy, checkout, path, source))
    for path, source in made.links.items():
        notes += _tried(path, partial(_link, checkout, path, source))
    if made.variables:
        notes += _tried(VARIABLES, partial(write_variables, checkout, variables))
    return notes


def _tried(path: str, work: Callable[[], None]) -> list[str]:
    try:
        work()
    except (NotADirectoryError, FileExistsError, IsADirectoryError, PermissionError, FileNotFoundError) as error:
        return [f"{readable(path)}: it could not be placed ({error.strerror})."]
    return []


def write_variables(checkout: Path, variables: Mapping[str, str]) -> None:
    """Write the file of variables, as lines that a shell can read. Raises OSError."""
    lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(variables.items()))
    with _folder_of(checkout, VARIABLES) as (folder, name), _replacing(folder, name) as descriptor:
        os.write(descriptor, f"# Written by OpenCode Studio for this checkout; never committed.\n{lines}".encode())


def _copy(checkout: Path, path: str, source: Path) -> None:
    with source.open("rb") as given, _folder_of(checkout, path) as (folder, name):
        mode = stat.S_IMODE(os.fstat(given.fileno()).st_mode) & 0o755 | 0o600
        with _replacing(folder, name) as descriptor, os.fdopen(os.dup(descriptor), "wb") as copy:
            shutil.copyfileobj(given, copy, 1024 * 1024)
            os.fchmod(descriptor, mode)


def _link(checkout: Path, path: str, source: Path) -> None:
    with _folder_of(checkout, path) as (folder, name):
        with suppress(FileNotFoundError):
            if os.readlink(name, dir_fd=folder) == str(source):
                return
            os.unlink(name, dir_fd=folder)
        os.symlink(source, name, dir_fd=folder)


@contextmanager
def _folder_of(checkout: Path, path: str) -> Iterator[tuple[int, str]]:
    """The folder of `path`, made where it is missing, as a descriptor; and the last part of the path."""
    *folders, last = path.split("/")
    at = os.open(checkout, DIRECTORY)
    try:
        for one in folders:
            with suppress(FileExistsError):
                os.mkdir(one, 0o755, dir_fd=at)
            inner = os.open(one, DIRECTORY, dir_fd=at)
            os.close(at)
            at = inner
        yield at, last
    finally:
        os.close(at)


@contextmanager
def _replacing(folder: int, name: str) -> Iterator[int]:
    """A new file that takes the place of `name` in one step once it is written; a link of that name is replaced, not followed."""
    scratch = f".{name[:60]}.{secrets.token_hex(6)}"
    descriptor = os.open(scratch, NEW_FILE, 0o600, dir_fd=folder)
    try:
        yield descriptor
        os.replace(scratch, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch, dir_fd=folder)
        raise
    finally:
        os.close(descriptor)
