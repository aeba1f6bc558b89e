"""The live feed on the real broker, in the test's own process."""

from __future__ import annotations

import asyncio

import pytest
from channels.layers import channel_layers

from studio import doorbell, event_stream, hub
from tests.factories import make_project, make_user
from tests.real.valkey import valkey  # noqa: F401 -- a fixture


@pytest.fixture
async def broker(valkey, settings):  # noqa: F811
    """The channel layer of production on the real Valkey; hubs and loops of other tests are forgotten."""
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [valkey.url]}}
    }
    channel_layers.backends = {}
    hub._hubs.clear()
    event_stream._open.clear()
    doorbell._loop = None
    yield valkey
    running = [task for one in hub._hubs.values() for task in one._tasks]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    channel_layers.backends = {}
    doorbell._loop = None


@pytest.fixture
def world(transactional_db, broker):
    """A superuser who owns a project."""
    owner = make_user(superuser=True)
    return owner, make_project(owner=owner)
