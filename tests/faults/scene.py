"""What a fault is done to: a person's repository, a project, a workspace; and the watch that nothing of them is lost."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings

from studio.kernel.errors import StudioError
from tests.hands import HANDS, TRUNK, fingerprint
from tests.repositories import git
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

WAITING = ("queued", "computed")  # a merge that is tried again by itself
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
        self.hand = HANDS[system]
        self.repository = self.hand.make(folder / "repository")
        self._commits: set[str] = set()
        self._work: dict[str, bytes] = {}
        self._workspace: Workspace | None = None
        self._person: dict[str, str] = {}
        self._moving: tuple[str, ...] = ()

    @property
    def is_jj(self) -> bool:
        """Whether jj is what the person works with."""
        return self.hand.program == "jj"

    @property
    def store(self) -> Path:
        """Where git finds the commits."""
        return self.hand.store(self.repository)

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

    def goes_on(self, attempt: MergeAttempt) -> None:
        """Nothing has moved while a merge waits and says why; with the fault gone it is made at the next call."""
        self.require(attempt.state in WAITING, f"{attempt.state}: {attempt.error}")
        self.says(attempt.error)
        self.check()
        self.let_move()
        run_merge(attempt.pk)
        attempt.refresh_from_db()
        self.require(attempt.state == "merged", f"{attempt.state}: {attempt.error}")

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
        # What the product has cut short may end within a path.
        self.said.append(re.sub(re.escape(tempfile.gettempdir()) + r"/[^\s\"']*", "…", shown))
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
        self._person, self._moving = self._picture(), ()

    def forget(self) -> None:
        """All of it goes away now, and was checked."""
        self._workspace, self._person = None, {}

    def unwatch(self) -> None:
        """What follows is done by the person, or brings their clean checkout along."""
        self._person = {}

    def let_move(self, *, along: bool = True) -> None:
        """A merge is expected: git brings a clean checkout along that is on the branch, jj moves nothing but the bookmark."""
        if self.is_jj or not along:
            self.watch()
            self._moving = (f"refs/heads/{TRUNK}",)
        else:
            self.unwatch()

    def target(self, name: str) -> bytes | None:
        """A file's content on the target branch."""
        return blob(self.store, self.hand.tip(self.repository), name)

    def target_names(self) -> set[str]:
        """What stands in the root of the target branch."""
        return set(git(self.store, "ls-tree", "--name-only", self.hand.tip(self.repository)).split())

    def followed(self, name: str, content: bytes | None = None) -> None:
        """The person's clean checkout has a file of the merge; with jj it stays as it was."""
        place = self.repository / name
        if self.is_jj:
            self.require(not place.exists() or place.read_bytes() != content, "the person's working copy was moved")
        else:
            self.require(place.exists(), "the checkout was left behind")
            self.require(content is None or place.read_bytes() == content, f"{name!r} is not in the checkout")
            self.require(git(self.repository, "status", "--porcelain") == "", "the checkout is not clean")

    def check(self) -> None:
        """Nothing was lost: the person's checkout, every commit, every piece of work."""
        if self._person:
            now = self._picture()
            names = {*now, *self._person} - {*self._moving}
            changed = {name for name in names if now.get(name) != self._person.get(name)}
            self.require(not changed, f"the person's checkout was changed: {sorted(changed)[:5]}")
        if self._workspace is None:
            return
        for commit in self._commits:
            self.require(self._reachable(commit), f"the commit {commit} is lost")
        for name, content in self._work.items():
            self.require(self._there(name, content), f"{name!r} of the workspace is lost")

    def _reachable(self, commit: str) -> bool:
        if self.hand.reaches(self.repository, commit):
            return True
        return any(commit in git(self.store, "rev-list", head).split() for head in self._kept_heads())

    def _kept_heads(self) -> set[str]:
        """The commits that the bundles of what was kept end with."""
        bundles = [kept.bundle for kept in KeptWork.objects.exclude(bundle="")]
        listings = [git(self.store, "bundle", "list-heads", one).splitlines() for one in bundles]
        return {row.split()[0] for listing in listings for row in listing}

    def _there(self, name: str, content: bytes) -> bool:
        """In the checkout, in a commit that a branch has, or in what was kept."""
        place = Path(self.workspace.path) / os.fsdecode(name)
        if place.is_file() and not place.is_symlink() and place.read_bytes() == content:
            return True
        if (aside := self.kept_aside().get(name)) is not None and aside.read_bytes() == content:
            return True
        commits = {*filter(self._reachable, self._commits), *self._kept_heads()}
        return any(blob(self.store, commit, name) == content for commit in commits)

    def kept_aside(self) -> dict[str, Path]:
        """What no commit can hold and was kept when the checkout went, by name."""
        folders = KeptWork.objects.filter(workspace=self._workspace).exclude(folder="").values_list("folder", flat=True)
        return {place.name: place for folder in folders for place in Path(folder).iterdir() if place.is_file()}

    def _picture(self) -> dict[str, str]:
        return picture(self.repository) | self.hand.position(self.repository)


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


def picture(checkout: Path) -> dict[str, str]:
    """A checkout's files, bit by bit, with their modes."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(checkout):
        folders[:] = [name for name in folders if name not in (".git", ".jj")]
        for name in [*files, *(one for one in folders if (Path(folder) / one).is_symlink())]:
            place = Path(folder) / name
            kind = place.lstat()
            inside = str(place.readlink()) if place.is_symlink() else fingerprint(place)
            found[str(place.relative_to(checkout))] = f"{kind.st_mode:o} {kind.st_size} {inside}"
    return found
