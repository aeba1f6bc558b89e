"""Workspaces are made once, wherever an earlier try died, and never outside their folder."""

from __future__ import annotations

import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from studio.kernel.errors import Upstream
from tests.repositories import git, make_repository
from workspaces.models import Project, Workspace, WorkspaceState
from workspaces.services import commit_left, ensure_workspace, has_change, read_text, register_project, status_for
from workspaces.services.checkouts import checkout_path
from workspaces.vcs import git_checkout
from workspaces.vcs.git_command import GitError

pytestmark = pytest.mark.django_db


def admin_folder(repository: Path, checkout: Path) -> Path:
    return repository / ".git" / "worktrees" / checkout.name


def worktree_count(repository: Path) -> int:
    return git(repository, "worktree", "list").count("\n")


def test_ensure__makes_a_worktree_on_a_branch_of_its_own(project, repository, workspace, checkout):
    assert checkout == Path(settings.STUDIO_WORKSPACE_ROOT) / "DEMO" / f"demo-1-{workspace.pk.hex[:8]}"
    assert (workspace.state, workspace.branch, workspace.base_branch) == ("ready", "studio/demo-1", "trunk")
    assert workspace.base_commit == workspace.head_commit == git(repository, "rev-parse", "trunk").strip()
    assert git(checkout, "branch", "--show-current") == "studio/demo-1\n"
    assert (checkout / "lib" / "two.txt").read_text() == "two\n"
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "config", "--local", "--list").count("branch.") == 0


def test_ensure__again_changes_nothing(project, repository, workspace, checkout):
    (checkout / "app.py").write_text("half done\n")
    again = ensure_workspace(project=project, label="DEMO-1", workspace_id=workspace.pk)
    assert (again, again.state) == (workspace, "ready")
    assert (checkout / "app.py").read_text() == "half done\n"
    assert worktree_count(repository) == 2


def test_ensure__a_branch_name_that_is_taken(project, repository, workspace):
    git(repository, "branch", "studio/demo-1-2")
    assert ensure_workspace(project=project, label="DEMO-1").branch == "studio/demo-1-3"


def test_ensure__labels_become_harmless_names(project):
    made = ensure_workspace(project=project, label="../../etc/Ärger && rm -rf ~ --help")
    assert Path(made.path).parent == Path(settings.STUDIO_WORKSPACE_ROOT) / "DEMO"
    assert made.branch == "studio/etc-rger-rm-rf-help"


def test_ensure__of_the_default_branch_whatever_is_checked_out(project, repository):
    git(repository, "checkout", "-q", "-b", "elsewhere")
    git(repository, "commit", "-q", "--allow-empty", "-m", "Not on trunk")
    made = ensure_workspace(project=project, label="X")
    assert made.base_commit == git(repository, "rev-parse", "trunk").strip()


def test_ensure__the_default_branch_is_gone(project, repository):
    git(repository, "checkout", "-q", "-b", "elsewhere")
    git(repository, "branch", "-D", "trunk")
    with pytest.raises(Upstream, match="no branch “trunk”") as caught:
        ensure_workspace(project=project, label="X")
    assert caught.value.code == "workspace_failed"


def test_ensure__the_repository_is_gone(project, repository):
    shutil.rmtree(repository)
    with pytest.raises(Upstream) as caught:
        ensure_workspace(project=project, label="X")
    assert caught.value.code == "repository_away"


def test_ensure__keeps_the_reason_and_may_be_tried_again(project, monkeypatch):
    wanted = uuid.uuid4()

    def fail(*_args, **_options):
        raise GitError("No space left on device.")

    with monkeypatch.context() as broken:
        broken.setattr("workspaces.vcs.git.GitVcs.create_checkout", fail)
        with pytest.raises(Upstream) as caught:
            ensure_workspace(project=project, label="X", workspace_id=wanted)
    assert caught.value.code == "workspace_failed"
    row = Workspace.objects.get(pk=wanted)
    assert (row.state, row.error) == ("failed", "No space left on device.")
    again = ensure_workspace(project=project, label="X", workspace_id=wanted)
    assert (again.state, again.error, again.branch) == ("ready", "", row.branch)


def test_ensure__a_folder_that_cannot_be_made(project):
    place = Path(settings.STUDIO_WORKSPACE_ROOT) / "DEMO"
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    place.write_text("in the way")
    try:
        with pytest.raises(Upstream) as caught:
            ensure_workspace(project=project, label="X")
    finally:
        place.unlink()
    assert caught.value.code == "workspace_failed"
    assert Workspace.objects.get().state == "failed"


def test_ensure__died_after_the_row(project, monkeypatch):
    wanted = uuid.uuid4()

    def die(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("workspaces.vcs.git.GitVcs.create_checkout", die)
        with pytest.raises(KeyboardInterrupt):
            ensure_workspace(project=project, label="X", workspace_id=wanted)
    assert Workspace.objects.get(pk=wanted).state == WorkspaceState.CREATING
    assert ensure_workspace(project=project, label="X", workspace_id=wanted).state == WorkspaceState.READY


@pytest.mark.parametrize("step", ["branch", "entry", "files", "done", "folder gone"])
def test_ensure__died_while_git_worked(project, repository, workspace, checkout, step):
    """What `git worktree add` leaves when it is killed: a branch; a locked entry; half of the files; all but the row."""
    Workspace.objects.filter(pk=workspace.pk).update(state=WorkspaceState.CREATING)
    entry = admin_folder(repository, checkout)
    if step == "branch":
        shutil.rmtree(checkout)
        shutil.rmtree(entry)
    elif step in ("entry", "files"):
        (entry / "locked").write_text("initializing\n")
        (entry / "index").unlink()
        (checkout / "app.py").unlink()
        if step == "entry":
            shutil.rmtree(checkout)
    elif step == "folder gone":
        shutil.rmtree(checkout)
    again = ensure_workspace(project=project, label="DEMO-1", workspace_id=workspace.pk)
    assert (again.state, again.branch) == ("ready", "studio/demo-1")
    assert git(checkout, "status", "--porcelain") == ""
    assert (checkout / "app.py").exists()
    assert not (entry / "locked").exists()
    assert worktree_count(repository) == 2


def test_ensure__a_folder_that_somebody_deleted_comes_back_with_its_commits(project, workspace, checkout):
    (checkout / "new.txt").write_text("kept\n")
    commit_left(workspace, message="Work", author_name="a")
    shutil.rmtree(checkout)
    ensure_workspace(project=project, label="DEMO-1", workspace_id=workspace.pk)
    assert (checkout / "new.txt").read_text() == "kept\n"


def test_ensure__work_is_never_deleted_to_make_the_workspace_again(project, repository, workspace, checkout):
    (checkout / "precious.txt").write_text("not committed\n")
    (checkout / ".git").unlink()
    shutil.rmtree(admin_folder(repository, checkout))
    with pytest.raises(Upstream, match="no longer belongs"):
        ensure_workspace(project=project, label="DEMO-1", workspace_id=workspace.pk)
    assert (checkout / "precious.txt").exists()


def test_ensure__leaves_other_worktrees_alone(project, repository, tmp_path):
    """A person's worktree on a disk that is not mounted now must not be pruned."""
    git(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "away"))
    (tmp_path / "away").rename(tmp_path / "unmounted")
    made = ensure_workspace(project=project, label="X")
    shutil.rmtree(made.path)
    ensure_workspace(project=project, label="X", workspace_id=made.pk)
    (tmp_path / "unmounted").rename(tmp_path / "away")
    assert git(tmp_path / "away", "branch", "--show-current") == "side\n"


def test_ensure__hooks_do_not_run(project, repository, tmp_path):
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    hook.chmod(0o755)
    ensure_workspace(project=project, label="X")
    assert not (tmp_path / "ran").exists()


@pytest.mark.django_db(transaction=True)
def test_ensure__at_once_makes_one_each(owner, tmp_path):
    repository = make_repository(tmp_path / "r")
    register_project(actor=owner, path=str(repository))
    same = uuid.uuid4()

    def make(wanted):
        try:
            return ensure_workspace(project=Project.objects.get(), label="X-1", workspace_id=wanted).branch
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        branches = list(pool.map(make, [same, same, same, uuid.uuid4(), uuid.uuid4(), uuid.uuid4()]))
    assert len(set(branches[:3])) == 1
    assert len(set(branches)) == 4
    assert worktree_count(repository) == 5
    assert Workspace.objects.filter(state=WorkspaceState.READY).count() == 4


@pytest.mark.parametrize("where", ["outside", "above", "too deep", "the root", "a project's folder"])
def test_checkout_path__nothing_outside_the_root(project, workspace, tmp_path, where):
    root = Path(settings.STUDIO_WORKSPACE_ROOT).resolve()
    places = {
        "outside": tmp_path,
        "above": root / "DEMO" / ".." / ".." / "secrets",
        "too deep": root / "DEMO" / "x" / "y",
        "the root": root,
        "a project's folder": root / "DEMO",
    }
    workspace.path = str(places[where])
    with pytest.raises(Upstream, match="not a workspace"):
        checkout_path(workspace)


def test_checkout_path__symbolic_links_do_not_lead_out(project, workspace, checkout, tmp_path):
    victim = tmp_path / "victim"
    checkout.rename(victim)
    checkout.symlink_to(victim)
    for use in (has_change, status_for, checkout_path):
        with pytest.raises(Upstream):
            use(workspace)
    with pytest.raises(Upstream):
        ensure_workspace(project=project, label="DEMO-1", workspace_id=workspace.pk)
    with pytest.raises(Upstream):
        commit_left(workspace, message="m", author_name="a")
    assert (victim / "app.py").exists()


def test_a_checkout_whose_git_link_was_deleted_is_repaired(workspace, checkout):
    (checkout / "new.txt").write_text("x\n")
    (checkout / ".git").unlink()
    assert has_change(workspace)
    assert git(checkout, "branch", "--show-current") == "studio/demo-1\n"


def test_a_checkout_that_became_another_repository_is_not_ours(workspace, checkout):
    (checkout / ".git").unlink()
    make_repository(checkout)
    with pytest.raises(Upstream, match="no longer belongs"):
        commit_left(workspace, message="m", author_name="a")


def test_a_checkout_without_git_is_not_taken_for_a_part_of_the_folder_above(workspace, checkout):
    """The data folder may lie inside a repository, such as the studio's own checkout."""
    git(settings.STUDIO_WORKSPACE_ROOT, "init", "-q")
    (checkout / ".git").unlink()
    with pytest.raises(GitError, match="not a git repository"):
        git_checkout.commit_all(checkout, "studio/demo-1", "m", git_checkout.Person("a", "a@b"))


def test_read_text__is_bounded_and_follows_no_link(workspace, checkout, tmp_path):
    (checkout / "AGENTS.md").write_bytes(b"Be \x1b[31mkind\x00 \xff" + b"x" * 100)
    assert read_text(workspace, "AGENTS.md", limit=20) == "Be kind xxxxx"
    (tmp_path / "secret").write_text("secret")
    (checkout / "AGENTS.md").unlink()
    (checkout / "AGENTS.md").symlink_to(tmp_path / "secret")
    assert read_text(workspace, "AGENTS.md", limit=20) == ""
    assert read_text(workspace, "missing", limit=20) == ""
    assert read_text(workspace, "lib", limit=20) == ""


def test_status__says_where_it_stands(workspace, checkout, repository, commit):
    commit(repository.joinpath("app.py").write_text("trunk moved\n") and repository)
    (checkout / "app.py").write_text("mine\n")
    commit(checkout)
    (checkout / "staged ü.txt").write_text("s\n")
    git(checkout, "add", "-A")
    (checkout / "README.md").write_text("unstaged\n")
    (checkout / "new\nline").write_text("u\n")
    status = status_for(workspace)
    assert (status.branch, status.ahead, status.behind, status.operation) == ("studio/demo-1", 1, 1, "")
    assert (status.staged, status.unstaged, status.untracked) == (["staged ü.txt"], ["README.md"], ["new\nline"])
