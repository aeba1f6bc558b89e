"""Points at which two things happen in the same moment: two owners, or a person who acts while a step is under way.

A process that is stopped at a named step holds the moment open while the other thing is done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import UUID

import requests

from studio.queue import Names
from tests.crash.points import FIRE_SECONDS, Point, Scene, mid_step, planning, streaming
from tests.crash.scenario import Ending, Message
from tests.crash.world import Stuck, continue_pid, until
from tests.e2e.scripts import bash, write
from tests.repositories import git

HELD_SECONDS = 1.0  # at most, while the other thing is done
OUTSIDE = {"tools": [{"name": "read", "args": {"filePath": "/etc/hostname"}}]}  # what needs a person's word


def session_of(scene: Scene, phase: str) -> str:
    """The id of the session in which a phase runs."""
    rows = scene.world.rows(
        "SELECT session_id FROM tasks_phaserun WHERE task_id = ? AND phase = ? AND session_id IS NOT NULL",
        UUID(scene.task["id"]).hex,
        phase,
    )
    return str(UUID(rows[0][0])) if rows else ""


def newest_turn(scene: Scene) -> UUID:
    """The id of the task's newest turn."""
    rows = scene.world.rows(
        "SELECT t.id FROM sessions_app_turn t JOIN sessions_app_agentsession s ON s.id = t.session_id"
        " WHERE s.subject = ? ORDER BY t.created_at DESC",
        scene.task["id"],
    )
    return UUID(rows[0][0])


def send(scene: Scene, path: str, body: dict[str, Any] | None = None) -> int:
    """The status of a POST by a client of its own."""
    who = {"Authorization": str(scene.world.http.headers["Authorization"])}
    return requests.post(f"{scene.world.url}/api/v1{path}", json=body or {}, headers=who, timeout=30).status_code


def stop_task(scene: Scene) -> int:
    """A person's stop."""
    return send(scene, f"/tasks/{scene.task['key']}/stop")


def say(scene: Scene, message: Message, delivery: str) -> int:
    """A person's message to the implementer."""
    session = session_of(scene, "implementation")
    return send(scene, f"/sessions/{session}/inbox", {"text": message.text, "delivery": delivery})


def write_down(number: int = 1) -> Message:
    """A message whose agent writes a file and says so."""
    name, text = f"said-{number}.txt", f"as said {number}\n"
    return Message(f"Message {number}:", (write(text, name), {"text": "Written."}), {name: text})


def expect(answer: Future[int] | int, *wanted: int) -> None:
    """Stuck unless a client was told one of `wanted`."""
    status = answer if isinstance(answer, int) else answer.result(40)
    if status not in wanted:
        raise Stuck(f"a client was told {status}, not {wanted}")


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Make the calls in the same moment; their answers."""
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        barrier.wait(20)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def when_held(scene: Scene, step: str) -> int:
    """Wait until a process stops itself at the step that was armed; its process id."""
    pid: int = until(lambda: scene.world.fired(step), f"{step} to be reached", seconds=FIRE_SECONDS)["pid"]
    return pid


@contextlib.contextmanager
def held_at(scene: Scene, step: str) -> Iterator[int]:
    """The moment at which a process reaches a step that was armed: it waits there until the end of the block."""
    pid = when_held(scene, step)
    try:
        yield pid
    finally:
        continue_pid(pid)


def person_stops(step: str, *, says: bool = False) -> Point:
    """A person stops the task while the implementation's turn is at a step; with `says` a message waits to open the next."""

    def during(scene: Scene) -> None:
        if step.startswith("dispatch."):
            planning(scene)
        else:
            mid_step(scene)
        scene.world.arm(step, "stop")
        if says:
            scene.scenario = scene.scenario.hearing(write_down())
            expect(say(scene, scene.scenario.messages[0], "queue"), 201)
        with ThreadPoolExecutor(1) as person:
            with held_at(scene, step):
                scene.hurt()
                stopped = person.submit(stop_task, scene)  # it may have to wait for the step's transaction
                time.sleep(scene.rng.uniform(0.1, HELD_SECONDS))
            expect(stopped, 200)

    said = ", and a message waits to open the next turn" if says else ""
    return Point(f"a person stops at {step}{said}", during, ending=Ending.STOPPED)


def two_workers() -> Point:
    """Two workers have read the same turn as theirs to send, and claim it in the same moment."""
    step = "dispatch.before_claim"

    def before(scene: Scene) -> None:
        scene.world.arm(step, "stop")

    def during(scene: Scene) -> None:
        first = when_held(scene, step)
        try:
            scene.world.arm(step, "stop")
            scene.world.ring(Names.DISPATCH_TURN, newest_turn(scene))
            second = when_held(scene, step)
        finally:
            continue_pid(first)
        if first == second:
            raise Stuck("it was one worker")
        continue_pid(second)
        scene.hurt()

    return Point("two workers claim one turn to send", during, before)


def message_at_settle(action: str) -> Point:
    """A message is queued in the moment in which the turn before it is settled, and the process that does it dies or goes on."""
    step = "settle.in_transaction" if action == "go on" else "settle.before"

    def during(scene: Scene) -> None:
        mid_step(scene)
        scene.world.arm(step, "stop")
        scene.scenario = scene.scenario.hearing(write_down())
        with ThreadPoolExecutor(1) as person:
            with held_at(scene, step) as settling:
                scene.hurt()
                posted = person.submit(say, scene, scene.scenario.messages[0], "queue")
                time.sleep(scene.rng.uniform(0, HELD_SECONDS))
                if action == "kill":
                    os.kill(settling, signal.SIGKILL)
            expect(posted, 201)

    return Point(f"a message is queued at {step}, which is {'killed' if action == 'kill' else 'done'} then", during)


def steer_and_kill() -> Point:
    """A message for the agent at work is sent in the moment in which its server is killed."""

    def during(scene: Scene) -> None:
        mid_step(scene)
        message = Message("Message 1:", (write("steered\n", "steered.txt"),), {"steered.txt": "steered\n"})
        scene.scenario = scene.scenario.hearing(message)
        wait = scene.rng.uniform(0, 0.15)

        def kill() -> None:
            time.sleep(wait)
            scene.hurt()
            scene.world.signal_role("opencode", signal.SIGKILL)

        status, _ = at_once(lambda: say(scene, message, "steer"), kill)
        expect(status, 201)

    return Point("a message steers while opencode is killed", during, may_repeat=1)


def kill_both(step: str) -> Point:
    """Workers and bridge die together, while one of them is at a step."""

    def during(scene: Scene) -> None:
        mid_step(scene)
        scene.world.arm(step, "stop")
        when_held(scene, step)
        scene.hurt()
        for role in ("worker-child", "worker", "bridge"):
            scene.world.signal_role(role, signal.SIGKILL)

    return Point(f"kill worker and bridge, {step}", during)


def connects_again(scene: Scene) -> Callable[[], bool]:
    """Whether the reader has connected once more than now."""
    before = scene.connections()
    return lambda: scene.connections() > before


def kill_while_reading() -> Point:
    """The web process and the broker die, and again when a reader has connected anew and reads what it missed."""

    def during(scene: Scene) -> None:
        streaming(scene)
        scene.hurt()
        for _ in range(2):
            comes_back = connects_again(scene)
            for role in ("web", "valkey"):
                scene.world.signal_role(role, signal.SIGKILL)
            until(comes_back, "the reader to come back")
            time.sleep(scene.rng.uniform(0, 0.03))
        scene.hurt_seconds = time.time() - scene.hurt_at

    return Point("kill web and valkey, and again while a reader catches up", during)


def answer_twice() -> Point:
    """Two clients answer an ask in the same moment, in which the bridge is killed: one is told that it was too late."""

    def before(scene: Scene) -> None:
        scene.scenario = scene.scenario.with_step(2, OUTSIDE)

    def during(scene: Scene) -> None:
        asks = f"/tasks/{scene.task['key']}/asks"

        def pending() -> list[str]:
            return [one["id"] for one in scene.world.get(asks)["results"] if one["state"] == "pending"]

        (ask,) = until(pending, "something that is asked")
        wait = scene.rng.uniform(0, 0.1)

        def kill() -> None:
            time.sleep(wait)
            scene.hurt()
            scene.world.signal_role("bridge", signal.SIGKILL)

        *told, _ = at_once(*[lambda: send(scene, f"/asks/{ask}/answer", {"reply": "once"})] * 2, kill)
        if sorted(told) != [200, 409]:
            raise Stuck(f"the two clients were told {told}")
        until(lambda: scene.settled("implementation"), "the turn's end")
        states = [one["state"] for one in scene.world.get(asks)["results"]]
        if states != ["answered"]:
            raise Stuck(f"what was asked is {states}")

    return Point("an ask is answered twice while bridge is killed", during, before)


def message_and_merge() -> Point:
    """A message to the implementer and the merge of its work are asked for in the same moment."""

    def during(scene: Scene) -> None:
        world, key = scene.world, scene.task["key"]
        until(lambda: world.get(f"/tasks/{key}")["status"] == "review", "the review", seconds=120)
        (repository,) = world.rows(
            "SELECT p.path FROM workspaces_project p JOIN tasks_task t ON t.project_id = p.id WHERE t.key = ?", key
        )[0]
        target = f"merged-{key.lower()}"
        git(repository, "branch", target, "trunk")
        slow = bash("echo half > both.txt; sleep 1; echo whole >> both.txt")
        message = Message("Message 1:", (slow, {"text": "Done."}), {"both.txt": "half\nwhole\n"})
        scene.scenario = replace(scene.scenario.hearing(message), target=target)
        waits = [scene.rng.choice([0, 0, 0.05, 0.2]), scene.rng.choice([0, 0, 0.05, 0.2])]

        def complete() -> int:
            time.sleep(waits[0])
            return send(scene, f"/tasks/{key}/complete", {"target": target})

        def follow_up() -> int:
            time.sleep(waits[1])
            return say(scene, message, "queue")

        scene.hurt()
        merge, said = at_once(complete, follow_up)
        expect(said, 201)
        expect(merge, 200, 409)
        scene.note = "merged first" if merge == 200 else "message first"
        if merge == 409:  # an agent is at work: a person waits until it has ended
            until(lambda: send(scene, f"/tasks/{key}/complete", {"target": target}) == 200, "the merge")

    return Point("a message is sent while the task is merged", during, ending=Ending.DONE)


def points_together() -> list[Point]:
    """Every point of two things at once, in the order of the table."""
    return [
        person_stops("settle.before"),
        person_stops("settle.in_transaction", says=True),
        person_stops("dispatch.before_post"),
        two_workers(),
        message_at_settle("kill"),
        message_at_settle("go on"),
        steer_and_kill(),
        kill_both("settle.before"),
        kill_while_reading(),
        answer_twice(),
        message_and_merge(),
    ]
