"""Looking at a jj repository: where it is kept, what its bookmarks are, how a workspace stands. Nothing is written.

jj keeps commits in a git repository, its store. What is about commits alone is asked of git there; what is about bookmarks and
workspaces only jj knows. In a colocated repository a person may have used git since jj last looked: that is imported first.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.kernel.errors import Invalid
from workspaces.vcs import git_inspect
from workspaces.vcs.base import Repository, VcsError, readable
from workspaces.vcs.git_command import branch_commit, git, is_branch_name, name
from workspaces.vcs.jj_command import OLDEST, JjError, bookmark, jj, shown, text, unusable, version
from workspaces.vcs.merging import Person

POINTER_LIMIT = 4096  # bytes of a file that holds a path
STUDIO_BRANCHES = "studio/"
CONFLICT_FOLDER = ".jjconflict-base-0"  # what the git tree of a commit with conflicts holds


@dataclass(frozen=True, slots=True)
class Position:
    """The working-copy commit of a workspace, as jj saw it last."""

    commit: str
    parents: tuple[str, ...]
    description: str
    empty: bool
    conflicted: bool

    @property
    def holds_something(self) -> bool:
        """Whether it is more than the place for the next change."""
        return not self.empty or bool(self.description) or len(self.parents) > 1

    @property
    def head(self) -> str:
        """The last commit that holds something."""
        return self.commit if self.holds_something else self.parents[0]


POSITION = (
    'commit_id ++ "\\0" ++ parents.map(|p| p.commit_id()).join(" ") ++ "\\0" ++ description ++ "\\0" ++ '
    'if(empty, "empty") ++ "\\0" ++ if(conflict, "conflict") ++ "\\0"'
)


def is_here(path: Path) -> bool:
    """Whether a jj workspace begins at `path`."""
    return (path / ".jj" / "repo").exists()


def is_usable() -> bool:
    """Whether there is a jj on PATH that is new enough."""
    return version() >= OLDEST


def is_colocated(path: Path) -> bool:
    """Whether git works in the same folder."""
    return (path / ".git").exists()


def _refuse(code: str, sentence: str) -> Invalid:
    return Invalid(sentence, code=code, detail={"field": "path"})


def find(path: Path) -> Repository:
    """The repository one of whose workspaces is `path`. Raises Invalid with a sentence when it cannot be used."""
    if not is_usable():
        raise _refuse("jj_missing", f"{readable(path)} is a jj repository. {unusable(version())}")
    try:
        kind = (store(path) / "store" / "type").read_bytes()[:POINTER_LIMIT].strip()
    except (OSError, VcsError):
        kind = b""
    if kind != b"git":
        raise _refuse(
            "jj_backend",
            f"{readable(path)} keeps its commits in another store than git, or nowhere: that is not supported.",
        )
    _require_outside_configuration(path)
    try:
        branch = _default_bookmark(path)
    except JjError as error:
        raise _refuse("jj_unusable", f"jj cannot read {readable(path)}: {error.said or error.message}") from error
    head = tip(path, branch)
    if head is None:
        raise _no_bookmark(path)
    return Repository(path, branch, head)


def _require_outside_configuration(path: Path) -> None:
    """Refuse configuration that lies in the repository itself: jj would take it over as the person's own, unseen."""
    for place in (store(path) / "config.toml", path / ".jj" / "workspace-config.toml"):
        if place.is_file() and not place.is_symlink():
            raise _refuse(
                "jj_config",
                f"{readable(place)} came with the repository, and may name programs to run. Read it; if you trust it, let jj "
                "take it over (run jj config list there), else delete it. Then register the repository.",
            )


def _default_bookmark(path: Path) -> str:
    """The bookmark that finished work goes to: trunk(), else the nearest at or below the working copy, else the only one."""
    if is_colocated(root(path)):
        import_refs(root(path))
    names = 'local_bookmarks.map(|b| b.name()).join("\\0") ++ "\\0" ++ remote_bookmarks.map(|b| b.name()).join("\\0") ++ "\\0"'
    local = set(branches(path))
    for revset in ("trunk() ~ root()", "heads(::@ & bookmarks())", "bookmarks()"):
        found = sorted(local.intersection(shown(path, revset, names, own_config=False)))
        if len(found) == 1:
            return found[0]
        if found:
            raise _refuse(
                "bookmark_ambiguous",
                f"In {readable(path)} several bookmarks may be where finished work should go: {', '.join(found[:5])}. Say which: "
                f"jj config set --repo 'revset-aliases.\"trunk()\"' '{found[0]}'",
            )
    raise _no_bookmark(path)


def _no_bookmark(path: Path) -> Invalid:
    return _refuse(
        "bookmark_missing",
        f"{readable(path)} has no bookmark, so it is unclear where finished work should go. Make "
        "one on a commit (jj bookmark create main -r @-), then register it.",
    )


def dirty_files(checkout: Path) -> list[str]:
    """Always none: every change in a jj workspace belongs to a commit, and a merge never touches one."""
    del checkout
    return []


def store(repository: Path) -> Path:
    """The folder that all workspaces of the repository share."""
    place = repository / ".jj" / "repo"
    try:
        if place.is_dir():
            return place.resolve(strict=True)
        pointer = name(place.read_bytes()[:POINTER_LIMIT]).strip()
        return Path(repository, ".jj", pointer).resolve(strict=True)
    except OSError as error:
        raise VcsError(f"{readable(repository)} is no jj repository any more, or its link leads nowhere.") from error


def root(repository: Path) -> Path:
    """The workspace with which the repository began: there jj keeps git's branches in step."""
    first = store(repository).parent.parent
    return first if is_here(first) else repository


def git_store(repository: Path) -> Path:
    """The git repository that holds the commits."""
    folder = store(repository) / "store"
    try:
        return Path(folder, name((folder / "git_target").read_bytes()[:POINTER_LIMIT]).strip()).resolve(strict=True)
    except OSError as error:
        raise VcsError(f"The git repository behind {readable(repository)} is gone.") from error


def import_refs(repository: Path) -> None:
    """Tell jj what git's branches are."""
    jj(repository, "git", "import")


def what_is_missing(repository: Path) -> str:
    """What of the repository is not there, in words; empty when it is whole."""
    if not is_here(repository):
        return "holds no repository any more" if repository.is_dir() else "is not there"
    try:
        git_store(repository)
    except VcsError:
        return "has lost the git repository that holds its commits"
    return ""


def tip(repository: Path, branch: str) -> str | None:
    """The commit that the bookmark points at; None when there is none. Raises JjError for one with conflicting targets."""
    found = places(repository, branch)
    if len(found) > 1:
        ours = "Repair puts it back to the work." if branch.startswith(STUDIO_BRANCHES) else ""
        raise JjError(
            f"The bookmark {branch} points at {len(found)} commits at once, because it was moved in two places "
            f"({', '.join(one[:12] for one in found)}). "
            + (
                ours
                or f"Say where it belongs: jj bookmark set {shlex.quote(branch)} --allow-backwards -r COMMIT (one of them)."
            )
        )
    return found[0] if found else None


def places(repository: Path, branch: str) -> list[str]:
    """The commits that the bookmark points at: several when it was moved in two places at once."""
    home = root(repository)
    found = _targets(home, branch)
    if is_colocated(home) and branch_commit(git_store(home), branch) != next(iter(found), None):
        import_refs(home)
        found = _targets(home, branch)
    return found


def _targets(repository: Path, branch: str, *more: str) -> list[str]:
    if not is_branch_name(branch):
        return []
    return text(repository, *more, "log", "--no-graph", "-r", bookmark(branch), "-T", 'commit_id ++ "\\n"').split()


def targets_at(repository: Path, operation: str, branch: str) -> list[str]:
    """Where the bookmark was after an operation."""
    return _targets(repository, branch, "--at-operation", operation)


def identity(repository: Path) -> Person | None:
    """Whom the person's or the repository's configuration names as author."""
    values = [
        jj(repository, "config", "get", key, ok=(0, 1), own_config=False).stdout.decode("utf-8", "replace").strip()
        for key in ("user.name", "user.email")
    ]
    return Person(*values) if all(values) else None


def contains(repository: Path, commit: str, ancestor: str) -> bool:
    """Whether `ancestor` is `commit` or before it."""
    return git_inspect.contains(git_store(repository), commit, ancestor)


def count_beyond(repository: Path, commit: str, known: Sequence[str]) -> int:
    """How many commits `commit`, which is there, has that none of `known` has; those of `known` that are gone have none."""
    return git_inspect.count_beyond(git_store(repository), commit, known)


def common(repository: Path, one: str, other: str) -> str | None:
    """The newest commit that both have; None when their histories have nothing in common."""
    return git_inspect.common(git_store(repository), one, other)


def fork_point(checkout: Path, base: str, branch: str, head: str = "HEAD") -> str:
    """Where `head` left `branch`: `base`, or a later commit of the branch that was brought in since."""
    commits, target = git_store(checkout), tip(checkout, branch)
    if target is None:
        return base
    head = position(checkout).commit if head == "HEAD" else head
    found = git(commits, "merge-base", head, target, ok=(0, 1, 128)).stdout.decode().strip()
    return found if found and found != base and contains(checkout, found, base) else base


def position(workspace: Path, *, files: bool = False) -> Position:
    """The working-copy commit; with `files` after a look at the files of a workspace of the studio."""
    fields = shown(workspace, "@", POSITION, files=files)
    if not fields:
        raise JjError(f"The repository has forgotten the workspace {readable(workspace)}.")
    commit, parents, description, empty, conflict = fields
    return Position(commit, tuple(parents.split()), description.strip(), bool(empty), bool(conflict))


def is_plain(repository: Path, commit: str) -> bool:
    """Whether the commit holds files only, no unresolved conflicts."""
    return commit_of_path(git_store(repository), commit, CONFLICT_FOLDER) == ""


def commit_of_path(commits: Path, commit: str, path: str) -> str:
    """The object at a path of a commit; empty when there is none."""
    done = git(commits, "ls-tree", "--full-tree", "--object-only", commit, "--", path)
    return name(done.stdout.strip())


def conflicted_files(workspace: Path) -> list[str]:
    """The files of the working-copy commit that have conflicts, by name."""
    listing = text(workspace, "file", "list", "-r", "@", "-T", 'if(conflict, path ++ "\\0")')
    return [path for path in listing.split("\0") if path]


def branches(repository: Path) -> list[str]:
    """The local bookmarks, without those of the studio's own workspaces."""
    names = text(repository, "bookmark", "list", "-T", 'if(!remote && present, name ++ "\\0")').split("\0")
    return [one for one in dict.fromkeys(names) if one and not one.startswith(STUDIO_BRANCHES)]
