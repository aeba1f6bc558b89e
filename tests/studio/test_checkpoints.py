"""The write-ahead log is moved into the database beside the writers."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from django.db import connection

from studio.kernel import checkpoints
from tests.real.agentserver import wait_for


@pytest.fixture
def keeping(monkeypatch):
    """Checkpoints, made by a thread of their own while the test writes."""
    monkeypatch.setattr(checkpoints, "PERIOD", 0.02)
    stop = threading.Event()
    thread = threading.Thread(target=checkpoints.keep, args=[stop])
    yield thread
    stop.set()
    thread.join(10)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has such a log")
def test_keep__moves_what_was_written_into_the_database(keeping):
    path = connection.settings_dict["NAME"]
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        writer.execute("CREATE TABLE scratch_checkpoints (text TEXT)")
        writer.execute("INSERT INTO scratch_checkpoints VALUES ('moved-by-the-thread')")

        def moved() -> bool:
            return b"moved-by-the-thread" in Path(path).read_bytes()  # what only the log holds is not in here

        assert not moved()
        keeping.start()
        wait_for(moved, what="for the checkpoint")
    finally:
        writer.execute("DROP TABLE IF EXISTS scratch_checkpoints")
        writer.close()


def test_keep__leaves_other_databases_alone(monkeypatch, db):
    monkeypatch.setattr(connection, "vendor", "postgresql")
    monkeypatch.setattr(checkpoints.connection, "close", lambda: None)
    checkpoints.keep(threading.Event())  # returns, although nobody stops it
