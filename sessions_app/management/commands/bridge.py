"""`manage.py bridge`: follow the agent servers until SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from sessions_app.bridge.runner import run
from studio.kernel.memory import settle


class Command(BaseCommand):
    help = "Read the event streams of the agent servers into the session logs."
    requires_system_checks: list[str] = []  # they would load every page into this process

    def handle(self, *_args: Any, **_options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        settle()
        run(stop)
