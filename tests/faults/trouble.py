"""A machine that does not do what it is told: full disks, programs that hang, two things at the same moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from django.db import connection
from django.test import override_settings

from tests.faults.catalogue import GIT, JJ, fault
from tests.faults.scene import WAITING, Scene
from workspaces import process
from workspaces.locks import held
from workspaces.models import KeptWork
from workspaces.services import commit_left, ensure_workspace, remove_workspace, request_merge, run_merge
from workspaces.vcs import git_command, jj_command

DISK_MB = 24
LIMIT = "#!/bin/sh\ntrap '' XFSZ\nulimit -f 0\nexec {program} \"$@\"\n"
HANG = "#!/bin/sh\nexec sleep 600\n"


class Disk:
    """A small file system of its own; without the right to mount one, git and jj may write no byte (RLIMIT_FSIZE) instead."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.root = scene.folder / "disk"
        self.root.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(self.root)]
        self.mounted = (
            shutil.which("mount") is not None
            and subprocess.run(mounting, capture_output=True, check=False, timeout=30).returncode == 0
        )
        scene.repository = scene.hand.make(self.root / "repository")

    @contextmanager
    def full(self) -> Iterator[None]:
        """Inside it no byte fits on the disk any more."""
        if not self.mounted:
            limited = {name: LIMIT.format(program=shutil.which(name)) for name in {"git", self.scene.hand.program}}
            with first_in_path(self.scene.folder / "limited", limited):
                yield
            return
        ballast = self.root / "ballast"
        with ballast.open("wb", buffering=0) as handle:
            try:
                while handle.write(b"\0" * 65_536):
                    pass
            except OSError:
                pass
            try:
                while handle.write(b"\0" * 512):
                    pass
            except OSError:
                pass
        try:
            yield
        finally:
            ballast.unlink()

    def close(self) -> None:
        """Take it away."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.root)], check=True, capture_output=True, timeout=30)


@contextmanager
def first_in_path(folder: Path, scripts: Mapping[str, str]) -> Iterator[None]:
    """Programs of these names are these scripts."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


@contextmanager
def small_disk(scene: Scene) -> Iterator[Disk]:
    """Repository and checkouts lie on a small disk."""
    disk = Disk(scene)
    try:
        with override_settings(STUDIO_WORKSPACE_ROOT=disk.root / "workspaces"):
            yield disk
            scene.check()  # while it is there
            scene.forget()
    finally:
        disk.close()


@fault("the disk is full when a checkout is made", fast=GIT)
def full_at_creation(scene: Scene) -> str:
    with small_disk(scene) as disk:
        (scene.repository / "data.bin").write_bytes(os.urandom(2 << 20))
        scene.hand.save(scene.repository)
        project = scene.register()
        scene.watch()
        with disk.full():
            scene.refused(lambda: ensure_workspace(project=project, label="FAULT-0"))
        scene.begin()
    return "The run fails with git's words; with room again, the same checkout is made."


@fault("the disk is full when an agent's work is committed", fast=GIT)
def full_at_commit(scene: Scene) -> str:
    with small_disk(scene) as disk:
        scene.begin({"work.txt": os.urandom(1 << 20)}, commit=False)
        scene.watch()
        with disk.full():
            scene.refused(lambda: commit_left(scene.workspace, message="Work", author_name="agent"))
            scene.require((scene.checkout / "work.txt").stat().st_size == 1 << 20, "the file was cut")
        scene.commit()
    return "The files stay in the checkout; with room again, they are committed whole."


@fault("the disk is full when a merge is made", fast=GIT + JJ[:1])
def full_at_merge(scene: Scene) -> str:
    with small_disk(scene) as disk:
        scene.begin({"work.txt": os.urandom(1 << 20)})
        (scene.repository / "other.txt").write_text("the target moved on\n")
        scene.hand.save(scene.repository)
        scene.watch()
        with disk.full():
            attempt = scene.merge()
        scene.require(attempt.state != "merged", "it says merged")
        scene.says(attempt.error)
        scene.check()
        scene.let_move()
        if attempt.state in WAITING:
            run_merge(attempt.pk)
        else:
            scene.merged()
        scene.require("work.txt" in scene.target_names(), "the merge was not made")
        scene.followed("work.txt")
    return "No branch moves and the person's checkout stays as it was; with room again, the merge is made."


@fault("the disk is full when what is not merged is to be kept", fast=GIT)
def full_at_removal(scene: Scene) -> str:
    with small_disk(scene) as disk:
        scene.begin({"work.txt": os.urandom(1 << 20)})
        scene.watch()
        (disk.root / "data").mkdir()
        with override_settings(DATA=disk.root / "data"):
            (disk.root / "data" / "run").mkdir(mode=0o700)
            (disk.root / "data" / "run" / "locks").mkdir(mode=0o700)
            with held(f"workspace:{scene.workspace.pk}", patience=1):
                pass  # its lock file is there before the disk is full
            with disk.full():
                scene.require(scene.remove().state == "removing", "it was deleted although nothing could be kept")
                scene.says(scene.workspace.error)
                scene.require((scene.checkout / "work.txt").exists(), "the files are gone")
            remove_workspace(scene.workspace.pk)
            scene.require(scene.workspace.state == "removed", scene.workspace.error)
            scene.require(KeptWork.objects.get().bundle_bytes > 1 << 20, "what was kept is cut")
            scene.check()
    return "Nothing is deleted before it was kept whole; with room again, it is kept and the checkout goes."


@fault("git (jj) hangs when a checkout is made", fast=GIT)
def hangs_at_creation(scene: Scene) -> str:
    project = scene.register()
    scene.watch()
    with hanging(scene):
        scene.refused(lambda: ensure_workspace(project=project, label="FAULT-0"))
    scene.begin()
    return "It is ended after its time, with all that it started; the next try works."


@fault("git (jj) hangs when work is committed", fast=GIT)
def hangs_at_commit(scene: Scene) -> str:
    scene.begin(commit=False)
    scene.watch()
    with hanging(scene):
        scene.refused(lambda: commit_left(scene.workspace, message="Work", author_name="agent"))
    scene.commit()
    return "It is ended after its time; the files stay in the checkout, and the next try commits them."


@fault("git (jj) hangs when a merge is made", fast=GIT)
def hangs_at_merge(scene: Scene) -> str:
    scene.begin()
    scene.watch()
    with hanging(scene):
        attempt = scene.merge()
    scene.goes_on(attempt)
    return "It is ended after its time and tried again by itself; nothing was moved meanwhile."


@contextmanager
def hanging(scene: Scene) -> Iterator[None]:
    """The program of the system never ends."""
    with impatient(), first_in_path(scene.folder / "hanging", {scene.hand.program: HANG}):
        yield


@contextmanager
def impatient() -> Iterator[None]:
    """git and jj have a second, instead of one to three minutes."""

    def hasty(argv: Sequence[str | bytes], **options: Any) -> process.Result:
        return process.run(argv, **{**options, "timeout": 1.0})

    with mock.patch.object(git_command, "run", hasty), mock.patch.object(jj_command, "run", hasty):
        yield


@fault("two merges at the same moment", fast=GIT, threads=True)
def two_merges(scene: Scene) -> str:
    scene.begin()
    first = request_merge(workspace=scene.workspace, how="merge", message="First")
    other = ensure_workspace(project=scene.workspace.project, label="FAULT-2")
    (Path(other.path) / "second.txt").write_text("2\n")
    second = request_merge(workspace=other, how="squash", message="Second")
    start = threading.Barrier(2)

    def carry_out(attempt_id: object) -> None:
        start.wait()
        try:
            run_merge(str(attempt_id))
        finally:
            connection.close()

    together([lambda: carry_out(first.pk), lambda: carry_out(second.pk)])
    for attempt in (first, second):
        run_merge(attempt.pk)  # what the sweeper does with one that had to wait
        attempt.refresh_from_db()
        scene.require(attempt.state == "merged", f"{attempt.state}: {attempt.error}")
    names = scene.target_names()
    scene.require({"work.txt", "second.txt"} <= names, f"the target has only {names}")
    scene.followed("work.txt")
    return "One after the other, the second computed on the first; both changes are on the target."


def together(calls: list[Callable[[], None]]) -> None:
    """Do all of them in threads of their own, and wait."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
