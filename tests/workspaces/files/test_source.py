"""Files of checkouts and of commits: one folder at a time, any names, and nothing that a link leads to."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from studio.kernel.errors import NotFound
from tests.repositories import git
from workspaces.files import checkout as walking
from workspaces.files import tree
from workspaces.files.checkout import Checkout
from workspaces.files.content import shown
from workspaces.files.source import source_of
from workspaces.services import commit_left, remove_workspace

pytestmark = pytest.mark.django_db

ODD = b"caf\xe9 \xff\n'\"<b>.py"  # no UTF-8, a new line, quotes, a tag


@pytest.fixture
def hostile(workspace, checkout, tmp_path):
    """A checkout with all that could lead out of it; the folder outside that must not be read."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret\n")
    (checkout / "way-out").symlink_to(outside)
    (checkout / "lib" / "up").symlink_to("../..")
    (checkout / "alias.txt").symlink_to(outside / "secret.txt")
    (checkout / "broken").symlink_to("/nowhere")
    os.mkfifo(checkout / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(checkout / "socket"))
    (checkout / os.fsdecode(ODD)).write_text("x = 1\n")
    nested = checkout / "vendor"
    git(checkout, "init", "-q", str(nested))
    return outside


def read(source, path):
    with source.content(path) as pieces:
        return b"".join(pieces)


def test_folder__folders_first_then_names_and_no_stores(workspace, hostile):
    source = source_of(workspace)
    found = {entry.name: entry.kind for entry in tree.listing(source, "").entries}
    assert list(found)[:2] == ["lib", "vendor"]
    assert found["way-out"] == found["alias.txt"] == found["broken"] == "link"
    assert found["pipe"] == found["socket"] == "special"
    assert found[os.fsdecode(ODD)] == "file"
    assert ".git" not in found
    assert tree.listing(source, "vendor").total == 0  # its .git is hidden too
    assert source.entry("broken").target == "/nowhere"


@pytest.mark.parametrize(
    "path",
    ["way-out/secret.txt", "lib/up/secret.txt", "../x", "lib/../app.py", ".git", ".git/config", "vendor/.GIT/config", "lib//two.txt",
     "/etc/passwd", "app.py/x", "nothing", "a\0b", "x" * 300, "x/" * 3000 + "x"],
)  # fmt: skip
def test_path__that_leads_out_or_nowhere_is_not_there(workspace, hostile, path):
    source = source_of(workspace)
    for ask in (source.entry, source.names, lambda path: read(source, path)):
        with pytest.raises(NotFound):
            ask(path)


def test_link__is_named_and_not_followed(workspace, hostile):
    source = source_of(workspace)
    assert shown(source, "alias.txt").kind == "link"
    for path in ("alias.txt", "pipe", "lib"):
        with pytest.raises(NotFound):
            read(source, path)


def test_file__that_becomes_a_link_while_it_is_opened_is_not_read(workspace, checkout, hostile, monkeypatch):
    real = walking._entry

    def swapped(folder, name, path):
        found = real(folder, name, path)
        (checkout / "app.py").unlink()
        (checkout / "app.py").symlink_to(hostile / "secret.txt")
        return found

    monkeypatch.setattr(walking, "_entry", swapped)
    with pytest.raises(NotFound):
        read(Checkout(checkout), "app.py")


def test_descriptors__are_all_closed(workspace, hostile):
    source = source_of(workspace)
    before = len(list(Path("/proc/self/fd").iterdir()))
    tree.opened_to(source, "lib/deep")
    read(source, "lib/two.txt")
    for path in ("lib/nothing/x", "lib/../x", "lib/up/x"):
        with pytest.raises(NotFound):
            source.names(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_listing__of_a_large_folder_comes_in_stretches(workspace, checkout, monkeypatch):
    many = checkout / "many"
    many.mkdir()
    for number in range(450):
        (many / f"f{number:03}").touch()
    source, names, offset = source_of(workspace), [], 0
    while offset is not None:
        found = tree.listing(source, "many", offset=offset)
        assert len(found.entries) <= tree.SHOWN
        names += [entry.name for entry in found.entries]
        offset = found.next_offset
    assert names == [f"f{number:03}" for number in range(450)]
    monkeypatch.setattr(walking, "NAMES_READ", 100)
    found = tree.listing(source, "many")
    assert (found.total, found.cut) == (100, True)


def test_tree__opens_the_way_to_a_path(workspace):
    branch = tree.opened_to(source_of(workspace), "lib/deep/one.txt")
    [lib] = [node for node in branch.nodes if node.entry.path == "lib"]
    [deep] = [node for node in lib.inside.nodes if node.entry.path == "lib/deep"]
    assert [node.entry.path for node in deep.inside.nodes] == ["lib/deep/one.txt"]


def test_changed_tree__has_what_differs_with_its_status(workspace, checkout):
    (checkout / "lib/two.txt").unlink()
    (checkout / "app.py").write_text("print('bye')\n")
    (checkout / "new" / "deep").mkdir(parents=True)
    (checkout / "new/deep/x").write_text("x\n")
    branch, count = tree.changed_tree(workspace)
    assert count == 3
    assert [(node.entry.path, node.entry.status) for node in branch.nodes] == [
        ("lib", ""), ("new", ""), ("app.py", "modified"),
    ]  # fmt: skip
    assert branch.nodes[0].inside.nodes[0].entry.status == "deleted"
    assert branch.nodes[1].inside.nodes[0].inside.nodes[0].entry.status == "added"


def test_removed_workspace__is_read_from_its_last_commit(workspace, checkout):
    (checkout / os.fsdecode(ODD)).write_text("kept\n")
    (checkout / "ab").symlink_to("app.py")
    (checkout / "run.sh").write_text("#!/bin/sh\n")
    (checkout / "run.sh").chmod(0o755)
    live = {entry.path: entry for entry in tree.listing(source_of(workspace), "").entries}
    commit_left(workspace, message="All", author_name="Test")
    remove_workspace(workspace_id=workspace.pk)
    workspace.refresh_from_db()
    assert not checkout.exists()
    source = source_of(workspace)
    assert not source.live
    assert {entry.path: entry for entry in tree.listing(source, "").entries} == live
    assert read(source, os.fsdecode(ODD)) == b"kept\n"
    assert source.entry("ab").target == "app.py"
    assert read(source, "lib/two.txt") == b"two\n"
    for path in ("ab/x", "../x", ".git", "lib", "ab", "nothing"):
        with pytest.raises(NotFound):
            read(source, path)


def test_removed_workspace__whose_commit_is_gone_is_said(workspace, repository):
    remove_workspace(workspace_id=workspace.pk)
    workspace.refresh_from_db()
    workspace.head_commit = "1" * 40
    with pytest.raises(NotFound, match="no longer has its commit"):
        source_of(workspace)
    assert Path(repository).exists()
