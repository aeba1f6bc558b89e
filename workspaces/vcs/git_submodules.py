"""Submodules inside a checkout: their files are in no commit of it, and git keeps their commits in its folder for the checkout.

The studio makes checkouts without them. Whoever works there may fetch them (`git submodule update --init`) and work in them; what
they have that no remote has would go with the checkout, so it is found here and made fit to be moved away. An agent may have
written their configuration: nothing here reads it where it could name a program or a connection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from workspaces.vcs.base import VcsError
from workspaces.vcs.deleting import delete_tree
from workspaces.vcs.git_command import git, git_folder, line, listed, name, names
from workspaces.vcs.git_exclude import ignored

POINTER = "160000 "
DEPTH = 5  # submodules inside submodules; below that all count as worked in
INSIDE = ".git.studio"  # in a submodule's folder: its git folder, until it takes the place of the link to it
LOOK_SECONDS = 20.0  # at all of them; those that were not looked at by then count as worked in
LINK_LIMIT = 4_096  # bytes
SHALLOW_LIMIT = 64 * 1024  # bytes, of commits where shallow ones end


def worked_in(
    checkout: Path, env: Mapping[str, str] | None = None, depth: int = DEPTH, until: float | None = None
) -> list[str]:
    """The submodules that hold something which none of their remotes has, each ending with a slash.

    Uncommitted, untracked and committed work counts, and so do files where no submodule was fetched. Ignored files do not.
    """
    until = until or time.monotonic() + LOOK_SECONDS
    return [f"{path}/" for path in _pointers(checkout, env) if _holds_work(checkout / path, depth, until)]


def ignored_inside(checkout: Path, env: Mapping[str, str] | None = None, depth: int = DEPTH) -> list[str]:
    """What is ignored in the other submodules, as `ignored` names it."""
    found: list[str] = []
    until = time.monotonic() + LOOK_SECONDS
    for path in _pointers(checkout, env):
        place = checkout / path
        own = own_folder(place)
        if own is None or not depth or _holds_work(place, depth, until):
            continue
        with _borrowed(place, own) as inner:
            names_inside = [*ignored(place, inner), *ignored_inside(place, inner, depth - 1)]
        found += [f"{path}/{one}" for one in names_inside]
    return found


def may_have(checkout: Path) -> bool:
    """Whether a look for submodules can find any that were meant as such. Cheap: no process."""
    return (checkout / ".gitmodules").exists() or (git_folder(checkout) / "modules").is_dir()


def loosen(checkout: Path, nested: str) -> None:
    """Bring the git folder of a repository inside the checkout into its own folder, so that it is whole wherever that goes.

    Only a git folder that goes with the checkout is moved. From then on its absence is no change of the checkout. Killed
    half-way, all of it is in the folder already; again it is finished.
    """
    path = nested.rstrip("/")
    # 128: it is untracked.
    git(checkout, "update-index", "--skip-worktree", "-z", "--stdin", given=listed([path]), ok=(0, 128))
    _bring_in(checkout / path, (git_folder(checkout) / "modules").resolve(), DEPTH)


def _pointers(checkout: Path, env: Mapping[str, str] | None) -> list[str]:
    """The folders of submodules in the index, whether they were fetched or not."""
    staged = names(git(checkout, "ls-files", "--stage", "-z", env=env).stdout)
    paths = dict.fromkeys(row.partition("\t")[2] for row in staged if row.startswith(POINTER))
    # Not below a link that somebody put in the place of a folder above.
    root = os.path.realpath(checkout)
    real = (path for path in paths if os.path.realpath(checkout / path) == str(Path(root, path)))
    return [path for path in real if (checkout / path).is_dir()]


def _holds_work(place: Path, depth: int, until: float) -> bool:
    """What cannot be looked at counts as work: it is kept."""
    try:
        if not any(place.iterdir()):
            return False  # it was not fetched
        own = own_folder(place)
        if own is None or not depth or time.monotonic() > until or has_commits(place, own):
            return True
        with _borrowed(place, own) as env:
            asked = ("status", "--porcelain", "-z", "--untracked-files=all", "--ignore-submodules=dirty")
            return bool(git(place, *asked, env=env).stdout or worked_in(place, env, depth - 1, until))
    except (VcsError, OSError):
        return True


def own_folder(place: Path) -> Path | None:
    """The submodule's git folder; None where there is none that can be used."""
    link = place / ".git"
    if link.is_symlink():
        return None
    with contextlib.suppress(OSError, ValueError):
        if link.is_file():
            link = Path(place, name(_beginning(link, LINK_LIMIT).strip()).removeprefix("gitdir: "))
        if (link / "HEAD").is_file():
            return link.resolve()
    return None


def has_commits(place: Path, own: Path) -> bool:
    """Whether HEAD, a branch or the stash has a commit that no remote is known to have. Where a shallow one ends, it was fetched."""
    fetched: list[str] = []
    if (own / "shallow").is_file():
        fetched = [name(one) for one in _beginning(own / "shallow", SHALLOW_LIMIT).split() if one.isalnum()]
    mine = ("rev-list", "--max-count=1", "--exclude=refs/tags/*", "--all", "--not", "--remotes", *fetched)
    return bool(git(place, *mine, env=_seen(place, own)).stdout)


def _beginning(file: Path, limit: int) -> bytes:
    with file.open("rb") as handle:
        return handle.read(limit)


def _seen(place: Path, own: Path) -> dict[str, str]:
    return {"GIT_ALLOW_PROTOCOL": "none", "GIT_DIR": str(own), "GIT_WORK_TREE": str(place)}


@contextmanager
def _borrowed(place: Path, own: Path) -> Iterator[dict[str, str]]:
    """The environment in which git sees the submodule's files, index and objects, and nothing of its configuration."""
    head = line(place, "rev-parse", "--verify", "HEAD", env=_seen(place, own))
    with tempfile.TemporaryDirectory(prefix="studio-submodule-") as scratch:
        folder = Path(scratch)
        for part in ("objects/info", "refs", "info"):
            (folder / part).mkdir(parents=True)
        (folder / "HEAD").write_text(f"{head}\n")
        (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tbare = false\n")
        (folder / "objects" / "info" / "alternates").write_bytes(os.fsencode(own / "objects") + b"\n")
        # With its time stamp: git compares it with the files' to see which may have changed in the same instant.
        shutil.copy2(own / "index", folder / "index")
        yield {**_seen(place, folder), "GIT_INDEX_FILE": str(folder / "index")}


def _bring_in(place: Path, modules: Path, depth: int) -> None:
    own, inner = own_folder(place), list[str]()
    if own is not None and depth:
        with contextlib.suppress(VcsError, OSError), _borrowed(place, own) as env:
            inner = _pointers(place, env)
    for path in inner:
        _bring_in(place / path, modules, depth - 1)
    link, inside = place / ".git", place / INSIDE
    if own is not None and link.is_file() and modules in own.parents and not inside.exists():
        config = ("--file", str(own / "config"), "--unset-all", "core.worktree")
        git(place.parent, "config", *config, ok=(0, 5), discover=True)
        move_folder(own, inside)
    if (inside / "HEAD").is_file() and not link.is_dir():
        link.unlink(missing_ok=True)
        inside.rename(link)


def move_folder(folder: Path, to: Path) -> None:
    """Move a folder in one step; from another disk it is copied, and what is left there goes with the checkout."""
    try:
        folder.rename(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = to.with_name(f"{to.name}.part")
        delete_tree(part)
        shutil.copytree(folder, part, symlinks=True)
        part.rename(to)
