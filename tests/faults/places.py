"""Branches, checkouts and folders that are not where, or not what, one expects."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from tests.faults.catalogue import fault
from tests.faults.scene import Scene
from tests.repositories import git, make_repository
from workspaces.models import Workspace
from workspaces.services import (
    ensure_workspace,
    look_at,
    relocate_project,
    remove_workspace,
    repair_workspace,
    run_merge,
)


@fault("an unborn branch", fast=True)
def unborn(scene: Scene) -> str:
    empty = scene.folder / "empty"
    empty.mkdir()
    git(empty, "init", "-q", "-b", "trunk")
    scene.refused(lambda: scene.register(empty))
    return "The registration is refused; after a first commit it works."


@fault("a detached HEAD", fast=True)
def detached(scene: Scene) -> str:
    git(scene.repository, "checkout", "-q", "--detach")
    scene.watch()
    scene.refused(scene.register)
    git(scene.repository, "checkout", "-q", "trunk")
    scene._person = {}
    project = scene.register()
    git(scene.repository, "checkout", "-q", "--detach")
    scene.begin()
    scene.watch()
    before = scene._person.pop("refs/heads/trunk")
    scene.merged()
    scene.require(git(scene.repository, "rev-parse", "trunk").strip() != before, "the branch did not move")
    now = git(scene.repository, "symbolic-ref", "-q", "HEAD") if (scene.repository / "x").exists() else ""
    scene.require(now == "" and project.default_branch == "trunk", "HEAD was attached")
    scene._person["refs/heads/trunk"] = git(scene.repository, "rev-parse", "trunk").strip()
    return "The registration is refused; detached later, the branch is merged and the person's checkout stays as it is."


@fault("the target branch checked out in three worktrees, one of them dirty", fast=True)
def three_checkouts(scene: Scene) -> str:
    others = [scene.folder / f"other-{number}" for number in (1, 2)]
    for other in others:
        git(scene.repository, "worktree", "add", "-q", "--force", str(other), "trunk")
    (others[1] / "app.py").write_text("a person's edit\n")
    scene.begin()
    scene.watch()
    attempt = scene.merge()
    scene.require(attempt.state == "refused" and str(others[1]) in attempt.error, f"{attempt.state}: {attempt.error}")
    scene.says(attempt.error)
    scene.check()
    scene.require((others[1] / "app.py").read_text() == "a person's edit\n", "the edit is lost")
    git(others[1], "checkout", "-q", "app.py")
    scene._person = {}
    scene.merged()
    for place in (scene.repository, *others):
        scene.require((place / "work.txt").exists(), f"{place} was left behind")
        scene.require(git(place, "status", "--porcelain") == "", f"{place} is not clean")
    return (
        "The dirty one is named and nothing moves; once it is clean, the branch moves and all three are brought along."
    )


@fault("uncommitted changes in the person's checkout", fast=True)
def dirty(scene: Scene) -> str:
    scene.begin()
    (scene.repository / "app.py").write_text("a person's edit\n")
    scene.watch()
    attempt = scene.merge()
    scene.require(attempt.state == "refused" and "app.py" in attempt.error, f"{attempt.state}: {attempt.error}")
    scene.says(attempt.error)
    return "The merge is refused with the names of the files; nothing was touched."


@fault("the branch's name exists already", fast=True)
def name_taken(scene: Scene) -> str:
    git(scene.repository, "branch", "studio/fault-1")
    scene.watch()
    mine = git(scene.repository, "rev-parse", "studio/fault-1")
    workspace = scene.begin()
    scene.require(workspace.branch == "studio/fault-1-2", f"it took {workspace.branch}")
    scene.require(git(scene.repository, "rev-parse", "studio/fault-1") == mine, "the person's branch moved")
    return "The checkout takes the next free name; the person's branch stays where it is."


@fault("a branch called “studio”, below which no other can be", fast=True)
def name_in_the_way(scene: Scene) -> str:
    git(scene.repository, "branch", "studio")
    scene.watch()
    scene.refused(scene.begin)
    git(scene.repository, "branch", "-m", "studio", "mine")
    scene._person = {}
    scene.begin()
    return "The checkout is refused with the branch's name; after it was renamed, it works."


@fault("a .git file that lies", fast=True)
def lying_link(scene: Scene) -> str:
    liar = scene.folder / "liar"
    liar.mkdir()
    (liar / ".git").write_text("gitdir: /nowhere/at/all\n")
    scene.refused(lambda: scene.register(liar))
    other = make_repository(scene.folder / "other")
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    before = git(other, "for-each-ref")
    (scene.checkout / ".git").write_text(f"gitdir: {other / '.git'}\n")
    scene.watch()
    scene.refused(lambda: scene.commit())
    scene.require(scene.remove().state == "removing", "it was deleted")
    scene.says(scene.workspace.error)
    scene.require(git(other, "for-each-ref") == before, "the other repository was changed")
    Workspace.objects.filter(pk=scene.workspace.pk).update(state="ready", error="")
    look_at(scene.workspace.pk)
    scene.says(scene.workspace.trouble)
    scene.says(" ".join(repair_workspace(actor=scene.owner, workspace=scene.workspace)))
    scene.commit()
    return "Nothing is committed to or deleted from the wrong repository; Repair mends the link, and the files are as they were."


@fault("the same repository registered twice: by its path, a symbolic link, a linked worktree", fast=True)
def registered_twice(scene: Scene) -> str:
    scene.register()
    link, linked = scene.folder / "link", scene.folder / "linked"
    link.symlink_to(scene.repository)
    git(scene.repository, "worktree", "add", "-q", "-b", "side", str(linked))
    scene.watch()
    for path in (scene.repository, link, linked):
        error = scene.refused(partial(scene.register, path, key="TWICE"))
        scene.require(error.status == 409, f"{path} is refused as {error.code}")
    return "All three are refused with the project that has it."


@fault("the repository vanishes and comes back", fast=True)
def vanishes(scene: Scene) -> str:
    scene.begin()
    away = scene.repository.rename(scene.folder / "unmounted")
    project = scene.workspace.project
    scene.refused(lambda: ensure_workspace(project=project, label="FAULT-2"))
    attempt = scene.merge()
    scene.require(attempt.state == "queued", f"the merge did not wait: {attempt.state}")
    scene.says(attempt.error)
    away.rename(scene.repository)
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    scene.require(attempt.state == "merged", f"{attempt.state}: {attempt.error}")
    return "What needs it waits and says so; when it is back, the merge goes on by itself."


@fault("the repository vanishes while a checkout is to be removed", fast=True)
def vanishes_at_removal(scene: Scene) -> str:
    scene.begin()
    away = scene.repository.rename(scene.folder / "unmounted")
    scene.require(scene.remove().state == "removing", "it was removed without its repository")
    scene.says(scene.workspace.error)
    scene.require((scene.checkout / "work.txt").exists(), "the files are gone")
    away.rename(scene.repository)
    remove_workspace(scene.workspace.pk)
    scene.require(scene.workspace.state == "removed", scene.workspace.error)
    return "The removal waits; when it is back, what was not merged is kept and the checkout goes."


@fault("the repository was moved", fast=True)
def moved(scene: Scene) -> str:
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    look_at(scene.workspace.pk)
    scene.repository = scene.repository.rename(scene.folder / "new place")
    look_at(scene.workspace.pk)
    scene.says(scene.workspace.trouble)
    other = make_repository(scene.folder / "another")
    scene.refused(lambda: relocate_project(actor=scene.owner, project=scene.workspace.project, path=str(other)))
    relocate_project(actor=scene.owner, project=scene.workspace.project, path=str(scene.repository))
    scene.require(scene.workspace.trouble == "", scene.workspace.trouble)
    scene.commit()
    scene.merged()
    return "Its new place is named on the storage page (another repository is refused); the checkouts are mended and work goes on."


@fault("the checkout's folder was deleted", fast=True)
def folder_deleted(scene: Scene) -> str:
    scene.begin()
    shutil.rmtree(scene.checkout)
    scene.watch()
    _repaired(scene)
    scene.require((scene.checkout / "work.txt").exists(), "the work is not back")
    return "Recognised and said; Repair makes it again from its branch."


@fault("the checkout's branch was deleted", fast=True)
def branch_deleted(scene: Scene) -> str:
    workspace = scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    git(scene.repository, "update-ref", "-d", f"refs/heads/{workspace.branch}")
    scene.watch()
    _repaired(scene)
    scene.commit()
    return "Recognised and said; Repair puts the branch back where it was, and the files are as they were."


@fault("the checkout's branch was moved", fast=True)
def branch_moved(scene: Scene) -> str:
    workspace = scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    git(scene.repository, "update-ref", f"refs/heads/{workspace.branch}", workspace.base_commit)
    scene.watch()
    _repaired(scene)
    scene.commit()
    return "Recognised and said; Repair puts it back to the work."


@fault("an index.lock was left in the checkout", fast=True)
def lock_left(scene: Scene) -> str:
    scene.begin()
    lock = Path(git(scene.checkout, "rev-parse", "--absolute-git-dir").strip()) / "index.lock"
    lock.touch()
    os.utime(lock, (time.time() - 3600, time.time() - 3600))
    scene.write({"later.txt": b"not committed\n"})
    scene.commit()
    scene.require(not lock.exists(), "the lock is still there")
    return "An old lock in the studio's own checkout is removed, and the commit goes on."


@fault("an index.lock was left in the person's checkout", fast=True)
def lock_left_by_a_person(scene: Scene) -> str:
    scene.begin()
    lock = scene.repository / ".git" / "index.lock"
    lock.touch()
    scene.watch()
    attempt = scene.merge()
    scene.require(attempt.state in ("refused", "queued"), f"{attempt.state}: {attempt.error}")
    scene.says(attempt.error)
    scene.require(lock.exists(), "a person's lock was removed")
    scene.check()
    lock.unlink()
    scene._person = {}
    if attempt.state == "queued":
        run_merge(attempt.pk)
    else:
        scene.merged()
    return "The merge is refused with the lock's name, which is never removed for a person; without it the merge works."


@fault("another folder was put in the checkout's place", fast=True)
def replaced(scene: Scene) -> str:
    scene.begin()
    old = scene.checkout.rename(scene.folder / "taken away")
    scene.checkout.mkdir()
    (scene.checkout / "precious.txt").write_text("precious\n")
    scene.watch()
    scene.require(scene.remove().state == "removing", "it was deleted")
    scene.says(scene.workspace.error)
    scene.require((scene.checkout / "precious.txt").read_text() == "precious\n", "the other folder was deleted")
    scene.require(old.exists(), "the moved folder was deleted")
    return "The removal stops: what is there is not the studio's, and is left alone."


@fault("a process works in the checkout that is to be removed", fast=True)
def in_use(scene: Scene) -> str:
    scene.begin()
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=scene.checkout, stdin=subprocess.PIPE) as process:
        scene.require(scene.remove().state == "removing", "it was removed under a process")
        scene.says(scene.workspace.error.replace(str(process.pid), "N"))
        process.communicate(b"\n")
    remove_workspace(scene.workspace.pk)
    scene.require(scene.workspace.state == "removed", scene.workspace.error)
    return "The removal names the process and waits for its end."


def _repaired(scene: Scene) -> None:
    look_at(scene.workspace.pk)
    scene.says(scene.workspace.trouble)
    scene.says(" ".join(repair_workspace(actor=scene.owner, workspace=scene.workspace)))
    look_at(scene.workspace.pk)
    scene.require(scene.workspace.trouble == "", f"still damaged: {scene.workspace.trouble}")
