"""The sample project is a real repository with tasks that the practice model knows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from agents.practice.samples import SAMPLES
from studio.kernel.permissions import Role
from tests.factories import git
from workspaces.models import Project
from workspaces.sample import SAMPLE_TASKS, ensure_repository, ensure_sample_project
from workspaces.selectors import role_in
from workspaces.services import ensure_workspace

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_root(tmp_path):
    with override_settings(STUDIO_SAMPLE_ROOT=tmp_path / "sample"):
        yield


def test_sample__is_registered_once(member, owner):
    project = ensure_sample_project(member)
    assert ensure_sample_project(owner) == project
    assert (project.key, project.is_sample, project.default_branch) == ("DEMO", True, "main")
    assert role_in(member, project) == Role.OWNER
    assert Path(project.path).is_relative_to(settings.STUDIO_SAMPLE_ROOT)
    assert git(project.path, "status", "--porcelain") == ""
    assert ensure_workspace(project=project, label="DEMO-1").state == "ready"


def test_sample__has_what_the_scripts_expect():
    folder = ensure_repository()
    assert (folder / "README.md").read_text().startswith("# Greetings\n\nA tiny package that greets people.\n\n")
    assert (folder / "greetings.py").read_text() == (
        '"""Friendly words."""\n\n\ndef hello(name: str) -> str:\n    """Greet somebody by name."""\n'
        '    return f"Hello, {name}!"\n'
    )
    done = subprocess.run([sys.executable, "-B", "-m", "unittest"], cwd=folder, capture_output=True, check=True)
    assert b"Ran 1 test" in done.stderr


def test_sample__is_the_same_everywhere(monkeypatch):
    first = git(ensure_repository(), "rev-parse", "HEAD")
    shutil.rmtree(settings.STUDIO_SAMPLE_ROOT)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody else")
    assert git(ensure_repository(), "rev-parse", "HEAD") == first


def test_sample__a_half_made_one_is_made_anew(owner):
    folder = settings.STUDIO_SAMPLE_ROOT / "greetings"
    git_folder = folder / ".git"
    git_folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("kept\n")
    ensure_sample_project(owner)
    assert git(folder, "log", "--format=%s") == "Greet people\n"
    assert [path.read_text() for path in settings.STUDIO_SAMPLE_ROOT.glob("*.old/mine.txt")] == ["kept\n"]


def test_sample__the_key_is_taken(owner):
    Project.objects.create(name="x", key="DEMO", path="/nowhere", default_branch="main")
    assert ensure_sample_project(owner).key == "GS"


def test_sample__tasks_are_the_ones_with_a_script():
    assert {title for title, _ in SAMPLE_TASKS} == set(SAMPLES)
    for _, description in SAMPLE_TASKS:
        assert 2 <= description.count(". ") + 1 <= 4
        assert "practice" not in description
