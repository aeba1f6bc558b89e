"""The list of faults: what is done to the studio, and when in the life of a task.

Each point is done to a task of its own, from its start to where it comes to rest. `before` runs before the task exists (it
arms fault points), `during` while the task is at work. Two things in the same moment: together.py.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from studio.kernel import faultpoints
from tests.crash.proxy import Proxy
from tests.crash.scenario import MARKS, Ending, Scenario
from tests.crash.world import Stuck, World, continue_pid, resume, until

LONGER_THAN_LEASES = 12.0  # seconds: a turn's lease is 10, a bridge's 8
LONGER_THAN_SILENCE = 28.0  # seconds: a stream that is silent for 25 counts as dead
LOCKED_SECONDS = 10.0
FIRE_SECONDS = 45.0
SERVER_ROLES = ("opencode", "agentserver", "everything")


@dataclass(slots=True)
class Scene:
    """The case that a fault is done to."""

    world: World
    rng: random.Random
    scenario: Scenario
    task: dict = field(default_factory=dict)
    deltas: Callable[[], int] = lambda: 0  # how many pieces of text a reader was shown so far
    connections: Callable[[], int] = lambda: 0  # how often that reader has connected
    hurt_at: float = 0.0  # when the fault began, on the wall clock
    hurt_seconds: float = 0.0  # how long it lasted by itself: a stop, a lock
    note: str = ""  # what else the table should say

    def running(self, phase: str) -> bool:
        """Whether the turn of a phase runs."""
        return self._turn_is("running", phase)

    def settled(self, phase: str) -> bool:
        """Whether the turn of a phase has ended."""
        return self._turn_is("settled", phase)

    def _turn_is(self, state: str, phase: str) -> bool:
        return bool(
            self.world.rows(
                "SELECT 1 FROM tasks_phaserun r JOIN sessions_app_turn t ON t.id = r.turn_id"
                " WHERE r.task_id = ? AND r.phase = ? AND t.state = ?",
                UUID(self.task["id"]).hex,
                phase,
                state,
            )
        )

    def marks(self) -> str:
        """What the command in the middle of the implementation has written."""
        rows = self.world.rows(
            "SELECT w.path FROM workspaces_workspace w JOIN tasks_task t ON t.workspace_id = w.id WHERE t.id = ?",
            UUID(self.task["id"]).hex,
        )
        path = f"{rows[0][0]}/{MARKS}" if rows else ""
        try:
            with open(path) as handle:  # noqa: PTH123 -- an empty path is a missing file here
                return handle.read()
        except FileNotFoundError:
            return ""

    def hurt(self, seconds: float = 0.0) -> None:
        """Note that the fault begins now."""
        self.hurt_at, self.hurt_seconds = time.time(), seconds


@dataclass(frozen=True, slots=True)
class Point:
    """One fault."""

    name: str
    during: Callable[[Scene], None]
    before: Callable[[Scene], None] = lambda scene: None
    may_repeat: int = 0  # steps that may be asked once more, because the agent server itself is hit
    ending: Ending = Ending.REVIEW


# When: each waits for its moment, and then a little more, as the seed says.


def planning(scene: Scene) -> None:
    """While the plan is being made."""
    until(lambda: scene.running("planning"), "the planning turn")
    time.sleep(scene.rng.uniform(0, 0.8))


def mid_step(scene: Scene) -> None:
    """While a command of the agent runs."""
    until(lambda: "begun" in scene.marks(), "the command")
    time.sleep(scene.rng.uniform(0, scene.scenario.slow_seconds * 0.8))


def between(scene: Scene) -> None:
    """While the model thinks between two steps."""
    until(lambda: "ended" in scene.marks(), "the command's end")
    time.sleep(0.15 + scene.rng.uniform(0, scene.scenario.think_seconds * 0.6))


def streaming(scene: Scene) -> None:
    """While text is being written."""
    until(lambda: "ended" in scene.marks(), "the command's end")
    time.sleep(scene.scenario.think_seconds)
    before = scene.deltas()
    until(lambda: scene.deltas() > before, "text that is being written")
    time.sleep(scene.rng.uniform(0, 0.5))


def review(scene: Scene) -> None:
    """While the review runs."""
    until(lambda: scene.running("review"), "the review's turn")
    time.sleep(scene.rng.uniform(0, 0.8))


MOMENTS = {
    "planning": planning,
    "mid-step": mid_step,
    "between steps": between,
    "streaming": streaming,
    "review": review,
}


# What.


def kill(role: str, moment: str) -> Point:
    """kill -9 of every process of a role."""

    def during(scene: Scene) -> None:
        MOMENTS[moment](scene)
        scene.hurt()
        scene.world.signal_role(role, signal.SIGKILL)
        if role == "everything":
            scene.world.come_back()
            scene.hurt_seconds = time.time() - scene.hurt_at

    return Point(f"kill {role}, {moment}", during, may_repeat=int(role in SERVER_ROLES))


def stop(role: str, moment: str, seconds: float = LONGER_THAN_LEASES) -> Point:
    """SIGSTOP of a role, for longer than its leases, then SIGCONT."""

    def during(scene: Scene) -> None:
        MOMENTS[moment](scene)
        scene.hurt(seconds)
        hit = scene.world.signal_role(role, signal.SIGSTOP)
        time.sleep(seconds)
        resume(hit)

    return Point(f"stop {role} {seconds:.0f} s, {moment}", during, may_repeat=int(role in SERVER_ROLES))


def at(point: str, action: str, *, reaches: int = 1, seconds: float = 0.0) -> Point:
    """A fault at a named step: the process that reaches it dies, sleeps past its lease, or raises."""

    def before(scene: Scene) -> None:
        scene.world.arm(point, action, reaches=reaches, seconds=seconds)

    def during(scene: Scene) -> None:
        try:
            note = until(lambda: scene.world.fired(point), f"{point} to be reached", seconds=FIRE_SECONDS)
        except Stuck:
            faultpoints.disarm(scene.world.points, point)
            raise
        scene.hurt(LONGER_THAN_LEASES if action == "stop" else seconds)
        scene.hurt_at = note["at"]
        if action == "stop":
            time.sleep(LONGER_THAN_LEASES)
            continue_pid(note["pid"])

    label = point if reaches == 1 else f"{point}, time {reaches}"
    return Point(f"{action} at {label}", during, before)


def network(name: str, moment: str, act: Callable[[Proxy], None], seconds: float = 0.0) -> Point:
    """A fault of the network between the studio and its agent server."""

    def before(scene: Scene) -> None:
        scene.world.put_proxy_between()

    def during(scene: Scene) -> None:
        MOMENTS[moment](scene)
        assert scene.world.proxy is not None
        scene.hurt(seconds)
        act(scene.world.proxy)

    return Point(f"{name}, {moment}", during, before)


def network_cut(moment: str) -> Point:
    """Every connection between the studio and its agent server is reset."""
    return network("cut connections", moment, _cut)


def _cut(proxy: Proxy) -> None:
    if not proxy.cut():
        raise Stuck("there was no connection to cut")


def _cut_often(proxy: Proxy) -> None:
    for _ in range(4):
        _cut(proxy)
        until(lambda: proxy.streams(), "the next stream", seconds=20)


def _silence(proxy: Proxy) -> None:
    proxy.loud.clear()
    time.sleep(LONGER_THAN_SILENCE)
    proxy.loud.set()


def empty_valkey(moment: str) -> Point:
    """The broker forgets everything, and goes on."""

    def during(scene: Scene) -> None:
        MOMENTS[moment](scene)
        scene.hurt()
        with scene.world.valkey() as client:
            client.flushall()

    return Point(f"empty valkey, {moment}", during)


def lock_database(moment: str) -> Point:
    """Nobody can write for ten seconds."""

    def during(scene: Scene) -> None:
        MOMENTS[moment](scene)
        scene.hurt(LOCKED_SECONDS)
        with scene.world.locked_database():
            time.sleep(LOCKED_SECONDS)

    return Point(f"lock database 10 s, {moment}", during)


def two_bridges(number: int, moment: str) -> Point:
    """A second bridge waits; the one that works is killed, or stopped for longer than its lease: the other takes over."""

    def during(scene: Scene) -> None:
        world = scene.world
        first = until(world.bridge_holder, "a bridge that works")
        with world.second_bridge():
            MOMENTS[moment](scene)
            if world.bridge_holder() != first:
                raise Stuck("the second bridge did not wait")
            scene.hurt()
            os.kill(first, number)
            until(lambda: world.bridge_holder() not in (0, first), "the other bridge to take over")
            scene.hurt_seconds = time.time() - scene.hurt_at
            scene.note = f"taken over in {scene.hurt_seconds:.1f} s"
            if number == signal.SIGSTOP:
                continue_pid(first)
            until(lambda: scene.settled("implementation"), "the turn's end under the other bridge")
        # The other one is killed here, and the supervised one works again.

    return Point(f"{'kill' if number == signal.SIGKILL else 'stop'} the working one of two bridges, {moment}", during)


def one_after_the_other(name: str, *points: Point) -> Point:
    """Several faults in the life of one task, in this order."""

    def before(scene: Scene) -> None:
        for point in points:
            point.before(scene)

    def during(scene: Scene) -> None:
        for point in points:
            point.during(scene)

    return Point(name, during, before, sum(point.may_repeat for point in points))


VICTIMS = ("valkey", "agentserver", "opencode", "bridge", "worker", "worker-child", "beat", "web", "everything")
WHENEVER = ("planning", "mid-step", "between steps", "review")
STEPS = (
    "tasks.schedule",  # the names of jobs: the work is committed, and the bell for the job has not been rung
    "schedule.in_transaction",
    "tasks.prepare_run",
    "prepare.after_claim",
    "prepare.workspace_made",
    "prepare.before_turn",
    "prepare.in_transaction",
    "sessions.dispatch_turn",
    "dispatch.before_claim",
    "dispatch.after_claim",
    "dispatch.before_session",
    "dispatch.session_opened",
    "dispatch.before_tools",
    "dispatch.before_post",
    "dispatch.after_post",
    "dispatch.in_transaction",
    "dispatch.running",
    "bridge.before_batch",
    "log.in_transaction",
    "bridge.after_batch",
    "bridge.idle",
    "reconcile.before_append",
    "reconcile.after_append",
    "settle.before",
    "settle.in_transaction",
    "tasks.advance_turn",
    "advance.before_claim",
    "advance.after_claim",
    "advance.committed",
    "advance.in_transaction",
)
# Which pass of a step is hit, where the first is not the telling one: a batch in the middle, the implementation's commit.
LATER = {"bridge.before_batch": 12, "log.in_transaction": 15, "bridge.after_batch": 9, "advance.committed": 2}
STOPPED = (
    "dispatch.after_claim",
    "dispatch.before_post",
    "dispatch.after_post",
    "settle.before",
    "advance.after_claim",
)
RAISED = (
    "dispatch.after_post",
    "dispatch.in_transaction",
    "settle.in_transaction",
    "advance.in_transaction",
    "prepare.before_turn",
)


def points_alone() -> list[Point]:
    """Every point of a single fault, in the order of the table."""
    return [
        *[kill(role, moment) for role in VICTIMS for moment in WHENEVER],
        *[kill(role, "streaming") for role in ("opencode", "bridge", "web")],
        *[at(step, "kill", reaches=LATER.get(step, 1)) for step in STEPS],
        *[at(step, "kill", reaches=3) for step in ("dispatch.after_post", "settle.in_transaction")],
        *[at(step, "stop") for step in STOPPED],
        at("bridge.before_batch", "stop", reaches=12),
        *[at(step, "raise") for step in RAISED],
        *[stop(role, "mid-step") for role in VICTIMS if role not in ("agentserver", "everything")],
        stop("bridge", "streaming"),
        stop("opencode", "between steps", LONGER_THAN_SILENCE),
        network_cut("mid-step"),
        network_cut("streaming"),
        network("cut connections four times", "between steps", _cut_often),
        network("silent network 28 s", "mid-step", _silence, LONGER_THAN_SILENCE),
        two_bridges(signal.SIGKILL, "mid-step"),
        two_bridges(signal.SIGSTOP, "mid-step"),
        empty_valkey("mid-step"),
        empty_valkey("review"),
        lock_database("mid-step"),
        lock_database("between steps"),
        lock_database("review"),
    ]
