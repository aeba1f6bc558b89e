"""Submodules whose files are gone from a checkout, while git keeps their commits in its folder for that checkout.

`git submodule deinit` leaves them there, and so does whoever deletes the submodule's folder or the whole checkout; with the
checkout they would go. Whoever works there can write into that folder too: no link in it is followed, the look is bounded, and
what cannot be looked at counts as work.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from workspaces.vcs.base import VcsError, readable
from workspaces.vcs.git_checkout import admin_folder
from workspaces.vcs.git_command import git
from workspaces.vcs.git_submodules import LOOK_SECONDS, has_commits, move_folder, own_folder

FOLDERS = 2_000  # that are looked through; no repository has so many submodules


def stranded(repository: Path, checkout: Path, besides: Sequence[str] = ()) -> list[str]:
    """The submodules without files that have a commit, a branch or a stash which none of their remotes has, by git's name.

    Those inside such a one, or inside one of the folders `besides`, go with it and are not named. A missing checkout is fine.
    """
    modules = _modules(repository, checkout)
    if modules is None:
        return []
    taken = {own_folder(checkout / nested.rstrip("/")) for nested in besides}
    until = time.monotonic() + LOOK_SECONDS
    return sorted(str(own.relative_to(modules)) for own in _with_work(modules, taken, until))


def take_stranded(repository: Path, checkout: Path, submodule: str, to: Path) -> None:
    """Move the git folder of such a submodule to `to`, in one step: a repository whose commits are all there."""
    modules = _modules(repository, checkout)
    if modules is None:
        return
    own = modules / submodule
    config = own / "config"
    if config.is_file() and not config.is_symlink():
        with contextlib.suppress(VcsError):  # one that cannot be read goes as it is
            git(Path("/"), "config", "--file", str(config), "--unset-all", "core.worktree", ok=(0, 5), discover=True)
    move_folder(own, to)


def _modules(repository: Path, checkout: Path) -> Path | None:
    admin = admin_folder(repository, checkout)
    modules = admin.resolve() / "modules" if admin is not None else None
    return modules if modules is not None and modules.is_dir() and not modules.is_symlink() else None


def _with_work(modules: Path, taken: set[Path | None], until: float) -> Iterator[Path]:
    waiting, looked = [modules], 0
    while waiting:
        folder = waiting.pop()
        looked += 1
        if looked > FOLDERS:
            raise VcsError(
                f"{readable(modules)} has more folders than submodules need, so it cannot be said which hold work. Nothing was "
                "deleted. Look at it, and move away or delete what does not belong there; then try again."
            )
        if folder in taken:
            continue
        is_git_folder = folder != modules and (folder / "objects").is_dir()
        if is_git_folder and _holds_work(folder, until):
            yield folder
            continue
        inside = folder / "modules" if is_git_folder else folder
        if inside.is_dir() and not inside.is_symlink():
            waiting.extend(Path(one.path) for one in os.scandir(inside) if one.is_dir(follow_symlinks=False))


def _holds_work(own: Path, until: float) -> bool:
    try:
        return time.monotonic() > until or has_commits(own, own)
    except (VcsError, OSError):
        return True
