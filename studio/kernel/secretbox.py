"""Secrets at rest: encrypted with a key derived from SECRET_KEY (Fernet of the `cryptography` package)."""

from __future__ import annotations

import base64
from hashlib import sha256

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings

from studio.kernel.errors import Invalid


def _box() -> Fernet:
    return Fernet(base64.urlsafe_b64encode(sha256(f"studio-secrets:{settings.SECRET_KEY}".encode()).digest()))


def seal(plain: str) -> str:
    """`plain` encrypted, as text; the empty string stays empty."""
    return _box().encrypt(plain.encode()).decode() if plain else ""


def unseal(sealed: str) -> str:
    """The plain text of `sealed`. Raises Invalid when SECRET_KEY is not the one it was sealed with."""
    if not sealed:
        return ""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise Invalid(
            "A stored secret cannot be read with the present SECRET_KEY; enter it again.", code="secret_unreadable"
        ) from error
