"""The one error of the launcher."""

from __future__ import annotations


class LauncherError(Exception):
    """Something that the person must know or do; the message is a sentence for the terminal, the exit code is 1."""
