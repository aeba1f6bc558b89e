"""Tests that share something expensive run on one worker: on a real pytest-xdist, and for every test that shares something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.groups import GROUPS, group_of

ROOT = Path(__file__).parents[1]
# Fixtures of a worker that take seconds to start; what else starts studios is in the folders of the table.
EXPENSIVE = {"studio", "opencode_server", "postgres"}

TEST = """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_it(number):
    with pathlib.Path(os.environ["SEEN"]).open("a") as seen:
        seen.write(f"{os.environ['PYTEST_XDIST_WORKER']} {pathlib.Path(__file__).parent.name}\\n")
"""
TWIN = """
def pytest_collection_modifyitems(items):
    items += items
"""


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """The tests of a folder on two workers, with nothing of this suite but its groups."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-p", "tests.groups", "-p", "no:django", "-p",
         "no:randomly", "-p", "no:cacheprovider", f"--rootdir={folder}", str(folder)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SEEN": str(folder / "seen")},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Four tests in each of two groups, and four in none, which are collected first."""
    for name in ("api", "crash", "e2e"):
        path = tmp_path / "tests" / name / f"test_{name}.py"
        path.parent.mkdir(parents=True)
        path.write_text(TEST)
    return tmp_path


def test_groups__begin_first_and_stay_on_one_worker(folder):
    done = run(folder)
    assert "12 passed" in done.stdout, done.stdout + done.stderr
    seen = [line.split() for line in (folder / "seen").read_text().splitlines()]
    for group in ("crash", "e2e"):
        assert len({worker for worker, name in seen if name == group}) == 1
    for worker in ("gw0", "gw1"):
        assert next(name for one, name in seen if one == worker) != "api"


def test_names__that_two_tests_share_are_refused(folder):
    (folder / "conftest.py").write_text(TWIN)
    done = run(folder)
    assert "tests that share a name" in done.stdout + done.stderr
    assert done.returncode != 0


def test_table__names_what_there_is():
    for path in (path for paths in GROUPS.values() for path in paths):
        assert list(ROOT.glob(f"{path}*")), path


def test_table__has_every_test_that_shares_something(request):
    sharing = {item.nodeid for item in request.session.items if EXPENSIVE & set(item.fixturenames)}
    assert {nodeid for nodeid in sharing if not group_of(nodeid)} == set()
