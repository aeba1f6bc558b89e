"""Deleting folders: a checkout first goes out of its place whole, in one step, and then bit by bit."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any


def gone_beside(checkout: Path) -> Path:
    """Where a checkout is while it is deleted."""
    return checkout.with_name(f".{checkout.name}.gone")


def out_of_place(checkout: Path) -> Path:
    """Move the checkout, if there is one, to where it is deleted; that place. What an earlier try left there goes first."""
    gone = gone_beside(checkout)
    if os.path.lexists(checkout):
        delete_tree(gone)
        checkout.rename(gone)
    return gone


def delete_tree(folder: Path) -> None:
    """Delete a folder, folders without write permission included. Symbolic links are deleted, never followed."""

    def retry(function: Callable[[str], Any], path: str, _: Any) -> None:
        parent = Path(path).parent
        for locked in {parent, Path(path)}:
            if locked.is_relative_to(folder) and locked.is_dir() and not locked.is_symlink():
                locked.chmod(stat.S_IRWXU)
        if Path(path).is_dir() and not Path(path).is_symlink():
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)

    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder, onerror=retry)
