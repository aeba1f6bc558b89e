"""Faults that only jj has: its operation log, its locks, its changes and bookmarks, its store, its configuration."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from tests.faults.catalogue import COLOCATED, JJ, fault
from tests.faults.places import repaired
from tests.faults.scene import WAITING, Scene
from tests.faults.trouble import first_in_path, impatient
from tests.hands import TRUNK, unseen
from tests.repositories import git, jj
from workspaces.services import diff_for, ensure_workspace, remove_workspace, request_merge, run_merge
from workspaces.vcs import jj_command

OWN = JJ[:1]  # where there is no difference, the ordinary suite takes one of the two
OLD_JJ = "#!/bin/sh\necho 'jj 0.31.0'\n"


@fault("a stale working copy: its commit was rewritten from another workspace", systems=JJ)
def stale(scene: Scene) -> str:
    scene.begin()
    scene.write({"seen.txt": b"jj has looked at it\n"})
    jj(scene.checkout, "status")
    scene.write({"unseen.txt": b"jj has not looked at it\n"})
    here = change_of(scene.checkout)
    unseen(scene.repository, "describe", "-r", here, "-m", "A person named it")
    unseen(scene.repository, "restore", "--to", here, "seen.txt")
    scene.watch()
    paths = {file.path for file in diff_for(scene.workspace).files}
    scene.require({"seen.txt", "unseen.txt"} <= paths, f"the change is shown as {paths}")
    scene.commit()
    scene.let_move()
    scene.merged()
    scene.require(scene.target("seen.txt") is not None, "what the person took out of the commit is lost")
    return "The checkout is brought up to date first; what is on the disk is shown, committed and merged."


@fault("a divergent change: the checkout's commit was rewritten twice at once", systems=JJ, fast=OWN)
def divergent(scene: Scene) -> str:
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    jj(scene.checkout, "status")
    at_once(scene, *(["describe", "-r", change_of(scene.checkout), "-m", f"Name {number}"] for number in (1, 2)))
    scene.require("divergent" in unseen(scene.checkout, "log", "-r", "all()"), "the fault was not made")
    scene.watch()
    scene.commit()
    scene.let_move()
    scene.merged()
    scene.require(scene.target("later.txt") == b"not committed\n", "the work is not on the target")
    return "The files decide: what is on the disk is committed and merged; the other version stays visible in jj log."


@fault("the target bookmark is in two places at once (conflicted)", systems=JJ, fast=OWN)
def conflicted_target(scene: Scene) -> str:
    scene.begin()
    here, other = two_places(scene, TRUNK)
    project = scene.workspace.project
    scene.watch()
    scene.refused(lambda: ensure_workspace(project=project, label="FAULT-2"))
    attempt = scene.merge()
    scene.require(attempt.state != "merged", "one of the two was guessed")
    scene.says(attempt.error)
    scene.check()
    unseen(scene.repository, "bookmark", "set", TRUNK, "-r", here, "--allow-backwards")  # as it was told
    scene.let_move()
    scene.merged()
    scene.require(unseen(scene.repository, "log", "--no-graph", "-r", other, "-T", '"x"') == "x", "the other is lost")
    return "Nothing is guessed: both need a person's word; after the command that is named, the merge is made."


@fault("the checkout's bookmark is in two places at once (conflicted)", systems=JJ, fast=OWN)
def conflicted_own(scene: Scene) -> str:
    workspace = scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    two_places(scene, workspace.branch)
    scene.watch()
    repaired(scene)
    scene.commit()
    scene.let_move()
    scene.merged()
    return "Recognised and said; Repair puts it to the work, keeps the other place, and the files are as they were."


@fault("the operation log is broken: its newest entry was cut off", systems=JJ, fast=OWN)
def broken_log(scene: Scene) -> str:
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    [head] = [one for one in (scene.repository / ".jj/repo/op_heads/heads").iterdir() if one.name != "lock"]
    entry = scene.repository / ".jj/repo/op_store/operations" / head.name
    kept = entry.read_bytes()
    entry.write_bytes(b"")
    project = scene.workspace.project
    scene.refused(lambda: ensure_workspace(project=project, label="FAULT-2"))
    scene.refused(scene.commit)
    attempt = scene.merge()
    scene.require(attempt.state in WAITING, f"the merge did not wait: {attempt.state}")
    scene.says(attempt.error)
    scene.require(scene.remove().state == "removing", "it was removed")
    scene.says(scene.workspace.error)
    scene.require((scene.checkout / "later.txt").exists(), "the files are gone")
    entry.write_bytes(kept)  # from a backup
    remove_workspace(scene.workspace.pk)
    scene.require(scene.workspace.state == "removed", scene.workspace.error)
    return "Nothing is touched and everything waits; with the entry back it goes on, and what was not merged is kept."


@fault("other jj commands at the same moment, all the time", systems=JJ, fast=OWN)
def concurrent(scene: Scene) -> str:
    done: list[str] = []
    ended = threading.Event()

    def person() -> None:
        while not ended.is_set():
            name = f"mine-{len(done)}"
            unseen(scene.repository, "bookmark", "create", name, "-r", "root()")
            done.append(name)

    hand = threading.Thread(target=person)
    hand.start()
    try:
        scene.begin()
        attempt = scene.merge()
        for _ in range(5):
            if attempt.state in WAITING:
                run_merge(attempt.pk)
                attempt.refresh_from_db()
    finally:
        ended.set()
        hand.join()
    scene.require(attempt.state == "merged", f"{attempt.state}: {attempt.error}")
    scene.require(scene.target("work.txt") is not None, "the merge is not on the target")
    left = [name for name in done if not unseen(scene.repository, "bookmark", "list", name)]
    scene.require(not left and bool(done), f"operations of the person are lost: {left[:3]}")
    return "Every operation stands, the person's and the studio's: checkout, commit and merge were made meanwhile."


@fault("the checkout was forgotten from outside (jj workspace forget)", systems=JJ)
def forgotten(scene: Scene) -> str:
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    unseen(scene.repository, "workspace", "forget", scene.checkout.name)
    scene.watch()
    scene.refused(scene.commit)
    repaired(scene)
    scene.commit()
    scene.let_move()
    scene.merged()
    scene.require(scene.target("later.txt") == b"not committed\n", "the work is not on the target")
    return "Recognised and said; Repair takes it in again, and the files are as they were."


@fault("the configuration makes every commit immutable", systems=JJ, fast=OWN)
def immutable(scene: Scene) -> str:
    unseen(scene.repository, "config", "set", "--repo", 'revset-aliases."immutable_heads()"', "all()")
    scene.watch()
    scene.begin()
    scene.write({"later.txt": b"more\n"})
    scene.commit()
    scene.let_move()
    scene.merged()
    scene.require(scene.remove().state == "removed", scene.workspace.error)
    return "It is about a person's own commands; the studio adds commits and rewrites only its own: committed, merged, removed."


@fault("the store vanishes and comes back (.jj is there, the commits are not)", systems=JJ, fast=OWN)
def store_away(scene: Scene) -> str:
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    away = scene.store.rename(scene.folder / "elsewhere.git")
    project = scene.workspace.project
    scene.refused(lambda: ensure_workspace(project=project, label="FAULT-2"))
    scene.refused(scene.commit)
    attempt = scene.merge()
    scene.require(attempt.state in WAITING, f"the merge did not wait: {attempt.state}")
    scene.says(attempt.error)
    scene.require(scene.remove().state == "removing", "it was removed without its repository")
    scene.says(scene.workspace.error)
    scene.require((scene.checkout / "later.txt").exists(), "the files are gone")
    away.rename(scene.store)
    remove_workspace(scene.workspace.pk)
    scene.require(scene.workspace.state == "removed", scene.workspace.error)
    return "What needs it waits and says so; when it is back, it goes on, and what was not merged is kept."


@fault("another jj command hangs and holds the lock of the operation log", systems=JJ, fast=OWN)
def log_locked(scene: Scene) -> str:
    scene.begin()
    scene.watch()
    with impatient(), holding(scene.repository / ".jj/repo/op_heads/heads/lock"):
        attempt = scene.merge()
    scene.goes_on(attempt)
    return (
        "The studio's command is ended after its time and says what it waited for; without the lock the merge goes on."
    )


@fault("a jj command in the checkout hangs and holds its lock", systems=JJ, fast=OWN)
def checkout_locked(scene: Scene) -> str:
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    scene.watch()
    with impatient(), holding(scene.checkout / ".jj/working_copy/working_copy.lock"):
        scene.refused(scene.commit)
        scene.require("later.txt" in {file.path for file in diff_for(scene.workspace).files}, "the diff is not shown")
    scene.commit()
    return "The change is shown all the while; the commit is refused after its time and works once the lock is free."


@fault("a lock of git's branch was left in the repository (refs/heads/trunk.lock)", systems=COLOCATED, fast=COLOCATED)
def branch_locked(scene: Scene) -> str:
    scene.begin()
    lock = scene.store / "refs" / "heads" / f"{TRUNK}.lock"
    lock.touch()
    scene.watch()
    attempt = scene.merge()
    scene.require(attempt.state in WAITING and str(lock) in attempt.error, f"{attempt.state}: {attempt.error}")
    scene.says(attempt.error)
    scene.require(lock.exists(), "a person's lock was removed")
    scene.check()
    lock.unlink()
    scene.let_move()
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    scene.require(attempt.state == "merged", f"{attempt.state}: {attempt.error}")
    there = git(scene.repository, "rev-parse", f"refs/heads/{TRUNK}").strip()
    scene.require(there == scene.hand.tip(scene.repository), "git's branch is not where the bookmark is")
    return "The bookmark is put back and the lock is named, which is never removed for a person; without it the merge goes on."


@fault("an old jj, or none any more", systems=JJ, fast=OWN)
def old_jj(scene: Scene) -> str:
    scene.begin()
    scene.write({"later.txt": b"not committed\n"})
    scene.watch()
    other = scene.hand.make(scene.folder / "another")
    attempt = request_merge(workspace=scene.workspace, how="merge", message="Finish")
    for jj_of_then in (first_in_path(scene.folder / "old", {"jj": OLD_JJ}), only_git(scene.folder / "bare")):
        with jj_of_then, fresh_process():
            scene.refused(scene.commit)
            run_merge(attempt.pk)
            attempt.refresh_from_db()
            scene.require(attempt.state in WAITING, f"the merge did not wait: {attempt.state}")
            scene.says(attempt.error)
            if not scene.hand.colocated:
                scene.refused(lambda: scene.register(other, key="OTHER"))
    scene.check()
    scene.let_move()
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    scene.require(attempt.state == "merged", f"{attempt.state}: {attempt.error}")
    return (
        "Nothing is tried with it: what needs jj says which it needs and waits; with a newer one it goes on by itself."
    )


def change_of(checkout: Path) -> str:
    """The change that the working copy is at."""
    return unseen(checkout, "log", "--no-graph", "-r", "@", "-T", "change_id").strip()


def at_once(scene: Scene, *commands: list[str]) -> None:
    """Several commands of people who did not know of each other: all begin at the same operation."""
    now = unseen(scene.repository, "op", "log", "--no-graph", "-n1", "-T", "id").strip()
    for command in commands:
        jj(scene.repository, "--at-operation", now, *command)


def two_places(scene: Scene, branch: str) -> tuple[str, str]:
    """Two people have put the bookmark onto commits of their own at the same moment; the two commits."""
    places = []
    for number in (1, 2):
        jj(scene.repository, "--ignore-working-copy", "new", "--no-edit", branch, "-m", f"Place {number}")
        found = unseen(
            scene.repository, "log", "--no-graph", "-r", f"description(glob:'Place {number}*')", "-T", "commit_id"
        )
        places.append(found.strip())
    at_once(scene, *(["bookmark", "set", branch, "-r", place] for place in places))
    return places[0], places[1]


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Somebody holds the lock and does not let go."""
    with lock.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def only_git(folder: Path) -> Iterator[None]:
    """git is on PATH, and nothing else."""
    folder.mkdir()
    (folder / "git").symlink_to(str(shutil.which("git")))
    with mock.patch.dict(os.environ, PATH=str(folder)):
        yield


@contextmanager
def fresh_process() -> Iterator[None]:
    """What a process has learned about the programs on PATH is forgotten before and after."""
    jj_command._require_usable.cache_clear()
    try:
        yield
    finally:
        jj_command._require_usable.cache_clear()
