"""What a person does in their own repository, in each version control system: by the commands that a person would type."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.repositories import git, jj, make_jj_repository, make_repository

TRUNK = "trunk"
ROW = 'name ++ " " ++ normal_target.commit_id() ++ "\\n"'


class GitHand:
    """A person with git."""

    program = "git"
    colocated = False  # whether git works in the same folder as another system

    def make(self, folder: Path, files: dict[str, str] | None = None) -> Path:
        """A repository with one commit on `trunk`."""
        return make_repository(folder, branch=TRUNK, files=files)

    def store(self, repository: Path) -> Path:
        """Where git finds the commits."""
        return repository / ".git"

    def save(self, repository: Path, message: str = "As people have it") -> None:
        """Everything in the checkout becomes a commit on `trunk`."""
        git(repository, "add", "-A")
        git(repository, "commit", "-q", "-m", message)

    def begin_elsewhere(self, folder: Path) -> None:
        """A repository without any commit."""
        git(folder, "init", "-q", "-b", TRUNK)

    def link(self, repository: Path, place: Path) -> None:
        """One more checkout, on `trunk` as well."""
        git(repository, "worktree", "add", "-q", "--force", str(place), TRUNK)

    def tip(self, repository: Path, branch: str = TRUNK) -> str:
        """Where a branch is; empty when there is none."""
        return git(repository, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").strip()

    def put(self, repository: Path, branch: str, commit: str) -> None:
        """Put a branch somewhere, by force."""
        git(repository, "update-ref", f"refs/heads/{branch}", commit)

    def delete(self, repository: Path, branch: str) -> None:
        """Delete a branch, by force."""
        git(repository, "update-ref", "-d", f"refs/heads/{branch}")

    def reaches(self, repository: Path, commit: str) -> bool:
        """Whether a branch, or a ref under which the studio keeps something, has the commit."""
        return bool(git(repository, "for-each-ref", "--contains", commit, "--format=%(refname)").strip())

    def position(self, repository: Path) -> dict[str, str]:
        """What a person has beside the files: the index, where HEAD is, and the branches that are not the studio's."""
        found = {f".git/{name}": fingerprint(repository / ".git" / name) for name in ("HEAD", "index")}
        refs = git(repository, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")
        rows = (row.partition(" ") for row in refs.splitlines())
        return found | {ref: at for ref, _, at in rows if "/studio/" not in ref and "/studio-import/" not in ref}


class JjHand(GitHand):
    """A person with jj. No command looks at their files unless it must, so that what they have not saved stays unseen."""

    program = "jj"

    def __init__(self, *, colocated: bool) -> None:
        self.colocated = colocated

    def make(self, folder: Path, files: dict[str, str] | None = None) -> Path:
        return make_jj_repository(folder, branch=TRUNK, files=files, colocated=self.colocated)

    def store(self, repository: Path) -> Path:
        return repository / ".git" if self.colocated else repository / ".jj" / "repo" / "store" / "git"

    def save(self, repository: Path, message: str = "As people have it") -> None:
        jj(repository, "commit", "-m", message)
        jj(repository, "bookmark", "set", TRUNK, "-r", "@-")

    def begin_elsewhere(self, folder: Path) -> None:
        jj(folder, "git", "init", "--colocate" if self.colocated else "--no-colocate", ".")

    def link(self, repository: Path, place: Path) -> None:
        # Else jj makes git's worktree of it as well, and needs a git that not every machine has.
        jj(repository, "--config", "git.colocate=false", "workspace", "add", "-r", TRUNK, str(place))

    def tip(self, repository: Path, branch: str = TRUNK) -> str:
        rows = unseen(repository, "bookmark", "list", f"exact:{branch}", "-T", ROW).splitlines()
        return rows[0].partition(" ")[2] if rows else ""

    def put(self, repository: Path, branch: str, commit: str) -> None:
        unseen(repository, "bookmark", "set", branch, "-r", commit, "--allow-backwards")

    def delete(self, repository: Path, branch: str) -> None:
        unseen(repository, "bookmark", "delete", f"exact:{branch}")

    def reaches(self, repository: Path, commit: str) -> bool:
        found = unseen(repository, "log", "--no-graph", "-r", f"present({commit}) & ::bookmarks()", "-T", '"x"')
        kept = ("for-each-ref", "--contains", commit, "--format=%(refname)", "refs/studio")
        return bool(found or git(self.store(repository), *kept).strip())

    def position(self, repository: Path) -> dict[str, str]:
        """Here: where `@` is, the state of the working copy, the bookmarks; git's half of it where there is one."""
        found = GitHand.position(self, repository) if self.colocated else {}
        for row in unseen(repository, "bookmark", "list", "-T", f"if(!remote && present, {ROW})").splitlines():
            name, _, at = row.partition(" ")
            if not name.startswith("studio/"):
                found[f"refs/heads/{name}"] = at
        found["@"] = unseen(repository, "log", "--no-graph", "-r", "@", "-T", "commit_id")
        return found | {str(one): fingerprint(one) for one in (repository / ".jj" / "working_copy").iterdir()}


HANDS: dict[str, GitHand] = {
    "git": GitHand(),
    "jj": JjHand(colocated=False),
    "jj colocated": JjHand(colocated=True),
}


def unseen(repository: Path, *arguments: str) -> str:
    """The output of a jj command that does not look at the files."""
    return jj(repository, "--ignore-working-copy", *arguments)


def fingerprint(place: Path) -> str:
    """A file's content; empty for none."""
    return hashlib.sha256(place.read_bytes()).hexdigest() if place.is_file() else ""
