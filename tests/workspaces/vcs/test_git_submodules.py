"""Submodules that were fetched into a checkout: what of them would go with it is found, and can be moved away whole.

Also of those whose files are gone again.
"""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from tests.repositories import git, make_repository
from tests.workspaces.vcs.conftest import ADA, VCS, mine, tip, write
from workspaces.vcs import git_checkout, git_stranded, git_submodules
from workspaces.vcs.base import VcsError
from workspaces.vcs.git_command import git_folder

FILES_ALLOWED = ("-c", "protocol.file.allow=always", "-c", "user.name=A", "-c", "user.email=a@example.invalid")


def fetch(folder: Path) -> None:
    git(folder, *FILES_ALLOWED, "submodule", "update", "-q", "--init", "--recursive")


@pytest.fixture
def inner(tmp_path):
    """A repository that has itself a submodule."""
    deep = make_repository(tmp_path / "deep", files={"deep.txt": "x\n"})
    inner = make_repository(tmp_path / "inner", files={"lib.py": "x\n", ".gitignore": "*.o\n"})
    git(inner, *FILES_ALLOWED, "submodule", "add", "-q", str(deep), "deep")
    git(inner, "commit", "-q", "-m", "Deep")
    return inner


@pytest.fixture
def sub(repository, checkout, inner):
    """The folder of a submodule that somebody fetched into the checkout."""
    git(repository, *FILES_ALLOWED, "submodule", "add", "-q", str(inner), "vendor/inner")
    target = mine(repository, {})
    VCS.update_checkout(checkout, "studio/x", target, "merge", ADA)
    fetch(checkout)
    return checkout / "vendor" / "inner"


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, *FILES_ALLOWED, "commit", "-q", "--allow-empty", "-m", "In the submodule")
    return tip(folder, "HEAD")


def undo(sub: Path) -> None:
    """As it was fetched."""
    for folder in (sub, sub / "deep"):
        git(folder, "checkout", "-q", "--detach", "origin/HEAD")
        git(folder, "reset", "-q", "--hard")
        git(folder, "clean", "-fdq")


def stash(sub: Path) -> None:
    write(sub, {"lib.py": "put away\n"})
    git(sub, *FILES_ALLOWED, "stash", "-q")


def branch_off(sub: Path) -> None:
    git(sub, "checkout", "-q", "-b", "mine")
    commit(sub)
    git(sub, "checkout", "-q", "--detach", "origin/HEAD")


WORK = {
    "an edit": lambda sub: write(sub, {"lib.py": "y\n"}),
    "a new file": lambda sub: write(sub, {"new.py": "y\n"}),
    "a deleted file": lambda sub: (sub / "lib.py").unlink(),
    "a commit": commit,
    "inside a submodule of it": lambda sub: write(sub, {"deep/new.txt": "y\n"}),
    "a commit inside a submodule of it": lambda sub: commit(sub / "deep"),
}
LASTING = {
    "a branch": branch_off,
    "a stash": stash,
    "a link that leads nowhere": lambda sub: (sub / ".git").write_text("gitdir: nowhere\n"),
}


def test_worked_in__whatever_no_remote_has(checkout, sub):
    for name, work in WORK.items():
        work(sub)
        assert VCS.nested_repositories(checkout) == ["vendor/inner/"], name
        undo(sub)
        assert VCS.nested_repositories(checkout) == [], name


@pytest.mark.parametrize("work", LASTING)
def test_worked_in__what_is_not_in_its_files(checkout, sub, work):
    LASTING[work](sub)
    assert VCS.nested_repositories(checkout) == ["vendor/inner/"]


def test_worked_in__not_what_was_only_fetched_built_or_pushed(checkout, sub, inner):
    write(sub, {"built.o": "o\n"})
    assert (VCS.nested_repositories(checkout), VCS.ignored(checkout)) == ([], ["vendor/inner/built.o"])
    commit(sub)
    git(sub, "push", "-q", "origin", "HEAD:refs/heads/feature")
    assert VCS.nested_repositories(checkout) == []
    git(sub, *FILES_ALLOWED, "fetch", "-q", "--depth=1", f"file://{inner}", "feature")
    assert VCS.nested_repositories(checkout) == []


def test_worked_in__runs_nothing_that_the_submodule_names(checkout, sub, tmp_path):
    ran = tmp_path / "ran"
    for key in ("filter.evil.clean", "core.fsmonitor", "diff.external"):
        git(sub, "config", key, f"touch '{ran}'; cat")
    write(sub, {".gitattributes": "* filter=evil\n", "lib.py": "y\n"})
    assert VCS.nested_repositories(checkout) == ["vendor/inner/"]
    VCS.loosen(checkout, "vendor/inner/")
    assert not ran.exists()


def test_worked_in__what_cannot_be_looked_at_in_time_counts(checkout, sub, monkeypatch):
    monkeypatch.setattr(git_submodules, "LOOK_SECONDS", -1.0)
    assert VCS.nested_repositories(checkout) == ["vendor/inner/"]


def test_worked_in__not_below_a_link(checkout, sub, tmp_path):
    """Whoever puts a link in the place of the folder above gets nothing outside the checkout looked at or moved."""
    commit(sub)
    (checkout / "vendor").rename(tmp_path / "vendor")
    (checkout / "vendor").symlink_to(tmp_path / "vendor")
    assert VCS.nested_repositories(checkout) == []
    (checkout / "vendor").unlink()
    (checkout / "vendor").symlink_to("vendor")
    assert VCS.nested_repositories(checkout) == []


@pytest.mark.parametrize(
    ("died", "disk"),
    [
        ("", "the same"),
        ("before the move", "the same"),
        ("after the move", "the same"),
        ("before it took its place", "the same"),
        ("after the move", "another"),
    ],
)
def test_loosen__it_is_a_repository_wherever_it_goes(checkout, sub, tmp_path, monkeypatch, died, disk):
    """Also when it was killed half-way: nothing is anywhere but in the folder or where the next try looks for it."""
    deep, made = commit(sub / "deep"), commit(sub)
    write(sub, {"lib.py": "not committed\n"})
    head = VCS.commit_all(checkout, "studio/x", "The pointer", ADA)
    move, rename = git_submodules.move_folder, Path.rename

    def moved(folder, to):
        if died == "before the move":
            raise KeyboardInterrupt
        move(folder, to)
        if died == "after the move":
            raise KeyboardInterrupt

    def renamed(path, to):
        if disk == "another" and "modules" in path.parts:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        if died == "before it took its place" and path.name == git_submodules.INSIDE:
            raise KeyboardInterrupt
        return rename(path, to)

    with monkeypatch.context() as broken:
        broken.setattr(git_submodules, "move_folder", moved)
        broken.setattr(Path, "rename", renamed)
        if died:
            with pytest.raises(KeyboardInterrupt):
                VCS.loosen(checkout, "vendor/inner/")
            assert VCS.nested_repositories(checkout) == ["vendor/inner/"]
            assert VCS.commit_all(checkout, "studio/x", "Again", ADA) == head
            died = ""
        VCS.loosen(checkout, "vendor/inner/")
    kept = sub.rename(tmp_path / "kept")
    assert (VCS.nested_repositories(checkout), VCS.commit_all(checkout, "studio/x", "Again", ADA)) == ([], head)
    VCS.remove_checkout(checkout.parent.parent / "a repository", checkout)
    assert git(kept, "status", "--porcelain") == " M lib.py\n"
    assert (tip(kept, "HEAD"), tip(kept / "deep", "HEAD")) == (made, deep)


def test_loosen__takes_no_git_folder_that_stays(repository, checkout, sub):
    """A link that leads into the person's own repository: that one is not the checkout's to move."""
    own = repository / ".git" / "modules" / "vendor" / "inner"
    assert own.is_dir()
    (sub / ".git").write_text(f"gitdir: {own}\n")
    VCS.loosen(checkout, "vendor/inner/")
    assert (own / "HEAD").is_file()
    assert (sub / ".git").is_file()


def deinit(checkout, sub):
    git(checkout, "submodule", "deinit", "-q", "--force", "vendor/inner")
    assert not any(sub.iterdir())


GONE = {
    "deinit": deinit,
    "its folder": lambda checkout, sub: shutil.rmtree(sub),
    "out of the index": lambda checkout, sub: git(checkout, "rm", "-q", "--force", "vendor/inner"),
    "the checkout": lambda checkout, sub: shutil.rmtree(checkout),
}


@pytest.mark.parametrize("gone", GONE)
def test_stranded__commits_of_a_submodule_without_files(repository, checkout, sub, tmp_path, gone):
    made = commit(sub)
    GONE[gone](checkout, sub)
    assert VCS.stranded(repository, checkout) == ["vendor/inner"]
    VCS.take_stranded(repository, checkout, "vendor/inner", tmp_path / "kept.git")
    assert VCS.stranded(repository, checkout) == []
    assert tip(tmp_path / "kept.git", "HEAD") == made
    git(tmp_path, *FILES_ALLOWED, "clone", "-q", "kept.git/modules/deep", "again")  # what was inside it is there too


@pytest.mark.parametrize("died", [False, True])
def test_stranded__a_checkout_that_is_made_again_has_them_still(repository, checkout, sub, monkeypatch, died):
    made = commit(sub)
    shutil.rmtree(checkout)
    if died:
        with monkeypatch.context() as broken:
            broken.setattr(git_checkout, "_put_submodules_back", lambda *_: None)
            VCS.create_checkout(repository, checkout, "studio/x", "")
    VCS.create_checkout(repository, checkout, "studio/x", "")
    assert VCS.stranded(repository, checkout) == ["vendor/inner"]
    fetch(checkout)
    assert git(sub, "cat-file", "-t", made).strip() == "commit"
    assert list((repository / ".git").glob("studio-*")) == []


def test_stranded__not_what_was_only_fetched_or_goes_with_its_folder(repository, checkout, sub):
    commit(sub / "deep")
    nested = VCS.nested_repositories(checkout)
    assert (nested, VCS.stranded(repository, checkout, nested)) == (["vendor/inner/"], [])
    deinit(checkout, sub)
    assert VCS.stranded(repository, checkout) == ["vendor/inner/modules/deep"]  # the one around it has nothing
    deep = git_folder(checkout) / "modules" / "vendor" / "inner" / "modules" / "deep"
    here = ("--git-dir", str(deep), "--work-tree", str(deep))
    (deep / "HEAD").write_text(git(repository, *here, "rev-parse", "origin/HEAD"))
    assert VCS.stranded(repository, checkout) == []


def test_stranded__what_cannot_be_looked_at_counts(repository, checkout, sub, monkeypatch):
    deinit(checkout, sub)
    modules = git_folder(checkout) / "modules"
    (modules / "vendor" / "inner" / "HEAD").write_text("nothing that git knows\n")
    assert VCS.stranded(repository, checkout) == ["vendor/inner"]
    monkeypatch.setattr(git_stranded, "FOLDERS", 1)
    with pytest.raises(VcsError, match="has more folders than submodules need"):
        VCS.stranded(repository, checkout)


def test_stranded__follows_no_link(repository, checkout, tmp_path):
    """Whoever puts a link among git's folders gets nothing outside of them looked at or moved."""
    other = make_repository(tmp_path / "other", files={"a": "a\n"})
    modules = git_folder(checkout) / "modules"
    modules.mkdir()
    (modules / "other").symlink_to(other / ".git")
    assert VCS.stranded(repository, checkout) == []
    (modules / "other").unlink()
    modules.rmdir()
    modules.symlink_to(other)
    assert VCS.stranded(repository, checkout) == []
