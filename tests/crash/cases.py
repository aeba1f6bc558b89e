"""One case: a task, a fault, and what was found afterwards."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from zlib import crc32

import requests

from studio.kernel import faultpoints
from tests.crash.checks import Case, gone_on, problems, reader_behind, unfinished
from tests.crash.points import Point, Scene
from tests.crash.reader import Reader
from tests.crash.scenario import Ending, make_scenario
from tests.crash.world import Stuck, World, until

REVIEW_SECONDS = 180.0
SETTLED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case."""

    point: str
    seed: int
    problems: list[str]
    seconds: float  # from the task's start to its review
    after: float  # from the end of the fault to the review
    silence: float  # the longest time after the fault's end in which no log or feed grew
    note: str = ""
    case: Case | None = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return not self.problems


def open_project(world: World, name: str) -> str:
    """A repository of its own whose plans need no approval; the project's id."""
    project: str = world.project(world.repository(name))["id"]
    world.call("PATCH", f"/projects/{project}", {"plan_approval": False})
    return project


def run_case(world: World, project: str, point: Point, seed: int) -> Outcome:
    """Take a task through a point. Does not raise for what goes wrong in the studio: that is in the outcome."""
    rng = random.Random(crc32(f"{seed}:{point.name}".encode()))
    scene = Scene(world, rng, make_scenario(rng))
    began = time.time()
    found: list[str] = []
    try:
        point.before(scene)
        with Reader(world, project) as reader:
            began = time.time()
            scene.task = _create(world, project, f"Survive with seed {seed}: {point.name}", scene.scenario.description)
            scene.deltas, scene.connections = lambda: reader.deltas, lambda: reader.connections
            point.during(scene)
            case = Case(world, reader, scene.scenario, project, scene.task, point.may_repeat, point.ending)
            _until_rest(case)
            reached = time.time()
            still = gone_on(case) if point.ending == Ending.STOPPED else []
            with contextlib.suppress(Stuck):
                until(lambda: not unfinished(case), "nothing active", seconds=SETTLED_SECONDS)
                until(lambda: not reader_behind(case), "the reader", seconds=SETTLED_SECONDS)
            found = [*still, *problems(case)]
            world.wait_whole()
    except Exception as error:
        return Outcome(point.name, seed, [f"{type(error).__name__}: {error}"], time.time() - began, 0.0, 0.0)
    finally:
        for armed in world.points.glob("*.armed"):
            faultpoints.disarm(world.points, armed.stem)
    ended = scene.hurt_at + scene.hurt_seconds
    silence = _silence(case, ended, reached)
    return Outcome(point.name, seed, found, reached - began, reached - ended, silence, scene.note, case)


def _create(world: World, project: str, title: str, description: str) -> dict[str, Any]:
    """Create and start the task. When the web process dies under the request, look whether it was done, as a person would."""
    try:
        made: dict[str, Any] = world.task({"id": project}, title[:200], description)
    except (requests.RequestException, AssertionError):
        world.wait_whole()
        known = world.get(f"/tasks?project={project}&limit=100")["results"]
        mine = [task for task in known if task["title"] == title[:200]]
        return mine[0] if mine else world.task({"id": project}, title[:200], description)
    return made


def _until_rest(case: Case) -> None:
    """Wait until the task rests where it is to; fails at once when it rests elsewhere for good."""

    def look() -> Any:
        task = case.world.get(f"/tasks/{case.task['key']}")
        if case.ending == Ending.STOPPED and task["run_state"] == "stopped":
            return True
        if task["run_state"] in ("failed", "stopped"):
            raise Stuck(f"the task is {task['run_state']} in {task['status']}: {task.get('needs')} {task}")
        return task["status"] == case.ending and task["run_state"] not in ("queued", "running")

    try:
        until(look, f"the task to be {case.ending}", seconds=REVIEW_SECONDS)
    except Stuck as error:
        raise Stuck(f"{error}\n{_state(case)}\n{case.world.log_tail()}") from error


def _state(case: Case) -> str:
    runs = case.world.rows(
        "SELECT phase, state, note, lease_until, next_try_at FROM tasks_phaserun WHERE task_id = ?", case.id
    )
    turns = case.world.rows(
        "SELECT t.state, t.outcome, t.attempts, t.resumes, t.error_code, t.next_try_at, t.last_event_at"
        " FROM sessions_app_turn t JOIN tasks_phaserun r ON r.turn_id = t.id WHERE r.task_id = ?",
        case.id,
    )
    return f"runs {runs}\nturns {turns}"


def _silence(case: Case, since: float, until_: float) -> float:
    """The longest stretch, in seconds, in which nothing was written about the task."""
    moments = [since, until_]
    for table, column, value in (
        ("studio_feedevent", "topic", f"task:{case.task['id']}"),
        *[("sessions_app_sessionevent", "session_id", session) for session in _session_ids(case)],
    ):
        rows = case.world.rows(
            f"SELECT (julianday(at) - 2440587.5) * 86400.0 FROM {table} WHERE {column} = ?",
            value,
        )
        moments += [row[0] for row in rows if since <= row[0] <= until_]
    moments.sort()
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


def _session_ids(case: Case) -> list[str]:
    return [
        row[0]
        for row in case.world.rows(
            "SELECT session_id FROM tasks_phaserun WHERE task_id = ? AND session_id IS NOT NULL", case.id
        )
    ]
