"""What must hold after a fault, each counted by somebody else than the code that promises it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.crash.reader import Reader
from tests.crash.scenario import MARKS, PHASES, Ending, Message, Scenario
from tests.crash.world import World
from tests.repositories import git

MOVES = [("start", "planning"), ("plan_ready", "in_progress"), ("implemented", "ai_review"), ("ai_approve", "review")]
QUIET_SECONDS = 2.0  # in which an agent that was not really stopped would be seen
ENDED_SECONDS = 30.0  # within which one is ended whose prompt was on its way when it was stopped


@dataclass(frozen=True, slots=True)
class Case:
    """One task that went through one fault."""

    world: World
    reader: Reader
    scenario: Scenario
    project: str
    task: dict[str, Any]
    may_repeat: int  # how often the agent server itself was hit: each time the step that was cut off may be asked again
    ending: Ending = Ending.REVIEW

    @property
    def id(self) -> str:
        """The task's id as the database has it."""
        return UUID(self.task["id"]).hex

    @property
    def stopped(self) -> bool:
        """Whether a person stopped it: then the last of its runs came to no end of its own."""
        return self.ending == Ending.STOPPED


def problems(case: Case) -> list[str]:
    """Everything that is wrong; empty when every promise was kept."""
    checks = (
        _history,
        _turns_on_server,
        _practice,
        _heard,
        _workspace,
        _session_logs,
        _feed,
        _reader,
        _nothing_active,
        _results,
    )
    return [f"{check.__name__[1:]}: {problem}" for check in checks for problem in check(case)]


def unfinished(case: Case) -> list[str]:
    """Rows that are still active: they may be for a moment after the task has reached its end."""
    return list(_nothing_active(case))


def reader_behind(case: Case) -> bool:
    """Whether the reader has not everything yet."""
    return bool(list(_reader(case)))


def gone_on(case: Case) -> list[str]:
    """What still happens to a task that was stopped. What was on its way when it was may begin, and is ended within seconds."""
    end = time.monotonic() + ENDED_SECONDS
    while (said := _going_on(case)) and time.monotonic() < end:
        pass
    return said


def _going_on(case: Case) -> list[str]:
    said = []
    before = len(case.world.practice_log())
    time.sleep(QUIET_SECONDS)
    asked = [line for line in case.world.practice_log()[before:] if line["task"] == case.task["key"]]
    if asked:
        said.append(f"gone_on: the model is still asked: {asked}")
    for path, _ in _folders(case):
        busy = case.world.opencode(f"/session/status?directory={path}")
        if busy:
            said.append(f"gone_on: an agent is at work: {busy}")
    return said


def _history(case: Case) -> Iterator[str]:
    moves = case.world.rows(
        "SELECT action, to_status FROM tasks_taskhistory"
        " WHERE task_id = ? AND action != 'create' AND from_status != to_status ORDER BY at, id",
        case.id,
    )
    if moves != _moves(case):
        yield f"the task moved {moves}"
    runs = case.world.rows(
        "SELECT phase, state, round, retry FROM tasks_phaserun WHERE task_id = ? ORDER BY created_at", case.id
    )
    phases = PHASES[: len(runs)] if case.stopped else PHASES
    expected = [(phase, "succeeded", 1, 0) for phase in phases]
    if case.stopped:
        expected[-1] = (phases[-1], "stopped", 1, 0)
    if runs != expected:
        yield f"its runs are {runs}"


def _moves(case: Case) -> list[tuple[str, str]]:
    """How the task came where it is. Each move but the last opens a run."""
    if case.stopped:
        return MOVES[: case.world.rows("SELECT count(*) FROM tasks_phaserun WHERE task_id = ?", case.id)[0][0]]
    return [*MOVES, ("complete", "done")] if case.ending == Ending.DONE else MOVES


def _sessions(case: Case) -> list[tuple[Any, ...]]:
    return case.world.rows(
        "SELECT DISTINCT s.id, s.external_id, s.last_seq FROM sessions_app_agentsession s"
        " JOIN tasks_phaserun r ON r.session_id = s.id WHERE r.task_id = ? ORDER BY s.created_at",
        case.id,
    )


def _turns_on_server(case: Case) -> Iterator[str]:
    """On the server each turn has exactly one user message, as has what was said to it; a stopped one may have none."""
    for session, external, _ in _sessions(case):
        ids = case.world.rows(
            "SELECT message_id FROM sessions_app_turn WHERE session_id = ?1 UNION SELECT message_id FROM"
            " sessions_app_inboxitem WHERE session_id = ?1 AND state = 'delivered'",
            session,
        )
        known = sorted(row[0] for row in ids)
        users = _user_messages(case, external)
        if users != (sorted(set(users) & set(known)) if case.stopped else known):
            yield f"session {external} has the user messages {users}, its turns {known}"
    opened = {external for _, external, _ in _sessions(case)}
    titled = [
        one for one in case.world.opencode("/experimental/session") if one["title"].startswith(case.task["key"] + " ")
    ]
    talked = [
        one["id"] for one in titled if one["id"] not in opened and case.world.opencode(f"/session/{one['id']}/message")
    ]
    if talked:
        yield f"sessions that the studio does not know were prompted: {talked}"


def _user_messages(case: Case, external: str) -> list[str]:
    """The ids of what was said to the agent, as the server has them, sorted."""
    messages = case.world.opencode(f"/session/{external}/message") if external else []
    return sorted(message["info"]["id"] for message in messages if message["info"]["role"] == "user")


def _asked(case: Case, phase: str) -> list[dict[str, Any]]:
    """What the practice model was asked for in a phase of the task, in order."""
    lines = case.world.practice_log()
    return [line for line in lines if line["task"] == case.task["key"] and line["phase"] == phase]


def _expected(case: Case, phase: str, lines: list[dict[str, Any]]) -> int:
    """How many answers the phase takes: without the studio's tools (the web process was down) its last one is prose."""
    count = case.scenario.steps[phase]
    last = [line for line in lines if line["step"] == count - 2 and line["outcome"] == "served"]
    return count - 1 if last and not last[-1]["tools"] else count


def _practice(case: Case) -> Iterator[str]:
    """Counted by the practice model: no step is missing, no finished step was asked again."""
    repeated = 0
    begun = len(_moves(case)) if case.stopped else len(PHASES)
    for number, phase in enumerate(PHASES, start=1):
        lines = _asked(case, phase)
        told = [(line["step"], line["outcome"]) for line in lines]
        order = [step for step, _ in told]
        served = {step for step, outcome in told if outcome == "served"}
        wanted = _expected(case, phase, lines)
        missing = [step for step in range(wanted) if step not in served]
        if missing and not (case.stopped and number >= begun):
            yield f"{phase}: the steps {missing} were never served, asked were {told}"
        if told and number > begun:
            yield f"{phase}: it was asked although the task was stopped: {told}"
        if order != sorted(order):
            yield f"{phase}: a finished step was asked again: {told}"
        # An agent to whom something is said behind its last step says once more that it is done.
        if max(order, default=0) >= wanted + len(case.scenario.messages):
            yield f"{phase}: it went on behind its end: {told}"
        repeated += len(order) - len(set(order))
        if repeated > case.may_repeat:
            yield f"{phase}: {repeated} steps in all were asked more than once: {told}"


def _heard(case: Case) -> Iterator[str]:
    """Each message of a person ran exactly once, counted by the practice model; of a stopped task at most once."""
    for message in case.scenario.messages:
        told = [(line["step"], line["outcome"]) for line in _answers(case, message)]
        served = [step for step, outcome in told if outcome == "served"]
        steps = list(range(len(message.steps)))
        if case.stopped and served == steps[: len(served)]:
            continue
        if served != steps or len(told) > len(steps) + case.may_repeat:
            yield f"“{message.name}” was asked {told}"


def _answers(case: Case, message: Message) -> list[dict[str, Any]]:
    return [line for line in _asked(case, "message") if message.name in line["message"]]


def _folders(case: Case) -> list[tuple[Any, ...]]:
    return case.world.rows(
        "SELECT w.path, p.path FROM workspaces_workspace w JOIN tasks_task t ON t.workspace_id = w.id"
        " JOIN workspaces_project p ON p.id = w.project_id WHERE t.id = ?",
        case.id,
    )


def _workspace(case: Case) -> Iterator[str]:
    """What the agent did is in the commit that the studio made of it, and where that was merged."""
    for path, repository in _folders(case):
        folder = Path(path)
        # What an agent wrote whose prompt went out as the task was stopped is committed by who works there next.
        if not case.stopped:
            yield from _written(case, folder)
        if case.ending == Ending.DONE:
            yield from _merged(case, Path(repository))


def _written(case: Case, folder: Path) -> Iterator[str]:
    said = {name: text for message in case.scenario.messages for name, text in message.files.items()}
    for name, text in {**case.scenario.files, **said}.items():
        if not (folder / name).is_file() or (folder / name).read_text() != text:
            yield f"{name} is not what was written"
    if git(folder, "status", "--porcelain").strip():
        yield "something was left uncommitted"
    marks = (folder / MARKS).read_text().split() if (folder / MARKS).is_file() else []
    if marks.count("ended") < 1 or marks.count("begun") > 1 + case.may_repeat:
        yield f"the command left {marks}"
    # What a message adds behind the end of its phase is a commit of its own.
    if not 1 <= int(git(folder, "rev-list", "--count", "trunk..HEAD").strip()) <= 1 + len(case.scenario.messages):
        yield "the change is not exactly one commit"


def _merged(case: Case, repository: Path) -> Iterator[str]:
    """All of the task's files were merged, and of what was said meanwhile all of a message's files or none."""
    target = case.scenario.target
    there = set(git(repository, "ls-tree", "--name-only", target).splitlines())
    for name, text in case.scenario.files.items():
        if name not in there or git(repository, "show", f"{target}:{name}") != text:
            yield f"{name} was not merged as it was written"
    for message in case.scenario.messages:
        for name, text in message.files.items():
            if name in there and git(repository, "show", f"{target}:{name}") != text:
                yield f"{name} was merged half-written"


def _session_logs(case: Case) -> Iterator[str]:
    """Numbers without gap or double; every finished part that the server has, once; one end a turn."""
    for session, external, last in _sessions(case):
        rows = case.world.rows(
            "SELECT seq, kind, upstream_key FROM sessions_app_sessionevent WHERE session_id = ? ORDER BY seq", session
        )
        if [row[0] for row in rows] != list(range(1, last + 1)):
            yield f"the numbers of {external} are {[row[0] for row in rows]}, its head {last}"
        keys = Counter(row[2] for row in rows)
        doubled = [key for key, count in keys.items() if count > 1]
        if doubled:
            yield f"doubled in {external}: {doubled}"
        kinds = Counter(row[1] for row in rows)
        turns = case.world.rows("SELECT count(*) FROM sessions_app_turn WHERE session_id = ?", session)[0][0]
        said = len(_user_messages(case, external))
        # A turn that has ended before its dispatcher could say so has no beginning in the log.
        if kinds["turn.started"] > turns or kinds["turn.settled"] != turns or kinds["user"] != said:
            yield f"{external} has {dict(kinds)}, of {turns} turns and {said} messages"
        present = {key.rpartition(":")[2] for key in keys}
        missing = [part for part in _finished_parts(case, external) if part not in present]
        if missing:
            yield f"the log of {external} lacks the finished parts {missing}"


def _finished_parts(case: Case, external: str) -> Iterator[str]:
    for message in case.world.opencode(f"/session/{external}/message") if external else []:
        for part in message["parts"]:
            finished = part["type"] == "tool" and part["state"]["status"] in ("completed", "error")
            said = (
                part["type"] in ("text", "reasoning")
                and part.get("text", "").strip()
                and part.get("time", {}).get("end")
            )
            if finished or (said and message["info"]["role"] == "assistant"):
                yield part["id"]


def _feed(case: Case) -> Iterator[str]:
    """The project's feed has no gap, and says each thing about the task once."""
    project = UUID(case.project).hex
    rows = case.world.rows(
        "SELECT seq, kind, payload, topic FROM studio_feedevent WHERE project_id = ? ORDER BY seq", project
    )
    head = case.world.rows("SELECT last_seq FROM studio_feedhead WHERE project_id = ?", project)[0][0]
    if [row[0] for row in rows] != list(range(1, head + 1)):
        yield f"the feed's numbers are not 1..{head}"
    about = [(kind, json.loads(payload)) for _, kind, payload, topic in rows if topic == f"task:{case.task['id']}"]
    moved = [(one.get("action"), one.get("to")) for kind, one in about if kind == "task.moved"]
    if moved and moved != _moves(case):
        yield f"the feed says that it moved {moved}"
    opened = Counter(one.get("session") for kind, one in about if kind == "session.opened")
    if len(opened) != len(_sessions(case)) or set(opened.values()) != {1}:
        yield f"the feed says of sessions {dict(opened)}"


def _reader(case: Case) -> Iterator[str]:
    """The reader that lost its connection has exactly the logs."""
    reader = case.reader
    project = UUID(case.project).hex
    feed = case.world.rows(
        "SELECT seq, kind FROM studio_feedevent WHERE project_id = ? AND seq > ? ORDER BY seq", project, reader.first
    )
    wanted = {reader.topic: feed}
    for session, _, _ in _sessions(case):
        rows = case.world.rows(
            "SELECT seq, kind FROM sessions_app_sessionevent WHERE session_id = ? ORDER BY seq", session
        )
        wanted[f"session:{UUID(session)}"] = rows
    for topic, rows in wanted.items():
        seen = list(reader.seen.get(topic, []))
        if seen != rows:
            yield f"the reader of {topic} has {len(seen)} of {len(rows)} events: {seen[-3:]} against {rows[-3:]}"
    yield from (f"the reader was told: {complaint}" for complaint in reader.complaints)


def _nothing_active(case: Case) -> Iterator[str]:
    """No turn, run, message or lease is left over."""
    rows = case.world.rows
    for (state,) in rows("SELECT state FROM sessions_app_turn WHERE state != 'settled'"):
        yield f"a turn is {state}"
    for (number,) in rows("SELECT number FROM sessions_app_turn WHERE unconfirmed"):
        yield f"nobody knows whether the stopped turn {number} has ended"
    unheard = rows(
        "SELECT i.state, i.text FROM sessions_app_inboxitem i JOIN sessions_app_agentsession s ON s.id = i.session_id"
        " WHERE s.subject = ? AND i.state NOT IN ('delivered', 'removed')",
        case.task["id"],
    )
    for state, text in [] if case.stopped else unheard:  # what waits while a task is stopped waits for a person
        yield f"a message is {state}: {text[:40]}"
    for (state,) in rows("SELECT state FROM tasks_phaserun WHERE state NOT IN ('succeeded', 'failed', 'stopped')"):
        yield f"a run is {state}"
    leased = rows(
        "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'lease_until' WHERE m.type = 'table'"
    )
    for (table,) in leased:
        held = rows(f"SELECT lease_owner FROM {table} WHERE lease_until > datetime('now')")
        if held and table != "agents_agentserver":
            yield f"{table} is held by {held}"


def _results(case: Case) -> Iterator[str]:
    """What the agent handed in counts once."""
    if case.stopped:
        return
    plans = case.world.rows("SELECT count(*) FROM tasks_plan WHERE task_id = ?", case.id)[0][0]
    reviews = case.world.rows("SELECT verdict FROM tasks_review WHERE task_id = ?", case.id)
    if plans != 1:
        yield f"there are {plans} plans"
    if [row[0] for row in reviews] != ["approved"]:
        yield f"the reviews say {reviews}"
