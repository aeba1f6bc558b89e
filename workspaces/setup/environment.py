"""The variables of a checkout: what its scripts, its commands in the background and its dev server see besides a person's own.

The agent server's process serves all checkouts and gets none of them: an agent's shell reads `.opencode-studio/env`.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from workspaces.models import Workspace
from workspaces.setup.config import PLACEHOLDER, Setup
from workspaces.setup.ports import reserve


def placeholders(workspace: Workspace) -> dict[str, str]:
    """What `{port}` and the others stand for. The port is reserved by this."""
    return {
        "port": str(reserve(workspace)),
        "workspace": Path(workspace.path).name,
        "branch": workspace.branch,
        "key": workspace.label,
        "path": workspace.path,
        "project_path": workspace.project.path,
    }


def variables(workspace: Workspace, setup: Setup) -> dict[str, str]:
    """The variables with their values: WORKSPACE_PORT and the like, and those that the project sets. Empty without a setup."""
    if setup.is_empty:
        return {}
    known = placeholders(workspace)
    usual = {f"WORKSPACE_{name.upper()}": known[name] for name in ("port", "branch", "key", "path")}
    own = {name: filled(text, known) for name, text in setup.environment.items()}
    return {**usual, "WORKSPACE_NAME": known["workspace"], "WORKSPACE_PROJECT_PATH": known["project_path"], **own}


def filled(text: str, known: dict[str, str], *, quoted: bool = False) -> str:
    """`text` with its placeholders filled in, once; `quoted` for a shell. What is no placeholder stays as it is."""
    return PLACEHOLDER.sub(
        lambda found: (shlex.quote(known[found[1]]) if quoted else known[found[1]]) if found[1] in known else found[0],
        text,
    )
