"""Taking over what a person has in a worktree of their own: as one commit that no branch points at, the worktree untouched.

git looks at the files through a copy of the worktree's index, so its own index, HEAD and files stay as they are to the byte.
Objects are added to the repository, as every commit of the studio adds them. Links are stored as links and never followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from studio.kernel.errors import Invalid
from workspaces.vcs.base import readable
from workspaces.vcs.git_changes import scratch_index
from workspaces.vcs.git_checkout import worktrees as checkouts_of
from workspaces.vcs.git_command import LONG_TIMEOUT, authored, commit_of, git, line, listed, names, write_commit
from workspaces.vcs.git_inspect import operation
from workspaces.vcs.merging import Person
from workspaces.vcs.taking import Leaving, Taken, Worktree, leave_nothing

FILES_LIMIT = 50_000
BYTES_LIMIT = 512 * 1024 * 1024
OVERLOOKED_LIMIT = 1_000  # files that are compared although git is told to overlook them
MEGABYTE = 1024 * 1024
LINK = " 120000 "  # as the new mode of a row


def refuse(code: str, sentence: str) -> Invalid:
    """A worktree that cannot be taken over, in words."""
    return Invalid(f"{sentence} Nothing was changed.", code=code, detail={"field": "worktree"})


def worktrees(repository: Path) -> list[Worktree]:
    """The checkouts of the repository that are there, its own first."""
    return [
        Worktree(Path(row["worktree"]), row.get("branch", "").removeprefix("refs/heads/"))
        for row in checkouts_of(repository)
    ]


def take_over(checkout: Path, message: str, author: Person, leaving: Leaving = leave_nothing) -> Taken:
    """What is in the worktree as a commit on top of its own last one; that one itself when nothing else is there."""
    place = readable(checkout)
    if begun := operation(checkout):
        raise refuse(
            "worktree_busy", f"In {place} a {begun} was begun and not ended: end it or abort it, then try again."
        )
    head = commit_of(checkout, "HEAD")
    if head is None:
        raise refuse("worktree_empty", f"{place} has no commit yet: make a first one, then try again.")
    with scratch_index(checkout) as (env, nested):
        placed = leave(checkout, env, [head], leaving(head))
        require_small(checkout, changed_names(checkout, env, head))
        tree = store_tree(checkout, env)
        overlooked = overlooked_files(checkout, env)
    commit = head if tree == line(checkout, "rev-parse", f"{head}^{{tree}}") else ""
    commit = commit or write_commit(checkout, tree, [head], os.fsencode(message) + b"\n", authored(author))
    return replace(described(checkout, checkout, head, commit, nested), placed=placed, overlooked=overlooked)


def changed_names(checkout: Path, env: Mapping[str, str], commit: str) -> list[str]:
    """The files that differ from the commit, the untracked ones that the scratch index knows among them."""
    listing = ("diff-index", "--name-only", "--no-renames", "-z", commit)
    return list(dict.fromkeys(names(git(checkout, *listing, env=env, timeout=LONG_TIMEOUT).stdout)))


def leave(
    checkout: Path, env: Mapping[str, str], commits: Sequence[str], left: Callable[[str], bool]
) -> tuple[str, ...]:
    """Take from the scratch index the files that `left` says of and none of the commits has, staged or not; these files."""
    found = [path for path in changed_names(checkout, env, commits[0]) if left(path)]
    for commit in commits if found else ():
        listing = ("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
        known = set(names(git(checkout, *listing, env=env).stdout))
        found = [path for path in found if path not in known]
    if found:
        git(checkout, "update-index", "--force-remove", "-z", "--stdin", given=listed(found), env=env)
    return tuple(found)


def store_tree(checkout: Path, env: Mapping[str, str]) -> str:
    """Store what the scratch index knows as a tree, as it is in the checkout now. What it does not know is not looked for."""
    git(checkout, "add", "--update", "--", ":/", env=env, timeout=LONG_TIMEOUT)
    return line(checkout, "write-tree", env=env)


def overlooked_files(checkout: Path, env: Mapping[str, str]) -> tuple[str, ...]:
    """The files that differ from the scratch index and that git was told to overlook; it is told to look at them again.

    Only files that are there, and no more than a limit: of a sparse checkout most are not.
    """
    rows = names(git(checkout, "ls-files", "-v", "-z", env=env).stdout)
    told = (row[2:] for row in rows if row[0] == "S" or row[0].islower())
    flagged = list(islice((path for path in told if os.path.lexists(checkout / path)), OVERLOOKED_LIMIT))
    if not flagged:
        return ()
    for option in ("--no-assume-unchanged", "--no-skip-worktree"):
        git(checkout, "update-index", option, "-z", "--stdin", given=listed(flagged), env=env)
    git(checkout, "update-index", "-q", "--refresh", env=env, ok=(0, 1), timeout=LONG_TIMEOUT)
    differing = set(names(git(checkout, "diff-files", "--name-only", "-z", env=env).stdout))
    return tuple(path for path in flagged if path in differing)


def require_small(checkout: Path, changed: list[str]) -> None:
    """Raise Invalid when more is not committed than a commit should be made of."""
    sizes = {path: _size(checkout / path) for path in changed}
    total = sum(sizes.values())
    if len(sizes) <= FILES_LIMIT and total <= BYTES_LIMIT:
        return
    largest = max(sizes, key=lambda path: sizes[path])
    raise refuse(
        "worktree_huge",
        f"{readable(checkout)} holds {len(sizes)} files that are not committed, {total // MEGABYTE} MB in all (the largest is "
        f"{readable(largest)}); at most {FILES_LIMIT} files and {BYTES_LIMIT // MEGABYTE} MB are taken over. Commit what "
        "belongs to the work and ignore the rest (.gitignore), then try again.",
    )


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def described(store: Path, checkout: Path, head: str, commit: str, left_out: Iterable[str]) -> Taken:
    """What was taken, with what a person should know of it."""
    rows = names(git(store, "diff-tree", "-r", "-z", "--raw", "--no-renames", head, commit).stdout)
    changed = dict(zip(rows[1::2], rows[::2], strict=True))
    links = [path for path, facts in changed.items() if facts.startswith(LINK, 7)]
    outside = [path for path in links if _leads_out(checkout, path)]
    return Taken(commit, len(changed), tuple(left_out), tuple(outside))


def _leads_out(checkout: Path, path: str) -> bool:
    """Whether a link, as it is written, points outside the worktree."""
    try:
        target = (checkout / path).readlink()
    except OSError:
        return False
    return not Path(os.path.normpath((checkout / path).parent / target)).is_relative_to(checkout)


def put_branch(repository: Path, branch: str, commit: str) -> None:
    """Make `branch`, which there is none of, at `commit`: from then on nothing cleans the commit up."""
    git(repository, "update-ref", "-m", "opencode-studio: taken over", f"refs/heads/{branch}", commit, "")
