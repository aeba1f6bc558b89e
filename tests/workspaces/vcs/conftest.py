"""A repository and one of the studio's checkouts of it, without any row."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.repositories import git, make_repository
from workspaces.vcs.git import GitVcs
from workspaces.vcs.merging import MergeRequest, Person, RevertRequest

ADA = Person("Ada", "ada@example.invalid")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FILES = {"app.py": "one\ntwo\nthree\n", "lib/two.txt": "two\n"}
VCS = GitVcs()


@pytest.fixture
def repository(tmp_path):
    return make_repository(tmp_path / "a repository", branch="trunk", files=FILES)


@pytest.fixture
def checkout(repository, tmp_path):
    """On the branch studio/x, which began at trunk."""
    path = tmp_path / "workspaces" / "x"
    VCS.create_checkout(repository, path, "studio/x", tip(repository))
    return path


def tip(repository: Path, branch: str = "trunk") -> str:
    return git(repository, "rev-parse", branch).strip()


def work(checkout: Path, files: dict[str, str | bytes], message: str = "Work") -> str:
    """The studio's commit of these files."""
    write(checkout, files)
    return VCS.commit_all(checkout, "studio/x", message, ADA)


def mine(repository: Path, files: dict[str, str | bytes], message: str = "Mine") -> str:
    """A person's commit."""
    write(repository, files)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", message)
    return tip(repository, "HEAD")


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = Path(os.fsdecode(os.fsencode(str(folder / name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def merging(repository: Path, source: str, how: str = "merge", **fields: Any) -> MergeRequest:
    return replace(MergeRequest(how, tip(repository), source, "Merge it", ADA, ADA, AT), **fields)


def reverting(repository: Path, before: str, after: str) -> RevertRequest:
    return RevertRequest(tip(repository), before, after, "Take it back", ADA, ADA, AT)
