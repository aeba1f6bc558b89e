"""Looking at a repository before it is registered, and asking it small questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studio.kernel.errors import Invalid
from workspaces.vcs.base import CheckoutStatus, Repository, readable
from workspaces.vcs.git_command import (
    OLDEST,
    GitError,
    branch_commit,
    commit_of,
    git,
    git_folder,
    line,
    name,
    names,
    version,
)
from workspaces.vcs.git_exclude import excluded_paths, place_of
from workspaces.vcs.git_loose import loose_tip
from workspaces.vcs.merging import Person

# Files and folders in a checkout's git folder that say what was begun there and not ended.
OPERATIONS = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_LOG": "bisect",
}


def _refuse(code: str, sentence: str) -> Invalid:
    return Invalid(sentence, code=code, detail={"field": "path"})


def find(path: Path) -> Repository:
    """The repository whose work tree's root is `path`. Raises Invalid with a sentence when it cannot be used."""
    if version() < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise GitError(f"git {'.'.join(map(str, version()))} is too old: the studio needs git {oldest} or newer.")
    _require_root(path)
    head = commit_of(path, "HEAD")
    if head is None:
        raise _refuse(
            "repository_empty",
            f"{readable(path)} has no commit yet. Make a first one (git add, git commit), then register it.",
        )
    branch = git(path, "symbolic-ref", "--quiet", "HEAD", ok=(0, 1)).stdout
    if not branch:
        raise _refuse(
            "detached_head",
            f"{readable(path)} is not on a branch (its HEAD is detached), so it is unclear where finished work should go. "
            "Check out the branch that tasks start from (git switch BRANCH), then register it.",
        )
    return Repository(path, name(branch.strip()).removeprefix("refs/heads/"), head)


def what_is_missing(repository: Path) -> str:
    """What of the repository is not there, in words; empty when it is whole."""
    if (repository / ".git").exists():
        return ""
    return "holds no repository any more" if repository.is_dir() else "is not there"


def _require_root(path: Path) -> None:
    """Raise Invalid unless `path` is the root of a work tree that git accepts."""
    asked = git(path, "rev-parse", "--is-bare-repository", "--is-inside-git-dir", ok=(0, 128), discover=True)
    if asked.code:
        if b"dubious ownership" in asked.stderr:
            raise _refuse(
                "repository_unsafe",
                f"git does not trust {readable(path)}, because another account owns it. Register it from that account, or "
                f"allow it: git config --global --add safe.directory '{readable(path)}'",
            )
        raise _refuse("not_a_repository", f"{readable(path)} is not a git or jj repository. {HOW}")
    bare, inside = asked.stdout.split()
    if bare == b"true" and (inside == b"true" or not (path / ".git").exists()):
        raise _refuse(
            "repository_bare",
            f"{readable(path)} is a bare repository: it has no files to work in. Register a clone of it that has.",
        )
    if inside == b"true":
        raise _refuse(
            "not_a_repository", f"{readable(path)} is the inside of a git repository: register the folder above."
        )
    root = Path(line_of_root(path))
    if root != path:
        raise _refuse(
            "repository_subfolder",
            f"{readable(path)} is a folder inside a repository. Register its root: {readable(root)}",
        )


HOW = "Make it one with git init and a first commit, or name another folder."


def line_of_root(path: Path) -> str:
    """The root of the work tree around `path`."""
    return name(git(path, "rev-parse", "--show-toplevel", discover=True).stdout.removesuffix(b"\n"))


def store(repository: Path) -> Path:
    """The folder that all checkouts of the repository share."""
    folder = git_folder(repository)
    try:
        return (folder / name((folder / "commondir").read_bytes().strip())).resolve()
    except OSError:
        return folder.resolve()


def tip(repository: Path, branch: str) -> str | None:
    """The commit that `branch` points at; None when there is no such branch."""
    return _loose(repository, branch) or branch_commit(repository, branch)


def _loose(repository: Path, branch: str) -> str | None:
    """The same where it can be read without git."""
    try:
        return loose_tip(store(repository), branch)
    except GitError:  # not a repository
        return None


def identity(repository: Path) -> Person | None:
    """Whom the repository's own configuration names as author."""
    asked = git(repository, "config", "-z", "--get-regexp", r"^user\.(name|email)$", ok=(0, 1)).stdout
    pairs = (row.decode("utf-8", "replace").partition("\n") for row in asked.split(b"\0"))
    said = {key: value.strip() for key, _, value in pairs}  # of several the last one holds
    values = [said.get(key, "") for key in ("user.name", "user.email")]
    return Person(*values) if all(values) else None


def contains(repository: Path, commit: str, ancestor: str) -> bool:
    """Whether `ancestor` is `commit` or before it."""
    return git(repository, "merge-base", "--is-ancestor", ancestor, commit, ok=(0, 1)).code == 0


def count_beyond(repository: Path, commit: str, known: Sequence[str]) -> int:
    """How many commits `commit`, which is there, has that none of `known` has; those of `known` that are gone have none."""
    return int(line(repository, "rev-list", "--count", "--ignore-missing", commit, "--not", *known))


def common(repository: Path, one: str, other: str) -> str | None:
    """The newest commit that both have; None when their histories have nothing in common."""
    return git(repository, "merge-base", one, other, ok=(0, 1)).stdout.decode().strip() or None


def fork_point(checkout: Path, base: str, branch: str, head: str = "HEAD") -> str:
    """Where `head` left `branch`: `base`, or a later commit of the branch that was brought in since."""
    if _loose(checkout, branch) == base:
        return base  # the branch has not moved
    found = git(checkout, "merge-base", head, f"refs/heads/{branch}", ok=(0, 1, 128)).stdout.decode().strip()
    if found and found != base and contains(checkout, found, base):
        return found
    return base


def dirty_files(checkout: Path) -> list[str]:
    """Tracked files that differ from the last commit, staged or not."""
    return [path for _, path in _porcelain(checkout, "--untracked-files=no")]


def _porcelain(checkout: Path, *options: str) -> list[tuple[str, str]]:
    """`git status` as (two letters, path); a rename counts as a deletion and an addition."""
    done = git(checkout, "status", "--porcelain", "-z", "--no-renames", "--ignore-submodules=dirty", *options)
    return [(one[:2], one[3:]) for one in names(done.stdout)]


def operation(checkout: Path) -> str:
    """The operation that was begun in the checkout and not ended; empty when there is none."""
    folder = git_folder(checkout)
    return next((word for file, word in OPERATIONS.items() if (folder / file).exists()), "")


def status(checkout: Path, target: str) -> CheckoutStatus:
    """Where the checkout stands against the branch `target`."""
    rows = _porcelain(checkout, "--untracked-files=all")
    own = set(excluded_paths(checkout))
    unmerged = {"DD", "AU", "UD", "UA", "DU", "AA", "UU"}
    counts = git(checkout, "rev-list", "--left-right", "--count", f"HEAD...refs/heads/{target}", ok=(0, 128)).stdout
    ahead, behind = (int(count) for count in counts.split()) if counts else (0, 0)
    branch = name(git(checkout, "symbolic-ref", "--quiet", "HEAD", ok=(0, 1)).stdout.strip())
    return CheckoutStatus(
        head=commit_of(checkout, "HEAD") or "",
        branch=branch.removeprefix("refs/heads/"),
        ahead=ahead,
        behind=behind,
        staged=[path for code, path in rows if code[0] not in " ?" and code not in unmerged],
        unstaged=[path for code, path in rows if code[1] not in " ?" and code not in unmerged],
        untracked=[path for code, path in rows if code == "??" and not place_of(path, own)],
        conflicted=[path for code, path in rows if code in unmerged],
        operation=operation(checkout),
    )
