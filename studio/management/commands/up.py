"""`manage.py up`: start everything. manage.py runs it before Django; this class is for `call_command` and the help."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from studio.launcher.errors import LauncherError
from studio.launcher.options import add_up_arguments, read_options
from studio.launcher.up import up


class Command(BaseCommand):
    help = "Start everything, on loopback, until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        add_up_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            sys.exit(up(read_options(options), os.environ))
        except LauncherError as error:
            raise CommandError(str(error)) from error
