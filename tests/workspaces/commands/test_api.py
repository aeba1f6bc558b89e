"""Commands over REST: who may, what is refused, and the output by its cursor."""

from __future__ import annotations

import uuid

import pytest

from studio.kernel.permissions import Role
from studio.models import FeedEvent
from studio.queue import Names
from tests.api.conftest import error_of, token_client
from tests.factories import make_member
from workspaces.commands import places, services
from workspaces.commands.files import OutputWriter
from workspaces.models import Command, CommandState, Workspace, WorkspaceState

pytestmark = pytest.mark.django_db


@pytest.fixture
def clients(project, stranger):
    roles = {role.value: token_client(make_member(project, role)) for role in Role}
    return {**roles, "stranger": token_client(stranger)}


@pytest.fixture
def maintainer(clients):
    return clients["maintainer"]


@pytest.fixture
def address(workspace):
    return f"/api/v1/workspaces/{workspace.pk}/commands"


def finished(workspace, data=b"", **fields):
    """A command that has ended, with this output."""
    row = services.start_command(workspace=workspace, text="true", actor=None)
    folder = places.folder_of(row.pk)
    folder.prepare()
    writer = OutputWriter(folder.output)
    for begin in range(0, len(data), 65_536):
        writer.append(data[begin : begin + 65_536])
    writer.close()
    ending = services.Ending(CommandState.SUCCEEDED, "", 0, writer.total, **fields)
    services.settle_command(row.pk, ending)
    row.refresh_from_db()
    return row


def test_start__makes_a_row_tells_the_feed_and_requests_the_job(
    maintainer, address, workspace, requested_jobs, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        answer = maintainer.post(address, {"command": "  make test\r\n ", "time_limit": 60})
    assert answer.status_code == 201
    body = answer.json()
    assert (body["command"], body["title"], body["state"], body["time_limit"]) == (
        "make test",
        "make test",
        "starting",
        60,
    )
    assert body["requested_by"] == "person"
    assert body["started_by"].startswith("user")
    assert answer["Location"].endswith(f"/api/v1/commands/{body['id']}")
    assert (Names.START_COMMAND, (body["id"],)) in requested_jobs
    kinds = list(FeedEvent.objects.filter(project_id=workspace.project_id).values_list("topic", "kind"))
    assert kinds == [
        (f"command:{body['id']}", "command.state"),
        (f"workspace:{workspace.pk}", "workspace.updated"),
    ]
    assert maintainer.get(f"/api/v1/commands/{body['id']}").json() == body
    assert [row["id"] for row in maintainer.get(address).json()["results"]] == [body["id"]]


@pytest.mark.parametrize(
    ("role", "start", "read"),
    [
        ("viewer", 403, 200),
        ("reviewer", 403, 200),
        ("maintainer", 201, 200),
        ("owner", 201, 200),
        ("stranger", 404, 404),
    ],
)
def test_roles__start_needs_a_maintainer_and_reading_a_viewer(clients, address, workspace, role, start, read):
    client = clients[role]
    assert client.post(address, {"command": "true"}).status_code == start
    row = services.start_command(workspace=workspace, text="true", actor=None)
    assert client.get(address).status_code == read
    assert client.get(f"/api/v1/commands/{row.pk}").status_code == read
    assert client.get(f"/api/v1/commands/{row.pk}/output").status_code == read
    assert client.post(f"/api/v1/commands/{row.pk}/cancel").status_code == (200 if start == 201 else start)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "command"),
        ({"command": ""}, "command"),
        ({"command": " \n\t "}, "command"),
        ({"command": "x" * 100_000}, "command"),
        ({"command": "echo \x00"}, "command"),
        ({"command": "echo \x1b[31m"}, "command"),
        ({"command": ["true"]}, "command"),
        ({"command": "true", "time_limit": 0}, "time_limit"),
        ({"command": "true", "time_limit": -1}, "time_limit"),
        ({"command": "true", "time_limit": 4 * 3600 + 1}, "time_limit"),
        ({"command": "true", "time_limit": "soon"}, "time_limit"),
        ({"command": "true", "cwd": "/"}, "cwd"),
    ],
)
def test_bad_input__is_refused_with_its_field(maintainer, address, body, field):
    error = error_of(maintainer.post(address, body), 400, "invalid")
    assert field in str(error["detail"])
    assert not Command.objects.exists()


def test_lone_surrogate__is_refused(maintainer, address):
    answer = maintainer.generic("POST", address, rb'{"command": "echo \ud800"}', content_type="application/json")
    error_of(answer, 400, "invalid")
    assert not Command.objects.exists()


def test_twenty_at_once__four_run_and_the_others_are_told(maintainer, address):
    answers = [maintainer.post(address, {"command": f"sleep {n}"}) for n in range(20)]
    assert [answer.status_code for answer in answers] == [201] * 4 + [409] * 16
    error = error_of(answers[-1], 409, "too_many_commands")
    assert error["detail"] == {"limit": 4}
    assert "Wait for one, or cancel it" in error["message"]


@pytest.mark.parametrize("state", [one for one in WorkspaceState if one != WorkspaceState.READY])
def test_workspace_that_is_not_there__is_refused(maintainer, address, workspace, state):
    Workspace.objects.filter(pk=workspace.pk).update(state=state)
    error_of(maintainer.post(address, {"command": "true"}), 409, "workspace_gone")


def test_cancel__is_noted_once_and_refused_after_the_end(
    maintainer, workspace, requested_jobs, django_capture_on_commit_callbacks
):
    row = services.start_command(workspace=workspace, text="sleep 9", actor=None)
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(2):
            answer = maintainer.post(f"/api/v1/commands/{row.pk}/cancel")
            assert answer.status_code == 200
    assert (Names.END_COMMAND, (str(row.pk),)) in requested_jobs
    row.refresh_from_db()
    assert row.cancel_note.startswith("Cancelled by user")
    services.settle_command(row.pk, services.Ending(CommandState.CANCELLED))
    error_of(maintainer.post(f"/api/v1/commands/{row.pk}/cancel"), 409, "command_ended")


def test_settle__happens_once(workspace):
    row = services.start_command(workspace=workspace, text="true", actor=None)
    assert services.settle_command(row.pk, services.Ending(CommandState.SUCCEEDED, exit_code=0))
    assert not services.settle_command(row.pk, services.Ending(CommandState.LOST))
    row.refresh_from_db()
    assert row.state == CommandState.SUCCEEDED


def test_output__is_read_by_a_cursor_without_breaking_characters(maintainer, workspace):
    said = "grün \x1b[32mok\x1b[0m 50%\r100%\r\nEnde ✓\n"
    row = finished(workspace, said.encode() + b"\xff\xfe\n")
    text, after = "", 0
    while True:
        piece = maintainer.get(f"/api/v1/commands/{row.pk}/output", {"after": after, "limit": 7}).json()
        text, after = text + piece["text"], piece["next"]
        if not piece["more"]:
            break
    assert text == "grün ok 50%\r100%\nEnde ✓\n\ufffd\ufffd\n"
    assert (piece["total"], piece["state"]) == (len(said.encode()) + 3, "succeeded")
    nothing = maintainer.get(f"/api/v1/commands/{row.pk}/output", {"after": after + 100}).json()
    assert (nothing["text"], nothing["more"]) == ("", False)


def test_output__says_what_was_skipped(maintainer, workspace):
    row = finished(workspace, b"a" * 2_000_000, output_cut=True)
    first = maintainer.get(f"/api/v1/commands/{row.pk}/output", {"limit": 1024 * 1024}).json()
    assert (first["start"], first["next"], first["skipped"]) == (0, 256 * 1024, 0)
    then = maintainer.get(f"/api/v1/commands/{row.pk}/output", {"after": first["next"], "limit": 1024 * 1024}).json()
    assert then["start"] == 2_000_000 - 768 * 1024
    assert then["skipped"] == then["start"] - first["next"]
    assert (then["next"], then["more"]) == (2_000_000, False)


@pytest.mark.parametrize("query", [{"after": -1}, {"after": "x"}, {"limit": 0}, {"limit": 10**9}, {"after": 2**70}])
def test_output__refuses_cursors_that_are_none(maintainer, workspace, query):
    row = finished(workspace)
    error_of(maintainer.get(f"/api/v1/commands/{row.pk}/output", query), 400)


def test_unknown_command__is_not_found(maintainer):
    for path in ("", "/output"):
        error_of(maintainer.get(f"/api/v1/commands/{uuid.uuid4()}{path}"), 404)
    error_of(maintainer.post(f"/api/v1/commands/{uuid.uuid4()}/cancel"), 404)
    error_of(maintainer.post(f"/api/v1/workspaces/{uuid.uuid4()}/commands", {"command": "true"}), 404)
