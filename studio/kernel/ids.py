"""Identifiers: ours are UUIDs; the agent server's are derived from ours so that a repeated request is the same request."""

from __future__ import annotations

import uuid
from datetime import datetime
from hashlib import sha256

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_id() -> uuid.UUID:
    """A fresh random identifier."""
    return uuid.uuid4()


def derived_id(prefix: str, source: uuid.UUID, at: datetime, index: int = 0) -> str:
    """An OpenCode id (`msg_…`, `prt_…`) that depends only on its arguments.

    The form is the server's own: 12 hexadecimal digits of a millisecond clock times 4096 plus a counter,
    then 14 base-62 digits (opencode.md, section 3). Two calls with the same arguments give the same id.
    """
    clock = (int(at.timestamp() * 1000) * 4096 + index) & ((1 << 48) - 1)
    number = int.from_bytes(sha256(f"{prefix}:{source}:{index}".encode()).digest(), "big")
    digits = []
    for _ in range(14):
        number, rest = divmod(number, 62)
        digits.append(BASE62[rest])
    return f"{prefix}_{clock:012x}{''.join(digits)}"
