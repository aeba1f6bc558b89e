"""A person's repository in each version control system, and what a person does in it. The binaries are real."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from tests.repositories import GIT_ENV, git, jj, make_jj_repository, make_repository
from workspaces.vcs import SYSTEMS
from workspaces.vcs.base import Vcs
from workspaces.vcs.merging import MergeRequest, MergeResult, Person, RevertRequest

AGENT = Person("Builder via OpenCode Studio", "agent@opencode-studio.invalid")
PERSON = Person("A Person", "person@example.invalid")
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BRANCH = "studio/demo-1"
TARGET = "trunk"
FILES = {
    ".gitignore": "*.log\nbuild/\n",
    "README.md": "# A repository\n",
    "app.py": "".join(f"line {number}\n" for number in range(1, 21)),
    "lib/deep/one.txt": "".join(f"line {number}\n" for number in range(1, 41)),
    "lib/two.txt": "two\n",
}


@dataclass
class World:
    """A repository that a person works in, and room for checkouts of the studio beside it."""

    kind: str  # git, jj, jj-colocated
    repository: Path
    room: Path

    @property
    def vcs(self) -> Vcs:
        return SYSTEMS["git" if self.kind == "git" else "jj"]

    @property
    def is_jj(self) -> bool:
        return self.kind != "git"

    @property
    def store(self) -> Path:
        """Where git finds the commits."""
        inside = self.repository / ".jj" / "repo" / "store" / "git"
        return inside if self.kind == "jj" else self.repository / ".git"

    @property
    def target(self) -> str:
        """Where the target branch is; there is one."""
        tip = self.vcs.tip(self.repository, TARGET)
        assert tip is not None
        return tip

    def checkout(self, name: str = "demo-1-abc", branch: str = BRANCH, base: str = "") -> Path:
        """A checkout of the studio on a branch of its own."""
        path = self.room / name
        self.vcs.create_checkout(self.repository, path, branch, base or self.target)
        return path

    def commit(self, checkout: Path, files: dict[str, str], message: str = "A change") -> str:
        """Write files in a checkout of the studio and commit them."""
        write(checkout, files)
        return self.vcs.commit_all(checkout, BRANCH, message, AGENT)

    def person_commits(self, files: dict[str, str], message: str = "Meanwhile") -> str:
        """A person's commit on the target branch, made in their own checkout."""
        if self.is_jj:
            jj(self.repository, "new", TARGET)
            write(self.repository, files)
            jj(self.repository, "commit", "-m", message)
            jj(self.repository, "bookmark", "set", TARGET, "-r", "@-")
        else:
            write(self.repository, files)
            git(self.repository, "add", "-A")
            git(self.repository, "commit", "-q", "-m", message)
        return self.target

    def person_moves(self, branch: str, commit: str) -> None:
        """A person puts a branch elsewhere, by force."""
        if self.is_jj:
            jj(self.repository, "bookmark", "set", branch, "-r", commit, "--allow-backwards", "--ignore-working-copy")
        else:
            git(self.repository, "update-ref", f"refs/heads/{branch}", commit)

    def person_deletes(self, branch: str) -> None:
        """A person deletes a branch, by force."""
        if self.is_jj:
            jj(self.repository, "bookmark", "delete", branch, "--ignore-working-copy")
        else:
            git(self.repository, "update-ref", "-d", f"refs/heads/{branch}")

    def merge(self, source: str, how: str = "merge", target: str = "") -> MergeResult:
        """A computed merge of `source` into the target."""
        return self.vcs.compute_merge(self.repository, self.request(source, how, target))

    def request(self, source: str, how: str = "merge", target: str = "") -> MergeRequest:
        return MergeRequest(how, target or self.target, source, "Merge it", PERSON, PERSON, AT)

    def revert(self, before: str, after: str) -> MergeResult:
        """A computed revert on the target."""
        request = RevertRequest(self.target, before, after, "Take it back", PERSON, PERSON, AT)
        return self.vcs.compute_revert(self.repository, request)

    def advance(self, old: str, new: str) -> list[Path]:
        """Move the target branch."""
        return self.vcs.advance_branch(self.repository, TARGET, old, new, reason="a test", resuming=False)

    def point_to_submodule(self, path: str) -> str:
        """A commit on the target with a submodule at `path`, as it comes from git (jj itself makes none); the pointer."""
        base, env = self.target, {**GIT_ENV, "GIT_INDEX_FILE": str(self.room / "index")}
        said = f'[submodule "{path}"]\n\tpath = {path}\n\turl = ../{path}\n'
        written = ["hash-object", "-w", "--stdin"]
        blob = subprocess.check_output(["git", *written], cwd=self.store, env=env, text=True, input=said, timeout=60)
        entries = [f"160000,{base},{path}", f"100644,{blob.strip()},.gitmodules"]
        commands = [["read-tree", base], *(["update-index", "--add", "--cacheinfo", entry] for entry in entries)]
        for command in commands:
            subprocess.run(["git", *command], cwd=self.store, env=env, check=True, timeout=60)
        tree = subprocess.check_output(["git", "write-tree"], cwd=self.store, env=env, text=True, timeout=60).strip()
        (self.room / "index").unlink()
        commit = git(self.store, "commit-tree", tree, "-p", base, "-m", "With a submodule").strip()
        self.advance(base, commit)
        return base

    def tree(self, commit: str) -> str:
        return git(self.store, "rev-parse", f"{commit}^{{tree}}").strip()

    def show(self, commit: str, path: str) -> str:
        return git(self.store, "show", f"{commit}:{path}")

    def patch(self, base: str, head: str) -> bytes:
        """What git says differs between two commits, byte for byte."""
        command = ["git", "diff", "--binary", "--full-index", base, head]
        done = subprocess.run(command, cwd=self.store, env=GIT_ENV, check=True, capture_output=True, timeout=60)
        return done.stdout

    def parents(self, commit: str) -> list[str]:
        return git(self.store, "rev-list", "--parents", "--max-count=1", commit).split()[1:]

    def print(self) -> str:
        """All that a person would see change in their own checkout, as one fingerprint: files, modes, HEAD, index, @."""
        digest = sha256()
        for path in sorted(self.repository.rglob("*")):
            relative = path.relative_to(self.repository)
            if relative.parts[0] in (".git", ".jj"):
                continue
            mode = path.lstat().st_mode
            body = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            digest.update(os.fsencode(relative) + f" {mode:o} ".encode() + body + b"\0")
        if (self.repository / ".git").exists():
            digest.update(git(self.repository, "rev-parse", "HEAD").encode())
            digest.update(git(self.repository, "ls-files", "--stage", "-z").encode())
        if self.is_jj:
            digest.update(
                jj(self.repository, "--ignore-working-copy", "log", "--no-graph", "-r", "@", "-T", "commit_id").encode()
            )
            for state in sorted((self.repository / ".jj" / "working_copy").iterdir()):
                digest.update(state.read_bytes())
        return digest.hexdigest()


def write(folder: Path, files: dict[str, str]) -> None:
    """Write text files, folders included."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def make_world(kind: str, folder: Path, files: dict[str, str] | None = None) -> World:
    """A repository at a path with a space and an umlaut, with work of a person that is not committed where that is harmless."""
    place = folder / "Mein Repositörium"
    if kind == "git":
        make_repository(place, branch=TARGET, files=files or FILES)
    else:
        make_jj_repository(place, branch=TARGET, files=files or FILES, colocated=kind == "jj-colocated")
        (place / "in progress.txt").write_text("A person's own work, which jj has not looked at yet.\n")
    room = folder / "room"
    room.mkdir()
    return World(kind, place, room)


def apply_patch(store: Path, commit: str, patch: bytes, folder: Path) -> dict[str, tuple[int, bytes]]:
    """The files of `commit` with the patch applied by git, in a folder of their own."""
    shutil.rmtree(folder, ignore_errors=True)
    git(store.parent, "clone", "-q", "--no-checkout", str(store), str(folder))
    git(folder, "checkout", "-q", "--detach", commit)
    if patch:
        command = ["git", "apply", "--index", "--whitespace=nowarn", "-"]
        subprocess.run(command, cwd=folder, env=GIT_ENV, input=patch, check=True, capture_output=True, timeout=60)
    return contents(folder)


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder as (kind and executable bit, bytes), without what the systems keep there."""
    found: dict[str, tuple[int, bytes]] = {}
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if relative.parts[0] in (".git", ".jj"):
            continue
        if path.is_symlink():
            found[str(relative)] = (2, os.fsencode(path.readlink()))
        elif path.is_file():
            found[str(relative)] = (int(bool(path.stat().st_mode & 0o100)), path.read_bytes())
    return found
