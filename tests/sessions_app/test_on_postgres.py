"""The same promises on Postgres, where transactions really run side by side."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "inbox": [
        "tests/studio/test_lease_properties.py",
        *(
            f"tests/sessions_app/test_{name}.py"
            for name in ("concurrency", "inbox_properties", "inbox", "turns", "aborts")
        ),
    ],
    "budgets": [
        f"tests/sessions_app/test_{name}.py"
        for name in ("usage", "budgets", "budget_concurrency", "watchdogs", "stopping")
    ],
    "board": ["tests/tasks/test_concurrency.py", "tests/tasks/test_schedule.py"],
    "commands": ["tests/workspaces/commands/test_at_once.py", "tests/sessions_app/test_commands.py"],
}


@pytest.fixture(scope="module")
def database(postgres):
    """One for all runs: the first one migrates it."""
    return postgres.new_database()


@pytest.mark.real
@pytest.mark.parametrize("files", FILES.values(), ids=list(FILES))
def test_sessions__keep_their_promises_on_postgres(database, files):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("STUDIO_", "PYTEST_"))}
    environment["DATABASE_URL"] = database
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--reuse-db", *files],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert " passed" in done.stdout
