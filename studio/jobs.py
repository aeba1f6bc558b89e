"""Background jobs of the studio itself."""

from __future__ import annotations

from celery import shared_task

from studio import signs
from studio.queue import Names


@shared_task(name=Names.PING)
def ping(nonce: str) -> None:
    """Leave a proof at the broker that this ping went through the queue and a worker."""
    signs.answer(nonce)
