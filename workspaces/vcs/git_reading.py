"""Reading of git: trees and files of commits, `git grep`, and the change as one patch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

from workspaces.process import ProcessError, piped
from workspaces.vcs.git_changes import scratch_index
from workspaces.vcs.git_command import ENVIRONMENT, FLAGS, LONG_TIMEOUT, UNATTENDED, GitError, git, name, names
from workspaces.vcs.reading import Entry, Hit

TARGET_BYTES = 4_096  # of a link
HIT_BYTES = 1024 * 1024  # of one hit: a longer line is passed over
LITERAL = {"GIT_LITERAL_PATHSPECS": "1"}
PATCH = (
    "-p", "--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv",
    "--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=dirty",
)  # fmt: skip


class GitReading:
    """The `Reading` of git repositories; see workspaces/vcs/reading.py for what each method promises.

    A system that keeps its commits in a git repository says where that is, and how git sees the files of a checkout.
    """

    def store(self, place: Path) -> Path:
        """Where git finds the commits of a repository or checkout."""
        return place

    def seen(self, checkout: Path) -> AbstractContextManager[Mapping[str, str]]:
        """The environment in which git sees what is in a checkout."""
        del checkout
        return nullcontext({})

    @contextmanager
    def compared(self, checkout: Path) -> Iterator[Mapping[str, str]]:
        """The same with an index that has the untracked files too, up to date."""
        with scratch_index(checkout) as (env, _):
            yield env

    def files(self, checkout: Path, commit: str) -> list[str]:
        """Every file of `commit`, or of the checkout."""
        if commit:
            listing = ("ls-tree", "-r", "-z", "--name-only", commit)
            return names(git(self.store(checkout), *listing, timeout=LONG_TIMEOUT).stdout)
        options = ("--cached", "--others", "--exclude-standard", "--deduplicate", "-z")
        with self.seen(checkout) as env:
            return names(git(checkout, "ls-files", *options, env=env, timeout=LONG_TIMEOUT).stdout)

    def folder(self, repository: Path, commit: str, path: str) -> list[Entry] | None:
        """What stands in a folder of `commit`."""
        done = git(self.store(repository), "ls-tree", "-z", "-l", f"{commit}:{path}", ok=(0, 128))
        if done.code:
            return None
        prefix = f"{path}/" if path else ""
        return [_entry(row, prefix) for row in done.stdout.split(b"\0") if row]

    def entry(self, repository: Path, commit: str, path: str) -> Entry | None:
        """What stands at `path` in `commit`."""
        done = git(self.store(repository), "ls-tree", "-z", "-l", commit, "--", path, env=LITERAL, ok=(0, 128))
        rows = [row for row in done.stdout.split(b"\0") if row] if done.code == 0 else []
        found = _entry(rows[0], "") if rows else None
        if found is not None and found.kind == "link":
            with self.content(repository, commit, path) as pieces:
                return Entry(path, "link", target=name(b"".join(pieces)[:TARGET_BYTES]))
        return found

    @contextmanager
    def content(self, repository: Path, commit: str, path: str) -> Iterator[Iterator[bytes]]:
        """The bytes of a file of `commit`."""
        where = self.store(repository)
        with _piped(where, "cat-file", "blob", f"{commit}:{path}", timeout=LONG_TIMEOUT) as pieces:
            yield pieces

    @contextmanager
    def grep(self, checkout: Path, commit: str, words: str, *, regex: bool, seconds: float) -> Iterator[Iterator[Hit]]:
        """The lines that have `words`."""
        how = ["-E" if regex else "-F", "-I", "-n", "-z", "--full-name", "--no-color"]
        if words == words.lower():
            how.append("-i")
        if commit:
            asked = ("grep", *how, "-e", words, commit, "--")
            with _piped(self.store(checkout), *asked, timeout=seconds, ok=(0, 1)) as pieces:
                yield _hits(pieces, f"{commit}:")
            return
        with self.seen(checkout) as env:
            asked = ("grep", *how, "--untracked", "-e", words, "--")
            with _piped(checkout, *asked, timeout=seconds, env=env, ok=(0, 1)) as pieces:
                yield _hits(pieces, "")

    def write_patch(self, checkout: Path, base: str, head: str, file: IO[bytes], limit: int) -> bool:
        """Write everything against `base` as one patch."""
        if head:
            return _written(self.store(checkout), {}, ("diff-tree", "-r", *PATCH, base, head), file, limit)
        with self.compared(checkout) as env:
            return _written(checkout, env, ("diff-index", *PATCH, base), file, limit)


def _entry(row: bytes, prefix: str) -> Entry:
    """A row of `ls-tree -l`: mode, type, id and size, then a tab and the name."""
    facts, _, raw = row.partition(b"\t")
    mode, kind, _, size = facts.split()
    path = prefix + name(raw)
    if kind == b"tree":
        return Entry(path, "folder")
    if kind == b"commit":
        return Entry(path, "submodule")
    if mode == b"120000":
        return Entry(path, "link")
    return Entry(path, "file", size=int(size), executable=mode == b"100755")


@contextmanager
def _piped(
    cwd: Path, *arguments: str, timeout: float, env: Mapping[str, str] | None = None, ok: tuple[int, ...] = (0,)
) -> Iterator[Iterator[bytes]]:
    """The output of a git command as it comes. The error of a command that was read to its end is raised then."""
    environment = {**ENVIRONMENT, "GIT_CEILING_DIRECTORIES": str(cwd.parent), **(env or {})}
    argv = [b"git", *(os.fsencode(part) for part in (*FLAGS, *UNATTENDED, *arguments))]
    try:
        with piped(argv, cwd=cwd, timeout=timeout, env=environment, ok=ok) as pieces:
            yield pieces
    except ProcessError as error:
        raise GitError(error.message, transient=error.transient) from error


def _written(cwd: Path, env: Mapping[str, str], arguments: tuple[str, ...], file: IO[bytes], limit: int) -> bool:
    room = limit
    with _piped(cwd, *arguments, env=env, timeout=LONG_TIMEOUT) as pieces:
        for piece in pieces:
            room -= len(piece)
            if room < 0:
                return False
            file.write(piece)
    return True


def _hits(pieces: Iterator[bytes], prefix: str) -> Iterator[Hit]:
    """What `git grep -n -z` prints: the path, NUL, the number, NUL, the line."""
    rest = b""
    for piece in pieces:
        rest += piece
        while True:
            path, first, behind = rest.partition(b"\0")
            number, second, behind = behind.partition(b"\0")
            text, end, behind = behind.partition(b"\n")
            if not (first and second and end):
                break
            yield Hit(name(path).removeprefix(prefix), int(number), text)
            rest = behind
        if len(rest) > HIT_BYTES:
            return
