"""What is read without git is what git says, and where it is not plain git is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.repositories import git
from tests.workspaces.vcs.conftest import VCS, mine, tip
from workspaces.vcs.git_inspect import store
from workspaces.vcs.git_loose import loose_commit, loose_tip


def test_loose_tip__is_what_git_says(repository, checkout):
    at = mine(repository, {"a.txt": "1\n"})
    git(repository, "branch", "a/deep/one")
    assert loose_tip(store(repository), "trunk") == loose_tip(store(checkout), "trunk") == at
    assert loose_tip(store(repository), "a/deep/one") == at
    assert loose_tip(store(repository), "studio/x") == tip(repository, "studio/x")
    assert loose_commit(store(repository), at) == git(repository, "cat-file", "commit", at).encode()


def test_loose_tip__what_is_packed_or_symbolic_is_left_to_git(repository):
    at = tip(repository)
    git(repository, "symbolic-ref", "refs/heads/alias", "refs/heads/trunk")
    assert (loose_tip(store(repository), "alias"), VCS.tip(repository, "alias")) == (None, at)
    git(repository, "repack", "-q", "-a", "-d")
    assert (loose_tip(store(repository), "trunk"), VCS.tip(repository, "trunk")) == (None, at)
    assert loose_commit(store(repository), at) is None
    loose = mine(repository, {"a.txt": "1\n"})
    assert loose_tip(store(repository), "trunk") == loose
    git(repository, "pack-refs", "--all")
    assert (loose_tip(store(repository), "trunk"), VCS.tip(repository, "trunk")) == (None, loose)


@pytest.mark.parametrize(
    "branch", ["", ".", "../heads/trunk", "./trunk", "a/../trunk", "trunk/", "trunk.lock", "x\0y", "\udce9"]
)
def test_loose_tip__a_name_is_never_a_path(repository, branch):
    (repository / ".git/refs/heads/trunk.lock").write_text(tip(repository) + "\n")
    assert loose_tip(store(repository), branch) is None


def test_loose_tip__of_a_damaged_or_missing_commit_there_is_none(repository):
    at = tip(repository)
    file = repository / ".git" / "objects" / at[:2] / at[2:]
    other = mine(repository, {"a.txt": "1\n"})
    exchanged = (file.parent.parent / other[:2] / other[2:]).read_bytes()
    git(repository, "update-ref", "refs/heads/trunk", at)
    file.chmod(0o644)
    for content in (exchanged, file.read_bytes()[:-9], b"", b"nonsense"):
        file.write_bytes(content)
        assert (loose_tip(store(repository), "trunk"), VCS.tip(repository, "trunk")) == (None, None)
    file.unlink()
    assert VCS.tip(repository, "trunk") is None


def test_loose_tip__waits_for_no_pipe_and_follows_no_link(repository, tmp_path):
    heads = repository / ".git" / "refs" / "heads"
    os.mkfifo(heads / "pipe")
    (tmp_path / "elsewhere").write_text(tip(repository) + "\n")
    (heads / "link").symlink_to(Path(tmp_path / "elsewhere"))
    (heads / "text").write_text("not an id\n")
    assert {loose_tip(store(repository), branch) for branch in ("pipe", "link", "text")} == {None}
    assert loose_tip(store(repository), "trunk") == tip(repository)
