"""Removing a workspace: what is not merged is kept, what is not ours is left alone, and a crash is finished."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from django.conf import settings

from tests.factories import git, make_repository
from workspaces.models import KeptWork, Workspace
from workspaces.services import (
    commit_left,
    diff_for,
    ensure_workspace,
    register_project,
    remove_workspace,
    request_merge,
    request_removal,
    run_merge,
    sweep,
)
from workspaces.services.leaving import leaving_of
from workspaces.services.ownership import unknown_folders
from workspaces.vcs.deleting import gone_beside
from workspaces.vcs.git import GitVcs
from workspaces.vcs.git_command import GitError

pytestmark = pytest.mark.django_db


def remove(workspace) -> Workspace:
    request_removal(workspace)
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    return workspace


def die(*_args, **_options):
    raise KeyboardInterrupt


def leftovers(repository):
    """What git still knows of workspaces: branches, worktrees, refs."""
    branches = git(repository, "for-each-ref", "--format=%(refname)", "refs/heads/studio", "refs/studio").split()
    return branches, git(repository, "worktree", "list").count("\n") - 1


def test_remove__unmerged_work_is_kept_and_can_be_applied(workspace, checkout, repository, tmp_path):
    (checkout / "committed ü.txt").write_text("1\n")
    (checkout / "data.bin").write_bytes(bytes(range(256)))
    commit_left(workspace, message="First", author_name="a")
    (checkout / "app.py").write_text("not committed\n")
    (checkout / "untracked.txt").write_text("2\n")
    remove(workspace)
    assert (workspace.state, workspace.error, checkout.exists()) == ("removed", "", False)
    assert leftovers(repository) == ([], 0)
    patch = Path(workspace.kept_patch)
    assert patch == Path(settings.DATA) / "kept" / "DEMO" / f"demo-1-{workspace.pk.hex[:8]}.patch"
    git(repository, "apply", str(patch))
    assert (repository / "app.py").read_text() == "not committed\n"
    assert (repository / "data.bin").read_bytes() == bytes(range(256))
    git(repository, "fetch", "-q", str(patch.with_suffix(".bundle")), "refs/heads/studio/demo-1:back")
    assert git(repository, "log", "--format=%s", "trunk..back").splitlines()[1] == "First"
    assert git(repository, "show", "back:untracked.txt") == "2\n"


@pytest.mark.parametrize("how", ["merge", "squash", "rebase"])
def test_remove__merged_work_needs_no_patch(workspace, checkout, repository, commit, how):
    (checkout / "new.txt").write_text("1\n")
    (repository / "app.py").write_text("moved on\n")
    commit(repository)
    attempt = request_merge(workspace=workspace, how=how, message="m")
    run_merge(attempt.pk)
    remove(workspace)
    assert (workspace.state, workspace.kept_patch) == ("removed", "")
    assert leftovers(repository) == ([], 0)
    # What was merged can still be looked at.
    assert [file.path for file in diff_for(workspace).files] == ["new.txt"]


def test_remove__merged_by_hand(workspace, checkout, repository):
    (checkout / "new.txt").write_text("1\n")
    commit_left(workspace, message="m", author_name="a")
    git(repository, "merge", "-q", "studio/demo-1")
    assert remove(workspace).kept_patch == ""


def test_remove__work_after_the_merge_is_kept(workspace, checkout, repository):
    (checkout / "new.txt").write_text("1\n")
    attempt = request_merge(workspace=workspace, how="squash", message="m")
    run_merge(attempt.pk)
    (checkout / "later.txt").write_text("2\n")
    patch = Path(remove(workspace).kept_patch)
    assert "later.txt" in patch.read_text()


def test_remove__an_untouched_one_leaves_nothing(workspace, repository):
    remove(workspace)
    assert (workspace.state, workspace.kept_patch, leftovers(repository)) == ("removed", "", ([], 0))
    assert git(repository, "status", "--porcelain") == ""


def test_remove__the_last_one_leaves_no_folder(owner, repository):
    project = register_project(actor=owner, path=str(repository), key="LONELY")
    first, second = (ensure_workspace(project=project, label=label) for label in "AB")
    folder = Path(settings.STUDIO_WORKSPACE_ROOT) / "LONELY"
    remove(first)
    assert folder.is_dir()
    remove(second)
    assert not folder.exists()


def test_remove__the_unmerged_diff_stays_readable(workspace, checkout):
    (checkout / "new.txt").write_text("1\n")
    remove(workspace)
    assert [file.path for file in diff_for(workspace).files] == ["new.txt"]


def test_remove__former_tips_are_kept_too(workspace, checkout, repository):
    (checkout / "first.txt").write_text("1\n")
    first = commit_left(workspace, message="m", author_name="a")
    git(checkout, "checkout", "-q", "--detach", "trunk")
    commit_left(workspace, message="m", author_name="a")
    remove(workspace)
    assert leftovers(repository) == ([], 0)
    heads = git(repository, "bundle", "list-heads", str(Path(workspace.kept_patch).with_suffix(".bundle")))
    assert first in heads


def test_remove__a_repository_inside_is_moved_not_deleted(workspace, checkout):
    inner = checkout / "inner"
    make_repository(inner)
    (inner / "precious.txt").write_text("x\n")
    remove(workspace)
    kept = Path(workspace.kept_patch)
    assert (kept / "inner" / "precious.txt").read_text() == "x\n"
    assert (kept / "inner" / ".git").is_dir()


@pytest.fixture
def submodule(project, repository, tmp_path):
    """A workspace with a submodule that an agent fetched; (row, its folder)."""
    inner = make_repository(tmp_path / "inner", files={"lib.py": "x\n"})
    git(repository, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "vendor/inner")
    git(repository, "commit", "-q", "-m", "A submodule")
    row = ensure_workspace(project=project, label="DEMO-2")
    git(row.path, "-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init")
    return row, Path(row.path) / "vendor" / "inner"


def test_remove__a_submodule_that_was_only_fetched_leaves_nothing(submodule):
    row, inner = submodule
    assert leaving_of(row).nested == diff_for(row).notes == []
    assert (remove(row).state, row.kept_patch, inner.exists()) == ("removed", "", False)


@pytest.mark.parametrize("step", ["", "loosen", "export", "remove_checkout"])
def test_remove__work_in_a_submodule_is_moved_not_deleted(submodule, monkeypatch, step):
    """Its commit, which no remote has, and what it does not have committed; killed at any step as well."""
    row, inner = submodule
    (inner / "lib.py").write_text("the agent's\n")
    git(inner, "-c", "user.name=a", "-c", "user.email=a@example.invalid", "commit", "-q", "-a", "-m", "Inside")
    made = git(inner, "rev-parse", "HEAD").strip()
    (inner / "new.py").write_text("not committed\n")
    (note,) = diff_for(row).notes
    assert note.startswith("vendor/inner/ is a git repository of its own")
    found = leaving_of(row)
    assert (found.nested, found.needs_confirmation) == (["vendor/inner/"], False)

    if step:
        with monkeypatch.context() as broken:
            broken.setattr(GitVcs, step, staticmethod(die))
            with pytest.raises(KeyboardInterrupt):
                remove(row)
    remove(row)
    kept = Path(row.kept_patch).with_suffix("") / "inner"
    assert (row.state, git(kept, "rev-parse", "HEAD").strip()) == ("removed", made)
    assert git(kept, "status", "--porcelain") == "?? new.py\n"
    patch = Path(row.kept_patch).read_text()
    assert f"+Subproject commit {made}" in patch  # the pointer is moved on, not deleted


@pytest.mark.parametrize("step", ["", "take_stranded", "export", "remove_checkout"])
@pytest.mark.parametrize("gone", ["files", "checkout"])
def test_remove__commits_of_a_submodule_that_was_emptied_are_moved_not_deleted(submodule, monkeypatch, step, gone):
    row, inner = submodule
    git(
        inner,
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.invalid",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "Inside",
    )
    made = git(inner, "rev-parse", "HEAD").strip()
    if gone == "files":
        git(row.path, "submodule", "deinit", "-q", "--force", "vendor/inner")
    else:
        shutil.rmtree(row.path)
    found = leaving_of(row)
    assert found.nested == ["vendor/inner (the commits of a submodule whose files are gone)"]
    if step:
        with monkeypatch.context() as broken:
            broken.setattr(GitVcs, step, staticmethod(die))
            with pytest.raises(KeyboardInterrupt):
                remove(row)
    remove(row)
    kept = KeptWork.objects.get(workspace=row)
    assert (row.state, git(Path(kept.folder) / "inner.git", "rev-parse", "HEAD").strip()) == ("removed", made)


def test_remove__twice_and_swept(workspace, checkout, requested_jobs, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        request_removal(workspace)
        request_removal(workspace)
        assert sweep() == 1
    ids = (str(workspace.pk),)
    assert requested_jobs.count(("workspaces.remove", ids)) == 3
    assert ("sessions.release_workspace", ids) in requested_jobs  # its sessions are put away
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    at = workspace.removed_at
    remove_workspace(workspace.pk)
    request_removal(workspace)
    workspace.refresh_from_db()
    assert (workspace.state, workspace.removed_at) == ("removed", at)
    remove_workspace("00000000-0000-0000-0000-000000000000")
    assert sweep() == 0


CRASHES = ["commit_all", "export", "remove_checkout", "delete_branch"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", CRASHES)
def test_remove__died_at_any_step(workspace, checkout, repository, monkeypatch, step, when):
    (checkout / "new.txt").write_text("1\n")
    real = getattr(GitVcs, step)

    def die(*args, **options):
        if when == "after":
            real(*args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(GitVcs, step, staticmethod(die))
        with pytest.raises(KeyboardInterrupt):
            remove(workspace)
    assert Workspace.objects.get(pk=workspace.pk).state == "removing"
    assert sweep() == 1
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    assert (workspace.state, leftovers(repository), checkout.exists()) == ("removed", ([], 0), False)
    assert "new.txt" in Path(workspace.kept_patch).read_text()


def test_remove__what_goes_wrong_is_said_and_tried_again_later(workspace, checkout, monkeypatch):
    (checkout / "new.txt").write_text("1\n")

    def fail(*_args, **_options):
        raise GitError("The disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(GitVcs, "export", staticmethod(fail))
        remove(workspace)
    assert (workspace.state, workspace.error) == ("removing", "The disk is full.")
    assert (checkout / "new.txt").exists()
    assert sweep() == 0  # not at once
    request_removal(workspace)  # an operator asks again
    assert sweep() == 1
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    assert (workspace.state, workspace.error) == ("removed", "")


@pytest.mark.parametrize("fault", [PermissionError(13, "Permission denied"), KeyboardInterrupt()], ids=["file", "kill"])
def test_remove__that_stops_while_deleting_keeps_what_was_kept(workspace, checkout, monkeypatch, fault):
    (checkout / "new.txt").write_text("1\n")
    (checkout / "later.txt").write_text("2\n")

    def stop(folder, **_options):
        for name in ("new.txt", "app.py", ".git"):
            (Path(folder) / name).unlink()
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr("workspaces.vcs.deleting.shutil.rmtree", stop)
        with suppress(KeyboardInterrupt):
            remove(workspace)
    workspace.refresh_from_db()
    patch = Path(workspace.kept_patch)
    kept = patch.read_bytes()
    assert (workspace.state, gone_beside(checkout).exists()) == ("removing", True)
    assert str(gone_beside(checkout)) not in unknown_folders()  # it is the studio's own
    request_removal(workspace)
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    assert (workspace.state, workspace.kept_patch, patch.read_bytes()) == ("removed", str(patch), kept)
    assert b"new.txt" in kept
    assert (checkout.exists(), gone_beside(checkout).exists()) == (False, False)


def test_remove__a_half_made_one(project, repository, monkeypatch):
    import uuid

    wanted = uuid.uuid4()

    def die(*args, **_options):
        Path(args[1]).mkdir(parents=True)
        (Path(args[1]) / "half").write_text("x")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(GitVcs, "create_checkout", staticmethod(die))
        with pytest.raises(KeyboardInterrupt):
            ensure_workspace(project=project, label="X", workspace_id=wanted)
    row = Workspace.objects.get(pk=wanted)
    remove(row)
    assert (row.state, Path(row.path).exists()) == ("removed", False)


def test_remove__one_that_git_had_not_finished(workspace, checkout, repository):
    """Its missing files are not taken for somebody's work."""
    entry = repository / ".git" / "worktrees" / checkout.name
    (entry / "locked").write_text("initializing\n")
    (entry / "index").unlink()
    (checkout / "app.py").unlink()
    remove(workspace)
    assert (workspace.state, workspace.kept_patch, leftovers(repository)) == ("removed", "", ([], 0))


def test_remove__a_folder_that_is_gone_already(workspace, checkout, repository):
    (checkout / "new.txt").write_text("1\n")
    commit_left(workspace, message="m", author_name="a")
    shutil.rmtree(checkout)
    remove(workspace)
    assert (workspace.state, leftovers(repository)) == ("removed", ([], 0))
    assert "new.txt" in Path(workspace.kept_patch).read_text()


def test_remove__a_link_out_of_the_root_deletes_nothing_there(workspace, checkout, tmp_path):
    victim = tmp_path / "victim"
    checkout.rename(victim)
    checkout.symlink_to(victim)
    remove(workspace)
    assert (workspace.state, "not a workspace" in workspace.error) == ("removing", True)
    assert (victim / "app.py").exists()


def test_remove__links_inside_are_not_followed(workspace, checkout, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("x")
    (checkout / "out").symlink_to(tmp_path / "outside")
    remove(workspace)
    assert workspace.state == "removed"
    assert (tmp_path / "outside" / "precious").exists()


@pytest.mark.parametrize("committed", [False, True])
def test_remove__a_checkout_that_became_another_repository_is_left(workspace, checkout, committed):
    (checkout / "new.txt").write_text("1\n")
    if committed:
        commit_left(workspace, message="m", author_name="a")
    (checkout / ".git").unlink()
    make_repository(checkout)
    remove(workspace)
    assert (workspace.state, "no longer belongs" in workspace.error) == ("removing", True)
    assert (checkout / "new.txt").exists()


def test_remove__folders_without_write_permission(workspace, checkout):
    locked = checkout / "cache" / "locked"
    locked.mkdir(parents=True)
    (checkout / ".gitignore").write_text("cache/\n")
    (locked / "file").write_text("x")
    locked.chmod(0o500)
    (checkout / "cache").chmod(0o500)
    user = os.geteuid()
    assert user == 0 or not os.access(locked, os.W_OK)
    remove(workspace)
    assert (workspace.state, checkout.exists()) == ("removed", False)


def test_remove__the_repository_is_gone(workspace, checkout, repository):
    (checkout / "new.txt").write_text("1\n")
    repository.rename(repository.with_name("moved"))
    remove(workspace)
    assert workspace.state == "removing"
    assert workspace.error
    assert (checkout / "new.txt").exists()
