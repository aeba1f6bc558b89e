from __future__ import annotations

import subprocess

import pytest

from tests.repositories import git
from workspaces.models import Workspace
from workspaces.services import commit_left, diff_for, ensure_workspace, remove_workspace, status_for
from workspaces.vcs.git_exclude import exclude, file_at

pytestmark = pytest.mark.django_db

# A trailing slash does not match a link to a folder; and a file may be wanted by name.
IGNORED = "node_modules/\n!.env\n"


@pytest.fixture
def workspace(project, repository):
    """The checkout of a repository whose .gitignore does not do what one thinks, with things placed in it."""
    (repository / ".gitignore").write_text(IGNORED)
    (repository / "node_modules").mkdir()
    (repository / "node_modules" / "dependency.js").write_text("kept")
    git(repository, "add", ".gitignore")
    git(repository, "commit", "-q", "-m", "Ignore")
    return ensure_workspace(project=project, label="DEMO-1")


@pytest.fixture
def placed(workspace, checkout, repository):
    """A link, a copied file and one whose name is a pattern."""
    (checkout / "node_modules").symlink_to(repository / "node_modules")
    (checkout / ".env").write_text("SECRET=1\n")
    (checkout / "a[1]*.txt").write_text("x")
    assert exclude(checkout, ["node_modules", ".env", "a[1]*.txt", "app.py"]) == ["app.py"]
    return workspace


def persons_git(checkout, home, *arguments):
    """git as an agent or a person calls it there."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_exclude__nothing_of_it_is_in_status_diff_or_commit(placed, checkout):
    (checkout / "a1.txt").write_text("mine")  # the excluded name is no pattern for it
    assert [file.new_path for file in diff_for(placed).files] == ["a1.txt"]
    commit_left(placed, message="Work", author_name="agent")
    assert git(checkout, "ls-tree", "-r", "--name-only", "HEAD").split() == [
        ".gitignore", "README.md", "a1.txt", "app.py", "lib/deep/one.txt", "lib/two.txt",
    ]  # fmt: skip
    assert (checkout / ".env").exists()
    assert (checkout / "node_modules" / "dependency.js").exists()


def test_exclude__whoever_uses_git_there_is_kept_from_it_and_the_persons_checkout_is_not(
    placed, checkout, repository, own_home
):
    (own_home / ".config" / "git").mkdir(parents=True)
    (own_home / ".config" / "git" / "ignore").write_text("*.swp\n")
    exclude(checkout, ["node_modules", ".env"])
    (checkout / "x.swp").touch()
    (checkout / "new.txt").touch()
    persons_git(checkout, own_home, "add", "-A")
    # .env is wanted by the repository's own .gitignore, which is stronger: only the studio's commits leave it out.
    assert persons_git(checkout, own_home, "diff", "--cached", "--name-only").split() == [
        ".env",
        "a[1]*.txt",
        "new.txt",
    ]
    (repository / "node_modules" / "dependency.js").unlink()
    (repository / "node_modules").rmdir()
    (repository / "node_modules").symlink_to("lib")
    (repository / ".env").touch()
    assert persons_git(repository, own_home, "status", "--porcelain").split() == ["??", ".env", "??", "node_modules"]
    commit_left(placed, message="Work", author_name="agent")
    assert ".env" not in git(checkout, "ls-tree", "-r", "--name-only", "HEAD").split()


def test_exclude__what_somebody_committed_by_force_stays_in_the_diff(placed, checkout):
    git(checkout, "add", "-f", "node_modules")
    git(checkout, "commit", "-q", "-m", "By force")
    assert [file.new_path for file in diff_for(placed).files] == ["node_modules"]
    (checkout / "node_modules").unlink()
    commit_left(placed, message="Without it", author_name="agent")
    assert diff_for(placed).files == []


def test_exclude__leaves_no_trace_in_the_repository_when_the_checkout_goes(placed, checkout, repository):
    before = (repository / ".git" / "config").read_text()
    assert "includeIf" in before
    exclude(checkout, [".env"])
    assert (repository / ".git" / "config").read_text() == before
    assert not (repository / ".git" / "info" / "exclude").read_text().count("node_modules")
    assert status_for(placed).untracked == ["a[1]*.txt", "node_modules"]
    remove_workspace(placed.pk)
    assert Workspace.objects.get(pk=placed.pk).state == "removed"
    assert "includeIf" not in (repository / ".git" / "config").read_text()
    assert (repository / "node_modules" / "dependency.js").read_text() == "kept"  # links are never followed


def test_file_at__only_plain_files_and_only_of_the_commit(repository, commit):
    (repository / "link").symlink_to("app.py")
    head = commit(repository)
    (repository / "app.py").write_text("changed")
    assert file_at(repository, head, "app.py", limit=5) == b"print"
    assert file_at(repository, head, "link", limit=5) is None
    assert file_at(repository, head, "lib", limit=5) is None
    assert file_at(repository, head, "nothing", limit=5) is None
