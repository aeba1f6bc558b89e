"""A jj project with everything around its checkouts: setup, files, download, retention, restoring, a pull request's push."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.real.forge_server import REPOSITORY, TOKEN, forge_server
from tests.repositories import GIT_ENV, git, jj, make_jj_repository
from tests.workspaces.conftest import FILES
from tests.workspaces.contract.conftest import require_jj
from workspaces.files import downloads, tree
from workspaces.files.content import shown
from workspaces.files.search import find_lines, find_names
from workspaces.files.source import source_of
from workspaces.forge.connections import save_connection
from workspaces.models import KeptWork
from workspaces.services import (
    commit_left,
    diff_for,
    make_workspace,
    preview_merge,
    remove_workspace,
    request_merge,
    request_pull_request,
    request_removal,
    request_revert,
    restore_kept,
    revert_instructions,
    run_merge,
    status_for,
    sync_pull_request,
)
from workspaces.setup import services

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[False, True], ids=["jj", "jj-colocated"])
def repository(request, tmp_path):
    require_jj()
    return make_jj_repository(tmp_path / "Mein Repositörium", branch="trunk", files=FILES, colocated=request.param)


@pytest.fixture
def store(repository):
    """Where git finds the commits."""
    colocated = repository / ".git"
    return colocated if colocated.exists() else repository / ".jj" / "repo" / "store" / "git"


@pytest.fixture
def prepared(workspace, repository, configure, steps, no_process_left):
    """The workspace after its setup, which copied, linked and wrote."""
    (repository / ".env").write_text("SECRET=1")
    (repository / "node_modules").mkdir()
    configure(copy=[".env*"], link=["node_modules"], environment={"A": "1"}, script="cat .env > made.txt")
    steps.settle(services.ensure_setup(workspace, origin="run").command)
    return workspace


def test_setup__is_in_no_diff_and_no_commit_also_when_an_agent_used_jj(prepared, checkout, store):
    jj(checkout, "status")
    assert [file.new_path for file in diff_for(prepared).files] == ["made.txt"]
    assert status_for(prepared).unstaged == ["made.txt"]
    head = commit_left(prepared, message="Work", author_name="agent")
    assert set(git(store, "ls-tree", "-r", "--name-only", head).split()) == {*FILES, "made.txt"}
    assert [file.new_path for file in diff_for(prepared).files] == ["made.txt"]
    assert (checkout / ".env").read_text() == "SECRET=1"
    assert (checkout / "node_modules").is_symlink()


def test_files__tree_contents_search_and_a_patch_that_applies(rf, prepared, checkout, store, tmp_path):
    (checkout / "app.py").write_text("print('needle')\n")
    source = source_of(prepared)
    assert ".jj" not in {entry.name for entry in tree.listing(source, "").entries}
    assert shown(source, "app.py").language == "Python"
    assert tree.changed_tree(prepared)[1] == 2
    assert [file.path for file in find_lines(prepared, "needle").files] == ["app.py"]
    assert [file.path for file in find_names(prepared, "app").files] == ["app.py"]
    response = downloads.patch(rf.get("/"), prepared)
    patch = b"".join(response.streaming_content)
    response.close()
    git(tmp_path, "clone", "-q", "--no-checkout", str(store), "clone")
    git(tmp_path / "clone", "checkout", "-q", "--detach", prepared.base_commit)
    subprocess.run(["git", "apply", "-"], cwd=tmp_path / "clone", env=GIT_ENV, input=patch, check=True, timeout=60)
    assert (tmp_path / "clone" / "made.txt").read_text() == "SECRET=1"
    assert (tmp_path / "clone" / "app.py").read_text() == "print('needle')\n"


def test_removal__keeps_the_work_which_is_read_and_restored(owner, prepared, checkout):
    commit_left(prepared, message="Work", author_name="agent")
    request_removal(prepared)
    remove_workspace(prepared.pk)
    prepared.refresh_from_db()
    assert not checkout.exists()
    assert shown(source_of(prepared), "made.txt").lines == ["SECRET=1"]
    kept = KeptWork.objects.get(workspace=prepared)
    assert Path(kept.patch).is_file()
    assert Path(kept.bundle).is_file()
    row = restore_kept(actor=owner, kept=kept)
    make_workspace(row.pk)
    row.refresh_from_db()
    assert (row.state, (Path(row.path) / "made.txt").read_text()) == ("ready", "SECRET=1")
    assert not (Path(row.path) / ".env").exists()


def test_pull_request__pushes_the_bookmark_and_opens_it(owner, project, prepared, store, tmp_path):
    remote = tmp_path / "remote.git"
    remote.mkdir()
    git(remote, "init", "-q", "--bare", "-b", "trunk")
    git(store, "remote", "add", "origin", str(remote))
    git(store, "push", "-q", str(remote), f"{prepared.base_commit}:refs/heads/trunk")
    with forge_server("gitea", remote) as forge:
        save_connection(
            actor=owner, project=project, kind=forge.kind, base_url=forge.url, repository=REPOSITORY, token=TOKEN
        )
        row = request_pull_request(workspace=prepared, title="Do it", body="Because.")
        sync_pull_request(row.pk)
        row.refresh_from_db()
    assert (row.state, row.error) == ("open", "")
    assert git(remote, "rev-parse", row.head_branch).strip() == row.head_commit
    assert ".env" not in git(remote, "ls-tree", "-r", "--name-only", row.head_branch).split()


def test_merge__lines_of_a_conflict_are_refused_unless_they_are_meant(workspace, checkout, store):
    (checkout / "clash.txt").write_text("<<<<<<< a\n%%%%%%% b\n-1\n+2\n+++++++ c\n3\n>>>>>>> d\n")
    found = preview_merge(workspace)
    assert (found.marked, found.possible, found.uncommitted) == (["clash.txt"], False, 1)
    refused, merged = (
        request_merge(workspace=workspace, how="merge", message="Merge", meant=meant) and run(workspace)
        for meant in ([], ["clash.txt"])
    )
    assert (refused.state, refused.error_code) == ("refused", "merge_marked")
    assert merged.state == "merged", merged.error
    assert "clash.txt" in git(store, "ls-tree", "--name-only", merged.result_commit).split()


def test_revert__that_conflicts_by_hand_with_the_commands(workspace, checkout, repository):
    (checkout / "app.py").write_text("mine\n")
    (checkout / "second.txt").write_text("2\n")
    request_merge(workspace=workspace, how="merge", message="Merge")
    done = run(workspace)
    jj(repository, "new", "trunk")
    (repository / "app.py").write_text("later\n")
    jj(repository, "commit", "-m", "Later")
    jj(repository, "bookmark", "set", "trunk", "-r", "@-")
    request_revert(merge=done, message="Back")
    failed = run(workspace)
    assert failed.state == "conflicted"
    lines = [line for line in revert_instructions(failed).splitlines() if not line.startswith("#")]
    assert by_hand(lines[:-1]) == 0  # the last one but one names what is left to resolve
    assert jj(repository, "file", "show", "-r", "@", "app.py").startswith("<<<<<<<")
    (repository / "app.py").write_text("by hand\n")
    assert by_hand([lines[0], lines[-2]]) == 2  # nothing is
    assert by_hand([lines[0], lines[-1]]) == 0
    assert jj(repository, "file", "show", "-r", "trunk", "app.py") == "by hand\n"
    assert "second.txt" not in jj(repository, "file", "list", "-r", "trunk")


def by_hand(lines):
    """The exit status of commands, as a person would run them."""
    env = {**GIT_ENV, "HOME": os.environ["HOME"], "JJ_USER": "A Person", "JJ_EMAIL": "person@example.invalid"}
    return subprocess.run(["bash", "-e", "-c", "\n".join(lines)], env=env, capture_output=True, timeout=60).returncode


def run(workspace):
    attempt = workspace.merges.order_by("-created_at").first()
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    return attempt
