"""The sample project: a small real repository of the studio's own, with tasks to try it on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings

from workspaces.locks import held
from workspaces.models import Project
from workspaces.services.projects import create_project
from workspaces.vcs.git_command import commit_of, git
from workspaces.vcs.git_inspect import find

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

NAME = "Greetings (sample)"
KEY = "DEMO"
FOLDER = "greetings"
BRANCH = "main"
# The same commit, whoever makes it and whenever.
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "OpenCode Studio"),
        ("EMAIL", "sample@opencode-studio.invalid"),
        ("DATE", "2026-01-01T09:00:00+00:00"),
    )
}

FILES = {
    "README.md": """# Greetings

A tiny package that greets people.

It is the sample project of OpenCode Studio: a real git repository that only the studio uses. Change it as you like.
""",
    "greetings.py": '''"""Friendly words."""


def hello(name: str) -> str:
    """Greet somebody by name."""
    return f"Hello, {name}!"
''',
    "test_greetings.py": """import unittest

from greetings import hello


class HelloTest(unittest.TestCase):
    def test_hello(self) -> None:
        self.assertEqual(hello("Ada"), "Hello, Ada!")


if __name__ == "__main__":
    unittest.main()
""",
    ".gitignore": "__pycache__/\n",
}

SAMPLE_TASKS: list[tuple[str, str]] = [
    (
        "Add a farewell",
        "The package can say hello, but it cannot say goodbye. Add a function `goodbye(name)` to `greetings.py` that takes "
        "leave of somebody by name, in the style of `hello`. Give it a unit test. The behaviour of `hello` must stay as it is.",
    ),
    (
        "Greet in another language",
        "Not everybody speaks English. Add a function `hello_in(name, language)` that greets somebody in the language of a "
        "two-letter code, with at least English, German, French and Spanish. It should be easy to add a language later, and "
        "there should be tests.",
    ),
    (
        "Document the package",
        "Somebody who opens the repository for the first time should see how to use it. Describe in `README.md` how to greet "
        "a person from Python and how to run the tests. Keep it short, and check that the examples are right.",
    ),
]


def ensure_sample_project(owner: AbstractBaseUser) -> Project:
    """The sample project; `owner` owns it when it is made now. Its repository is made anew when it is missing. Idempotent."""
    with held("sample", patience=30.0):
        folder = ensure_repository()
        found = Project.objects.filter(path=str(folder)).first()
        if found is not None:
            return found
        key = None if Project.objects.filter(key=KEY).exists() else KEY
        return create_project(actor=owner, found=find(folder), name=NAME, key=key, is_sample=True)


def ensure_repository() -> Path:
    """The sample's folder, a git repository with one commit. What an earlier try left half made is made anew."""
    root = Path(settings.STUDIO_SAMPLE_ROOT).resolve()
    folder = root / FOLDER
    if (folder / ".git").is_dir() and commit_of(folder, "HEAD") is not None:
        return folder
    scratch = root / f".{FOLDER}.new"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700, parents=True)
    for name, text in FILES.items():
        (scratch / name).write_text(text, encoding="utf-8")
    git(scratch, "init", "--quiet", f"--initial-branch={BRANCH}", "--template=", "--object-format=sha1")
    git(scratch, "add", "--all")
    git(scratch, "commit", "--quiet", "--no-verify", "--message", "Greet people", env=IDENTITY)
    if folder.exists():
        folder.rename(root / f"{FOLDER}.{folder.stat().st_mtime_ns}.old")
    scratch.rename(folder)
    return folder
