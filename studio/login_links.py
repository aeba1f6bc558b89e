"""Links that sign a person in once: made for the first visit after `manage.py up`, kept only as a digest."""

from __future__ import annotations

import secrets
from hashlib import sha256

from django.contrib.auth.models import User
from django.db import transaction

from studio.kernel.clock import later, now
from studio.models import LoginLink

VALID_SECONDS = 24 * 3600


def digest(token: str) -> str:
    """What is kept of a token."""
    return sha256(token.encode()).hexdigest()


def create_link(user: User, *, valid_seconds: float = VALID_SECONDS) -> str:
    """A fresh token for `user`; its page is the URL `login-link`. Links that ended before are forgotten."""
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        LoginLink.objects.filter(expires_at__lt=now()).delete()
        LoginLink.objects.create(user=user, token_digest=digest(token), expires_at=later(valid_seconds))
    return token


def find_link(token: str) -> LoginLink | None:
    """The link of a token while it can be used; looking at it does not use it up."""
    return (
        LoginLink.objects.select_related("user")
        .filter(token_digest=digest(token), used_at=None, expires_at__gt=now(), user__is_active=True)
        .first()
    )


def use_link(token: str) -> User | None:
    """Use the token up and return whom it signs in; None when it was used, has expired or never existed.

    Two requests with one token: exactly one gets the account.
    """
    link = find_link(token)
    if link is None or not LoginLink.objects.filter(pk=link.pk, used_at=None).update(used_at=now()):
        return None
    return link.user
