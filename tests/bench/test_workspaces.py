"""The measurement of workspaces runs; what it measures is no test's business."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real


def test_table__has_a_row_for_each_thing(tmp_path):
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
    rows = [line.split("|")[1:3] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [(what.strip(), int(files)) for what, files in rows] == [("create", 150), ("diff", 150), ("merge", 150)]
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind
