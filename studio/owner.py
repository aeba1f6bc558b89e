"""The owner: the superuser that a new studio begins with."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.management.base import CommandError
from django.db import DatabaseError, IntegrityError, transaction
from django.urls import reverse

from studio.kernel.errors import NotFound
from studio.login_links import create_link

NAME = "owner"


def find_owner() -> User:
    """The oldest active superuser. Raises NotFound with the remedy when there is none."""
    owner = get_user_model().objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if owner is None:
        raise NotFound("There is no owner account yet: run `manage.py createowner`.", code="no_owner")
    return owner


def account_for_command(name: str | None = None) -> User:
    """The active account `name`, by default the owner. Raises CommandError, also where no studio is set up."""
    try:
        if name is None:
            return find_owner()
        user = get_user_model().objects.filter(username=name, is_active=True).first()
    except NotFound as error:
        raise CommandError(error.message) from error
    except DatabaseError as error:
        raise CommandError(
            f"No studio is set up in {settings.DATA}: start it with make run, or name its folder with --data."
        ) from error
    if user is None:
        raise CommandError(f"There is no active account called {name!r}.")
    return user


def ensure_owner(name: str = NAME) -> tuple[User, bool]:
    """The owner, and whether it was made now: without a password, so that only a login link or a later one lets in.

    Idempotent, also when two processes do it at the same time.
    """
    try:
        return find_owner(), False
    except NotFound:
        pass
    users = get_user_model().objects
    try:
        with transaction.atomic():
            return users.create_superuser(name, email="", password=None), True
    except IntegrityError:
        return find_owner(), False


def login_path(user: User) -> str:
    """The path of a fresh one-time login link."""
    return reverse("login-link", args=[create_link(user)])
