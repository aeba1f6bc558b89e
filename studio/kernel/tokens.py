"""Signed tokens that an agent's run carries to the MCP endpoint. They hold only an id; the row decides whether it may act."""

from __future__ import annotations

from django.core import signing

SALT = "studio.agent-tools"


def sign_subject(subject: str) -> str:
    """A token for `subject` (the id of a run)."""
    return signing.dumps(subject, salt=SALT)


def read_subject(token: str) -> str | None:
    """The subject of a token that this studio signed, else None."""
    try:
        subject = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        return None
    return subject if isinstance(subject, str) else None
