"""Branches, checkouts and folders that are not where, or not what, one expects."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from tests.faults.catalogue import COLOCATED, GIT, fault
from tests.faults.scene import WAITING, Scene, picture
from tests.repositories import git, jj
from workspaces.models import Workspace
from workspaces.services import (
    ensure_workspace,
    look_at,
    relocate_project,
    remove_workspace,
    repair_workspace,
    run_merge,
)


@fault("an unborn branch", fast=GIT)
def unborn(scene: Scene) -> str:
    empty = scene.folder / "empty"
    empty.mkdir()
    scene.hand.begin_elsewhere(empty)
    scene.refused(lambda: scene.register(empty))
    (empty / "first.txt").write_text("1\n")
    if scene.is_jj:
        jj(empty, "commit", "-m", "First")
        jj(empty, "bookmark", "create", "main", "-r", "@-")  # as it was told
    else:
        scene.hand.save(empty)
    scene.register(empty, key="FIRST")
    if scene.is_jj:
        return "The registration is refused, since there is no bookmark; after a first commit with one it works."
    return "The registration is refused; after a first commit it works."


@fault(
    "a detached HEAD",
    systems=GIT,
    fast=GIT,
    absent={"jj": "no working copy is on a bookmark, and the HEAD of a colocated repository is always detached"},
)
def detached(scene: Scene) -> str:
    git(scene.repository, "checkout", "-q", "--detach")
    scene.watch()
    scene.refused(scene.register)
    git(scene.repository, "checkout", "-q", "trunk")
    scene.unwatch()
    project = scene.register()
    git(scene.repository, "checkout", "-q", "--detach")
    scene.begin()
    before = scene.hand.tip(scene.repository)
    scene.let_move(along=False)
    scene.merged()
    scene.require(scene.hand.tip(scene.repository) != before, "the branch did not move")
    scene.require(project.default_branch == "trunk", "another branch was taken")
    return "The registration is refused; detached later, the branch is merged and the person's checkout stays as it is."


@fault("the target branch checked out in three worktrees, one of them dirty", fast=GIT)
def three_checkouts(scene: Scene) -> str:
    others = [scene.folder / f"other-{number}" for number in (1, 2)]
    for other in others:
        scene.hand.link(scene.repository, other)
    (others[1] / "app.py").write_text("a person's edit\n")
    scene.begin()
    scene.watch()
    if scene.is_jj:
        before = [picture(other) for other in others]
        scene.let_move()
        scene.merged()
        scene.require([picture(other) for other in others] == before, "another working copy was moved")
        return "No working copy follows a bookmark: it is moved, and all three stay as they were, the edit included."
    attempt = scene.merge()
    scene.require(attempt.state == "refused" and str(others[1]) in attempt.error, f"{attempt.state}: {attempt.error}")
    scene.says(attempt.error)
    scene.check()
    scene.require((others[1] / "app.py").read_text() == "a person's edit\n", "the edit is lost")
    git(others[1], "checkout", "-q", "app.py")
    scene.let_move()
    scene.merged()
    for place in (scene.repository, *others):
        scene.require((place / "work.txt").exists(), f"{place} was left behind")
        scene.require(git(place, "status", "--porcelain") == "", f"{place} is not clean")
    return (
        "The dirty one is named and nothing moves; once it is clean, the branch moves and all three are brought along."
    )


@fault("uncommitted changes in the person's checkout", fast=GIT)
def dirty(scene: Scene) -> str:
    scene.begin()
    (scene.repository / "app.py").write_text("a person's edit\n")
    scene.watch()
    if scene.is_jj:
        scene.let_move()
        scene.merged()
        return "They are in nobody's way: the bookmark moves, and the working copy stays as it was, unseen."
    attempt = scene.merge()
    scene.require(attempt.state == "refused" and "app.py" in attempt.error, f"{attempt.state}: {attempt.error}")
    scene.says(attempt.error)
    return "The merge is refused with the names of the files; nothing was touched."


@fault("the branch's name exists already", fast=GIT)
def name_taken(scene: Scene) -> str:
    mine = scene.hand.tip(scene.repository)
    scene.hand.put(scene.repository, "studio/fault-1", mine)
    scene.watch()
    workspace = scene.begin()
    scene.require(workspace.branch == "studio/fault-1-2", f"it took {workspace.branch}")
    scene.require(scene.hand.tip(scene.repository, "studio/fault-1") == mine, "the person's branch moved")
    return "The checkout takes the next free name; the person's branch stays where it is."


@fault("a branch called “studio”, below which no other can be", fast=GIT)
def name_in_the_way(scene: Scene) -> str:
    scene.register()
    scene.hand.put(scene.repository, "studio", scene.hand.tip(scene.repository))
    scene.watch()
    if scene.is_jj:
        scene.begin()
        scene.let_move()
        scene.merged()
        return "To jj both are names like any other: the checkout is made and merged."
    scene.refused(scene.begin)
    git(scene.repository, "branch", "-m", "studio", "mine")
    scene.unwatch()
    scene.begin()
    return "The checkout is refused with the branch's name; after it was renamed, it works."


@fault("a .git file that lies (jj: a .jj/repo)", fast=GIT)
def lying_link(scene: Scene) -> str:
    liar = scene.folder / "liar"
    _link_of(scene, liar).parent.mkdir(parents=True)
    _link_of(scene, liar).write_text("/nowhere/at/all" if scene.is_jj else "gitdir: /nowhere/at/all\n")
    scene.refused(lambda: scene.register(liar))
    other = scene.hand.make(scene.folder / "other")
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    before = scene.hand.position(other)
    leads = str(other / ".jj" / "repo") if scene.is_jj else f"gitdir: {other / '.git'}\n"
    _link_of(scene, scene.checkout).write_text(leads)
    scene.watch()
    scene.refused(lambda: scene.commit())
    scene.require(scene.remove().state == "removing", "it was deleted")
    scene.says(scene.workspace.error)
    scene.require(scene.hand.position(other) == before, "the other repository was changed")
    Workspace.objects.filter(pk=scene.workspace.pk).update(state="ready", error="")
    look_at(scene.workspace.pk)
    scene.says(scene.workspace.trouble)
    scene.says(" ".join(repair_workspace(actor=scene.owner, workspace=scene.workspace)))
    scene.commit()
    return "Nothing is committed to or deleted from the wrong repository; Repair mends the link, and the files are as they were."


def _link_of(scene: Scene, checkout: Path) -> Path:
    """The file by which a checkout says where its repository is."""
    return checkout / ".jj" / "repo" if scene.is_jj else checkout / ".git"


@fault("the same repository registered twice: by its path, a symbolic link, a linked checkout", fast=GIT)
def registered_twice(scene: Scene) -> str:
    scene.register()
    link, linked = scene.folder / "link", scene.folder / "linked"
    link.symlink_to(scene.repository)
    scene.hand.link(scene.repository, linked)
    scene.watch()
    for path in (scene.repository, link, linked):
        error = scene.refused(partial(scene.register, path, key="TWICE"))
        scene.require(error.status == 409, f"{path} is refused as {error.code}")
    return "All three are refused with the project that has it."


@fault("the repository vanishes and comes back", fast=GIT)
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


@fault("the repository vanishes while a checkout is to be removed", fast=GIT)
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


@fault("the repository was moved", fast=GIT)
def moved(scene: Scene) -> str:
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    look_at(scene.workspace.pk)
    scene.repository = scene.repository.rename(scene.folder / "new place")
    look_at(scene.workspace.pk)
    scene.says(scene.workspace.trouble)
    other = scene.hand.make(scene.folder / "another", {"other.txt": "another\n"})
    scene.refused(lambda: relocate_project(actor=scene.owner, project=scene.workspace.project, path=str(other)))
    relocate_project(actor=scene.owner, project=scene.workspace.project, path=str(scene.repository))
    scene.require(scene.workspace.trouble == "", scene.workspace.trouble)
    scene.commit()
    scene.let_move()
    scene.merged()
    return "Its new place is named on the storage page (another repository is refused); the checkouts are mended and work goes on."


@fault("the checkout's folder was deleted", fast=GIT)
def folder_deleted(scene: Scene) -> str:
    scene.begin()
    shutil.rmtree(scene.checkout)
    scene.watch()
    repaired(scene)
    scene.require((scene.checkout / "work.txt").exists(), "the work is not back")
    return "Recognised and said; Repair makes it again from its branch."


@fault("the checkout's branch was deleted", fast=GIT)
def branch_deleted(scene: Scene) -> str:
    workspace = scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    scene.hand.delete(scene.repository, workspace.branch)
    scene.watch()
    repaired(scene)
    scene.commit()
    return "Recognised and said; Repair puts the branch back where it was, and the files are as they were."


@fault("the checkout's branch was moved", fast=GIT)
def branch_moved(scene: Scene) -> str:
    workspace = scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    scene.hand.put(scene.repository, workspace.branch, workspace.base_commit)
    scene.watch()
    repaired(scene)
    scene.commit()
    return "Recognised and said; Repair puts it back to the work."


@fault("an index.lock (jj: a working_copy.lock) was left in the checkout", fast=GIT)
def lock_left(scene: Scene) -> str:
    scene.begin()
    if scene.is_jj:
        lock = scene.checkout / ".jj" / "working_copy" / "working_copy.lock"
    else:
        lock = Path(git(scene.checkout, "rev-parse", "--absolute-git-dir").strip()) / "index.lock"
    lock.touch()
    os.utime(lock, (time.time() - 3600, time.time() - 3600))
    scene.write({"later.txt": b"not committed\n"})
    scene.commit()
    if scene.is_jj:
        return "jj's locks end with the process that holds them: the file that was left is in nobody's way."
    scene.require(not lock.exists(), "the lock is still there")
    return "An old lock in the studio's own checkout is removed, and the commit goes on."


@fault(
    "an index.lock was left in the person's checkout",
    systems=GIT + COLOCATED,
    fast=GIT,
    absent={"jj": "its locks end with the process that holds them"},
)
def lock_left_by_a_person(scene: Scene) -> str:
    scene.begin()
    lock = scene.repository / ".git" / "index.lock"
    lock.touch()
    scene.watch()
    attempt = scene.merge()
    scene.require(attempt.state in ("refused", *WAITING), f"{attempt.state}: {attempt.error}")
    scene.says(attempt.error)
    scene.require(lock.exists(), "a person's lock was removed")
    scene.check()
    lock.unlink()
    scene.let_move()
    if attempt.state in WAITING:
        run_merge(attempt.pk)
    else:
        scene.merged()
    scene.require("work.txt" in scene.target_names(), "the merge was not made")
    return "The lock is named and nothing moves; it is never removed for a person; without it the merge works."


@fault("another folder was put in the checkout's place", fast=GIT)
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


@fault("a process works in the checkout that is to be removed", fast=GIT)
def in_use(scene: Scene) -> str:
    scene.begin()
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=scene.checkout, stdin=subprocess.PIPE) as process:
        scene.require(scene.remove().state == "removing", "it was removed under a process")
        scene.says(scene.workspace.error.replace(str(process.pid), "N"))
        process.communicate(b"\n")
    remove_workspace(scene.workspace.pk)
    scene.require(scene.workspace.state == "removed", scene.workspace.error)
    return "The removal names the process and waits for its end."


def repaired(scene: Scene) -> None:
    look_at(scene.workspace.pk)
    scene.says(scene.workspace.trouble)
    scene.says(" ".join(repair_workspace(actor=scene.owner, workspace=scene.workspace)))
    look_at(scene.workspace.pk)
    scene.require(scene.workspace.trouble == "", f"still damaged: {scene.workspace.trouble}")
