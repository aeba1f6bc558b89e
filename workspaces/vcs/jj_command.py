"""Calling jj: fixed flags, a scrubbed environment, bounded time, and never a look at a person's files.

A repository's configuration (which jj keeps in the person's configuration folder, or moves there from an older repository) is
read by every command and cannot be switched off. What of it names a program is overridden here, one by one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from studio.kernel.text import clean, cut
from workspaces.process import DEFAULT_LIMIT, ProcessError, Result, run
from workspaces.remedies import failed, remedy_for
from workspaces.vcs.base import VcsError
from workspaces.vcs.git_command import ENVIRONMENT as GIT_ENVIRONMENT
from workspaces.vcs.git_command import name
from workspaces.vcs.jj_own import auto_tracked
from workspaces.vcs.merging import Person

OLDEST = (0, 40)
INSTALL = "Install jj 0.40 or newer (the package jujutsu of newer distributions), so that it is on the studio's PATH."
TIMEOUT = 60.0  # seconds; longer where the size of the repository counts
LONG_TIMEOUT = 200.0
SAID_LIMIT = 600  # characters of jj's own words in an error
STUDIO = Person("OpenCode Studio", "agent@opencode-studio.invalid")

SETTINGS: Mapping[str, object] = {
    # What would run a program.
    "fsmonitor.backend": "none",
    "git.executable-path": "git",
    "signing.behavior": "drop",
    "signing.backend": "none",
    "ui.paginate": "never",
    "ui.pager": "true",
    "ui.editor": "true",
    "ui.diff-editor": ":builtin",
    "ui.merge-editor": ":builtin",
    "ui.diff-formatter": ":git",
    "ui.show-cryptographic-signatures": False,
    # What would make the same commands give something else.
    "git.colocate": False,
    "git.abandon-unreachable-commits": True,
    'revset-aliases."immutable_heads()"': "none()",  # the studio rewrites its own commits only
    "merge.hunk-level": "line",
    "merge.same-change": "accept",
    "operation.username": "opencode-studio",
    "snapshot.max-new-file-size": 0,  # no limit: what an agent made is never left out
    "snapshot.auto-update-stale": False,
    "ui.conflict-marker-style": "git",
    "working-copy.eol-conversion": "none",
    "working-copy.exec-bit-change": "auto",
}
TRACKED = "snapshot.auto-track"
ENVIRONMENT = {**GIT_ENVIRONMENT, "JJ_CONFIG": os.devnull, "JJ_EDITOR": "true", "NO_COLOR": "1"}
WAITED = (
    "It was ended, and nothing was lost. Another jj command may hold the repository, and be stuck (pgrep -af jj lists them): "
    "wait for it or end it, then try again."
)
LOCKED = re.compile(r"\.lock': File exists|[Ff]ailed to lock|Concurrent")


class JjError(VcsError):
    """jj failed; `said` are its own words."""

    code = "jj_failed"

    def __init__(self, message: str, *, said: str = "", transient: bool = False) -> None:
        remedy = remedy_for(said)
        passes = LOCKED.search(said) is not None if remedy is None else remedy.passes
        super().__init__(message, transient=transient or passes)
        self.said = said


def jj(
    cwd: Path,
    *arguments: str,
    ok: Iterable[int] = (0,),
    files: bool = False,
    person: Person = STUDIO,
    own_config: bool = True,
    timeout: float = TIMEOUT,
    max_output: int = DEFAULT_LIMIT,
) -> Result:
    """Run `jj ARGUMENTS` in the workspace whose root is `cwd`. Raises JjError.

    Only with `files` are that workspace's files looked at or changed: never for a person's. Without `own_config` the
    person's configuration counts too, for what only they can say.
    """
    _require_usable()
    settings = {
        **SETTINGS,
        TRACKED: auto_tracked(cwd) if files else "none()",
        "user.name": clean(person.name),
        "user.email": clean(person.email),
    }
    if not own_config:
        del settings["user.name"], settings["user.email"]
    flags = [part for key, value in settings.items() for part in ("--config", f"{key}={json.dumps(value)}")]
    # The repository is named, so that jj does not look for one in the folders above.
    place = ["--repository", str(cwd), "--no-pager", "--color=never"]
    looking = [] if files else ["--ignore-working-copy"]
    argv = ["jj", *place, *looking, *flags, *arguments]
    env = dict(ENVIRONMENT)
    if not own_config:
        del env["JJ_CONFIG"]
    try:
        done = run([os.fsencode(part) for part in argv], cwd=cwd, timeout=timeout, env=env, max_output=max_output)
    except ProcessError as error:
        if not error.transient:
            _look_again()
        raise JjError(
            f"{error.message} {WAITED}" if error.transient else error.message, transient=error.transient
        ) from error
    if done.truncated:
        raise JjError(f"jj {arguments[0]} wrote more than {max_output} bytes.")
    if done.code not in ok:
        _look_again()
        said = cut(_said(done.stderr), SAID_LIMIT)
        raise JjError(failed(f"jj {arguments[0]}", said or f"exit status {done.code}"), said=said)
    return done


def _said(raw: bytes) -> str:
    """jj's words without its warnings and hints, which tell a person at a terminal what to configure."""
    text = clean(raw.decode("utf-8", "replace")).strip()
    rows = text.splitlines()
    first = next((number for number, row in enumerate(rows) if row.startswith(("Error", "Internal error"))), 0)
    return "\n".join(row for row in rows[first:] if not row.startswith("Hint:"))


def text(cwd: Path, *arguments: str, own_config: bool = True) -> str:
    """What a jj command prints, any byte kept."""
    return name(jj(cwd, *arguments, own_config=own_config).stdout)


def shown(cwd: Path, revset: str, template: str, *, files: bool = False, own_config: bool = True) -> list[str]:
    """The fields of all commits of `revset`, one after the other; `template` ends each field with a NUL."""
    done = jj(cwd, "log", "--no-graph", "-r", revset, "-T", template, files=files, own_config=own_config)
    return name(done.stdout).split("\0")[:-1]


def quoted(value: str) -> str:
    """A string inside a revset or a template."""
    return json.dumps(value, ensure_ascii=False)


def bookmark(branch: str) -> str:
    """The revset of one bookmark, whatever is in its name; nothing when there is none."""
    return f"bookmarks(exact:{quoted(branch)})"


def any_of(revsets: Sequence[str]) -> str:
    """The union of revsets."""
    return " | ".join(f"({one})" for one in revsets) or "none()"


def version() -> tuple[int, int]:
    """jj's version; zeros when there is no jj on PATH."""
    try:
        done = run(["jj", "--version"], cwd="/", timeout=TIMEOUT, env=ENVIRONMENT)
    except ProcessError:
        return (0, 0)
    found = re.search(rb"(\d+)\.(\d+)", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def unusable(found: tuple[int, int]) -> str:
    """What is wrong with a jj of this version, and what to do about it."""
    has = f"The jj on PATH is {'.'.join(map(str, found))}." if any(found) else "There is no jj on PATH."
    return f"{has} {INSTALL}"


@cache
def _require_usable() -> None:
    """Raise JjError unless there is a jj that is new enough: another one might not read what is there. Only a yes is kept."""
    found = version()
    if found < OLDEST:
        raise JjError(f"{unusable(found)} Nothing was changed.", transient=True)


def _look_again() -> None:
    """After a failure: raise JjError when jj was replaced or removed since it was looked at."""
    _require_usable.cache_clear()
    _require_usable()
