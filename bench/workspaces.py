"""What workspaces cost on top of git and jj: making one, its diff, and its merge, on repositories of growing size.

    .venv/bin/python -m bench.workspaces --files 1000 10000 100000 --pairs 7

Each pair is once plain git (jj) and once the studio's service on the same repository, in turns, each first every other time; the
ratio is taken within the pair, so other work on the machine counts on both sides; that of CPU does not mind it at all. The floors, as a person would type them:

create   git worktree add -b BRANCH FOLDER BASE
diff     in a copy of the index, so that nothing is touched either: git add -N . && git diff -M BASE
merge    git merge --no-ff BRANCH in the clean checkout of the target, whose files follow. Ours is `request_merge` and
         `run_merge`: it looks for what is not committed, computes without the checkout, then brings the checkout along. That
         is 12 git commands, of which some run at once; tests/workspaces/test_merge.py counts them.

The same in jj, in a repository of the same files with a store of its own:

create   jj workspace add -r BASE FOLDER
diff     jj diff --git --from BASE, which takes its snapshot where there is anything new; ours takes none
merge    jj new TARGET BRANCH, then jj bookmark set TARGET -r @: the person's own files follow. Ours moves the bookmark alone.

The change has 24 edited, 4 removed, 2 renamed and 8 new files; the target has moved on by a commit. The services run in this
process on a SQLite file; jobs are called at once, and nobody is rung.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from tests.repositories import GIT_ENV

FOLDER_FILES = 50
JJ_UP_TO = 10_000  # files; with more it takes longer than all the rest, and is done only where jj alone is asked for
BUDGETS = {"create": 1.2, "diff": 1.5, "merge": 1.5}
TIMEOUT = 900


def git(folder: Path, *arguments: str, **env: str) -> bytes:
    """The output of plain git."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env={**GIT_ENV, **env}, check=True, capture_output=True, timeout=TIMEOUT
    )
    return done.stdout


def jj(folder: Path, *arguments: str) -> bytes:
    """The output of plain jj."""
    person = ("--config", 'user.name="A Person"', "--config", 'user.email="person@example.invalid"')
    argv = ["jj", "--no-pager", "--color=never", *person, *arguments]
    env = {**GIT_ENV, "JJ_CONFIG": os.devnull}
    return subprocess.run(argv, cwd=folder, env=env, check=True, capture_output=True, timeout=TIMEOUT).stdout


def name_of(number: int) -> str:
    """Where a file stands: 50 to a folder, 20 folders to a package."""
    folder = number // FOLDER_FILES
    return f"package_{folder // 20:03d}/part_{folder % 20:02d}/module_{number:06d}.py"


def text_of(number: int, lines: int = 30) -> str:
    """About a kilobyte of code, other in each file."""
    return "".join(f"value_{number}_{line} = {line * number}  # of module {number}\n" for line in range(lines))


def make_repository(folder: Path, files: int) -> Path:
    """A repository with so many files, one commit, and nothing else."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    write_files(folder, files)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Begin")
    return folder


def write_files(folder: Path, files: int) -> None:
    """So many files."""
    for number in range(files):
        path = folder / name_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(number))


def change(checkout: Path, files: int, turn: int) -> None:
    """A change as an agent makes it, somewhere in the tree, other in each turn."""
    step = max(1, files // 40)
    chosen = [name_of((number * step + turn) % files) for number in range(30)]
    there = [path for path in dict.fromkeys(chosen) if (checkout / path).exists()]
    for path in there[:24]:
        with (checkout / path).open("a") as file:
            file.write(f"changed_in = {turn}\n")
    for path in there[24:28]:
        (checkout / path).unlink()
    for path in there[28:30]:
        (checkout / path).rename((checkout / path).with_suffix(f".moved{turn}"))
    for number in range(8):
        (checkout / f"new_{turn}_{number}.py").write_text(text_of(number, 60))


class Cost(NamedTuple):
    """Milliseconds by the clock, and of CPU in this process and in the programs that it ran."""

    clock: float
    cpu: float


def cpu() -> float:
    """Seconds of CPU until now."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(work: Callable[[], Any]) -> Cost:
    """What it costs."""
    started, before = time.perf_counter(), cpu()
    work()
    return Cost((time.perf_counter() - started) * 1000, (cpu() - before) * 1000)


def in_turns(pairs: int, floor: Callable[[int], Cost], ours: Callable[[int], Cost]) -> list[tuple[Cost, Cost]]:
    """(floor, ours) of so many pairs after one that does not count; each is first every other time."""
    found = []
    for turn in range(pairs + 1):
        if turn % 2:
            mine = ours(turn)
            plain = floor(turn)
        else:
            plain = floor(turn)
            mine = ours(turn)
        if turn:
            found.append((plain, mine))
    return found


class Bench:
    """One repository, registered, and plain git beside it. A subclass says how another system does the same."""

    vcs = "git"

    def __init__(self, root: Path, files: int) -> None:
        from workspaces.models import Project

        self.root, self.files = root, files
        self.repository = self.make()
        self.base = self.tip()
        self.project = Project.objects.create(
            name=f"Bench {files}", key=f"{self.vcs[0].upper()}{files}", path=str(self.repository), default_branch="trunk",
            vcs=self.vcs,
        )  # fmt: skip

    def make(self) -> Path:
        """The repository, where a person's own checkout is on `trunk`."""
        return make_repository(self.root / "repository", self.files)

    def tip(self) -> str:
        """Where `trunk` is."""
        return git(self.repository, "rev-parse", "trunk").decode().strip()

    def add_by_hand(self, place: Path, name: str) -> None:
        """A checkout, as a person makes one."""
        git(self.repository, "worktree", "add", "-q", "-b", name, str(place), self.base)

    def drop_by_hand(self, place: Path) -> None:
        """Take it away again."""
        git(self.repository, "worktree", "remove", "--force", str(place))

    def commit_by_hand(self, checkout: Path, branch: str, message: str) -> None:
        """Everything in a checkout becomes a commit on `branch`."""
        del branch  # the checkout is on it
        git(checkout, "add", "-A")
        git(checkout, "commit", "-q", "-m", message)

    def diff_by_hand(self, checkout: Path) -> None:
        """The whole change, untracked files too, and no index touched."""
        index = Path(git(checkout, "rev-parse", "--absolute-git-dir").decode().strip()) / "index"
        copy = self.root / "index"
        shutil.copy2(index, copy)
        git(checkout, "add", "-N", ".", GIT_INDEX_FILE=str(copy))
        assert git(checkout, "diff", "-M", self.base, GIT_INDEX_FILE=str(copy))

    def merge_by_hand(self, branch: str) -> None:
        """`branch` into `trunk`, the person's files along."""
        git(self.repository, "merge", "-q", "--no-ff", "-m", "Merge", branch)

    def put_back(self, commit: str) -> None:
        """`trunk` and the person's checkout to `commit`."""
        git(self.repository, "reset", "-q", "--hard", commit)

    def create(self, pairs: int) -> list[tuple[Cost, Cost]]:
        """Making a workspace."""
        from workspaces.services import ensure_workspace, remove_workspace

        def floor(turn: int) -> Cost:
            place = self.root / f"plain-{turn}"
            took = timed(lambda: self.add_by_hand(place, f"plain-{turn}"))
            self.drop_by_hand(place)
            return took

        def ours(turn: int) -> Cost:
            made: list[Any] = []
            took = timed(lambda: made.append(ensure_workspace(project=self.project, label=f"create {turn}")))
            remove_workspace(workspace_id=made[0].pk)
            return took

        return in_turns(pairs, floor, ours)

    def diff(self, pairs: int) -> list[tuple[Cost, Cost]]:
        """Everything in a workspace against its base."""
        from workspaces.services import diff_for, ensure_workspace, remove_workspace

        workspace = ensure_workspace(project=self.project, label="diff")
        checkout = Path(workspace.path)
        change(checkout, self.files, 1)
        self.commit_by_hand(checkout, workspace.branch, "Half of it")
        change(checkout, self.files, 2)
        time.sleep(1.1)  # files as old as the index are read again each time, by either side

        def shown() -> None:
            assert diff_for(workspace).total_files

        found = in_turns(pairs, lambda _: timed(lambda: self.diff_by_hand(checkout)), lambda _: timed(shown))
        remove_workspace(workspace_id=workspace.pk)
        return found

    def merge(self, pairs: int) -> list[tuple[Cost, Cost]]:
        """Bringing a committed change onto the target, which has moved on, its checkout along."""
        from workspaces.models import MergeAttempt
        from workspaces.services import ensure_workspace, remove_workspace, request_merge, run_merge

        workspace = ensure_workspace(project=self.project, label="merge")
        checkout = Path(workspace.path)
        (self.repository / name_of(self.files - 1)).write_text("meanwhile = True\n")
        self.commit_by_hand(self.repository, "trunk", "Meanwhile")
        before = self.tip()

        def committed(turn: int) -> None:
            self.put_back(before)
            change(checkout, self.files - 100, turn)
            self.commit_by_hand(checkout, workspace.branch, f"Turn {turn}")
            time.sleep(1.1)

        def floor(turn: int) -> Cost:
            committed(2 * turn)
            return timed(lambda: self.merge_by_hand(workspace.branch))

        def merge() -> None:
            attempt = request_merge(workspace=workspace, how="merge", message="Merge")
            run_merge(attempt.pk)
            assert MergeAttempt.objects.get(pk=attempt.pk).state == "merged"

        def ours(turn: int) -> Cost:
            committed(2 * turn + 1)
            return timed(merge)

        found = in_turns(pairs, floor, ours)
        self.put_back(self.base)
        remove_workspace(workspace_id=workspace.pk)
        return found


class JjBench(Bench):
    """The same with jj, in a repository with a store of its own."""

    vcs = "jj"

    def make(self) -> Path:
        folder = self.root / "jj repository"
        folder.mkdir()
        write_files(folder, self.files)
        jj(folder, "git", "init", "--no-colocate", ".")
        self.commit_by_hand(folder, "trunk", "Begin")
        return folder

    def tip(self) -> str:
        return jj(self.repository, "log", "--no-graph", "-r", "trunk", "-T", "commit_id").decode()

    def add_by_hand(self, place: Path, name: str) -> None:
        jj(self.repository, "workspace", "add", "--name", name, "-r", self.base, str(place))

    def drop_by_hand(self, place: Path) -> None:
        jj(self.repository, "workspace", "forget", place.name)
        shutil.rmtree(place)

    def commit_by_hand(self, checkout: Path, branch: str, message: str) -> None:
        jj(checkout, "commit", "-m", message)
        jj(checkout, "bookmark", "set", branch, "-r", "@-")

    def diff_by_hand(self, checkout: Path) -> None:
        assert jj(checkout, "diff", "--git", "--from", self.base)

    def merge_by_hand(self, branch: str) -> None:
        jj(self.repository, "new", "-m", "Merge", "trunk", branch)
        jj(self.repository, "bookmark", "set", "trunk", "-r", "@")

    def put_back(self, commit: str) -> None:
        jj(self.repository, "bookmark", "set", "trunk", "--allow-backwards", "-r", commit)
        jj(self.repository, "new", "trunk")


BENCHES: dict[str, type[Bench]] = {"git": Bench, "jj": JjBench}


def use_studio(root: Path) -> None:
    """The studio's services in this process, with a data folder of their own; jobs are asked for and nobody hears it."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "studio.settings",
        "STUDIO_HOME": str(root / "data"),
        "STUDIO_REPOSITORY_ROOTS": str(root),
        "HOME": str(root),
    }
    for name in ("DATABASE_URL", "REDIS_URL"):
        os.environ.pop(name, None)
    (root / "data" / "run").mkdir(parents=True, mode=0o700)
    import django

    django.setup()
    import structlog
    from celery.canvas import Signature
    from django.core.management import call_command

    from studio import doorbell

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    call_command("migrate", verbosity=0)
    mock.patch.object(Signature, "apply_async").start()
    mock.patch.object(doorbell, "ring").start()


def row(system: str, what: str, files: int, found: list[tuple[Cost, Cost]]) -> str:
    """A row of the table."""
    ratios = sorted(mine.clock / plain.clock for plain, mine in found)
    of_cpu = statistics.median(mine.cpu / plain.cpu for plain, mine in found)
    plain, mine = (statistics.median(cost.clock for cost in side) for side in zip(*found, strict=True))
    return (
        f"| {what} | {system} | {files:,} | {plain:,.0f} | {mine:,.0f} | {statistics.median(ratios):.2f} "
        f"| {ratios[0]:.2f} to {ratios[-1]:.2f} | {of_cpu:.2f} | {BUDGETS[what]} |"
    )


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", choices=BUDGETS, nargs="+", default=list(BUDGETS))
    parser.add_argument("--systems", choices=BENCHES, nargs="+", default=list(BENCHES))
    parser.add_argument("--folder", type=Path, help="where to work; a scratch folder of the system otherwise")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="studio-bench-", dir=options.folder)).resolve()
    try:
        use_studio(root)
        rows = [
            "| what | in | files | plain, ms | studio, ms | ratio | spread | ratio of CPU | budget |",
            "|---|---|---:|---:|---:|---:|---|---:|---:|",
        ]
        for files in options.files:
            (root / str(files)).mkdir()
            for system in options.systems:
                if system == "jj" and files > JJ_UP_TO and len(options.systems) > 1:
                    continue
                bench = BENCHES[system](root / str(files), files)
                for what in options.only:
                    rows.append(row(system, what, files, getattr(bench, what)(options.pairs)))
                    print(rows[-1], file=sys.stderr, flush=True)
                shutil.rmtree(bench.repository)
            shutil.rmtree(root / str(files))
        versions = [f"git {git(root, 'version').decode().split()[2]}"]
        if "jj" in options.systems:
            versions.append(jj(root, "--version").decode().split("-")[0].strip())
        machine = (
            f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {', '.join(versions)}"
        )
        print(f"{options.pairs} pairs each, {machine}\n\n" + "\n".join(rows))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
