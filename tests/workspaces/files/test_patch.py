"""The downloaded patch, put onto the base by git, gives the workspace."""

from __future__ import annotations

import os
import subprocess

import pytest

from studio.kernel.errors import Conflict
from tests.repositories import GIT_ENV, git
from workspaces.files import downloads
from workspaces.services import commit_left, remove_workspace

pytestmark = pytest.mark.django_db


@pytest.fixture
def changed(workspace, checkout):
    """A change with everything in it: committed, staged, not staged, untracked."""
    (checkout / "committed.txt").write_text("committed\n")
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "One")
    (checkout / "app.py").unlink()
    (checkout / "README.md").rename(checkout / "LIESMICH.md")
    git(checkout, "add", "-A")
    (checkout / "lib/two.txt").write_text("zwei")  # without an end of line
    (checkout / "lib/two.txt").chmod(0o755)
    (checkout / "binary").write_bytes(bytes(range(256)) * 50)
    (checkout / "crlf.txt").write_bytes(b"a\r\nb\r\n")
    (checkout / "empty").touch()
    (checkout / "link").symlink_to("lib/two.txt")
    (checkout / os.fsdecode(b"caf\xe9 \n\"x'")).write_text("odd\n")
    return workspace


def tree_of(checkout):
    """The tree that holds everything in the checkout, made with an index of its own."""
    env = {**GIT_ENV, "GIT_INDEX_FILE": str(checkout.parent / "scratch-index")}
    for arguments in (["read-tree", "HEAD"], ["add", "-A"]):
        subprocess.run(["git", *arguments], cwd=checkout, env=env, check=True)
    done = subprocess.run(["git", "write-tree"], cwd=checkout, env=env, check=True, capture_output=True)
    (checkout.parent / "scratch-index").unlink()
    return done.stdout


def downloaded(rf, workspace):
    response = downloads.patch(rf.get("/"), workspace)
    body = b"".join(response.streaming_content)
    response.close()
    return response, body


def applied(repository, base, patch, folder):
    git(repository, "worktree", "add", "-q", "--detach", str(folder), base)
    subprocess.run(["git", "apply", "-"], cwd=folder, env=GIT_ENV, input=patch, check=True)
    return tree_of(folder)


def test_patch__applied_to_the_base_gives_the_workspace(rf, changed, checkout, repository, tmp_path):
    before = git(checkout, "status", "--porcelain")
    response, patch = downloaded(rf, changed)
    assert git(checkout, "status", "--porcelain") == before  # nothing was touched, the index neither
    assert response["Content-Disposition"] == f'attachment; filename="DEMO-1-onto-{changed.base_commit[:10]}.patch"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert applied(repository, changed.base_commit, patch, tmp_path / "applied") == tree_of(checkout)


def test_patch__of_a_removed_workspace_gives_its_last_commit(rf, changed, checkout, repository, tmp_path):
    commit_left(changed, message="All", author_name="Test")
    wanted = tree_of(checkout)
    remove_workspace(workspace_id=changed.pk)
    changed.refresh_from_db()
    _, patch = downloaded(rf, changed)
    assert applied(repository, changed.base_commit, patch, tmp_path / "applied") == wanted


def test_patch__that_is_too_large_says_how_to_get_the_branch(rf, changed, monkeypatch):
    monkeypatch.setattr(downloads, "PATCH_BYTES", 1000)
    with pytest.raises(Conflict, match=r"git fetch .* studio/demo-1"):
        downloads.patch(rf.get("/"), changed)
