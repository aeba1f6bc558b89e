"""What the studio asks of a version control system. Services know only this; each system is one module beside it.

File names are text with surrogate escapes inside, so that any byte survives; they are cleaned only to be shown.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from studio.kernel.errors import Upstream
from studio.kernel.unseen import escaped
from workspaces.vcs.merging import (
    BranchCheckout,
    ConflictedFile,
    MergeRequest,
    MergeResult,
    Person,
    RevertRequest,
    Update,
)
from workspaces.vcs.taking import Leaving, Taken, Worktree, leave_nothing


def readable(name: str | Path) -> str:
    """A file's name as people and databases can take it: bytes that are no text become replacement characters.

    What nobody would see in it, or what would reorder the text around it, is escaped.
    """
    return escaped(str(name).encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


class VcsError(Upstream):
    """A command of the version control system failed. `transient`: a time-out, or a lock that somebody else held."""

    code = "vcs_failed"


class Raced(Exception):
    """The branch is not where it was when the merge was computed: compute it again."""


class Blocked(Exception):
    """A person's checkout stands in the way; nothing was moved. `files` are the reasons, when they are files."""

    def __init__(self, message: str, files: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.files = list(files)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that can be registered."""

    root: Path
    default_branch: str
    head: str


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """One file of a change. An absent side has the path "" and the mode "000000".

    `additions` and `deletions` are None for a binary file, or one too large to be compared. `patch` holds its part of the
    unified diff, headers included; None when the whole diff was cut off before it.
    """

    status: str  # added, deleted, modified, renamed, copied, type_changed
    old_path: str
    new_path: str
    old_mode: str
    new_mode: str
    additions: int | None
    deletions: int | None
    patch: bytes | None

    @property
    def path(self) -> str:
        """The name it has now, or had last."""
        return self.new_path or self.old_path


@dataclass(frozen=True, slots=True)
class Changes:
    """Every file that differs, each once, in the order of their names."""

    base: str
    head: str  # empty: the checkout as it is now
    files: list[ChangedFile]
    # Repositories inside the checkout, submodules with work too: what is in them is no part of the change.
    nested: list[str]
    patch_cut: bool = False  # the patches of the last files are missing


@dataclass(frozen=True, slots=True)
class CheckoutStatus:
    """Where a checkout stands against its target branch."""

    head: str
    branch: str  # empty when the checkout is on none
    ahead: int
    behind: int
    staged: list[str]
    unstaged: list[str]
    untracked: list[str]
    conflicted: list[str]
    operation: str  # "merge", "rebase", … that was begun and not ended; else empty


class Vcs(Protocol):
    """A version control system. Every method is bounded in time and raises VcsError when a command fails."""

    name: str

    def find(self, path: Path) -> Repository:
        """The repository whose work tree's root is `path`. Raises Invalid with a sentence when it cannot be used."""
        ...

    def dirty_files(self, checkout: Path) -> list[str]:
        """Tracked files that differ from the last commit, staged or not."""
        ...

    def what_is_missing(self, repository: Path) -> str:
        """What of the repository is not there, as the end of a sentence; empty when it is whole. A cheap look at the disk."""
        ...

    def store(self, repository: Path) -> Path:
        """The folder that all checkouts of the repository share: it names the lock of what must not run at once."""
        ...

    def tip(self, repository: Path, branch: str) -> str | None:
        """The commit that `branch` points at; None when there is no such branch."""
        ...

    def identity(self, repository: Path) -> Person | None:
        """Whom the repository's own configuration names as author."""
        ...

    def create_checkout(self, repository: Path, checkout: Path, branch: str, base: str) -> None:
        """Make `checkout` on `branch`, which begins at `base` unless it exists. Finishes what a crash left half made."""
        ...

    def owns_checkout(self, repository: Path, checkout: Path) -> bool:
        """Whether `checkout` is a complete checkout of this repository; repairs its link when only that is missing."""
        ...

    def is_unfinished(self, repository: Path, checkout: Path) -> bool:
        """Whether making `checkout` was begun and not ended, so that nobody has worked in it yet."""
        ...

    def remove_checkout(self, repository: Path, checkout: Path) -> None:
        """Forget and delete the checkout with all that is in it, never a part of it alone. A missing one is fine."""
        ...

    def delete_branch(self, repository: Path, branch: str, tip: str) -> None:
        """Delete `branch` if it still points at `tip`."""
        ...

    def commit_all(self, checkout: Path, branch: str, message: str, author: Person) -> str:
        """Commit everything that is in the checkout, if anything, onto `branch`; the commit that holds all of it."""
        ...

    def exclude(self, checkout: Path, paths: Sequence[str]) -> list[str]:
        """Keep exactly `paths` (files, links, folders) out of every commit, status and diff of this checkout alone.

        Whoever works in the checkout by hand is kept from it too, as far as the system can. Those that are tracked are left
        as they are, and returned. Idempotent; each call replaces the list of the last.
        """
        ...

    def file_at(self, repository: Path, commit: str, path: str, *, limit: int) -> bytes | None:
        """At most `limit` bytes of a plain file as it is in `commit`; None when there is none. Links are not followed."""
        ...

    def ignored(self, checkout: Path) -> list[str]:
        """What is ignored in the checkout and so in no commit: files, and folders that are ignored whole, ending with a slash."""
        ...

    def nested_repositories(self, checkout: Path) -> list[str]:
        """Folders whose work no commit of the checkout can hold, each ending with a slash.

        Untracked ones that are repositories of their own, and submodules with something that none of their remotes has.
        """
        ...

    def loosen(self, checkout: Path, nested: str) -> None:
        """Make such a folder fit to be moved away whole, and its absence no change of the checkout. Idempotent."""
        ...

    def stranded(self, repository: Path, checkout: Path, besides: Sequence[str] = ()) -> list[str]:
        """Submodules whose files are gone from the checkout, with commits that none of their remotes has, by name.

        What goes with one of the folders `besides` is not named. The checkout may be missing.
        """
        ...

    def take_stranded(self, repository: Path, checkout: Path, submodule: str, to: Path) -> None:
        """Move what is left of such a submodule to `to`: a repository that has its commits and no files."""
        ...

    def fork_point(self, checkout: Path, base: str, branch: str, head: str = "HEAD") -> str:
        """Where `head` left `branch`: `base`, or a later commit of the branch that was brought in since."""
        ...

    def changes(self, checkout: Path, base: str, head: str = "", *, only: str = "", patches: bool = True) -> Changes:
        """Everything in the checkout against `base`, or the range up to `head`; `only` one path. The index is not touched."""
        ...

    def marked_files(self, checkout: Path, base: str, head: str = "", *, known: Container[str] = ()) -> list[str]:
        """The files to which the checkout, or the range up to `head`, adds lines of a conflict that nobody has resolved.

        A beginning, a middle and an end, as git or jj write them; of the files in `known` (readable names) one line of it is
        enough. Binary files and those that are too large to be compared are passed over.
        """
        ...

    def status(self, checkout: Path, target: str) -> CheckoutStatus:
        """Where the checkout stands; `target` is a branch."""
        ...

    def contains(self, repository: Path, commit: str, ancestor: str) -> bool:
        """Whether `ancestor` is `commit` or before it."""
        ...

    def count_beyond(self, repository: Path, commit: str, known: Sequence[str]) -> int:
        """How many commits `commit`, which is there, has that none of `known` has; those of `known` that are gone have none."""
        ...

    def common(self, repository: Path, one: str, other: str) -> str | None:
        """The newest commit that both have; None when their histories have nothing in common."""
        ...

    def compute_merge(self, repository: Path, request: MergeRequest) -> MergeResult:
        """Merge without a checkout: objects are written, no branch moves. The same request gives the same commit."""
        ...

    def conflicts(self, repository: Path, request: MergeRequest) -> list[ConflictedFile]:
        """The sides of each file in which the merge conflicts; empty when it does not. Nothing is moved."""
        ...

    def compute_revert(self, repository: Path, request: RevertRequest) -> MergeResult:
        """Take a merge back without a checkout, as a new commit on the target. The same request gives the same commit."""
        ...

    def update_checkout(self, checkout: Path, branch: str, target: str, how: str, author: Person) -> Update:
        """Bring `target` (a commit) into the checkout by `how` (merge, rebase); what is uncommitted is committed first.

        Conflicts are left in the files with markers for somebody to resolve; `commit_all` then ends the operation. Again
        after a crash it gives the same.
        """
        ...

    def take_back_update(self, checkout: Path, branch: str, author: Person) -> None:
        """Put back what an update that was killed left half made, so that nobody works on it; nothing without one."""
        ...

    def restore_checkout(self, checkout: Path, branch: str, commit: str, author: Person) -> str:
        """Put the checkout back to `commit`; what it held since, uncommitted too, stays reachable. The commit."""
        ...

    def message_rules(self, repository: Path) -> list[str]:
        """In words, what of the repository's own rules for merges (hooks, signatures) the studio meets, for people to read."""
        ...

    def checkouts_on(self, repository: Path, branch: str) -> list[BranchCheckout]:
        """The checkouts that follow `branch`, and what stands in the way there. Nothing is touched."""
        ...

    def branches(self, repository: Path) -> list[str]:
        """The local branches (bookmarks), without those of the studio's own checkouts."""
        ...

    def remotes(self, repository: Path) -> dict[str, str]:
        """The names and fetch addresses of the remotes, without credentials in them."""
        ...

    def push(
        self,
        repository: Path,
        remote: str,
        commit: str,
        branch: str,
        *,
        expected: str | None,
        header: str,
        hooks: bool = False,
    ) -> None:
        """Make `branch` of the remote point at `commit`; refused (Raced) unless it is there or at `expected`, "" meaning absent.

        `remote` is a name or an address, with a header an address. `expected` None: only forward. `header` is an HTTP
        Authorization header that goes there whatever the repository's configuration says, and never reaches a command line,
        a log or that configuration; empty uses the person's own credentials. `hooks`: the repository's own hook for pushes
        may run, and refuse, but not together with a header.
        """
        ...

    def repair(self, repository: Path, checkout: Path, branch: str, head: str) -> list[str]:
        """Mend what was damaged from outside (folder, branch, link or lock), without losing a commit; what was done, in words."""
        ...

    def advance_branch(
        self,
        repository: Path,
        branch: str,
        old: str,
        new: str,
        *,
        reason: str,
        resuming: bool,
        hooks: bool = False,
    ) -> list[Path]:
        """Move `branch` from `old` to `new` and bring along the clean checkouts that are on it; their paths.

        `resuming`: an earlier call may have died half-way. Raises Raced when the branch is elsewhere and Blocked when a
        checkout is in the way; then nothing has moved. `hooks`: the repository's own hooks about branches may run.
        """
        ...

    def moved_note(self, repository: Path, branch: str, new: str) -> str:
        """What a person should know right after a merge moved `branch` to `new`, as commands; empty when there is nothing."""
        ...

    def worktrees(self, repository: Path) -> list[Worktree]:
        """Every checkout of the repository that is there, the repository's own first, those of the studio too."""
        ...

    def take_over(self, checkout: Path, message: str, author: Person, leaving: Leaving = leave_nothing) -> Taken:
        """Commit what is in a person's checkout (staged, unstaged, untracked; not ignored), which is not touched in any way.

        What `leaving` says of is left out unless the checkout's last commit has it; then its content is not even stored.

        Objects are written and no branch moves. Raises Invalid, with what to do, for one that cannot be taken as it is.
        """
        ...

    def put_branch(self, repository: Path, branch: str, commit: str) -> None:
        """Make `branch`, which there is none of, at `commit`, so that the commit stays."""
        ...

    def export(
        self, repository: Path, branch: str, base: str, head: str, folder: Path, stem: str, *, merged: bool
    ) -> Path | None:
        """Keep what would be lost with the branch, below `folder`, as a patch and a bundle; one of the two, or None."""
        ...

    def bring_back(self, repository: Path, bundle: Path) -> str:
        """Bring the commits of a bundle that `export` made back into the repository; the newest. No branch points at them."""
        ...
