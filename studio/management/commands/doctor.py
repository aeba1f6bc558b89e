"""`manage.py doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import logging
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from studio.doctor import State, examine
from studio.launcher.options import add_data_argument


class Command(BaseCommand):
    help = "Check each part of the studio by using it once. Exit code 1 when one fails."
    requires_system_checks: list[str] = []  # they load every page, which takes longer than the work

    def add_arguments(self, parser: CommandParser) -> None:
        add_data_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        logging.disable(logging.ERROR)  # what went wrong is said below, in sentences
        failed = 0
        for finding in examine():
            failed += finding.state == State.FAILED
            self.stdout.write(f"{finding.state:<7} {finding.subject}{': ' * bool(finding.text)}{finding.text}")
            if finding.remedy:
                self.stdout.write(f"        {finding.remedy}")
        self.stdout.write(f"\n{failed} failed." if failed else "\nAll parts work.")
        sys.exit(1 if failed else 0)
