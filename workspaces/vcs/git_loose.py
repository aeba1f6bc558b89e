"""Branches and commits that lie loose in a repository, read as git reads them: starting git takes longer than the look.

Only what is plain is read. For all else (packed, symbolic, damaged, too long) the answer is None, and git is to be asked.
"""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from pathlib import Path

REF_LIMIT = 200  # bytes
COMMIT_LIMIT = 256 * 1024  # bytes, packed and unpacked
ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def loose_tip(store: Path, branch: str) -> str | None:
    """The commit that `branch` points at, which is there and unharmed; `store` is the folder that all checkouts share."""
    parts = branch.split("/")
    if any(part in ("", ".", "..") or part.endswith(".lock") for part in parts):
        return None
    found = _read(store.joinpath("refs", "heads", *parts), REF_LIMIT).decode("ascii", "replace").removesuffix("\n")
    return found if ID.fullmatch(found) and loose_commit(store, found) is not None else None


def loose_commit(store: Path, commit: str) -> bytes | None:
    """What the commit with this id says: its header, an empty line, its message. Its bytes have been held against the id."""
    unpacker = zlib.decompressobj()
    try:
        whole = unpacker.decompress(_read(store / "objects" / commit[:2] / commit[2:], COMMIT_LIMIT), COMMIT_LIMIT)
    except zlib.error:
        return None
    algorithm = "sha1" if len(commit) == 40 else "sha256"  # as git names its objects
    kind, _, body = whole.partition(b"\0")
    meant = hashlib.new(algorithm, whole, usedforsecurity=False).hexdigest() == commit
    return body if meant and kind == b"commit %d" % len(body) else None


def _read(path: Path, limit: int) -> bytes:
    """The file's first bytes; nothing of what is no plain file: a link, a pipe that nobody writes to."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return b""
    try:
        return os.read(descriptor, limit)
    except OSError:  # a folder
        return b""
    finally:
        os.close(descriptor)
