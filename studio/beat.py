"""The scheduler's Celery application: `celery -A studio.beat beat`.

It publishes names of jobs on a clock and runs nothing itself, so it loads the settings but none of the apps: a third of
the memory that a whole Django process takes.
"""

from __future__ import annotations

import os

from celery import Celery

from studio import signs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")

app = Celery("studio", fixups=[])
app.config_from_object("django.conf:settings", namespace="CELERY")
signs.connect()
