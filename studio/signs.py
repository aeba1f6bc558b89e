"""Signs of life of the processes that listen on no port: worker and beat say through the broker that they are there.

A sign expires by itself. It says that the process runs and reaches the broker; whether jobs are really done is what
the job `studio.ping` proves (see `manage.py doctor`).
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import structlog
from celery.signals import beat_init, before_task_publish, heartbeat_sent
from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

PREFIX = "studio:sign:"
EVERY_SECONDS = 4.0
VALID_SECONDS = 20
ANSWER_SECONDS = 60
TIMEOUT = 2.0  # seconds


@cache
def broker() -> Redis:
    """This process's connection to the broker's server, with short time-outs."""
    return Redis.from_url(settings.CHANNELS_URL, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT)


def alive(name: str) -> bool:
    """Whether `name` gave a sign lately. Raises RedisError when the broker cannot be asked."""
    return bool(broker().exists(PREFIX + name))


def answer(nonce: str) -> None:
    """Say that the ping called `nonce` was worked on."""
    broker().set(f"{PREFIX}ping:{nonce}", "1", ex=ANSWER_SECONDS)


def answered(nonce: str) -> bool:
    """Whether the ping called `nonce` was worked on."""
    return bool(broker().exists(f"{PREFIX}ping:{nonce}"))


class Sign:
    """Gives the sign of one process at most every EVERY_SECONDS, however often it is called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._last = -EVERY_SECONDS

    def __call__(self, **_: Any) -> None:
        at = time.monotonic()
        if at - self._last < EVERY_SECONDS:
            return
        self._last = at
        try:
            broker().set(PREFIX + self.name, "1", ex=VALID_SECONDS)
        except RedisError as error:
            log.warning("sign_not_given", of=self.name, error=str(error))


def connect() -> None:
    """Let this process give its sign if it is a worker or a beat. Idempotent."""
    heartbeat_sent.connect(worker_sign, weak=False, dispatch_uid="studio.sign")
    beat_init.connect(begin_beat, weak=False, dispatch_uid="studio.sign")


def begin_beat(**_: Any) -> None:
    """A beat has nothing of its own that recurs but what it publishes: each is a sign, and so is its start."""
    before_task_publish.connect(beat_sign, weak=False, dispatch_uid="studio.sign")
    beat_sign()


worker_sign, beat_sign = Sign("worker"), Sign("beat")
