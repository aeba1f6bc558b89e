"""Practice scripts for tasks of the end-to-end tests."""

from __future__ import annotations

import json
from typing import Any

PLAN = {"plan": "## Plan\n\n1. Write `result.txt`.\n2. Check it."}
APPROVE = {"verdict": "approved", "summary": "Fine."}
ERROR = {
    "verdict": "changes_requested",
    "summary": "One error.",
    "findings": [
        {
            "severity": "error",
            "title": "The file says the wrong thing",
            "body": "It must say done.",
            "file": "result.txt",
            "line": 1,
        }
    ],
}


def write(text: str, name: str = "result.txt", **step: Any) -> dict[str, Any]:
    """A step that writes a file of the workspace."""
    return {"tools": [{"name": "write", "args": {"filePath": "{cwd}/" + name, "content": text}}], **step}


def bash(command: str, **step: Any) -> dict[str, Any]:
    """A step that runs a command."""
    return {"tools": [{"name": "bash", "args": {"command": command, "description": "Run a command"}}], **step}


def gate(name: str = "go") -> dict[str, Any]:
    """A step that lasts until the test opens it (`Studio.open_gate`); the file stays in the checkout."""
    return bash(waiting_for(name))


def waiting_for(name: str) -> str:
    """A command that ends when the file is there; of itself before the agent server would cut it off."""
    return f"for n in $(seq 500); do test -e {name} && break; sleep 0.2; done"


def script(**phases: list[list[Any]]) -> str:
    """A description with the script; phases that are not given get the ones of a task that goes well."""
    whole = {"planning": [[PLAN]], "implementation": [[write("done\n")]], "review": [[APPROVE]], **phases}
    return f"Write a file.\n\n```practice\n{json.dumps(whole)}\n```\n"
