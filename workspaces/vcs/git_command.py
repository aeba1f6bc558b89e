"""Calling git: fixed flags, a scrubbed environment, bounded time, names as bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from studio.kernel.text import clean, cut
from workspaces.process import DEFAULT_LIMIT, ProcessError, Result, run
from workspaces.remedies import failed, remedy_for
from workspaces.vcs.base import VcsError
from workspaces.vcs.merging import Person

OLDEST = (2, 38)  # the first with `merge-tree --write-tree`
BRANCH_LIMIT = 1_000  # characters; file systems stop earlier
EXPRESSION = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|@\{|\.\.")  # in no name: git-check-ref-format(1)
TIMEOUT = 60.0  # seconds; longer where the size of the repository counts
LONG_TIMEOUT = 200.0
SAID_LIMIT = 600  # characters of git's own words in an error

# Person and repository configure git for their own use; what the studio calls must not run hooks, sign, ask or page.
UNATTENDED = ("-c", f"core.hooksPath={os.devnull}", "-c", "commit.gpgSign=false")
FLAGS = (
    "-c", "core.quotePath=false",
    "-c", "core.fsmonitor=false",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "submodule.recurse=false",
    "-c", "i18n.commitEncoding=UTF-8",
    "-c", "advice.addEmbeddedRepo=false",
)  # fmt: skip

# What signs and what connects finds its agent by these; nothing else of git's gets to see them.
PERSONAL = ("SSH_AUTH_SOCK", "GNUPGHOME")

# GIT_* of the caller never arrives here (process.INHERITED). Optional locks are off: reading must not write to an index.
ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    "GIT_EDITOR": "true",
    "GIT_OPTIONAL_LOCKS": "0",
}

LOCKED = re.compile(r"\.lock': File exists|cannot lock ref")


class GitError(VcsError):
    """git failed; `said` are its own words."""

    code = "git_failed"

    def __init__(self, message: str, *, said: str = "", transient: bool = False) -> None:
        remedy = remedy_for(said)
        passes = LOCKED.search(said) is not None if remedy is None else remedy.passes
        super().__init__(message, transient=transient or passes)
        self.said = said


def git(
    cwd: Path,
    *arguments: str,
    ok: Iterable[int] = (0,),
    given: bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT,
    max_output: int = DEFAULT_LIMIT,
    stop_at_limit: bool = False,
    discover: bool = False,
    as_configured: bool = False,
) -> Result:
    """Run `git ARGUMENTS` in `cwd`, which must be the root of a checkout unless `discover`. Raises GitError.

    Output that does not fit is an error, except with `stop_at_limit`. `as_configured` leaves the person's hooks and signing
    on, and lets git find the person's agents for keys.
    """
    environment = {**ENVIRONMENT, **(env or {})}
    if as_configured:
        environment |= personal()
    if not discover:
        # A checkout whose .git has vanished must not be taken for a part of a repository above it.
        environment["GIT_CEILING_DIRECTORIES"] = str(cwd.parent)
    argv = [b"git", *(os.fsencode(part) for part in (*FLAGS, *(() if as_configured else UNATTENDED), *arguments))]
    try:
        done = run(
            argv,
            cwd=cwd,
            timeout=timeout,
            input=given,
            env=environment,
            max_output=max_output,
            stop_at_limit=stop_at_limit,
        )
    except ProcessError as error:
        more = " It was ended, and nothing was lost; try again." if error.transient else ""
        raise GitError(f"{error.message}{more}", transient=error.transient) from error
    if done.truncated and not stop_at_limit:
        raise GitError(f"git {arguments[0]} wrote more than {max_output} bytes.")
    if done.code not in ok and not (done.truncated and stop_at_limit):
        said = cut(clean(done.stderr.decode("utf-8", "replace")).strip(), SAID_LIMIT)
        raise GitError(failed(f"git {arguments[0]}", said or f"exit status {done.code}"), said=said)
    return done


def personal() -> dict[str, str]:
    """The variables by which git's helpers find the person's agents for keys."""
    return {name: os.environ[name] for name in PERSONAL if name in os.environ}


def configured(settings: Iterable[tuple[str, str]]) -> dict[str, str]:
    """git configuration as environment variables, which unlike arguments only the process's owner can read."""
    pairs = list(settings)
    keys = {f"GIT_CONFIG_KEY_{index}": key for index, (key, _) in enumerate(pairs)}
    values = {f"GIT_CONFIG_VALUE_{index}": value for index, (_, value) in enumerate(pairs)}
    return {"GIT_CONFIG_COUNT": str(len(pairs)), **keys, **values}


def authored(author: Person, committer: Person | None = None, *, date: str = "") -> dict[str, str]:
    """The variables that say who makes a commit; without `committer` the author. `date` as git reads it, empty: now."""
    people = {"AUTHOR": author, "COMMITTER": committer or author}
    said = {f"GIT_{role}_DATE": date for role in people if date}
    for role, person in people.items():
        said |= {f"GIT_{role}_NAME": person.name, f"GIT_{role}_EMAIL": person.email}
    return said


def write_commit(store: Path, tree: str, parents: Iterable[str], message: bytes, people: Mapping[str, str]) -> str:
    """A commit that no branch points at, neither signed nor seen by a hook; its id. `people` as `authored` gives them."""
    flags = [part for parent in parents for part in ("-p", parent)]
    return name(git(store, "commit-tree", tree, *flags, "-F", "-", given=message, env=people).stdout.strip())


def line(cwd: Path, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """The one line that a git command prints, any byte kept."""
    return name(git(cwd, *arguments, env=env).stdout.removesuffix(b"\n"))


def name(raw: bytes) -> str:
    """A file's or branch's name as text that can be turned back into the same bytes."""
    return raw.decode("utf-8", "surrogateescape")


def names(raw: bytes) -> list[str]:
    """The names of a list that ends each with NUL."""
    return [name(one) for one in raw.split(b"\0") if one]


def listed(paths: Iterable[str]) -> bytes:
    """The reverse of `names`."""
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


def commit_of(cwd: Path, revision: str) -> str | None:
    """The commit that `revision` names, or None."""
    done = git(cwd, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}", ok=(0, 1, 128))
    return name(done.stdout.strip()) if done.code == 0 else None


def is_branch_name(branch: str) -> bool:
    """Whether a branch could have the name at all: one that no command line takes belongs to none."""
    return 0 < len(branch) <= BRANCH_LIMIT and "\0" not in branch


def branch_commit(cwd: Path, branch: str) -> str | None:
    """The commit that the local branch points at and that is there, or None. `main~1` is no branch but an expression."""
    plain = is_branch_name(branch) and not EXPRESSION.search(branch)
    return commit_of(cwd, f"refs/heads/{branch}") if plain else None


def git_folder(checkout: Path) -> Path:
    """The folder with the checkout's own state: HEAD, index, begun operations.

    Looked up as git does it, because a process takes longer than the look; git is asked where that finds nothing.
    """
    place = checkout / ".git"
    try:
        if not place.is_dir():
            pointer = place.read_bytes()[:4096]
            place = Path(checkout, name(pointer.strip()).removeprefix("gitdir: "))
        if (place / "HEAD").is_file():
            return place.resolve()
    except (OSError, ValueError):
        pass
    return Path(line(checkout, "rev-parse", "--absolute-git-dir"))


@cache
def version() -> tuple[int, int]:
    """git's version."""
    said = git(Path("/"), "version", discover=True).stdout.decode()
    found = re.search(r"(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
