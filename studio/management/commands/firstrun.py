"""`manage.py firstrun`: bring the database and the data folder up to date, and make what a new studio begins with.

Idempotent: it runs at every start of `manage.py up`, and once before the services of a team start.
"""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, transaction

from agents.services import ensure_profiles, ensure_servers
from studio.launcher.folder import DataFolder
from studio.launcher.options import add_data_argument
from studio.owner import ensure_owner, login_path
from tasks.services.board import create_task
from workspaces.sample import SAMPLE_TASKS, ensure_sample_project


class Command(BaseCommand):
    help = "Migrate, collect static files, make the owner, the agent profiles and the sample project where they are missing."
    requires_system_checks: list[str] = []  # they load every page, which takes longer than the work

    def add_arguments(self, parser: CommandParser) -> None:
        add_data_argument(parser)
        parser.add_argument("--no-sample", action="store_true", help="do not register the sample project")
        parser.add_argument("--json", action="store_true", help="print one line of JSON with a login link's path")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            path = set_up(sample=not options["no_sample"])
        except (DatabaseError, OSError) as error:
            # The disk, or a database that is none: one line says it; --traceback shows where.
            raise CommandError(f"{type(error).__name__}: {error}") from error
        self.stdout.write(json.dumps({"login_path": path}) if options["json"] else f"{settings.STUDIO_URL}{path}")


def set_up(*, sample: bool) -> str:
    """Do all of it; the path of a login link."""
    DataFolder(settings.DATA).prepare_run()
    call_command("migrate", interactive=False, verbosity=0)
    call_command("collectstatic", interactive=False, verbosity=0, clear=False)
    owner, is_new = ensure_owner()
    ensure_profiles()
    if settings.STUDIO_AGENT:
        ensure_servers()
    if sample:
        add_sample(owner, first=is_new)
    return login_path(owner)


def add_sample(owner: Any, *, first: bool) -> None:
    """Register the sample project with its tasks, once: whoever removes it does not want it back at the next start."""
    done = settings.STUDIO_SAMPLE_ROOT / "registered"
    if done.exists() and not first:
        return
    project = ensure_sample_project(owner)
    with transaction.atomic():
        if not project.tasks.exists():
            for title, description in SAMPLE_TASKS:
                create_task(actor=owner, project=project, title=title, description=description)
    done.touch()
