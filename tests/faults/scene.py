"""What a fault is done to: a person's repository, a project, a workspace; and the watch that nothing of them is lost."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings

from studio.kernel.errors import StudioError
from tests.repositories import git, make_repository
from workspaces.models import KeptWork, MergeAttempt, Project, Workspace
from workspaces.services import (
    commit_left,
    ensure_workspace,
    register_project,
    remove_workspace,
    request_merge,
    request_removal,
    run_merge,
)

# How a repository of each system is made. A backend is added by its line here; a fault names the systems it can be made in.
MAKERS: dict[str, Callable[..., Path]] = {"git": make_repository}
WORK = {"work.txt": b"an hour of an agent's work\n", "app.py": b"print('changed')\n"}


class Broken(AssertionError):
    """A promise was not kept."""


class Scene:
    """One repository with everything that was noted about it. `said` is what a person reads of the fault."""

    def __init__(self, folder: Path, owner: Any, system: str, *, whole: bool) -> None:
        self.folder = folder
        self.owner = owner
        self.system = system
        self.whole = whole  # as large as the issue says; else small enough for the suite
        self.said: list[str] = []
        self.repository = MAKERS[system](folder / "repository", branch="trunk")
        self._commits: set[str] = set()
        self._work: dict[str, bytes] = {}
        self._workspace: Workspace | None = None
        self._person: dict[str, str] = {}

    def register(self, path: Path | None = None, key: str = "FAULT") -> Project:
        """The repository, registered as a person would."""
        return register_project(actor=self.owner, path=str(path or self.repository), key=key)

    def begin(self, work: dict[str, bytes] | None = None, *, commit: bool = True) -> Workspace:
        """A workspace with an agent's work in it, which from now on must not be lost."""
        project = Project.objects.filter(key="FAULT").first() or self.register()
        self._workspace = workspace = ensure_workspace(project=project, label="FAULT-1")
        self.write(WORK if work is None else work)
        if commit:
            self.commit()
        return workspace

    @property
    def workspace(self) -> Workspace:
        """The workspace as its row is now."""
        assert self._workspace is not None
        return Workspace.objects.select_related("project").get(pk=self._workspace.pk)

    @property
    def checkout(self) -> Path:
        """The workspace's folder."""
        return Path(self.workspace.path)

    def write(self, work: dict[str, bytes]) -> None:
        """Put files into the checkout; their content counts as work."""
        for name, content in work.items():
            place = self.checkout / os.fsdecode(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        self._work |= work

    def commit(self) -> str:
        """Have the studio commit what lies in the checkout; the commit may not be lost."""
        head = commit_left(self.workspace, message="Work", author_name="agent")
        self._commits.add(head)
        return head

    def merge(self, how: str = "merge") -> MergeAttempt:
        """Ask for a merge and carry it out."""
        attempt = request_merge(workspace=self.workspace, how=how, message="Finish")
        run_merge(attempt.pk)
        attempt.refresh_from_db()
        return attempt

    def merged(self, how: str = "merge") -> MergeAttempt:
        """A merge that must work."""
        attempt = self.merge(how)
        self.require(attempt.state == "merged", f"not merged: {attempt.state}, {attempt.error}")
        return attempt

    def remove(self) -> Workspace:
        """Have the workspace removed."""
        request_removal(self.workspace)
        remove_workspace(self.workspace.pk)
        return self.workspace

    def says(self, message: str) -> str:
        """Note what a person is told. It must be words, and end as a sentence."""
        raw = ("Traceback", "Errno", "object at 0x", "None:")
        self.require(bool(message.strip()) and not any(word in message for word in raw), f"no sentence: {message!r}")
        self.require(message.rstrip()[-1] in ".)!”'\"", f"not a whole sentence: {message!r}")
        shown = message.replace(str(self.folder), "…").replace(str(settings.DATA), "…/data").replace("\n", " ")
        self.said.append(shown)
        return message

    def refused(self, call: Callable[[], object]) -> StudioError:
        """What must be refused, in words."""
        try:
            call()
        except StudioError as error:
            self.says(error.message)
            return error
        raise Broken("it was not refused")

    def require(self, condition: bool, problem: str) -> None:
        """Raise Broken unless it holds."""
        if not condition:
            raise Broken(problem)

    def watch(self) -> None:
        """From now on the person's own checkout must stay as it is, bit by bit."""
        self._person = picture(self.repository)

    def check(self) -> None:
        """Nothing was lost: the person's checkout, every commit, every piece of work."""
        if self._person:
            now = picture(self.repository)
            changed = {name for name in {*now, *self._person} if now.get(name) != self._person.get(name)}
            self.require(not changed, f"the person's checkout was changed: {sorted(changed)[:5]}")
        if self._workspace is None:
            return
        for commit in self._commits:
            self.require(self._reachable(commit), f"the commit {commit} is lost")
        for name, content in self._work.items():
            self.require(self._there(name, content), f"{name!r} of the workspace is lost")

    def _reachable(self, commit: str) -> bool:
        if git(self.repository, "for-each-ref", "--contains", commit, "--format=%(refname)").strip():
            return True
        bundles = [kept.bundle for kept in KeptWork.objects.exclude(bundle="")]
        return any(commit in git(self.repository, "bundle", "list-heads", one) for one in bundles)

    def _there(self, name: str, content: bytes) -> bool:
        """In the checkout, in a commit that a branch has, or in what was kept."""
        place = Path(self.workspace.path) / os.fsdecode(name)
        if place.is_file() and not place.is_symlink() and place.read_bytes() == content:
            return True
        return any(
            self._reachable(commit) and blob(self.repository, commit, name) == content for commit in self._commits
        )


def blob(repository: Path, commit: str, name: str) -> bytes | None:
    """A file's content in a commit, whatever its name; None when it has none."""
    done = subprocess.run(
        [b"git", b"cat-file", b"blob", os.fsencode(f"{commit}:{name}")],
        cwd=repository,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.stdout if done.returncode == 0 else None


def picture(repository: Path) -> dict[str, str]:
    """A checkout, bit by bit: every file with its mode, the index, where HEAD is, and the person's branches."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(repository):
        if ".git" in folders:
            folders.remove(".git")
        for name in [*files, *(one for one in folders if (Path(folder) / one).is_symlink())]:
            place = Path(folder) / name
            kind = place.lstat()
            inside = place.readlink() if place.is_symlink() else hashlib.sha256(place.read_bytes()).hexdigest()
            found[str(place.relative_to(repository))] = f"{kind.st_mode:o} {kind.st_size} {inside}"
    for name in ("HEAD", "index"):
        place = repository / ".git" / name
        found[f".git/{name}"] = hashlib.sha256(place.read_bytes()).hexdigest() if place.is_file() else ""
    refs = git(repository, "for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")
    found |= {ref: at for ref, _, at in (row.partition(" ") for row in refs.splitlines()) if "/studio/" not in ref}
    return found
