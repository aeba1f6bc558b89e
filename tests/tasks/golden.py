"""Golden files: compared with what is made now; rewritten when UPDATE_GOLDEN=1."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def same_as(path: Path, text: str) -> None:
    """Fail with a difference unless `path` holds exactly `text`."""
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text)
    assert path.read_text() == text, f"{path.name} differs; if that is meant: UPDATE_GOLDEN=1"
