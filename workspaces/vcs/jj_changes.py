"""What differs in a jj workspace: git compares its files with commits of the store, and neither jj nor git's index is touched.

A look at a page must not write operations into a person's log, so jj takes no snapshot for it. Instead a git repository that
exists only meanwhile borrows the store's objects and takes the workspace for its work tree. It has none of the store's
configuration; attributes that would run or rewrite something are switched off, because jj knows no attributes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from workspaces.vcs import git_changes, git_exclude, git_marks
from workspaces.vcs.base import Changes, CheckoutStatus
from workspaces.vcs.git_command import LONG_TIMEOUT, git, line, listed, names
from workspaces.vcs.git_exclude import drop_staged, pattern, place_of, places_of
from workspaces.vcs.git_submodules import ignored_inside, worked_in
from workspaces.vcs.jj_command import quoted, shown
from workspaces.vcs.jj_inspect import (
    STUDIO_BRANCHES,
    Position,
    conflicted_files,
    git_store,
    is_plain,
    position,
    tip,
)
from workspaces.vcs.jj_own import OWN_FOLDER, excluded_paths

INDEX = "index"  # in OWN_FOLDER: when each file was last read, so that it is not read again
NO_CONVERSION = "* -text -eol -ident -filter -working-tree-encoding\n"
EXCLUDED = "\n.jj\n"
SUBMODULE = "160000 "


def changes(checkout: Path, base: str, head: str = "", *, only: str = "", patches: bool = True) -> Changes:
    """Everything in the checkout against `base`, or the range up to `head`; `only` one path. Nothing is touched."""
    if head:
        return git_changes.changes(git_store(checkout), base, head, only=only, patches=patches)
    with compared(checkout) as (env, nested):
        nested += worked_in(checkout, env)
        return git_changes.compare(checkout, ["diff-index", base], env, base, "", nested, only, patches)


def marked_files(checkout: Path, base: str, head: str = "", *, known: Container[str] = ()) -> list[str]:
    """The files to which the checkout, or the range up to `head`, adds a conflict that nobody has resolved, as text."""
    if head:
        return git_marks.marked_files(git_store(checkout), base, head, known=known)
    with compared(checkout) as (env, _):
        return git_marks.marked(checkout, ["diff-index"], [base], env, known)


@contextmanager
def compared(checkout: Path) -> Iterator[tuple[dict[str, str], list[str]]]:
    """The environment of `borrowed` with the untracked files in its index; and what no commit can hold."""
    with borrowed(checkout) as env:
        left_out = _exclude_unstorable(checkout, env)
        nested = git_changes.add_untracked(checkout, env, drop_excluded(checkout, env)) + left_out
        git(checkout, "update-index", "-q", "--refresh", env=env, ok=(0, 1), timeout=LONG_TIMEOUT)
        _keep_index(checkout, env)
        yield env, nested


def drop_excluded(checkout: Path, env: Mapping[str, str]) -> list[str]:
    """Take from the index what the studio put into the workspace and only a snapshot has taken in; the excluded paths."""
    paths = excluded_paths(checkout)
    return drop_staged(checkout, env, paths, position(checkout).parents) if paths else []


@contextmanager
def borrowed(checkout: Path) -> Iterator[dict[str, str]]:
    """The environment in which git sees the checkout: what jj tracks is in its index, and the store's objects are there."""
    commits = git_store(checkout)
    with tempfile.TemporaryDirectory(prefix="studio-view-") as scratch:
        folder = Path(scratch)
        for part in ("objects/info", "refs", "info"):
            (folder / part).mkdir(parents=True)
        (folder / "HEAD").write_text("ref: refs/heads/none\n")
        (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n")
        (folder / "objects" / "info" / "alternates").write_bytes(os.fsencode(commits / "objects") + b"\n")
        (folder / "info" / "attributes").write_text(NO_CONVERSION)
        with contextlib.suppress(OSError):
            shutil.copyfile(commits / "info" / "exclude", folder / "info" / "exclude")
        with (folder / "info" / "exclude").open("a") as excluded:
            excluded.write(EXCLUDED)
        with (folder / "info" / "exclude").open("ab") as own:
            own.writelines(map(pattern, excluded_paths(checkout)))
        env = {"GIT_DIR": str(folder), "GIT_WORK_TREE": str(checkout), "GIT_INDEX_FILE": str(folder / INDEX)}
        with contextlib.suppress(OSError):
            # With its time stamp: git compares it with the files' to see which may have changed in the same instant.
            shutil.copy2(checkout / ".jj" / OWN_FOLDER / INDEX, folder / INDEX)
        _track(checkout, env)
        yield env


def _track(checkout: Path, env: Mapping[str, str]) -> None:
    """Fill the index with what jj tracks; what is known of a file that is the same stays known."""
    at = position(checkout)
    tracked = next((one for one in (at.commit, *at.parents) if is_plain(checkout, one)), at.commit)
    if git(checkout, "read-tree", "-m", tracked, env=env, ok=(0, 128), timeout=LONG_TIMEOUT).code:
        Path(env["GIT_INDEX_FILE"]).unlink(missing_ok=True)  # the kept one was damaged
        git(checkout, "read-tree", tracked, env=env, timeout=LONG_TIMEOUT)
    # jj carries the pointers of submodules along and has no folders for them: their absence is no change.
    staged = names(git(checkout, "ls-files", "--stage", "-z", env=env).stdout)
    if pointers := [row.partition("\t")[2] for row in staged if row.startswith(SUBMODULE)]:
        git(checkout, "update-index", "--skip-worktree", "-z", "--stdin", given=listed(pointers), env=env)


def _keep_index(checkout: Path, env: Mapping[str, str]) -> None:
    """Keep the index for the next time. Losing it costs time only."""
    own = checkout / ".jj" / OWN_FOLDER
    if own.is_symlink() or not own.is_dir():
        return
    with contextlib.suppress(OSError), tempfile.NamedTemporaryFile(dir=own, prefix=INDEX, delete=False) as fresh:
        shutil.copy2(env["GIT_INDEX_FILE"], fresh.name)
        Path(fresh.name).replace(own / INDEX)


def write_tree(checkout: Path) -> str:
    """Store what is in the checkout as a tree, repositories inside it left out; nothing points at it yet."""
    with borrowed(checkout) as env:
        env["GIT_OBJECT_DIRECTORY"] = str(git_store(checkout) / "objects")
        _exclude_unstorable(checkout, env)
        own = drop_excluded(checkout, env)
        others = _others(checkout, env)
        # git refuses to be told of what it ignores anyway, even to leave it out.
        left_out = [*places_of(others, own), *(path.rstrip("/") for path in others if path.endswith("/"))]
        excluded = [f":(top,exclude,literal){path}" for path in left_out]
        options = ("add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul")
        git(checkout, *options, given=listed([":/", *excluded]), env=env, timeout=LONG_TIMEOUT)
        _keep_index(checkout, env)
        return line(checkout, "write-tree", env=env)


def nested_repositories(checkout: Path) -> list[str]:
    """What no commit can hold: folders that are repositories of their own, each ending with a slash, and unstorable names.

    A folder for which jj carries a submodule's pointer along is such a one when somebody has worked in it.
    """
    own = set(excluded_paths(checkout))
    with borrowed(checkout) as env:
        others = [path for path in _others(checkout, env) if not place_of(path, own)]
        unheld = [path for path in others if path.endswith("/") or not _is_storable(path)]
        return [*unheld, *worked_in(checkout, env)]


def loosen(checkout: Path, nested: str) -> None:
    """Nothing: jj keeps no part of a repository inside the checkout elsewhere, and does not miss a submodule's folder."""
    del checkout, nested


def stranded(repository: Path, checkout: Path, besides: Sequence[str] = ()) -> list[str]:
    """None: jj keeps nothing of a submodule."""
    del repository, checkout, besides
    return []


def take_stranded(repository: Path, checkout: Path, submodule: str, to: Path) -> None:
    """Nothing, for there are none."""
    del repository, checkout, submodule, to


def ignored(checkout: Path) -> list[str]:
    """What is ignored in the workspace, which jj decides as git does; jj's own folder is none of it."""
    with borrowed(checkout) as env:
        found = [path for path in git_exclude.ignored(checkout, env) if path != ".jj/"]
        return [*found, *ignored_inside(checkout, env)]


def _others(checkout: Path, env: Mapping[str, str]) -> list[str]:
    return names(git(checkout, "ls-files", "--others", "--exclude-standard", "-z", env=env).stdout)


def _is_storable(path: str) -> bool:
    """jj cannot read a commit that has a name which is not UTF-8."""
    return not any("\udc80" <= letter <= "\udcff" for letter in path)


def _exclude_unstorable(checkout: Path, env: Mapping[str, str]) -> list[str]:
    """Hide the files whose names jj cannot store from git as well; their names."""
    found = [path for path in _others(checkout, env) if not _is_storable(path)]
    patterns = b"".join(
        b"/" + re.sub(rb"[*?\[\\ ]", rb"\\\g<0>", os.fsencode(path)).replace(b"\n", b"?") + b"\n" for path in found
    )
    with Path(env["GIT_DIR"], "info", "exclude").open("ab") as excluded:
        excluded.write(patterns)
    return found


def status(checkout: Path, target: str) -> CheckoutStatus:
    """Where the checkout stands against the bookmark `target`. jj has no index, and tracks every new file."""
    at, commits = position(checkout), git_store(checkout)
    goal = tip(checkout, target)
    counts = b"0 0"
    if goal is not None:
        counts = git(commits, "rev-list", "--left-right", "--count", f"{at.head}...{goal}").stdout
    ahead, behind = (int(count) for count in counts.split())
    conflicted = conflicted_files(checkout) if at.conflicted else []
    changed = [file.path for file in changes(checkout, at.parents[0], patches=False).files]
    return CheckoutStatus(
        head=at.head if at.empty else at.parents[0],
        branch=_branch_at(checkout, at),
        ahead=ahead,
        behind=behind,
        staged=[],
        unstaged=[path for path in changed if path not in conflicted],
        untracked=[],
        conflicted=conflicted,
        operation=("merge" if len(at.parents) > 1 else "rebase") if at.conflicted else "",
    )


def _branch_at(checkout: Path, at: Position) -> str:
    """The studio's bookmark at or right below the working copy; empty when there is none."""
    here = " | ".join((at.commit, *at.parents))
    names = shown(checkout, f"({here}) & bookmarks(glob:{quoted(STUDIO_BRANCHES + '*')})", BOOKMARKS)
    found = [one for one in names if one.startswith(STUDIO_BRANCHES)]
    return found[0] if found else ""


BOOKMARKS = 'local_bookmarks.map(|b| b.name() ++ "\\0").join("")'
