"""What the studio puts into a jj workspace and no snapshot may take in: copied files, links, generated ones.

The store's `info/exclude` is shared with the person's own workspace, and a `.gitignore` may say `!.env`. So the studio's own
commands say by a fileset which new files jj tracks, and the workspace's own configuration says it to whoever runs jj there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from workspaces.vcs.git_command import git, names
from workspaces.vcs.git_exclude import file_at as git_file_at
from workspaces.vcs.git_exclude import places_of
from workspaces.vcs.jj_command import TRACKED, jj
from workspaces.vcs.jj_inspect import Position, git_store, position
from workspaces.vcs.jj_own import auto_tracked, below, excluded_paths, keep_excluded


def exclude(checkout: Path, paths: Sequence[str]) -> list[str]:
    """Keep exactly `paths` out of every commit, status and diff of this checkout; those that are committed, which cannot be.

    What only a snapshot has taken in counts as not tracked: nobody asked for it, and the next look takes it out again.
    """
    tracked = committed(checkout, position(checkout).parents, paths)
    keep_excluded(checkout, [path for path in paths if path not in tracked])
    jj(checkout, "config", "set", "--workspace", TRACKED, json.dumps(auto_tracked(checkout)))
    return tracked


def forget_exclude(checkout: Path) -> None:
    """Take the setting out of the workspace's configuration, which lies in the person's configuration folder."""
    if excluded_paths(checkout):
        jj(checkout, "config", "unset", "--workspace", TRACKED, ok=(0, 1))


def committed(checkout: Path, commits: Iterable[str], paths: Sequence[str]) -> list[str]:
    """Those of `paths` that one of the commits has, or has something inside of."""
    found: list[str] = []
    for commit in commits if paths else ():
        options = ("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit, "--", *paths)
        found += names(git(git_store(checkout), *options, env={"GIT_LITERAL_PATHSPECS": "1"}).stdout)
    return places_of(found, paths)


def untrack(checkout: Path, at: Position) -> bool:
    """Take out of the working-copy commit what is excluded and in no commit below; the files stay. Whether there was any."""
    paths = excluded_paths(checkout)
    known = committed(checkout, at.parents, paths)
    taken = committed(checkout, [at.commit], [path for path in paths if path not in known])
    if taken:
        jj(checkout, "file", "untrack", *below(taken), files=True)
    return bool(taken)


def file_at(repository: Path, commit: str, path: str, *, limit: int) -> bytes | None:
    """At most `limit` bytes of a plain file as it is in `commit`; None when there is none. Links are not followed."""
    return git_file_at(git_store(repository), commit, path, limit=limit)
