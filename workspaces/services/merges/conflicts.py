"""Conflicts: their sides as they are shown, the workspace brought up to date with them, and whether they are resolved."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Upstream
from studio.kernel.text import clean, cut
from studio.kernel.unseen import codes, spelled, warning
from workspaces.locks import held
from workspaces.models import MergeAttempt, Workspace
from workspaces.services.checkouts import AGENT_EMAIL, LOCK_PATIENCE, commit_locked, opened
from workspaces.vcs import vcs_named
from workspaces.vcs.base import readable
from workspaces.vcs.merging import ConflictedFile, MergeRequest, Person

SHOWN_CHARACTERS = 60_000  # of one side
FILES_SHOWN = 200
AROUND = 3  # lines around a conflict that go with it
# What git and jj put around the sides of a conflict. A line of seven equals signs alone is a heading in many a text.
MARKER = re.compile(rb"(<{7}|>{7}|\|{7}|%{7}|\+{7})( |$)")
ADDED_MARKER = re.compile(rb"^\+(<{7}|>{7}|\|{7}|%{7})( |\r?$)", re.MULTILINE)
STUDIO = Person("OpenCode Studio", AGENT_EMAIL)


@dataclass(frozen=True, slots=True)
class Conflicted:
    """A file in conflict as it is shown. A side is None where it has no such file, and all are of a binary file."""

    path: str
    base: str | None
    target: str | None
    source: str | None
    merged: str | None
    binary: bool
    cut: bool
    warning: str = ""  # of characters in the sides that cannot be seen


@dataclass(frozen=True, slots=True)
class Updated:
    """What bringing a workspace up to date left to do: the files in conflict, and the places as the checkout has them."""

    head: str
    files: tuple[str, ...]
    places: dict[str, str]


def conflicted_files(workspace: Workspace, *, target: str, how: str, file: str = "") -> list[Conflicted]:
    """The files in which a merge of the workspace would conflict now, with their sides; `file` that one alone.

    Nothing is moved or committed. Raises Conflict when the target is gone.
    """
    vcs, repository = vcs_named(workspace.project.vcs), Path(workspace.project.path)
    tip, source = vcs.tip(repository, target), vcs.tip(repository, workspace.branch)
    if tip is None or source is None:
        raise Conflict(f"There is no branch “{target if tip is None else workspace.branch}” any more.", allowed=[])
    request = MergeRequest(how, tip, source, "", STUDIO, STUDIO, now(), signed=False)
    found = vcs.conflicts(repository, request)
    names = {f"<<<<<<< {tip}": f"<<<<<<< {target}", f">>>>>>> {source}": f">>>>>>> {workspace.label}"}
    return [_shown(one, names) for one in found[:FILES_SHOWN] if not file or readable(one.path) == file]


def _shown(file: ConflictedFile, names: dict[str, str]) -> Conflicted:
    """The file for people; `names` are what its markers are called instead of by commits."""
    sides = (file.base, file.target, file.source)
    binary = file.merged is None and any(b"\0" in (side or b"") for side in sides)
    base, target, source, merged = (None if binary else _text(side) for side in (*sides, file.merged))
    for marker, said in names.items():
        merged = merged.replace(marker, said) if merged is not None else None
    whole = all(len(text or "") < SHOWN_CHARACTERS for text in (base, target, source, merged))
    return Conflicted(
        path=cut(readable(file.path), 1_000),
        base=base,
        target=target,
        source=source,
        merged=merged,
        binary=binary,
        cut=file.cut or not whole,
        warning=warning(codes(text.removeprefix("\ufeff") for text in (base, target, source) if text)),
    )


def _text(side: bytes | None) -> str | None:
    return None if side is None else spelled(side.replace(b"\r\n", b"\n").decode("utf-8", "replace"))[:SHOWN_CHARACTERS]


def bring_up_to_date(workspace: Workspace, target: str) -> Updated:
    """Merge `target` into the workspace's checkout, with conflicts left in the files for an agent. Idempotent.

    The workspace's branch is aimed at `target` from then on. Raises Upstream when the target is gone.
    """
    vcs, repository = vcs_named(workspace.project.vcs), Path(workspace.project.path)
    tip = vcs.tip(repository, target)
    if tip is None:
        raise Upstream(f"There is no branch “{target}” any more.")
    with held(f"workspace:{workspace.pk}", patience=LOCK_PATIENCE), opened(workspace) as (_, path):
        before = vcs.tip(repository, workspace.branch) or workspace.head_commit
        done = vcs.update_checkout(path, workspace.branch, tip, "merge", STUDIO)
        if workspace.base_branch != target:
            Workspace.objects.filter(pk=workspace.pk).update(base_branch=target)
            workspace.base_branch = target
        if not done.conflicts:
            head = commit_locked(workspace, vcs, path, f"Bring {target} into {workspace.label}", STUDIO)
            return Updated(head, (), {})
    # The checkout's own side comes first in its files: so it does here.
    request = MergeRequest("merge", before, tip, "", STUDIO, STUDIO, now(), signed=False)
    places = {readable(one.path): places_in(one.merged) for one in vcs.conflicts(repository, request) if one.merged}
    files = tuple(cut(readable(file), 1_000) for file in done.conflicts)
    return Updated(done.head, files, places)


def take_back_update(workspace: Workspace) -> None:
    """Put the checkout back when an update of it was killed half-way: whoever works there next works on what was committed."""
    with held(f"workspace:{workspace.pk}", patience=LOCK_PATIENCE), opened(workspace, to_commit=True) as (vcs, path):
        vcs.take_back_update(path, workspace.branch, STUDIO)


def places_in(merged: bytes) -> str:
    """The conflicts of a file with a few lines around each, as text."""
    rows = merged.splitlines()
    wanted: set[int] = set()
    inside = False
    for number, row in enumerate(rows):
        if MARKER.match(row):
            inside = not row.startswith(b">")
            wanted.update(range(max(0, number - AROUND), number + AROUND + 1))
        elif inside:
            wanted.add(number)
    kept, last = [], -1
    for number in sorted(one for one in wanted if one < len(rows)):
        if last >= 0 and number > last + 1:
            kept.append("[…]")
        kept.append(clean(rows[number].decode("utf-8", "replace")))
        last = number
    return "\n".join(kept)


def left_markers(workspace: Workspace, files: Collection[str]) -> list[str]:
    """Those of `files` to which the workspace's change adds lines of a conflict that nobody has resolved."""
    if not files:
        return []
    with opened(workspace) as (vcs, path):
        base = vcs.fork_point(path, workspace.base_commit, workspace.base_branch)
        changes = vcs.changes(path, base)
    return [
        name
        for file in changes.files
        if (name := cut(readable(file.path), 1_000)) in files and file.patch and ADDED_MARKER.search(file.patch)
    ]


def instructions(workspace: Workspace, target: str) -> str:
    """The exact commands with which a person brings the workspace up to date by hand."""
    folder, branch, onto = (shlex.quote(part) for part in (workspace.path, workspace.branch, target))
    if workspace.project.vcs == "jj":
        return (
            f"cd {folder}\njj new {branch} {onto}\n"
            "# edit the files until this names none:\njj resolve --list\n"
            f"jj bookmark set {branch} --revision @"
        )
    return f"cd {folder}\ngit merge {onto}\n# edit the files that it names, then:\ngit add --all\ngit commit --no-edit"


def revert_instructions(attempt: MergeAttempt) -> str:
    """The exact commands with which a person takes by hand back what the revert `attempt` could not; empty for another kind."""
    merge = attempt.reverts
    if merge is None:
        return ""
    project = attempt.workspace.project
    folder, target = shlex.quote(project.path), shlex.quote(attempt.target_branch)
    before, after = merge.target_before, merge.result_commit
    if project.vcs == "jj":
        return (
            f"cd {folder}\njj new {after}\njj restore --from {before}\njj describe -m 'Take {after[:10]} back'\n"
            f"jj rebase --revisions @ --onto {target}\n"
            "# edit the files until this names none:\njj resolve --list\n"
            f"jj bookmark set {target} --revision @"
        )
    what = {"merge": f"-m 1 {after}", "rebase": f"{before}..{after}"}.get(merge.how, after)
    return (
        f"cd {folder}\ngit switch {target}\ngit revert --no-edit {what}\n"
        "# edit the files that it names, then; again when it names more:\ngit add --all\ngit revert --continue --no-edit"
    )
