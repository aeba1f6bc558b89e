"""The Celery application. Its modules are called `jobs.py`: a "task" in this product is a card on the board."""

from __future__ import annotations

import gc
import os
from typing import Any

from celery import Celery
from celery.signals import worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")

# The checks would load every page into every worker; `make test` runs them.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

app = Celery("studio")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(related_name="jobs")


@worker_init.connect(dispatch_uid="studio.share_memory")
def share_memory(**_: Any) -> None:
    """Before the worker forks: a collection in a child would otherwise copy every page that it only looks at."""
    gc.collect()
    gc.freeze()
