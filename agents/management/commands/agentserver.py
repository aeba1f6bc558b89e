"""`manage.py agentserver`: run the managed OpenCode server in the foreground."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from agents.discovery import find_binary
from agents.services import managed_server_down, managed_server_ready, managed_server_starting
from agents.supervisor import Hooks, Setup, supervise
from studio.kernel.errors import StudioError


class Command(BaseCommand):
    help = "Run the managed OpenCode server until SIGTERM or SIGINT. Ends with code 1 when the server dies."
    requires_system_checks: list[str] = []  # they would load every page into this process

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        try:
            setup = Setup(
                binary=find_binary().path,
                data=settings.DATA,
                environ=os.environ,
                pass_env=settings.OPENCODE_PASS_ENV,
                practice_only=settings.OPENCODE_PRACTICE,
            )
            code = supervise(setup, stop, Hooks(managed_server_starting, managed_server_ready, managed_server_down))
        except StudioError as error:
            raise CommandError(error.message) from error
        sys.exit(code)
