"""Real git repositories for tests and benches. No Django is needed."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

_numbers = itertools.count(1)
_folder: Path | None = None

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
        ["git", *arguments], cwd=folder, env=GIT_ENV, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout


def make_repository(folder: Path | None = None, *, branch: str = "main", files: dict[str, str] | None = None) -> Path:
    """A real git repository with one commit on `branch` and an identity of its own."""
    folder = folder or scratch_folder() / f"repository-{next(_numbers)}-{uuid.uuid4().hex[:6]}"
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", branch)
    git(folder, "config", "user.name", "A Person")
    git(folder, "config", "user.email", "person@example.invalid")
    for name, text in (files or {"README.md": "# A repository\n", "app.py": "print('hello')\n"}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Begin")
    return folder


def jj(folder: Path | str, *arguments: str) -> str:
    """The output of a jj command in `folder`, as a person would run it; raises when it fails."""
    person = ("--config", 'user.name="A Person"', "--config", 'user.email="person@example.invalid"')
    argv = ["jj", "--no-pager", "--color=never", *person, *arguments]
    env = {"PATH": GIT_ENV["PATH"], "HOME": os.environ["HOME"], "JJ_CONFIG": os.devnull}
    done = subprocess.run(argv, cwd=folder, env=env, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def make_jj_repository(
    folder: Path, *, branch: str = "main", files: dict[str, str] | None = None, colocated: bool = False
) -> Path:
    """A real jj repository with one commit under the bookmark `branch`, below an empty working-copy commit."""
    folder.mkdir(parents=True, exist_ok=True)
    jj(folder, "git", "init", "--colocate" if colocated else "--no-colocate", ".")
    for name, text in (files or {"README.md": "# A repository\n", "app.py": "print('hello')\n"}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    jj(folder, "commit", "-m", "Begin")
    jj(folder, "bookmark", "create", branch, "-r", "@-")
    return folder
