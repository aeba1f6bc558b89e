"""Merges and races, crashes, other merges at the same moment: nothing is merged twice and nothing is lost."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from studio.kernel.clock import later
from studio.kernel.errors import Conflict
from tests.factories import git, make_repository
from tests.workspaces.merging import clean_at, merge, parents, work
from workspaces.locks import held
from workspaces.models import MergeAttempt, MergeState
from workspaces.services import (
    ensure_workspace,
    register_project,
    request_merge,
    retry_merge,
    run_merge,
    sweep,
)
from workspaces.services.merges import run as merging
from workspaces.vcs import git_merge, git_target
from workspaces.vcs.git import GitVcs
from workspaces.vcs.git_command import GitError

pytestmark = pytest.mark.django_db


def test_race__the_target_moves_while_the_merge_is_computed(workspace, repository, moved_trunk, monkeypatch):
    work(workspace, {"a.txt": "1\n"})
    compute = git_merge.compute_merge
    moves = []

    def compute_late(*args):
        result = compute(*args)
        if not moves:
            moves.append(moved_trunk())
        return result

    monkeypatch.setattr(GitVcs, "compute_merge", staticmethod(compute_late))
    attempt = merge(workspace)
    assert (attempt.state, attempt.target_before) == ("merged", moves[0])
    assert parents(repository)[0] == moves[0]
    assert clean_at(repository)


def test_race__the_target_moves_between_checkout_and_branch(workspace, repository, monkeypatch):
    """The checkout is taken back to where the branch really is, and the merge is computed anew."""
    work(workspace, {"a.txt": "1\n"})
    bring = git_target._bring
    raced = []

    def bring_then_race(checkout, old, new):
        bring(checkout, old, new)
        if not raced:
            other = git(repository, "commit-tree", f"{old}^{{tree}}", "-p", old, "-m", "Pushed meanwhile").strip()
            git(repository, "update-ref", "refs/heads/trunk", other, old)
            raced.append(other)

    monkeypatch.setattr(git_target, "_bring", bring_then_race)
    attempt = merge(workspace)
    assert (attempt.state, attempt.target_before) == ("merged", raced[0])
    assert git(repository, "log", "--format=%s", "--first-parent", "-2", "trunk") == "Add it\nPushed meanwhile\n"
    assert clean_at(repository)


def test_race__a_target_that_never_rests(workspace, repository, monkeypatch, settled):
    work(workspace, {"a.txt": "1\n"})
    compute = git_merge.compute_merge

    def compute_late(*args):
        result = compute(*args)
        git(repository, "commit", "-q", "--allow-empty", "-m", "Again")
        return result

    monkeypatch.setattr(GitVcs, "compute_merge", staticmethod(compute_late))
    attempt = merge(workspace)
    assert (attempt.state, attempt.attempts) == ("computed", 1)
    assert clean_at(repository)
    for _ in range(merging.MAX_ATTEMPTS):
        run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, "keeps moving" in attempt.error) == ("failed", True)
    assert settled == [attempt.pk]


class Killed(BaseException):
    """kill -9, for code that must not catch it."""


def killed(*_args, **_options):
    raise Killed


CRASHES = {
    "before anything": ("workspaces.services.merges.run._compute", "before"),
    "after the result was recorded": ("workspaces.vcs.git.GitVcs.advance_branch", "before"),
    "after the checkout was brought along": ("workspaces.vcs.git_target._bring", "after"),
    "after the branch was moved": ("workspaces.vcs.git.GitVcs.advance_branch", "after"),
    "while it was settled": ("workspaces.services.merges.run._settle", "before"),
}


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
@pytest.mark.parametrize("crash", CRASHES)
def test_crash__the_next_call_finishes_and_merges_once(
    workspace, repository, moved_trunk, settled, monkeypatch, crash, how
):
    work(workspace, {"a.txt": "1\n"})
    before = moved_trunk()
    attempt = request_merge(workspace=workspace, how=how, message="Add it")
    target, when = CRASHES[crash]
    with monkeypatch.context() as broken:
        real = _resolve(target)

        def die(*args, **options):
            if when == "after":
                real(*args, **options)
            raise Killed

        broken.setattr(target, staticmethod(die) if "GitVcs" in target else die)
        with pytest.raises(Killed):
            run_merge(attempt.pk)
    assert settled == []
    for _ in range(2):
        run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.target_before) == ("merged", before), attempt.error
    assert git(repository, "rev-list", "--count", "--first-parent", f"{before}..trunk") == "1\n"
    assert clean_at(repository)
    assert settled == [attempt.pk]


def _resolve(target):
    from importlib import import_module

    parts = target.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AssertionError(target)


def test_crash__git_itself_died_half_way_in_the_checkout(workspace, repository, monkeypatch):
    """Some files are new, some old, one is gone, the index is old: recognised as the merge's own work and finished."""
    checkout = Path(workspace.path)
    (checkout / "README.md").unlink()
    work(workspace, {"a.txt": "1\n", "b.txt": "2\n", "app.py": "new\n", "lib/two.txt": "zwei\n"})
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    with monkeypatch.context() as broken:
        broken.setattr(git_target, "_bring", killed)
        with pytest.raises(Killed):
            run_merge(attempt.pk)
    (repository / "a.txt").write_text("1\n")
    (repository / "app.py").write_text("new\n")
    (repository / "README.md").unlink()
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert attempt.state == "merged", attempt.error
    assert clean_at(repository)


def test_crash__what_a_person_typed_meanwhile_is_safe(workspace, repository, monkeypatch):
    work(workspace, {"a.txt": "1\n", "app.py": "new\n"})
    before = git(repository, "rev-parse", "trunk")
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    bring = git_target._bring

    def bring_then_die(*args):
        bring(*args)
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(git_target, "_bring", bring_then_die)
        with pytest.raises(Killed):
            run_merge(attempt.pk)
    (repository / "lib" / "two.txt").write_text("typed meanwhile\n")
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, "lib/two.txt" in attempt.error, "a.txt" in attempt.error) == ("refused", True, False)
    assert git(repository, "rev-parse", "trunk") == before
    assert git(repository, "status", "--porcelain") == " M lib/two.txt\n"  # taken back, but for what was typed


def test_crash__and_the_target_moved_before_the_next_call(workspace, repository, moved_trunk, monkeypatch):
    work(workspace, {"a.txt": "1\n"})
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    with monkeypatch.context() as broken:
        broken.setattr("workspaces.vcs.git.GitVcs.advance_branch", killed)
        with pytest.raises(Killed):
            run_merge(attempt.pk)
    tip = moved_trunk()
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, parents(repository)[0]) == ("merged", tip)


def test_run__again_after_the_end_does_nothing(workspace, repository, settled):
    work(workspace, {"a.txt": "1\n"})
    attempt = merge(workspace)
    tip = git(repository, "rev-parse", "trunk")
    run_merge(attempt.pk)
    run_merge("00000000-0000-0000-0000-000000000000")
    assert git(repository, "rev-parse", "trunk") == tip
    assert settled == [attempt.pk]


def test_run__a_stale_worker_settles_nothing(workspace, monkeypatch, settled):
    """Its epoch is gone: another worker took the attempt over while this one slept."""
    work(workspace, {"a.txt": "1\n"})
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    compute = git_merge.compute_merge

    def compute_slowly(*args):
        result = compute(*args)
        MergeAttempt.objects.filter(pk=attempt.pk).update(lease_epoch=99)
        return result

    monkeypatch.setattr(GitVcs, "compute_merge", staticmethod(compute_slowly))
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, settled) == ("queued", [])


def test_run__errors_that_pass_are_tried_again_then_given_up(workspace, monkeypatch, settled):
    work(workspace, {"a.txt": "1\n"})
    attempt = request_merge(workspace=workspace, how="merge", message="m")

    def fail(*_args):
        raise GitError("git took too long.", transient=True)

    monkeypatch.setattr(GitVcs, "compute_merge", staticmethod(fail))
    for _ in range(merging.MAX_ATTEMPTS - 1):
        run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error, settled) == ("queued", "git took too long.", [])
    retry_merge(attempt)
    for _ in range(merging.MAX_ATTEMPTS):
        run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, attempt.error_code, settled) == ("failed", "merge_refused", [attempt.pk])
    with pytest.raises(Conflict):
        retry_merge(attempt)


def test_run__a_merge_that_kills_its_worker_ends_all_the_same(workspace, monkeypatch, settled):
    work(workspace, {"a.txt": "1\n"})
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    with monkeypatch.context() as broken:
        broken.setattr(GitVcs, "compute_merge", staticmethod(killed))
        for _ in range(merging.MAX_ATTEMPTS):
            with pytest.raises(Killed):
                run_merge(attempt.pk)
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, settled) == ("failed", [attempt.pk])


def test_run__given_up_but_the_branch_has_it(workspace, repository, monkeypatch, settled):
    work(workspace, {"a.txt": "1\n"})
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    advance = GitVcs.advance_branch

    def advance_then_fail(*args, **options):
        advance(*args, **options)
        raise GitError("The disk is full.")

    monkeypatch.setattr(GitVcs, "advance_branch", staticmethod(advance_then_fail))
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, settled) == ("merged", [attempt.pk])
    assert git(repository, "rev-parse", "trunk").strip() == attempt.result_commit


def test_run__waits_for_a_repository_that_is_away(workspace, repository, settled):
    work(workspace, {"a.txt": "1\n"})
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    away = repository.rename(repository.with_name("away"))
    for _ in range(7):  # however long it takes
        run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, settled, "is not there" in attempt.error) == ("queued", [], True)
    away.rename(repository)
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert (attempt.state, settled, attempt.error) == ("merged", [attempt.pk], "")


def test_run__another_merge_in_the_same_repository_waits(workspace, repository, monkeypatch):
    monkeypatch.setattr(merging, "LOCK_PATIENCE", 0.1)
    work(workspace, {"a.txt": "1\n"})
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    with held(f"repository:{repository / '.git'}", patience=0):
        run_merge(attempt.pk)
        attempt.refresh_from_db()
        assert (attempt.state, attempt.attempts) == ("queued", 0)
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert attempt.state == "merged"


def test_sweep__rings_for_what_was_left_behind(
    workspace, requested_jobs, django_capture_on_commit_callbacks, monkeypatch
):
    monkeypatch.setattr(sys.modules[sweep.__module__], "OVERDUE", timedelta(hours=1))  # however slow the machine is
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep() == 0  # its own doorbell may still be on its way
    MergeAttempt.objects.update(created_at=later(-7200))
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep() == 1
    assert requested_jobs == [("workspaces.merge", (str(attempt.pk),))]
    MergeAttempt.objects.update(lease_until=later(30))
    assert sweep() == 0
    MergeAttempt.objects.update(state=MergeState.MERGED, lease_until=None)
    assert sweep() == 0


@pytest.mark.django_db(transaction=True)
def test_two_at_once__in_one_repository_both_arrive(owner, tmp_path):
    repository = make_repository(tmp_path / "r", branch="trunk")
    project = register_project(actor=owner, path=str(repository))
    attempts = []
    for number in range(4):
        workspace = ensure_workspace(project=project, label=f"X-{number}")
        (Path(workspace.path) / f"file{number}.txt").write_text("x\n")
        attempts.append(
            request_merge(workspace=workspace, how=["merge", "squash"][number % 2], message=f"M{number}").pk
        )

    def run(attempt_id):
        try:
            run_merge(attempt_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, attempts * 2))
    assert set(MergeAttempt.objects.values_list("state", flat=True)) == {"merged"}
    assert len(list(repository.glob("file*.txt"))) == 4
    assert git(repository, "rev-list", "--count", "--first-parent", "trunk") == "5\n"
    assert clean_at(repository)


@pytest.mark.django_db(transaction=True)
def test_two_at_once__a_person_commits_all_the_while(owner, tmp_path):
    """Neither the person's commits nor the merges are lost."""
    repository = make_repository(tmp_path / "r", branch="trunk")
    project = register_project(actor=owner, path=str(repository))
    git(repository, "checkout", "-q", "--detach")
    done = threading.Event()
    pushed = []

    def push() -> None:
        while not done.is_set():
            tip = git(repository, "rev-parse", "trunk").strip()
            mine = git(repository, "commit-tree", f"{tip}^{{tree}}", "-p", tip, "-m", "P").strip()
            try:
                git(repository, "update-ref", "refs/heads/trunk", mine, tip)
            except Exception:
                continue
            pushed.append(mine)
            done.wait(0.25)

    pusher = threading.Thread(target=push)
    pusher.start()
    try:
        for number in range(4):
            workspace = ensure_workspace(project=project, label=f"X-{number}")
            work(workspace, {f"file{number}.txt": "x\n"})
            attempt = request_merge(workspace=workspace, how="squash", message="M")
            for _ in range(5):
                run_merge(attempt.pk)
    finally:
        done.set()
        pusher.join()
    history = git(repository, "rev-list", "trunk").split()
    assert set(pushed) <= set(history)
    arrived = {name for name in git(repository, "ls-tree", "--name-only", "trunk").split() if name.startswith("file")}
    merged = MergeAttempt.objects.filter(state=MergeState.MERGED).select_related("workspace")
    assert {f"file{one.workspace.label[-1]}.txt" for one in merged} == arrived
    # Where the target moved too often, that is said and nothing is half done.
    assert set(MergeAttempt.objects.values_list("state", flat=True)) <= {"merged", "failed"}
