"""Checkouts: detected, made from a recorded base, committed in, told apart, mended and removed, the same in every system."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from studio.kernel.errors import Upstream
from tests.repositories import GIT_ENV, git, jj, make_repository
from tests.workspaces.contract.world import AGENT, BRANCH, TARGET, apply_patch, contents, write
from workspaces.vcs import detect
from workspaces.vcs.base import Raced


def test_detect_and_find(world):
    found = detect(world.repository).find(world.repository)
    assert detect(world.repository) is world.vcs
    assert (found.root, found.default_branch, found.head) == (world.repository, TARGET, world.target)


@pytest.mark.parametrize("more", ["~0", "^0", "^{commit}", "@{0}", "-", "\0", "x" * 1_000_000], ids=ascii)
def test_tip__a_branch_has_its_exact_name(world, more):
    assert world.vcs.tip(world.repository, TARGET + more) is None


def test_create__from_the_recorded_base_and_not_from_where_the_branch_is_now(world):
    base = world.target
    world.person_commits({"later.txt": "later\n"})
    before = world.print()
    checkout = world.checkout(base=base)
    assert not (checkout / "later.txt").exists()
    assert (checkout / "lib" / "two.txt").read_text() == "two\n"
    assert world.vcs.tip(world.repository, BRANCH) == base
    assert world.vcs.status(checkout, TARGET).branch == BRANCH
    assert world.print() == before


def test_create__again_keeps_what_is_there(world, checkout):
    write(checkout, {"app.py": "half done\n"})
    world.checkout()
    assert (checkout / "app.py").read_text() == "half done\n"
    assert world.vcs.owns_checkout(world.repository, checkout)
    assert not world.vcs.is_unfinished(world.repository, checkout)


def test_create__on_a_branch_that_exists_goes_on_from_it(world, checkout):
    head = world.commit(checkout, {"new.txt": "new\n"})
    world.vcs.remove_checkout(world.repository, checkout)
    assert not checkout.exists()
    again = world.checkout()
    assert (again / "new.txt").read_text() == "new\n"
    assert world.vcs.status(again, TARGET).head == head


def test_owns__nothing_else(world, checkout, tmp_path):
    stranger = world.room / "stranger"
    stranger.mkdir()
    git(stranger, "init", "-q")
    assert not world.vcs.owns_checkout(world.repository, stranger)
    assert not world.vcs.owns_checkout(world.repository, world.repository)
    assert not world.vcs.owns_checkout(world.repository, tmp_path / "nowhere")


def test_commit__everything_once_by_whom_it_was(world, checkout):
    write(checkout, {"app.py": "new\n", "added.txt": "added\n", "noise.log": "noise\n"})
    (checkout / "lib" / "two.txt").unlink()
    head = world.vcs.commit_all(checkout, BRANCH, "What the agent did\n\nIn detail.", AGENT)
    assert world.vcs.commit_all(checkout, BRANCH, "Again", AGENT) == head == world.vcs.tip(world.repository, BRANCH)
    assert git(world.store, "show", "-s", "--format=%an|%ae|%B", head).strip() == (
        f"{AGENT.name}|{AGENT.email}|What the agent did\n\nIn detail."
    )
    assert git(world.store, "diff", "--name-status", world.target, head).split() == [
        "A", "added.txt", "M", "app.py", "D", "lib/two.txt",
    ]  # fmt: skip
    assert world.parents(head) == [world.target]
    assert (checkout / "noise.log").exists()


def test_ignored__names_files_and_whole_folders_and_nothing_else(world, checkout):
    write(
        checkout, {"noise.log": "n\n", "build/a/b.o": "b\n", "build/c.o": "c\n", "lib/x.log": "x\n", "seen.txt": "s\n"}
    )
    assert world.vcs.ignored(checkout) == ["build/", "lib/x.log", "noise.log"]
    assert "noise.log" not in [file.path for file in world.vcs.changes(checkout, world.target).files]


def test_count_beyond__leaves_out_what_is_known(world, checkout):
    base = world.target
    one = world.commit(checkout, {"one.txt": "1\n"})
    two = world.commit(checkout, {"two.txt": "2\n"})
    count = world.vcs.count_beyond
    assert count(world.repository, two, [base]) == 2
    assert count(world.repository, two, [base, one]) == 1
    assert count(world.repository, two, [base, two, "0" * 40]) == 0
    assert count(world.repository, two, ["0" * 40, base]) == 2


def test_commit__what_the_agent_committed_itself_is_kept(world, checkout):
    write(checkout, {"one.txt": "1\n"})
    if world.is_jj:
        jj(checkout, "commit", "-m", "The agent's own words")
    else:
        git(checkout, "add", "-A")
        git(checkout, "commit", "-q", "-m", "The agent's own words")
    head = world.commit(checkout, {"two.txt": "2\n"}, "The rest")
    subjects = git(world.store, "log", "--format=%s", f"{world.target}..{head}").splitlines()
    assert subjects == ["The rest", "The agent's own words"]


def test_commit__large_files_too(world, checkout):
    (checkout / "large.bin").write_bytes(b"\0" * 3_000_000)
    head = world.vcs.commit_all(checkout, BRANCH, "Large", AGENT)
    assert git(world.store, "cat-file", "-s", f"{head}:large.bin").strip() == "3000000"


def test_commit__a_repository_inside_is_named_and_stays_out(world, checkout):
    (checkout / "inner").mkdir()
    git(checkout / "inner", "init", "-q")
    write(checkout, {"inner/file.txt": "x\n", "beside.txt": "y\n"})
    assert world.vcs.nested_repositories(checkout) == ["inner/"]
    assert world.vcs.changes(checkout, world.target).nested == ["inner/"]
    head = world.vcs.commit_all(checkout, BRANCH, "Beside", AGENT)
    assert git(world.store, "diff", "--name-only", world.target, head).split() == ["beside.txt"]
    assert (checkout / "inner" / "file.txt").exists()


def test_submodule__worked_in_is_named_and_can_be_moved_away(world, tmp_path):
    world.point_to_submodule("sub")
    checkout = world.checkout()
    sub, base = checkout / "sub", world.target

    def named():
        return world.vcs.nested_repositories(checkout), world.vcs.changes(checkout, base).nested

    assert named() == ([], [])
    write(sub, {"made.txt": "where nothing was fetched\n"})
    assert named() == (["sub/"], ["sub/"])
    shutil.rmtree(sub)
    origin = make_repository(tmp_path / "origin", files={"lib.py": "x\n", ".gitignore": "*.o\n"})
    git(checkout, "clone", "-q", str(origin), "sub")
    write(sub, {"noise.o": "o\n"})
    assert (named(), world.vcs.ignored(checkout)) == (([], []), ["sub/noise.o"])
    write(sub, {"lib.py": "the agent's\n"})
    assert named() == (["sub/"], ["sub/"])
    head = world.commit(checkout, {"beside.txt": "y\n"})
    world.vcs.loosen(checkout, "sub/")
    sub.rename(tmp_path / "kept")
    assert git(tmp_path / "kept", "status", "--porcelain") == " M lib.py\n"
    assert (world.commit(checkout, {}), named()) == (head, ([], []))  # that it is gone is no change


def test_fork_point__follows_when_the_target_was_brought_in(world, checkout):
    base = world.target
    head = world.commit(checkout, {"mine.txt": "mine\n"})
    assert world.vcs.fork_point(checkout, base, TARGET) == world.vcs.fork_point(checkout, base, TARGET, head) == base
    now = world.person_commits({"theirs.txt": "theirs\n"})
    assert world.vcs.fork_point(checkout, base, TARGET) == base
    world.vcs.update_checkout(checkout, BRANCH, now, "merge", AGENT)
    assert world.vcs.fork_point(checkout, base, TARGET) == now


def test_status__ahead_behind_and_what_is_uncommitted(world, checkout):
    head = world.commit(checkout, {"mine.txt": "mine\n"})
    world.person_commits({"theirs.txt": "theirs\n"})
    write(checkout, {"app.py": "new\n", "fresh.txt": "fresh\n"})
    status = world.vcs.status(checkout, TARGET)
    assert (status.head, status.branch, status.ahead, status.behind) == (head, BRANCH, 1, 1)
    assert sorted(status.unstaged + status.untracked) == ["app.py", "fresh.txt"]
    assert (status.conflicted, status.operation) == ([], "")


def test_remove__folder_entry_and_branch_are_gone(world, checkout):
    head = world.commit(checkout, {"new.txt": "new\n"})
    before = world.print()
    world.vcs.remove_checkout(world.repository, checkout)
    world.vcs.remove_checkout(world.repository, checkout)
    world.vcs.delete_branch(world.repository, BRANCH, "0" * 40)
    assert world.vcs.tip(world.repository, BRANCH) == head  # not where it was said to be
    world.vcs.delete_branch(world.repository, BRANCH, head)
    assert world.vcs.tip(world.repository, BRANCH) is None
    assert not world.vcs.owns_checkout(world.repository, checkout)
    assert world.print() == before
    if world.is_jj:  # nothing of it is left in a person's log
        assert "new.txt" not in jj(world.repository, "--ignore-working-copy", "log", "-r", "all()", "--summary")


def test_remove__that_stops_while_deleting_leaves_no_half_checkout(world, checkout, monkeypatch):
    """A file of another account, a full disk, a kill: the next try must not take what is missing for somebody's work."""
    head = world.commit(checkout, {"new.txt": "new\n"})

    def stop(folder, **_options):
        (Path(folder) / "new.txt").unlink()
        raise PermissionError(13, "Permission denied", str(folder))

    with monkeypatch.context() as broken:
        broken.setattr("workspaces.vcs.deleting.shutil.rmtree", stop)
        with pytest.raises(PermissionError):
            world.vcs.remove_checkout(world.repository, checkout)
    assert (checkout.exists(), world.vcs.owns_checkout(world.repository, checkout)) == (False, False)
    assert world.vcs.tip(world.repository, BRANCH) == head
    world.vcs.remove_checkout(world.repository, checkout)
    assert list(world.room.iterdir()) == []


def test_export__a_patch_and_a_bundle_that_can_be_taken_in_again(world, checkout, tmp_path):
    base, head = world.target, world.commit(checkout, {"new.txt": "new\n", "app.py": "other\n"})
    patch = world.vcs.export(world.repository, BRANCH, base, head, tmp_path / "kept", "one", merged=False)
    assert apply_patch(world.store, base, patch.read_bytes(), tmp_path / "clone") == contents(checkout)
    git(tmp_path / "clone", "fetch", "-q", str(patch.with_suffix(".bundle")), f"refs/heads/{BRANCH}")
    assert git(tmp_path / "clone", "rev-parse", "FETCH_HEAD").strip() == head
    assert world.vcs.export(world.repository, BRANCH, base, head, tmp_path / "kept", "two", merged=True) is None


def test_branches_and_remotes(world, checkout, tmp_path):
    assert world.vcs.branches(world.repository) == [TARGET]
    git(world.store, "remote", "add", "origin", "https://user:secret@example.invalid/repository.git")
    assert world.vcs.remotes(world.repository) == {"origin": "https://example.invalid/repository.git"}


@pytest.fixture
def worked(world, checkout):
    """The last commit of a checkout in which something was done."""
    return world.commit(checkout, {"work.txt": "work\n"})


def test_repair__nothing_is_wrong(world, checkout, worked):
    assert world.vcs.repair(world.repository, checkout, BRANCH, worked) == []


def test_repair__the_folder_was_deleted(world, checkout, worked):
    shutil.rmtree(checkout)
    assert world.vcs.repair(world.repository, checkout, BRANCH, worked)
    assert (checkout / "work.txt").read_text() == "work\n"
    assert world.commit(checkout, {}) == worked


def test_repair__the_branch_was_deleted(world, checkout, worked):
    world.person_deletes(BRANCH)
    write(checkout, {"more.txt": "more\n"})
    assert world.vcs.repair(world.repository, checkout, BRANCH, worked)
    assert world.vcs.tip(world.repository, BRANCH) == worked
    assert (checkout / "more.txt").exists()
    assert world.parents(world.commit(checkout, {})) == [worked]


def test_repair__the_branch_was_moved_back(world, checkout, worked):
    world.person_moves(BRANCH, world.target)
    write(checkout, {"more.txt": "more\n"})
    world.vcs.repair(world.repository, checkout, BRANCH, worked)
    head = world.commit(checkout, {})
    assert world.parents(head) == [worked]
    assert world.vcs.tip(world.repository, BRANCH) == head


def test_repair__the_repository_was_moved(world, checkout, worked):
    write(checkout, {"more.txt": "more\n"})
    world.repository = world.repository.rename(world.repository.with_name("moved"))
    assert world.vcs.repair(world.repository, checkout, BRANCH, worked)
    assert world.vcs.owns_checkout(world.repository, checkout)
    assert (checkout / "more.txt").read_text() == "more\n"
    assert world.parents(world.commit(checkout, {})) == [worked]


def test_repair__the_system_forgot_the_checkout(world, checkout, worked):
    write(checkout, {"more.txt": "more\n"})
    if world.is_jj:
        jj(world.repository, "workspace", "forget", checkout.name, "--ignore-working-copy")
    else:
        shutil.rmtree(world.repository / ".git" / "worktrees" / checkout.name)
    assert world.vcs.repair(world.repository, checkout, BRANCH, worked)
    assert world.vcs.owns_checkout(world.repository, checkout)
    assert (checkout / "more.txt").read_text() == "more\n"
    assert world.parents(world.commit(checkout, {})) == [worked]


def test_a_killed_commands_locks_do_not_block_for_ever(world, checkout, worked, monkeypatch):
    monkeypatch.setattr("workspaces.vcs.git_checkout.LOCK_PATIENCE", 0.0)
    if world.is_jj:  # jj's locks are the kernel's: the files stay and mean nothing
        locks = [checkout / ".jj" / "working_copy" / "working_copy.lock"]
    else:
        locks = [world.repository / ".git" / "worktrees" / checkout.name / "index.lock"]
    for lock in locks:
        lock.touch()
    world.vcs.repair(world.repository, checkout, BRANCH, worked)
    assert world.parents(world.commit(checkout, {"after.txt": "after\n"})) == [worked]


def test_the_repository_is_gone__says_so(world, checkout):
    shutil.rmtree(world.repository)
    with pytest.raises(Upstream):
        world.vcs.tip(world.repository, TARGET)


def test_push__forward_or_as_expected_else_refused(world, checkout, tmp_path):
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], env=GIT_ENV, check=True, timeout=60)
    git(world.store, "remote", "add", "origin", str(remote))
    one = world.commit(checkout, {"one.txt": "1\n"})
    world.vcs.push(world.repository, "origin", one, "feature", expected="", header="")
    assert git(remote, "rev-parse", "feature").strip() == one
    two = world.commit(checkout, {"two.txt": "2\n"})
    with pytest.raises(Raced):
        world.vcs.push(world.repository, "origin", two, "feature", expected="", header="")
    world.vcs.push(world.repository, "origin", two, "feature", expected=None, header="")
    with pytest.raises(Raced):
        world.vcs.push(world.repository, "origin", one, "feature", expected=None, header="")
    world.vcs.push(world.repository, "origin", one, "feature", expected=two, header="")
    assert git(remote, "rev-parse", "feature").strip() == one
