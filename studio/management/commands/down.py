"""`manage.py down`: stop everything. manage.py runs it before Django; this class is for `call_command` and the help."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from studio.launcher.down import down
from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder
from studio.launcher.options import add_data_argument, data_folder


class Command(BaseCommand):
    help = "Stop the studio of a data folder, or what a killed one has left."

    def add_arguments(self, parser: CommandParser) -> None:
        add_data_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            sys.exit(down(DataFolder(data_folder(options["data"], os.environ)), self.stdout.write))
        except LauncherError as error:
            raise CommandError(str(error)) from error
