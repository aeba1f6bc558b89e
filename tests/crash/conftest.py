"""One studio with fault points for the tests of this folder."""

from __future__ import annotations

import pytest

from tests.crash.cases import open_project
from tests.crash.world import World


@pytest.fixture(scope="session")
def world():
    running = World()
    try:
        running.start()
        running.wait_whole()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def project(world):
    """The id of a project whose plans need no approval."""
    return open_project(world, "crash")
