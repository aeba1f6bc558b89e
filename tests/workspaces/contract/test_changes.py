"""The change of a checkout: everything that differs from the base, each file once, and nothing is touched by looking."""

from __future__ import annotations

import os

from tests.repositories import git, jj
from tests.workspaces.contract.world import AGENT, BRANCH, apply_patch, contents, write


def make_every_kind_of_change(world, checkout) -> None:
    """Committed by the agent, committed by the studio, staged where there is an index, unstaged and untracked."""
    write(checkout, {"committed.txt": "committed\n", "app.py": "line 1\n" * 5})
    if world.is_jj:
        jj(checkout, "commit", "-m", "By the agent")
    else:
        git(checkout, "add", "-A")
        git(checkout, "commit", "-q", "-m", "By the agent")
    world.commit(checkout, {"studio.txt": "by the studio\n", "app.py": "line 1\n" * 4})
    write(checkout, {"staged.txt": "staged\n"})
    if not world.is_jj:
        git(checkout, "add", "staged.txt")
    (checkout / "lib" / "deep" / "one.txt").rename(checkout / "lib" / "moved.txt")
    (checkout / "README.md").chmod(0o755)
    (checkout / "lib" / "two.txt").unlink()
    (checkout / "lib" / "two.txt").symlink_to("/etc/hostname")
    (checkout / "image.bin").write_bytes(bytes(range(256)))
    write(
        checkout, {"app.py": "line 1\n" * 3, 'odd "name"\n é.txt': "odd\n", "-dash": "dash\n", "crlf.txt": "a\r\nb\r\n"}
    )
    write(checkout, {"ignored.log": "never\n", "build/out": "never\n"})


def test_whole_diff__each_file_once_and_applied_to_the_base_it_is_the_checkout(world, checkout, tmp_path):
    base, seen = world.target, world.print()
    make_every_kind_of_change(world, checkout)
    before = contents(checkout)
    changes = world.vcs.changes(checkout, base)
    assert {(file.status, file.old_path, file.new_path) for file in changes.files} == {
        ("added", "", "committed.txt"),
        ("added", "", "studio.txt"),
        ("added", "", "staged.txt"),
        ("renamed", "lib/deep/one.txt", "lib/moved.txt"),
        ("modified", "README.md", "README.md"),
        ("type_changed", "lib/two.txt", "lib/two.txt"),
        ("added", "", "image.bin"),
        ("modified", "app.py", "app.py"),
        ("added", "", 'odd "name"\n é.txt'),
        ("added", "", "-dash"),
        ("added", "", "crlf.txt"),
    }
    by_path = {file.path: file for file in changes.files}
    assert (by_path["README.md"].old_mode, by_path["README.md"].new_mode) == ("100644", "100755")
    assert (by_path["lib/two.txt"].new_mode, by_path["image.bin"].additions) == ("120000", None)
    assert contents(checkout) == before
    head = world.vcs.commit_all(checkout, BRANCH, "All of it", AGENT)
    committed = world.vcs.changes(checkout, base, head)
    assert committed.files == changes.files
    binary = world.patch(base, head)
    expected = {name: entry for name, entry in before.items() if name not in ("ignored.log", "build/out")}
    assert apply_patch(world.store, base, binary, tmp_path / "clone") == expected
    assert world.print() == seen


def test_looking__writes_nothing_into_anybodys_log(world, checkout):
    write(checkout, {"app.py": "new\n"})
    log = ("op", "log", "--no-graph", "-T", "id") if world.is_jj else ("reflog",)
    run = (
        (lambda: jj(world.repository, *log, "--ignore-working-copy")) if world.is_jj else (lambda: git(checkout, *log))
    )
    before = run()
    for _ in range(2):
        assert [file.path for file in world.vcs.changes(checkout, world.target).files] == ["app.py"]
        world.vcs.status(checkout, "trunk")
        world.vcs.nested_repositories(checkout)
    assert run() == before


def test_one_file_of_it(world, checkout):
    write(checkout, {"app.py": "new\n", "other.txt": "other\n"})
    only = world.vcs.changes(checkout, world.target, only="app.py")
    assert [file.path for file in only.files] == ["app.py"]
    assert only.files[0].patch.startswith(b"diff --git a/app.py b/app.py\n")
    assert world.vcs.changes(checkout, world.target, patches=False).files[0].patch is None


def test_rounds__each_is_a_range_of_its_own(world, checkout):
    one = world.commit(checkout, {"one.txt": "1\n"}, "Round 1")
    two = world.commit(checkout, {"two.txt": "2\n"}, "Round 2")
    assert [file.path for file in world.vcs.changes(checkout, one, two).files] == ["two.txt"]
    assert [file.path for file in world.vcs.changes(world.repository, world.target, one).files] == ["one.txt"]
    assert world.vcs.contains(world.repository, two, one)
    assert not world.vcs.contains(world.repository, one, two)


def test_taken_back__leaves_no_change(world, checkout):
    write(checkout, {"app.py": "new\n", "extra.txt": "x\n"})
    assert len(world.vcs.changes(checkout, world.target).files) == 2
    world.commit(checkout, {})
    (checkout / "extra.txt").unlink()
    os.utime(checkout / "app.py", (1, 1))
    (checkout / "app.py").write_text(world.show(world.target, "app.py"))
    assert world.vcs.changes(checkout, world.target).files == []
