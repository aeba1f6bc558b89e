"""Fixtures of the board's tests: a pipeline on a real repository, without an agent server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from django.conf import settings
from django.db import connection

from tests.tasks.pipeline import Pipeline


@pytest.fixture
def pipeline(db):
    """A task in "To do" of a project with a real repository, a ready server and the default profiles."""
    return Pipeline()


@pytest.fixture
def daphne(transactional_db):
    """A real daphne with the studio's ASGI application on the test database; its address."""
    values = connection.settings_dict
    login = f"{values['USER']}:{values['PASSWORD']}@{values['HOST']}:{values['PORT']}" if values["HOST"] else ""
    kind = "sqlite" if connection.vendor == "sqlite" else "postgres"
    listener = socket.create_server(("127.0.0.1", 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "daphne", "--fd", str(listener.fileno()), "studio.asgi:application"],
        env={
            **os.environ,
            "DATABASE_URL": f"{kind}://{login}/{values['NAME']}",
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "SECRET_KEY": settings.SECRET_KEY,
        },
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        process.terminate()
        process.wait(20)
        listener.close()
