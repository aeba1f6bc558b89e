"""Many hands at once: the bounds hold, and each end is written down once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from studio.kernel.errors import Conflict
from studio.models import FeedEvent
from workspaces.commands import services
from workspaces.models import Command, CommandState

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(count, call):
    """What `count` simultaneous calls of `call(number)` return."""

    def one(number):
        try:
            return call(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_starts__beyond_the_bound_are_refused(workspace):
    def start(number):
        try:
            return services.start_command(workspace=workspace, text=f"sleep {number}", actor=None).pk
        except Conflict as error:
            return error.code

    answers = at_once(12, start)
    assert answers.count("too_many_commands") == 12 - services.ACTIVE_PER_WORKSPACE
    assert Command.objects.count() == services.ACTIVE_PER_WORKSPACE


def test_end__is_written_down_by_one_of_many_watchers(workspace):
    row = services.start_command(workspace=workspace, text="true", actor=None)
    states = [CommandState.SUCCEEDED, CommandState.LOST]
    answers = at_once(8, lambda number: services.settle_command(row.pk, services.Ending(states[number % 2])))
    assert answers.count(True) == 1
    settled = FeedEvent.objects.filter(topic=f"command:{row.pk}").order_by("seq")
    assert settled.count() == 2  # starting, and its one end
    assert settled.last().payload["state"] == Command.objects.get().state


def test_delivery__is_taken_once(workspace):
    row = services.start_command(workspace=workspace, text="true", actor=None, deliver_to="somebody")
    services.settle_command(row.pk, services.Ending(CommandState.SUCCEEDED))
    answers = at_once(8, lambda _: services.take_delivery(row.pk))
    assert sum(answer is not None for answer in answers) == 1
