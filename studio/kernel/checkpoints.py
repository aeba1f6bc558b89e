"""SQLite's write-ahead log, moved into the database beside the writers instead of inside their commits."""

from __future__ import annotations

import threading

import structlog
from django.db import DatabaseError, close_old_connections, connection

log = structlog.get_logger(__name__)

PERIOD = 0.25  # seconds


def keep(stop: threading.Event) -> None:
    """Move on with the log until `stop` is set. Does nothing for other databases.

    A commit that fills the log moves it itself and waits for the disk meanwhile, and with it everybody who wants to write
    (docs/performance.md). A passive checkpoint stands in nobody's way; whatever it leaves is still moved by the commits.
    """
    while connection.vendor == "sqlite" and not stop.wait(PERIOD):
        try:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except DatabaseError as error:
            log.warning("checkpoint_failed", error=str(error))
            close_old_connections()
            stop.wait(5.0)
    connection.close()
