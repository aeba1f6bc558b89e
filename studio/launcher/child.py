"""`python -m studio.launcher.child NAME`: become a part, with no more of the environment than the part may see.

The supervisor gives all its children the same environment. This step, with nothing but the standard library, picks what
the plan allows the part and replaces itself by it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# In the environment of everything that `up` starts, with the data folder as its value: by it leftovers are known.
MARK = "STUDIO_SUPERVISED"
PLAN = Path("run") / "parts.json"


def become(name: str) -> None:
    """Replace this process by the part `name` of the studio whose data folder MARK names."""
    entry = json.loads((Path(os.environ[MARK]) / PLAN).read_text())[name]
    environment = {key: os.environ[key] for key in (*entry["variables"], MARK) if key in os.environ}
    os.execve(entry["argv"][0], entry["argv"], environment)  # noqa: S606 -- no shell is meant


if __name__ == "__main__":
    become(sys.argv[1])
