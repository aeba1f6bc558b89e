"""The most telling of the points of `make crash`, several to a task. All of them: docs/reliability.md."""

from __future__ import annotations

import pytest

from tests.crash.cases import run_case
from tests.crash.points import at, empty_valkey, kill, lock_database, network_cut, one_after_the_other

pytestmark = pytest.mark.real

CASES = [
    one_after_the_other(
        "the steps of workers and bridge are killed",
        at("schedule.in_transaction", "kill"),
        at("prepare.in_transaction", "kill"),
        at("dispatch.session_opened", "kill"),
        at("dispatch.after_post", "kill"),
        at("settle.in_transaction", "kill"),
        at("tasks.advance_turn", "kill"),
        at("advance.committed", "kill"),
        at("advance.in_transaction", "kill"),
    ),
    one_after_the_other(
        "each process is killed once",
        kill("valkey", "planning"),
        kill("worker", "mid-step"),
        kill("bridge", "between steps"),
        kill("web", "review"),
    ),
    kill("opencode", "mid-step"),
    one_after_the_other(
        "the connections are cut, the broker forgets, the database is locked",
        network_cut("mid-step"),
        empty_valkey("between steps"),
        lock_database("review"),
    ),
]


@pytest.mark.parametrize("point", CASES, ids=lambda point: point.name)
def test_fault__every_promise_is_kept(world, project, point):
    outcome = run_case(world, project, point, seed=1)
    assert outcome.passed, "\n".join(outcome.problems)
