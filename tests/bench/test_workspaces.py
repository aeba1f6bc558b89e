"""The measurement of workspaces runs; what it measures is no test's business."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspaces.contract.conftest import require_jj

pytestmark = pytest.mark.real


def test_table__has_a_row_for_each_thing_in_each_system(tmp_path):
    require_jj()
    command = [
        sys.executable,
        "-m",
        "bench.workspaces",
        "--files",
        "150",
        "--pairs",
        "1",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:4] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    found = [(what.strip(), system.strip(), int(files)) for what, system, files in rows]
    assert found == [(what, system, 150) for system in ("git", "jj") for what in ("create", "diff", "merge")]
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind
