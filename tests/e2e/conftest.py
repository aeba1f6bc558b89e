"""One studio per test process; a test that kills or reconfigures things starts its own."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.e2e.studio_process import Studio

# Patience, not a measure: a whole studio, a browser and another worker's tests share the machine.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def studio():
    running = Studio()
    try:
        yield running.start()
    finally:
        running.close()


@pytest.fixture
def project(studio, request):
    """A registered repository with the default branch `trunk` and a space in its path."""
    name = request.node.name.replace("[", " ").replace("]", "")
    path = studio.repository(f"my {name}")
    return {**studio.project(path), "folder": path}
