"""`manage.py agentserver`: manage.py runs it before Django; this class is for `call_command` and the help."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from agents.agentserver import main


class Command(BaseCommand):
    help = "Run the managed OpenCode server until SIGTERM or SIGINT, and start it again whenever it ends."
    requires_system_checks: list[str] = []  # they would load every page into this process

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(main())
