"""Owners that overslept their lease, with real processes: what they do when they wake up changes nothing."""

from __future__ import annotations

import random
import signal
from uuid import UUID

import pytest

from sessions_app.bridge.server import LEASE_SECONDS
from tests.crash.cases import run_case
from tests.crash.checks import Case, problems, reader_behind, unfinished
from tests.crash.points import two_bridges
from tests.crash.reader import Reader
from tests.crash.scenario import make_scenario
from tests.crash.world import continue_pid, until

pytestmark = pytest.mark.real

# What a stale owner's writes would change.
OWNED = ("id", "state", "attempts", "lease_epoch", "lease_owner", "started_at", "next_try_at", "outcome", "error_code")


def test_paused_worker__changes_nothing_when_it_wakes_up_after_its_lease_went_to_another(world, project):
    step = "dispatch.after_claim"  # `make crash` has it paused at the other steps too
    scenario = make_scenario(random.Random(1))
    world.arm(step, "stop")
    with Reader(world, project) as reader:
        task = world.task({"id": project}, "Oversleep", scenario.description)
        case = Case(world, reader, scenario, project, task, may_repeat=0)
        paused = until(lambda: world.fired(step), step)["pid"]

        def row():
            found = world.rows(
                f"SELECT {', '.join(f't.{column}' for column in OWNED)} FROM sessions_app_turn t"
                " JOIN tasks_phaserun r ON r.turn_id = t.id WHERE r.task_id = ? AND r.phase = 'planning'",
                UUID(task["id"]).hex,
            )
            return dict(zip(OWNED, found[0], strict=True))

        held = row()
        turn = str(UUID(held["id"]))
        assert held["lease_owner"].split("|")[1] == str(paused)
        until(lambda: row()["state"] in ("running", "settled"), "another worker to take the turn over")
        assert row()["lease_epoch"] > held["lease_epoch"]
        until(lambda: row()["state"] == "settled", "the turn's end")
        settled = row()
        assert world.unacknowledged("sessions.dispatch_turn", turn)
        continue_pid(paused)
        until(lambda: not world.unacknowledged("sessions.dispatch_turn", turn), "the end of the paused worker's job")
        assert row() == settled
        until(lambda: world.get(f"/tasks/{task['key']}")["status"] == "review", "the review")
        until(lambda: not unfinished(case), "nothing active")
        until(lambda: not reader_behind(case), "the reader")
        assert problems(case) == []


def test_two_bridges__one_works_and_the_other_takes_over_when_it_stops(world, project):
    assert LEASE_SECONDS + 1 < 10  # the lease, and how often the other one looks: how long it takes at most
    outcome = run_case(world, project, two_bridges(signal.SIGSTOP, "mid-step"), seed=1)
    assert outcome.passed, "\n".join(outcome.problems)
