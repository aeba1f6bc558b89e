"""What the supervisor of the managed server tells, as rows, notices and pages; without a server of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from agents import services, supervision
from agents.endpoint import Endpoint, Status, ask_recycle, read_endpoint, recycle_asked, write_endpoint, write_status
from agents.identity import ProcessMark, mark_process
from agents.models import AgentServer, ServerState, ServerTrouble
from agents.selectors import health_summary, server_notice, unready_note
from agents.server_process import ended_how
from agents.supervisor import LONGEST_PAUSE, pause_before
from studio.kernel.clock import later, now
from studio.kernel.owners import pid_space

GONE = ProcessMark(pid=1, created=1.0, space=pid_space())
MISSING = "OpenCode was not found. Run `cd /srv/studio && npm ci` to fetch it."


@pytest.fixture(autouse=True)
def data_folder(settings, tmp_path):
    settings.DATA = tmp_path
    settings.OPENCODE_URL = ""
    services._backends.clear()
    return tmp_path


@pytest.fixture
def server(db):
    return services.ensure_servers()


@pytest.fixture
def tell(data_folder):
    """Writes a status of a supervisor that lives."""

    def write(state, **fields):
        status = Status(state=state, supervisor=fields.pop("supervisor", mark_process()), **fields)
        write_status(data_folder, status)
        return status

    return write


def noted(server):
    asked = supervision.note_supervisor(server)
    server.refresh_from_db()
    return asked


def test_supervisor__runs_without_django():
    code = "import sys, agents.agentserver; print([m for m in sys.modules if m.split('.')[0] in ('django', 'requests', 'structlog', 'celery')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_pause__is_none_first_and_then_doubles_up_to_a_minute():
    assert [pause_before(crashes) for crashes in (1, 2, 3, 4, 5, 6, 7, 8, 9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert pause_before(10_000) == LONGEST_PAUSE


@pytest.mark.parametrize(
    ("code", "said"),
    [(1, "exit code 1"), (-9, "(SIGKILL). A lack of memory"), (-15, "(SIGTERM)."), (-250, "(signal 250).")],
)
def test_end__is_a_sentence(code, said):
    assert said in ended_how(code)


def test_endpoint__of_a_dead_server_is_not_believed(data_folder):
    alive = Endpoint("http://127.0.0.1:1", "opencode", "pw", "boot", mark_process())
    write_endpoint(data_folder, alive)
    assert read_endpoint(data_folder) == alive
    assert (data_folder / "run" / "agentserver.json").stat().st_mode & 0o777 == 0o600
    other_start = replace(alive.process, created=alive.process.created - 100)
    for stale in (replace(alive, process=GONE), replace(alive, process=other_start)):
        write_endpoint(data_folder, stale)
        assert read_endpoint(data_folder) is None
    elsewhere = replace(alive, process=replace(GONE, space="pid:[another container]"))
    write_endpoint(data_folder, elsewhere)
    assert read_endpoint(data_folder) == elsewhere  # nobody here can tell whether it runs
    (data_folder / "run" / "agentserver.json").write_text('{"url": "http://127.0.0.1:1", "pid": 1}')
    assert read_endpoint(data_folder) is None


def test_question_for_a_fresh_process__is_taken_once(data_folder):
    assert recycle_asked(data_folder) == ""
    ask_recycle(data_folder, "boot-1")
    ask_recycle(data_folder, "boot-1")
    assert recycle_asked(data_folder) == "boot-1"
    assert recycle_asked(data_folder) == ""


def test_missing_binary__is_said_with_its_remedy_and_gone_by_itself(server, tell, monkeypatch):
    assert noted(server)  # nobody told anything yet
    tell("missing", trouble="binary_missing", message=MISSING)
    assert not noted(server)
    assert (server.state, server.trouble, server.error) == ("down", ServerTrouble.BINARY_MISSING, MISSING)
    assert server_notice().trouble == MISSING
    assert "npm ci" in unready_note()
    assert health_summary()[0]["trouble"] == "binary_missing"
    tell("starting")
    assert not noted(server)
    assert (server.state, server.trouble, server.error) == ("starting", "", "")
    assert server_notice().trouble == unready_note() == ""
    tell("ready", boot="b", memory_mb=300)
    assert noted(server)  # and it is worth asking again


def test_deaths__are_counted_with_reason_last_words_and_next_try(server, tell):
    at = time.time()
    tell(
        "waiting",
        trouble="crashing",
        message="OpenCode ended by itself with exit code 3. It has ended 4 times in a row.",
        crashes=4,
        crash="OpenCode ended by itself with exit code 3.",
        output=("Error: the disk", "is full"),
        crashed_at=at,
        next_start_at=at + 4,
    )
    assert not noted(server)
    assert (server.state, server.trouble, server.crashes) == ("down", "crashing", 4)
    assert server.crash == "OpenCode ended by itself with exit code 3.\nError: the disk\nis full"
    assert (server.next_start_at - server.crashed_at).total_seconds() == 4
    tell("ready", boot="b")
    assert noted(server)
    assert (server.crashes, server.crash, server.crashed_at, server.next_start_at) == (0, "", None, None)


def test_supervisor_that_was_killed__is_said_unless_its_server_lives_on(server, tell, data_folder):
    tell("ready", boot="b", supervisor=GONE)
    assert not noted(server)
    assert (server.state, server.error) == ("down", supervision.GONE)
    write_endpoint(data_folder, Endpoint("http://127.0.0.1:1", "opencode", "pw", "b", mark_process()))
    assert noted(server)


def test_supervisor_that_stopped__says_so(server, tell):
    tell("stopped", message="The agent server was stopped.")
    assert not noted(server)
    assert (server.state, server.error, server.trouble) == ("down", "The agent server was stopped.", "")


def test_news__that_are_none_write_nothing(server, tell, django_assert_num_queries):
    tell("ready", boot="b", memory_mb=500)
    noted(server)
    tell("ready", boot="b", memory_mb=505)
    with django_assert_num_queries(0):
        supervision.note_supervisor(server)
    tell("ready", boot="b", memory_mb=520)
    noted(server)
    assert server.memory_mb == 520


def test_other_servers__are_not_touched_by_the_supervisors_news(db, tell):
    other = AgentServer.objects.create(name="gpu", managed=False, url="http://127.0.0.1:1", state=ServerState.READY)
    tell("missing", trouble="binary_missing", message=MISSING)
    assert noted(other)
    assert other.state == "ready"
    assert server_notice().trouble == ""


def test_recycling__is_begun_by_one_and_ends_with_a_new_process(server, settings, tell):
    AgentServer.objects.update(state=ServerState.READY, boot="old", memory_mb=2000)
    server.refresh_from_db()
    assert supervision.too_large(server)
    settings.STUDIO_AGENT_MEMORY_MB = 0
    assert not supervision.too_large(server)
    settings.STUDIO_AGENT_MEMORY_MB = 1500
    assert supervision.hold_for_recycling(server)
    assert not supervision.hold_for_recycling(server)
    server.refresh_from_db()
    assert supervision.replace_process(server)
    assert recycle_asked(settings.DATA) == "old"
    tell("ready", boot="old")
    assert not services.sync_server(server.pk)  # it still answers, but takes nothing new
    server.refresh_from_db()
    assert server.state == "recycling"
    assert unready_note() == "Waiting: the agent server is being replaced by a fresh process."
    tell("starting")
    assert not noted(server)
    assert server.state == "recycling"


def test_recycling__that_nobody_carries_out_is_given_up(server):
    AgentServer.objects.update(state=ServerState.READY, boot="old")
    server.refresh_from_db()
    supervision.hold_for_recycling(server)
    AgentServer.objects.update(recycle_asked_at=now() - supervision.RECYCLE_PATIENCE * 2)
    server.refresh_from_db()
    assert not supervision.replace_process(server)
    supervision.let_go_on(server.pk)
    server.refresh_from_db()
    assert (server.state, server.recycle_boot) == ("ready", "")
    AgentServer.objects.update(state=ServerState.RECYCLING, recycle_boot="old", boot="new", recycle_asked_at=later(0))
    supervision.let_go_on(server.pk)
    server.refresh_from_db()
    assert server.state == "recycling"  # the fresh process is there: only an answer of it makes the server ready
