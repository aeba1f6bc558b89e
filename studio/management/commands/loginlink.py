"""`manage.py loginlink`: a fresh one-time login link."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from studio.launcher.options import add_data_argument
from studio.owner import account_for_command, login_path


class Command(BaseCommand):
    help = "Print a link that signs the owner, or another account, in once within 24 hours."
    requires_system_checks: list[str] = []  # they load every page, which takes longer than the work

    def add_arguments(self, parser: CommandParser) -> None:
        add_data_argument(parser)
        parser.add_argument("username", nargs="?", help="the account (default: the owner)")
        parser.add_argument("--path", action="store_true", help="print only the path, without the address")

    def handle(self, *args: Any, **options: Any) -> None:
        path = login_path(account_for_command(options["username"]))
        self.stdout.write(path if options["path"] else f"{settings.STUDIO_URL}{path}")
