"""Merging: three ways, conflicts, authors, refusals; held against git's own merge."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from studio.kernel.errors import Conflict, Invalid
from tests.factories import git, make_user
from tests.workspaces.merging import clean_at, merge, parents, tree, work
from workspaces import process
from workspaces.models import MergeAttempt, Workspace
from workspaces.services import (
    commit_left,
    request_merge,
    request_removal,
)
from workspaces.vcs import git_command

pytestmark = pytest.mark.django_db


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
