"""Leases under random interleavings of workers and time: a stale owner changes nothing, and nobody waits for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from agents.models import AgentServer
from studio.kernel.claim import claim, fenced, release, renew
from studio.kernel.clock import now
from tests.factories import make_server

WORKERS = st.integers(0, 3)
LEASE = 10.0  # seconds


class Leases(RuleBasedStateMachine):
    """A row, four workers that may sleep at any moment, and a clock. What each wrote last stands beside the row."""

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.travel = time_machine.travel(now(), tick=False)
        self.clock = self.travel.start()
        self.row = make_server()
        self.held: dict[int, int] = {}  # worker -> the epoch that it believes to hold
        self.until = now()  # until when the newest claim is good
        self.newest = 0  # the epoch of the newest claim
        self.written = ""

    def teardown(self) -> None:
        self.travel.stop()
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    @rule(seconds=st.floats(0.0, 2 * LEASE))
    def time_passes(self, seconds: float) -> None:
        self.clock.shift(timedelta(seconds=seconds))

    @rule(worker=WORKERS)
    def claim(self, worker: int) -> None:
        epoch = claim(AgentServer.objects.filter(pk=self.row.pk), seconds=LEASE, owner=f"w{worker}")
        assert (epoch is not None) == (now() >= self.until)
        if epoch is not None:
            assert epoch > self.newest
            self.held[worker], self.newest = epoch, epoch
            self.until = now() + timedelta(seconds=LEASE)

    @rule(worker=WORKERS)
    def renew(self, worker: int) -> None:
        if worker in self.held:
            kept = renew(AgentServer, self.row.pk, self.held[worker], seconds=LEASE)
            assert kept == (self.held[worker] == self.newest)
            if kept:
                self.until = now() + timedelta(seconds=LEASE)

    @rule(worker=WORKERS)
    def write(self, worker: int) -> None:
        """A worker that slept wakes up and writes, whatever happened meanwhile."""
        if worker in self.held:
            text = f"{worker}/{self.held[worker]}"
            changed = fenced(AgentServer, self.row.pk, self.held[worker]).update(error=text)
            assert bool(changed) == (self.held[worker] == self.newest)
            self.written = text if changed else self.written

    @rule(worker=WORKERS)
    def release(self, worker: int) -> None:
        if worker in self.held:
            given_back = release(AgentServer, self.row.pk, self.held.pop(worker))
            if given_back:
                self.until = now()

    @invariant()
    def only_the_newest_owner_has_written(self) -> None:
        assert AgentServer.objects.values_list("error", flat=True).get(pk=self.row.pk) == self.written


@pytest.mark.django_db
def test_leases__under_random_interleavings():
    run_state_machine_as_test(
        Leases,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        ),
    )
