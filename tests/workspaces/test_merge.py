"""Merging: three ways, conflicts, a person's checkout, races and crashes. Nothing is merged twice and nothing is lost."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection

from studio.kernel.errors import Conflict, Invalid
from tests.factories import git, make_repository, make_user
from workspaces import process
from workspaces.locks import held
from workspaces.models import MergeAttempt, MergeState, Workspace
from workspaces.services import (
    commit_left,
    ensure_workspace,
    register_project,
    request_merge,
    request_removal,
    retry_merge,
    run_merge,
    sweep,
)
from workspaces.services.merges import run as merging
from workspaces.signals import merge_settled
from workspaces.vcs import git_command, git_merge, git_target
from workspaces.vcs.git import GitVcs
from workspaces.vcs.git_command import GitError

pytestmark = pytest.mark.django_db


@pytest.fixture
def settled():
    """The attempts that settled, in order."""
    seen: list[object] = []

    def note(*, attempt_id, **_):
        assert connection.in_atomic_block
        seen.append(attempt_id)

    merge_settled.connect(note)
    yield seen
    merge_settled.disconnect(note)


def merge(workspace, how="merge", actor=None, message="Add it\n\nTask: DEMO-1"):
    attempt = request_merge(workspace=workspace, how=how, message=message, actor=actor)
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    return attempt


def work(workspace, files, message="Work"):
    for name, text in files.items():
        path = Path(workspace.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return commit_left(workspace, message=message, author_name="agent")


def tree(folder, commit):
    return git(folder, "rev-parse", f"{commit}^{{tree}}").strip()


def parents(folder, commit="trunk"):
    return git(folder, "log", "-1", "--format=%P", commit).split()


def clean_at(folder, branch="trunk"):
    """The checkout is on the branch and shows exactly its commit."""
    return (
        git(folder, "status", "--porcelain") == ""
        and git(folder, "branch", "--show-current").strip() == branch
        and git(folder, "write-tree").strip() == tree(folder, branch)
    )


@pytest.fixture
def moved_trunk(repository, commit):
    """The target has moved on since the workspace was made, elsewhere than the agent works."""

    def move():
        (repository / "lib" / "two.txt").write_text("zwei\n")
        return commit(repository, "Somebody else's work")

    return move


def test_merge__a_merge_commit(owner, workspace, repository, moved_trunk, settled):
    source = work(workspace, {"new.txt": "new\n", "app.py": "print('bye')\n"})
    before = moved_trunk()
    attempt = merge(workspace, actor=owner)
    assert (attempt.state, attempt.target_before, attempt.source_commit) == ("merged", before, source)
    assert git(repository, "rev-parse", "trunk").strip() == attempt.result_commit
    assert parents(repository) == [before, source]
    assert git(repository, "log", "-1", "--format=%an <%ae>|%cn|%B").strip() == (
        "owner <owner@example.invalid>|owner|Add it\n\nTask: DEMO-1"
    )
    assert (repository / "new.txt").read_text() == "new\n"
    assert (repository / "lib/two.txt").read_text() == "zwei\n"
    assert clean_at(repository)
    assert str(repository) in attempt.checkout_note
    assert settled == [attempt.pk]
    assert "opencode-studio: merge of studio/demo-1" in git(repository, "reflog", "-1", "trunk")


def test_merge__starts_git_twelve_times(workspace, repository, moved_trunk, monkeypatch):
    """On a small repository a merge costs what its processes cost to start: see docs/performance.md."""
    work(workspace, {"new.txt": "new\n"})
    moved_trunk()
    started = []

    def counted(argv, **options):
        words = argv[1:]
        while words[0] == b"-c":
            words = words[2:]
        started.append(words[0].decode())
        return process.run(argv, **options)

    monkeypatch.setattr(git_command, "run", counted)
    assert merge(workspace).state == "merged"
    look, compute = ["status", "merge-base"], ["config", "merge-base", "merge-tree"]
    assert started[:2] == look
    assert sorted(started[2:5]) == compute
    assert started[5:8] == ["commit-tree", "diff-tree", "worktree"]
    assert sorted(started[8:10]) == ["diff-tree", "status"]
    assert started[10:] == ["read-tree", "update-ref"]


def test_squash__one_commit(owner, workspace, repository, moved_trunk):
    work(workspace, {"a.txt": "1\n"})
    work(workspace, {"b.txt": "2\n"})
    before = moved_trunk()
    attempt = merge(workspace, "squash", owner)
    assert attempt.state == "merged"
    assert parents(repository) == [before]
    assert git(repository, "diff", "--name-only", before, "trunk").split() == ["a.txt", "b.txt"]
    assert clean_at(repository)


def test_rebase__replays_each_commit(owner, workspace, repository, moved_trunk):
    work(workspace, {"a.txt": "1\n"}, "First ü\n\nBody")
    work(workspace, {"b.txt": "2\n"}, "Second")
    dates = git(workspace.path, "log", "-2", "--format=%aI")
    before = moved_trunk()
    attempt = merge(workspace, "rebase", owner)
    assert attempt.state == "merged"
    log = git(repository, "log", "--format=%s|%b|%an|%cn|%P|", f"{before}..trunk").split("|\n")
    assert [row.split("|")[0] for row in log if row] == ["Second", "First ü"]
    assert git(repository, "log", "-2", "--format=%aI") == dates
    assert git(repository, "log", "-1", "--format=%an|%cn") == "agent via OpenCode Studio|owner\n"
    assert git(repository, "rev-list", "--merges", "trunk") == ""
    assert clean_at(repository)


def test_rebase__leaves_out_what_the_target_has_already(workspace, repository, commit):
    work(workspace, {"a.txt": "1\n"}, "Picked already")
    work(workspace, {"b.txt": "2\n"}, "Not yet")
    git(repository, "cherry-pick", "studio/demo-1~1")
    before = git(repository, "rev-parse", "trunk").strip()
    assert merge(workspace, "rebase").state == "merged"
    assert git(repository, "log", "--format=%s", f"{before}..trunk") == "Not yet\n"


def test_rebase__of_a_branch_that_merged_the_target(workspace, repository, moved_trunk):
    work(workspace, {"a.txt": "1\n"})
    moved_trunk()
    git(workspace.path, "merge", "-q", "--no-edit", "trunk")
    work(workspace, {"b.txt": "2\n"})
    assert merge(workspace, "rebase").state == "merged"
    assert git(repository, "rev-list", "--merges", "trunk") == ""
    assert sorted(path.name for path in repository.glob("?.txt")) == ["a.txt", "b.txt"]


def test_rebase__would_lose_what_a_merge_commit_decided(workspace, repository, commit):
    work(workspace, {"app.py": "mine\n"})
    (repository / "app.py").write_text("theirs\n")
    commit(repository)
    with pytest.raises(Exception, match="merge"):
        git(workspace.path, "merge", "-q", "trunk")
    work(workspace, {"app.py": "both\n"})
    attempt = merge(workspace, "rebase")
    assert attempt.state in ("conflicted", "refused")
    assert merge(workspace, "squash").state == "merged"
    assert (repository / "app.py").read_text() == "both\n"


def test_rebase__would_lose_what_was_changed_in_a_merge_without_conflict(workspace, repository, moved_trunk):
    work(workspace, {"a.txt": "1\n"})
    moved_trunk()
    git(workspace.path, "merge", "-q", "--no-commit", "--no-ff", "trunk")
    work(workspace, {"app.py": "only in the merge\n"})
    attempt = merge(workspace, "rebase")
    assert (attempt.state, "use merge or squash" in attempt.error) == ("refused", True)
    assert merge(workspace, "squash").state == "merged"
    assert (repository / "app.py").read_text() == "only in the merge\n"


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_conflict__names_the_files_and_moves_nothing(workspace, repository, commit, settled, how):
    work(workspace, {"app.py": "mine\n", "ünd.txt": "mine\n", "fine.txt": "fine\n"})
    (repository / "app.py").write_text("theirs\n")
    (repository / "ünd.txt").write_text("theirs\n")
    before = commit(repository)
    attempt = merge(workspace, how)
    assert (attempt.state, attempt.error_code) == ("conflicted", "merge_conflict")
    assert attempt.conflicts == ["app.py", "ünd.txt"]
    assert git(repository, "rev-parse", "trunk").strip() == before
    assert clean_at(repository)
    assert git(workspace.path, "status", "--porcelain") == ""
    assert settled == [attempt.pk]
    work(workspace, {"app.py": "theirs\n", "ünd.txt": "theirs\n"})
    if how != "rebase":  # each commit by itself still conflicts
        assert merge(workspace, how).state == "merged"


def test_merge__takes_what_is_not_committed(workspace, repository):
    """What is shown as the change is what is merged."""
    (Path(workspace.path) / "late.txt").write_text("by hand\n")
    assert merge(workspace).state == "merged"
    assert (repository / "late.txt").exists()


def test_merge__of_nothing_is_refused(workspace, repository, settled):
    before = git(repository, "rev-parse", "trunk")
    attempt = merge(workspace)
    assert (attempt.state, attempt.error_code) == ("refused", "merge_refused")
    assert "nothing to merge" in attempt.error
    assert git(repository, "rev-parse", "trunk") == before
    assert settled == [attempt.pk]


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_merge__of_what_is_there_already(workspace, repository, how):
    work(workspace, {"a.txt": "1\n"})
    git(repository, "merge", "-q", "--no-ff", "-m", "By hand", "studio/demo-1")
    before = git(repository, "rev-parse", "trunk").strip()
    attempt = merge(workspace, how)
    assert (attempt.state, attempt.result_commit) == ("merged", before)
    assert "already" in attempt.checkout_note


def test_merge__into_a_branch_that_nobody_has_checked_out(workspace, repository):
    work(workspace, {"a.txt": "1\n"})
    git(repository, "checkout", "-q", "-b", "elsewhere")
    (repository / "app.py").write_text("unsaved, on another branch\n")
    attempt = merge(workspace)
    assert (attempt.state, attempt.checkout_note) == ("merged", "")
    assert git(repository, "status", "--porcelain") == " M app.py\n"
    assert git(repository, "log", "-1", "--format=%s", "trunk") == "Add it\n"


def test_merge__the_target_is_gone(workspace, repository):
    work(workspace, {"a.txt": "1\n"})
    git(repository, "checkout", "-q", "-b", "elsewhere")
    git(repository, "branch", "-D", "trunk")
    attempt = merge(workspace)
    assert (attempt.state, "no branch" in attempt.error) == ("refused", True)


def test_merge__unrelated_histories(workspace, repository):
    git(workspace.path, "checkout", "-q", "--orphan", "fresh")
    work(workspace, {"a.txt": "1\n"})
    attempt = merge(workspace)
    assert (attempt.state, "in common" in attempt.error) == ("refused", True)


def test_merge__who_is_the_author(workspace, repository, project):
    work(workspace, {"a.txt": "1\n"})
    person = make_user("nomail")
    person.email = ""
    person.first_name, person.last_name = "Ada <admin>\n", "Lovelace"
    person.save()
    merge(workspace, actor=person)
    assert git(repository, "log", "-1", "--format=%an <%ae>") == "A Person <person@example.invalid>\n"
    work(workspace, {"b.txt": "1\n"})
    person.email = "ada@example.invalid"
    person.save()
    merge(workspace, actor=person)
    assert git(repository, "log", "-1", "--format=%an <%ae>") == "Ada admin Lovelace <ada@example.invalid>\n"
    work(workspace, {"c.txt": "1\n"})
    merge(workspace)
    assert git(repository, "log", "-1", "--format=%an") == "OpenCode Studio\n"


def test_request__refusals(workspace):
    with pytest.raises(Invalid):
        request_merge(workspace=workspace, how="octopus", message="m")
    request_merge(workspace=workspace, how="merge", message="m")
    with pytest.raises(Conflict, match="already on its way"):
        request_merge(workspace=workspace, how="squash", message="m")
    assert MergeAttempt.objects.count() == 1
    request_removal(workspace)
    workspace.refresh_from_db()
    with pytest.raises(Conflict, match="is being removed"):
        request_merge(workspace=workspace, how="merge", message="m")


# A person's checkout


def test_dirty__is_refused_with_the_names_and_nothing_moves(workspace, repository, settled):
    work(workspace, {"a.txt": "1\n"})
    (repository / "app.py").write_text("unsaved\n")
    (repository / "lib" / "two.txt").write_text("staged\n")
    git(repository, "add", "lib")
    before = git(repository, "rev-parse", "trunk"), git(repository, "status", "--porcelain")
    attempt = merge(workspace)
    assert (attempt.state, attempt.error_code) == ("refused", "merge_refused")
    assert "app.py, lib/two.txt" in attempt.error
    assert str(repository) in attempt.error
    assert (git(repository, "rev-parse", "trunk"), git(repository, "status", "--porcelain")) == before
    assert not (repository / "a.txt").exists()
    assert settled == [attempt.pk]
    git(repository, "reset", "-q", "--hard")
    assert merge(workspace).state == "merged"
    assert clean_at(repository)


@pytest.mark.parametrize("kind", ["file", "ignored", "folder", "in the way of a folder", "link"])
def test_untracked__files_that_would_be_overwritten(workspace, repository, commit, tmp_path, kind):
    (repository / ".gitignore").write_text("*.env\n")
    commit(repository)
    work(workspace, {"new/local.env.txt": "agent's\n", "secret.txt": "agent's\n"})
    git(workspace.path, "mv", "secret.txt", "secret.env")
    git(workspace.path, "commit", "-q", "-m", "m")
    names = {
        "file": "new/local.env.txt",
        "ignored": "secret.env",
        "folder": "secret.env/inside.txt",
        "in the way of a folder": "new",
        "link": "new/local.env.txt",
    }
    mine = repository / names[kind]
    mine.parent.mkdir(exist_ok=True)
    if kind == "link":
        (tmp_path / "target").write_text("precious\n")
        mine.symlink_to(tmp_path / "target")
    else:
        mine.write_text("precious\n")
    before = git(repository, "rev-parse", "trunk")
    attempt = merge(workspace)
    assert (attempt.state, names[kind] in attempt.error) == ("refused", True), attempt.error
    assert mine.read_text() == "precious\n"
    assert git(repository, "rev-parse", "trunk") == before


def test_untracked__files_elsewhere_do_not_matter(workspace, repository):
    work(workspace, {"new/a.txt": "1\n"})
    (repository / "new").mkdir()
    (repository / "new" / "mine.txt").write_text("mine\n")
    (repository / "notes.txt").write_text("mine\n")
    assert merge(workspace).state == "merged"
    assert (repository / "new" / "a.txt").exists()
    assert git(repository, "status", "--porcelain") == "?? new/mine.txt\n?? notes.txt\n"


def test_checkout__follows_deletions_renames_modes_and_types(workspace, repository):
    checkout = Path(workspace.path)
    (checkout / "README.md").unlink()
    git(checkout, "mv", "lib/deep/one.txt", "ünö.txt")
    (checkout / "app.py").chmod(0o755)
    (checkout / "lib/two.txt").unlink()
    (checkout / "lib/two.txt").symlink_to("../app.py")
    assert merge(workspace).state == "merged"
    assert clean_at(repository)
    assert not (repository / "lib" / "deep").exists()
    assert (repository / "lib/two.txt").is_symlink()


def test_checkout__touched_files_are_not_dirty(workspace, repository):
    work(workspace, {"app.py": "new\n"})
    (repository / "app.py").touch()
    assert merge(workspace).state == "merged"
    assert clean_at(repository)


def test_checkout__several_and_none_of_them_left_behind(workspace, repository, tmp_path):
    work(workspace, {"a.txt": "1\n"})
    git(repository, "checkout", "-q", "--detach")
    git(repository, "worktree", "add", "-q", str(tmp_path / "one"), "trunk")
    git(repository, "worktree", "add", "-q", "--force", str(tmp_path / "two"), "trunk")
    attempt = merge(workspace)
    assert attempt.state == "merged"
    assert clean_at(tmp_path / "one")
    assert clean_at(tmp_path / "two")
    assert not (repository / "a.txt").exists()


def test_checkout__one_dirty_of_several_refuses_all(workspace, repository, tmp_path):
    work(workspace, {"a.txt": "1\n"})
    git(repository, "worktree", "add", "-q", "--force", str(tmp_path / "two"), "trunk")
    (tmp_path / "two" / "app.py").write_text("unsaved\n")
    assert merge(workspace).state == "refused"
    assert clean_at(repository)
    assert not (repository / "a.txt").exists()


@pytest.mark.parametrize("begun", ["merge", "rebase", "cherry-pick"])
def test_checkout__in_the_middle_of_something(workspace, repository, commit, begun):
    work(workspace, {"a.txt": "1\n"})
    git(repository, "checkout", "-q", "-b", "side")
    (repository / "app.py").write_text("side\n")
    commit(repository)
    git(repository, "checkout", "-q", "trunk")
    (repository / "app.py").write_text("trunk\n")
    before = commit(repository)
    with pytest.raises(Exception, match=begun):
        git(repository, begun, "side")
    attempt = merge(workspace)
    assert (attempt.state, begun in attempt.error) == ("refused", True), attempt.error
    assert git(repository, "rev-parse", "trunk").strip() == before


def test_checkout__another_git_is_at_work(workspace, repository, monkeypatch):
    monkeypatch.setattr(git_target, "PATIENCE", 0.2)
    work(workspace, {"a.txt": "1\n"})
    (repository / ".git" / "index.lock").write_text("")
    attempt = merge(workspace)
    assert (attempt.state, "index.lock" in attempt.error) == ("refused", True)
    assert (repository / ".git" / "index.lock").exists()


def test_checkout__becomes_dirty_between_look_and_leap(workspace, repository, monkeypatch):
    """git itself refuses then, and what was brought along already is taken back."""
    work(workspace, {"app.py": "agent's\n"})
    look = git_target._require_free

    def look_then_edit(checkout, *args, **options):
        look(checkout, *args, **options)
        (checkout / "app.py").write_text("just typed\n")

    monkeypatch.setattr(git_target, "_require_free", look_then_edit)
    before = git(repository, "rev-parse", "trunk")
    attempt = merge(workspace)
    assert (attempt.state, "app.py" in attempt.error) == ("refused", True), attempt.error
    assert (repository / "app.py").read_text() == "just typed\n"
    assert git(repository, "rev-parse", "trunk") == before


# Races and crashes


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
    from datetime import timedelta

    from studio.kernel.clock import later, now

    attempt = request_merge(workspace=workspace, how="merge", message="m")
    with django_capture_on_commit_callbacks(execute=True):
        assert sweep() == 0  # its own doorbell may still be on its way
    MergeAttempt.objects.update(created_at=now() - timedelta(seconds=5))
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


# Against git's own merge


@pytest.mark.parametrize("seed", range(6))
def test_merge__agrees_with_git(workspace, project, repository, commit, tmp_path, seed):
    """Random changes on both sides: the same tree, or the same conflicted files, as `git merge` in a scratch clone."""
    chance = random.Random(seed)
    scramble(chance, Path(workspace.path), "agent")
    source = commit_left(workspace, message="m", author_name="a")
    scramble(chance, repository, "person")
    before = commit(repository)
    scratch = tmp_path / "scratch"
    git(tmp_path, "clone", "-q", str(repository), str(scratch))
    try:
        git(scratch, "merge", "-q", "--no-ff", "-m", "m", source)
        expected = tree(scratch, "HEAD")
    except Exception:
        expected = ""
    for how in ("squash", "merge", "rebase"):
        attempt = merge(workspace, how)
        if expected:
            assert (attempt.state, tree(repository, "trunk")) == ("merged", expected), attempt.error
            assert clean_at(repository)
        else:
            unmerged = set(git(scratch, "diff", "--name-only", "--diff-filter=U", "-z").split("\0")) - {""}
            assert attempt.state == "conflicted"
            assert set(attempt.conflicts) == unmerged
        git(repository, "reset", "-q", "--hard", before)


def scramble(chance, folder, who):
    """Edits of files that the other side may edit too, moves, deletions and new files."""
    long = folder / "lib" / "deep" / "one.txt"
    text = long.read_text().splitlines(keepends=True)
    for _ in range(2):
        text[chance.randrange(len(text))] = f"{who} {chance.randint(1, 9)}\n"
    long.write_text("".join(text))
    if chance.random() < 0.4:
        long.rename(folder / "lib" / f"moved by {who}.txt")
    if chance.random() < 0.3:
        (folder / "lib" / "two.txt").unlink()
    elif chance.random() < 0.3:
        (folder / "lib" / "two.txt").write_text(f"{who}\n")
    (folder / f"new by {chance.choice([who, 'both'])}.txt").write_text(chance.choice(["same\n", f"{who}\n"]))
    (folder / "app.py").chmod(chance.choice([0o644, 0o755]))


def test_the_workspace_row_follows(workspace):
    head = work(workspace, {"a.txt": "1\n"})
    assert Workspace.objects.get(pk=workspace.pk).head_commit == head
