"""`manage.py token NAME`: an API token."""

from __future__ import annotations

import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from knox.models import get_token_model

from studio.launcher.options import add_data_argument
from studio.owner import account_for_command

NAME_LENGTH = 9  # what knox keeps readable of a token has room for this and a dash


class Command(BaseCommand):
    help = "Print a new API token of the owner. It is shown this once: only its digest is kept."
    requires_system_checks: list[str] = []  # they load every page, which takes longer than the work

    def add_arguments(self, parser: CommandParser) -> None:
        add_data_argument(parser)
        parser.add_argument(
            "name", help="what it is for; the token begins with it, so that it can be told from others and be revoked"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        begin = re.sub(r"[^a-z0-9]+", "-", options["name"].lower()).strip("-")[:NAME_LENGTH]
        if not begin:
            raise CommandError("The name needs a letter or a digit.")
        owner = account_for_command()
        _, token = get_token_model().objects.create(user=owner, prefix=f"{begin}-")  # type: ignore[no-untyped-call]  # knox has no types
        self.stdout.write(token)
