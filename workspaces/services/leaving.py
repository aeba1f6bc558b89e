"""What goes with a checkout when it is removed, looked at before: what of it is kept, and what nobody can bring back.

Nothing is changed here. Everything is bounded: names, files that are weighed, and time.
"""

from __future__ import annotations

import filecmp
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from studio.kernel.errors import StudioError, Upstream
from studio.kernel.text import clean, cut
from workspaces.disk import BLOCK
from workspaces.models import Workspace, WorkspaceState
from workspaces.remedies import in_words
from workspaces.services.checkouts import ERROR_LIMIT, checkout_path, require_repository
from workspaces.services.merged import Standing, standing_of
from workspaces.setup.placing import VARIABLES
from workspaces.vcs import vcs_named
from workspaces.vcs.base import readable

NAMED = 20  # names of each list
NAME_LIMIT = 300  # characters
WEIGH_SECONDS = 4.0
SAME_LIMIT = 1024 * 1024  # bytes of a file that is compared with the person's own


@dataclass(frozen=True, slots=True)
class Lost:
    """A file that git ignores, or a folder of such files: it is in no commit, so nothing of it is kept."""

    name: str
    files: int
    bytes: int


@dataclass(slots=True)
class Leaving:
    """What a removal takes away. `unknown`: why it could not be looked at; then the rest is as it was known last."""

    branch: str = ""  # that is deleted; empty when there is none
    standing: Standing = field(default_factory=lambda: Standing(0))
    uncommitted: int = 0  # files in no commit: a last commit is made of them
    uncommitted_names: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)  # repositories inside: they are moved, not deleted
    lost: list[Lost] = field(default_factory=list)  # the first of them, single files before folders
    lost_more: int = 0  # names that are not listed
    lost_files: int = 0
    lost_bytes: int = 0
    lost_partial: bool = False  # there may be more than was counted
    unknown: str = ""
    facts: list[str] = field(default_factory=list)  # every file in no commit, for the fingerprint alone

    @property
    def fingerprint(self) -> str:
        """A short hash over what goes, listed or not: whoever confirms it confirms exactly that.

        Why something is unknown is none of it. Such words may differ each time, and then nobody could ever confirm.
        """
        standing = (self.standing.beyond, str(self.standing.how or ""), self.standing.commit)
        shown = (self.branch, standing, self.facts, self.nested, self.lost_partial, bool(self.unknown))
        return sha256(repr(shown).encode()).hexdigest()[:16]

    @property
    def is_kept(self) -> bool:
        """Whether a patch and a bundle will be kept."""
        return bool(self.standing.beyond or self.uncommitted)

    @property
    def needs_confirmation(self) -> bool:
        """Whether something goes that nobody can bring back, or may go."""
        return bool(self.lost_files or self.lost_partial or self.unknown)


def leaving_of(row: Workspace) -> Leaving:
    """What goes with the checkout of `row` as it is now."""
    found = Leaving()
    try:
        require_repository(row.project)
        _look(row, found)
    except (StudioError, OSError) as error:
        failure = error if isinstance(error, StudioError) else in_words(error)
        found.unknown = cut(clean(failure.message), ERROR_LIMIT)
    return found


def _look(row: Workspace, found: Leaving) -> None:
    vcs, repository, path = vcs_named(row.project.vcs), Path(row.project.path), checkout_path(row)
    head = vcs.tip(repository, row.branch)
    found.branch = row.branch if head is not None else ""
    if not vcs.owns_checkout(repository, path):
        found.nested = _named(_emptied(vcs.stranded(repository, path)))
        if path.exists() and row.state == WorkspaceState.READY and not vcs.is_unfinished(repository, path):
            raise Upstream("The checkout has lost its link to the repository. Repair it first; then it can be removed.")
        found.standing = standing_of(row, head) if head is not None else found.standing
        return
    status = vcs.status(path, row.base_branch)
    found.standing = standing_of(row, status.head)
    files = sorted({*status.staged, *status.unstaged, *status.untracked, *status.conflicted})
    inside = [name for name in vcs.nested_repositories(path) if name.endswith("/")]
    found.nested = _named([*inside, *_emptied(vcs.stranded(repository, path, inside))])
    found.uncommitted = len(files) - len(set(files).intersection(found.nested))
    found.uncommitted_names = _named([name for name in files if not name.endswith("/")])
    found.facts.extend(files)
    _weigh(path, repository, vcs.ignored(path), found)


def _emptied(submodules: Sequence[str]) -> list[str]:
    return [f"{name} (the commits of a submodule whose files are gone)" for name in submodules]


def _named(names: Sequence[str]) -> list[str]:
    return [cut(readable(name), NAME_LIMIT) for name in names[:NAMED]]


def _weigh(checkout: Path, repository: Path, ignored: list[str], found: Leaving) -> None:
    """Count what is ignored; a name whose files are all elsewhere too is passed over."""
    deadline = time.monotonic() + WEIGH_SECONDS
    entries = sorted(ignored, key=lambda name: (name.endswith("/"), name))
    weighed: dict[str, str] = {}
    for entry in entries:
        files, size, contents = _weigh_one(checkout, repository, entry.rstrip("/"), deadline)
        if files and len(found.lost) < NAMED:
            found.lost.append(Lost(cut(readable(entry), NAME_LIMIT), files, size))
        elif files:
            found.lost_more += 1
        found.lost_files += files
        found.lost_bytes += size
        if time.monotonic() > deadline:
            found.lost_partial = True
            break
        weighed[entry] = contents if files else ""
    found.facts.extend(_facts(entries, weighed))


def _facts(entries: list[str], weighed: dict[str, str]) -> list[str]:
    """What is ignored and nowhere else, for the fingerprint.

    When the time was over before all was weighed, how far it came was chance: then folders count by their names alone, and
    files too if not all of them were weighed.
    """
    if len(weighed) == len(entries):
        return [f"{entry} {contents}" for entry, contents in weighed.items() if contents]
    files = [entry for entry in entries if not entry.endswith("/")]
    if any(entry not in weighed for entry in files):
        return entries
    return [*(f"{entry} {weighed[entry]}" for entry in files), *entries[len(files) :]]


def _weigh_one(checkout: Path, repository: Path, entry: str, deadline: float) -> tuple[int, int, str]:
    """The files at or below a path, their bytes on the disk, and a hash over their names and sizes.

    Links are passed over: what they point at stays.
    """
    files = size = 0
    contents = sha256()
    waiting = [checkout / entry]
    while waiting and time.monotonic() <= deadline:
        place = waiting.pop()
        try:
            seen = place.lstat()
            if stat.S_ISDIR(seen.st_mode):
                waiting.extend(Path(inside) for inside in sorted(inside.path for inside in os.scandir(place)))
        except OSError:
            continue
        if stat.S_ISREG(seen.st_mode) and not _is_elsewhere(place, repository / place.relative_to(checkout), seen):
            files += 1
            size += seen.st_blocks * BLOCK
            contents.update(f"{place}\0{seen.st_size}\0".encode("utf-8", "surrogateescape"))
    return files, size, contents.hexdigest()


def _is_elsewhere(place: Path, own: Path, seen: os.stat_result) -> bool:
    """Whether a file can be had again: the studio writes it, or the person's own checkout has the same."""
    if place.as_posix().endswith(f"/{VARIABLES}"):
        return True
    try:
        theirs = own.lstat()
        same = stat.S_ISREG(theirs.st_mode) and theirs.st_size == seen.st_size <= SAME_LIMIT
        return same and filecmp.cmp(place, own, shallow=False)
    except OSError:
        return False
