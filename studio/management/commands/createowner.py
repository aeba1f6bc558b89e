"""`manage.py createowner`: an owner account for a studio whose parts run as separate services."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from studio.launcher.options import add_data_argument
from studio.owner import NAME, login_path


class Command(BaseCommand):
    help = "Make an account that owns every project, and print a one-time login link for it."
    requires_system_checks: list[str] = []  # they load every page, which takes longer than the work

    def add_arguments(self, parser: CommandParser) -> None:
        add_data_argument(parser)
        parser.add_argument("username", nargs="?", default=NAME, help=f"the account's name (default: {NAME})")
        parser.add_argument("--email", default="", help="the account's e-mail address")
        parser.add_argument(
            "--password", action="store_true", help="ask for a password too; read from stdin when that is no terminal"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        users = get_user_model().objects
        name = options["username"]
        if users.filter(username=name).exists():
            raise CommandError(f"There is an account called {name!r} already; `manage.py loginlink {name}` lets it in.")
        password = _ask_password() if options["password"] else None
        user = users.create_superuser(name, email=options["email"], password=password)
        self.stdout.write(f"{settings.STUDIO_URL}{login_path(user)}")


def _ask_password() -> str:
    given = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    try:
        validate_password(given)
    except ValidationError as error:
        raise CommandError(" ".join(error.messages)) from error
    return given
