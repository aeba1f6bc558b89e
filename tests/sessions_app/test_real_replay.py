"""What happens on the real OpenCode server while no bridge listens is in the log once one listens again."""

from __future__ import annotations

import json
import threading

import pytest
from django.db import connection

from sessions_app import selectors
from sessions_app.bridge.ingest import Ingest
from sessions_app.bridge.server import ServerBridge
from sessions_app.models import AgentSession, SubSession, Turn
from sessions_app.services import dispatch, turns
from tests.factories import make_profiles, make_project, make_workspace
from tests.real.agentserver import prompt_text, wait_for

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


def bash(command):
    return {"tools": [{"name": "bash", "args": {"command": command, "description": "Run it"}}]}


def child(*steps):
    """A call that gives these steps to a sub-agent."""
    prompt = f"Look around.\n\n```practice\n{json.dumps(list(steps))}\n```\n"
    task = {"name": "task", "args": {"description": "Look", "prompt": prompt, "subagent_type": "general"}}
    return {"tools": [task]}


@pytest.fixture(autouse=True)
def no_broker(monkeypatch):
    """Jobs and rings are not what these tests are about."""
    monkeypatch.setattr("studio.queue._ring", lambda signature: None)
    monkeypatch.setattr("studio.doorbell._put", lambda topics, pieces: None)


@pytest.fixture
def begin(opencode_server):
    """Admits and dispatches a turn that follows the steps, in a session of its own."""
    make_profiles()
    server = opencode_server.row()

    def make(*steps) -> Turn:
        session = turns.open_session(
            workspace=make_workspace(make_project()),
            server=server,
            role="implementer",
            title="Work",
            agent="studio-implementer",
            model="practice/practice",
        )
        turn = turns.admit_turn(
            session=session,
            prompt=prompt_text({"implementation": [list(steps)]}),
            max_steps=30,
            wall_seconds=300,
            idle_seconds=60,
        )
        dispatch.dispatch(turn.pk)
        turn.refresh_from_db()
        turn.session.refresh_from_db()
        return turn

    return make


class Bridge:
    """A bridge in a thread of this process."""

    def __init__(self, server_id) -> None:
        self.stop = threading.Event()
        self.bridge = ServerBridge(server_id, self.stop)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.bridge.run()
        connection.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc) -> None:
        self.stop.set()
        self.thread.join(30)
        self.bridge.reconciler.pool.shutdown(wait=True)


def log(turn: Turn) -> dict[str, dict]:
    rows = turn.session.events.order_by("seq")
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    return {row.upstream_key: row.data for row in rows}


def test_history__gives_what_the_messages_give(begin, opencode_server):
    turn = begin(child({"text": "I looked."}), bash("echo one"), {"text": "Done."})
    backend = opencode_server.backend()
    external, directory = turn.session.external_id, turn.session.directory

    def over():
        view = backend.view_turn(external, directory, turn.message_id)
        return view if view.state == "completed" else None

    view = wait_for(over, what="for the turn")
    ingest = Ingest(turn.session.server_id)
    for page in backend.history({external: -1}):
        ingest.replay(page)
    ingest.flush()
    replayed = {key: data for key, data in log(turn).items() if not key.startswith("turn.")}
    assert replayed == {entry.key: entry.data for entry in view.events}
    kid = SubSession.objects.get(session=turn.session)
    assert kid.parent_external_id == external
    assert kid.title.startswith("Look")
    session = AgentSession.objects.get(pk=turn.session_id)
    assert session.upstream_seq > 5
    assert kid.upstream_seq > 2
    # From there on nothing more comes.
    cursors = {external: session.upstream_seq, kid.external_id: kid.upstream_seq}
    assert [page for page in backend.history(cursors) if page.items] == []


def test_bridge_restart__a_sub_agent_that_began_meanwhile_is_known(begin, tmp_path):
    gate = tmp_path / "gate"
    wait = bash(f"echo inside; while [ ! -e {gate} ]; do sleep 0.1; done; echo go")
    turn = begin(child(wait, {"text": "I looked."}), {"text": "Done."})
    server = turn.session.server_id
    with Bridge(server):
        wait_for(lambda: SubSession.objects.filter(session=turn.session).exists(), what="for the sub-agent")
    SubSession.objects.all().delete()  # as if it had begun while no bridge listened
    with Bridge(server):
        wait_for(lambda: SubSession.objects.filter(session=turn.session).exists(), what="for the sub-agent, again")
        gate.touch()
        wait_for(lambda: Turn.objects.get(pk=turn.pk).state == "settled", what="for the turn's end")
    kid = SubSession.objects.get(session=turn.session)
    entries = selectors.read_session(str(turn.session_id), 0)
    assert "I looked." in [one.data.get("text") for one in entries if one.data.get("child") == kid.external_id]
    assert [one.seq for one in entries] == list(range(1, len(entries) + 1))


def test_bridge_that_was_away__the_log_is_complete_while_the_turn_still_runs(begin, tmp_path, opencode_server):
    """What a lost stream carried comes by the history, before the turn's end is read from the messages."""
    gate = tmp_path / "gate"
    turn = begin(
        bash("echo one"), bash("echo two"), bash(f"while [ ! -e {gate} ]; do sleep 0.1; done"), {"text": "Done."}
    )
    directory = turn.session.directory
    wait_for(lambda: len(opencode_server.practice_lines(directory)) >= 3, what="for the third step")
    with Bridge(turn.session.server_id):
        wait_for(lambda: sum(key.startswith("tool.finished:") for key in log(turn)) >= 2, what="for the replay")
        gate.touch()
        wait_for(lambda: Turn.objects.get(pk=turn.pk).state == "settled", what="for the turn's end")
    outputs = [data["output"] for key, data in log(turn).items() if key.startswith("tool.finished:")]
    assert outputs[:2] == ["one\n", "two\n"]
    assert Turn.objects.get(pk=turn.pk).outcome == "completed"
