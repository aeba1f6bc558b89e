"""Real git repositories for tests and benches. No Django is needed."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

TIMEOUT = 600  # seconds for a person's command: a hundred thousand files on a busy machine
_numbers = itertools.count(1)
_folder: Path | None = None
FILES = {"README.md": "# A repository\n", "app.py": "print('hello')\n"}
FEW = 30  # files of a repository that is kept to be copied

GIT_ENV = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "HOME": tempfile.gettempdir(),
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "A Person",
    "GIT_AUTHOR_EMAIL": "person@example.invalid",
    "GIT_COMMITTER_NAME": "A Person",
    "GIT_COMMITTER_EMAIL": "person@example.invalid",
}


def scratch_folder() -> Path:
    """A folder of this test process that is removed at its end."""
    global _folder
    if _folder is None:
        _folder = Path(tempfile.mkdtemp(prefix="studio-factories-")).resolve()
        atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    return _folder


def git(folder: Path | str, *arguments: str) -> str:
    """The output of a git command in `folder`; raises when it fails."""
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=GIT_ENV, check=True, capture_output=True, text=True, timeout=TIMEOUT
    )
    return done.stdout


def make_repository(folder: Path | None = None, *, branch: str = "main", files: dict[str, str] | None = None) -> Path:
    """A real git repository with one commit on `branch` and an identity of its own.

    What git would write for the same files again is copied: that is one process instead of six, in thousands of tests.
    """
    folder = folder or scratch_folder() / f"repository-{next(_numbers)}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True, exist_ok=True)
    files = files or FILES
    if len(files) > FEW or any(folder.iterdir()):  # what is there belongs into the commit
        _begin_repository(folder, branch, files)
        return folder
    shutil.copytree(_made_before(branch, tuple(files.items())), folder / ".git", symlinks=True)
    _write(folder, files)
    git(folder, "add", "-A")  # the index knows the times and numbers of these very files
    return folder


@functools.cache
def _made_before(branch: str, files: tuple[tuple[str, str], ...]) -> Path:
    """The `.git` of a repository with these files, without an index."""
    folder = scratch_folder() / f"template-{next(_numbers)}"
    folder.mkdir()
    _begin_repository(folder, branch, dict(files))
    (folder / ".git" / "index").unlink()
    for sample in (folder / ".git" / "hooks").glob("*.sample"):
        sample.unlink()
    return folder / ".git"


def _begin_repository(folder: Path, branch: str, files: dict[str, str]) -> None:
    git(folder, "init", "-q", "-b", branch)
    git(folder, "config", "user.name", "A Person")
    git(folder, "config", "user.email", "person@example.invalid")
    _write(folder, files)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Begin")


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def jj(folder: Path | str, *arguments: str) -> str:
    """The output of a jj command in `folder`, as a person would run it; raises when it fails."""
    person = ("--config", 'user.name="A Person"', "--config", 'user.email="person@example.invalid"')
    argv = ["jj", "--no-pager", "--color=never", *person, *arguments]
    env = {"PATH": GIT_ENV["PATH"], "HOME": os.environ["HOME"], "JJ_CONFIG": os.devnull}
    done = subprocess.run(argv, cwd=folder, env=env, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    return done.stdout


def make_jj_repository(
    folder: Path, *, branch: str = "main", files: dict[str, str] | None = None, colocated: bool = False
) -> Path:
    """A real jj repository with one commit under the bookmark `branch`, below an empty working-copy commit."""
    folder.mkdir(parents=True, exist_ok=True)
    jj(folder, "git", "init", "--colocate" if colocated else "--no-colocate", ".")
    _write(folder, files or FILES)
    jj(folder, "commit", "-m", "Begin")
    jj(folder, "bookmark", "create", branch, "-r", "@-")
    return folder
