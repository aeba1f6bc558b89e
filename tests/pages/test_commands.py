"""The panel of commands: what it shows to whom, what it says of each state, and what its forms do."""

from __future__ import annotations

import pytest
from django.utils.html import escape

from studio.kernel.clock import now
from tests import factories
from tests.pages.conftest import FRAGMENT, body, signed_in
from workspaces.commands import places, services, settling
from workspaces.commands.files import OutputWriter
from workspaces.commands.views import SHOWN
from workspaces.models import Command, CommandState, RequestedBy, Workspace, WorkspaceState

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def data(settings, tmp_path):
    settings.DATA = tmp_path / "data"
    settings.DATA.mkdir()


@pytest.fixture
def workspace(project):
    return factories.make_workspace(project, label="DEMO-1")


@pytest.fixture
def task(project, workspace):
    return factories.make_task(project, workspace=workspace)


@pytest.fixture
def as_maintainer(project):
    return signed_in(factories.make_member(project))


def tab(client, task):
    response = client.get(f"/tasks/{task.key}/?tab=commands")
    assert response.status_code == 200
    return body(response)


def url(workspace):
    return f"/workspaces/{workspace.pk}/commands/"


def command(workspace, state=CommandState.SUCCEEDED, text="make test", output=b"", **ending):
    row = services.start_command(workspace=workspace, text=text, actor=None, author_name="Ada")
    if state != CommandState.STARTING:
        services.note_running(row.pk, pid=1, process_started=0)
    folder = places.folder_of(row.pk)
    folder.prepare()
    writer = OutputWriter(folder.output)
    writer.append(output)
    writer.close()
    if state not in services.ACTIVE:
        services.settle_command(row.pk, services.Ending(state, output_bytes=len(output), **ending))
    row.refresh_from_db()
    return row


def test_task_without_a_checkout__teaches(as_maintainer, project):
    page = tab(as_maintainer, factories.make_task(project))
    assert "There is no checkout yet" in page
    assert '<form class="cmdform"' not in page


def test_nothing_has_run__teaches_by_role(as_maintainer, as_viewer, task):
    page = tab(as_maintainer, task)
    assert "No command has run here yet" in page
    assert "run the tests or a build" in page
    assert 'name="command"' in page
    page = tab(as_viewer, task)
    assert "No command has run here yet" in page
    assert 'name="command"' not in page


@pytest.mark.parametrize(
    ("state", "ending", "words"),
    [
        (CommandState.STARTING, {}, "Starting"),
        (CommandState.RUNNING, {}, "Running"),
        (CommandState.SUCCEEDED, {"exit_code": 0}, "Succeeded"),
        (CommandState.FAILED, {"exit_code": 3}, "Failed · exit 3"),
        (CommandState.CANCELLED, {"note": "Cancelled by Ada."}, "Cancelled by Ada."),
        (CommandState.TIMED_OUT, {"note": "Too long."}, "Over its time"),
        (CommandState.LOST, {"note": settling.LOST}, "its process was gone and had left no word"),
    ],
)
def test_every_state__is_said_in_words(as_maintainer, as_viewer, task, workspace, state, ending, words):
    row = command(workspace, state, **ending)
    for client, may in ((as_maintainer, True), (as_viewer, False)):
        page = tab(client, task)
        assert words in page
        active = state in services.ACTIVE
        assert (f"/commands/{row.pk}/cancel/" in page) == (may and active)
        assert ("Run again" in page) == (may and not active)
        assert ("1 running" in page) == active


def test_output__is_escaped_and_without_terminal_codes(as_viewer, task, workspace):
    command(workspace, output=b"\x1b[31m<script>alert(1)</script>\x1b[0m\n1%\r100%\nb\xff\0d\n", text="<b>&'\"")
    page = tab(as_viewer, task)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\n100%\nb\ufffdd\n" in page
    assert "<script>alert" not in page
    assert escape("<b>&'\"") in page
    assert "<b>&" not in page


def test_start__from_the_page_and_without_its_script(as_maintainer, workspace):
    response = as_maintainer.post(url(workspace), {"command": "make test", "time_limit": "300"}, headers=FRAGMENT)
    assert response.status_code == 200
    assert response["HX-Trigger"] == "commandschanged"
    assert 'value=""' in body(response)
    response = as_maintainer.post(url(workspace), {"command": "make"})
    assert (response.status_code, response["Location"]) == (302, url(workspace))
    assert list(Command.objects.order_by("created_at").values_list("text", "time_limit")) == [
        ("make test", 300),
        ("make", 900),
    ]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"command": ""}, "Write the command"),
        ({"command": "x" * 10_001}, "10,001 characters"),
        ({"command": "true", "time_limit": "soon"}, "whole number"),
        ({"command": "true", "time_limit": "99999"}, "1 to 14,400 seconds"),
    ],
)
def test_bad_form__is_said_beside_it_with_what_was_written(as_maintainer, workspace, form, words):
    response = as_maintainer.post(url(workspace), form, headers=FRAGMENT)
    assert response.status_code == 400
    assert words in body(response)
    assert escape(form["command"]) in body(response)
    assert not Command.objects.exists()
    assert words in body(as_maintainer.post(url(workspace), form, follow=True))


def test_full__is_said_and_what_was_written_stays(as_maintainer, workspace):
    for number in range(services.ACTIVE_PER_WORKSPACE):
        command(workspace, CommandState.RUNNING, text=f"sleep {number}")
    response = as_maintainer.post(url(workspace), {"command": "one more"}, headers=FRAGMENT)
    assert response.status_code == 409
    assert "4 commands run in this checkout already" in body(response)
    assert 'value="one more"' in body(response)


def test_roles__only_a_maintainer_starts_and_cancels(as_viewer, as_reviewer, as_stranger, workspace):
    row = command(workspace, CommandState.RUNNING)
    for client, status in ((as_viewer, 403), (as_reviewer, 403), (as_stranger, 404)):
        assert client.post(url(workspace), {"command": "true"}).status_code == status
        assert client.post(f"/commands/{row.pk}/cancel/", headers=FRAGMENT).status_code == status
    for path in (url(workspace), f"/commands/{row.pk}/output/"):
        assert as_viewer.get(path).status_code == 200
        assert as_stranger.get(path).status_code == 404
    assert as_viewer.get(f"/commands/{row.pk}/", headers=FRAGMENT).status_code == 200
    assert as_stranger.get(f"/commands/{row.pk}/", headers=FRAGMENT).status_code == 404
    assert Command.objects.get().cancel_requested_at is None


def test_cancel__is_shown_at_once_and_refused_after_the_end(as_maintainer, workspace):
    row = command(workspace, CommandState.RUNNING)
    response = as_maintainer.post(f"/commands/{row.pk}/cancel/", headers=FRAGMENT)
    assert (response.status_code, response["HX-Trigger"]) == (204, "commandschanged")
    page = body(as_maintainer.get(url(workspace), headers=FRAGMENT))
    assert "Being ended." in page
    assert "/cancel/" not in page
    services.settle_command(row.pk, services.Ending(CommandState.CANCELLED))
    response = as_maintainer.post(f"/commands/{row.pk}/cancel/", headers=FRAGMENT)
    assert (response.status_code, body(response)) == (409, "This command has ended already.")
    assert response["Content-Type"].startswith("text/plain")
    assert "has ended already" in body(as_maintainer.post(f"/commands/{row.pk}/cancel/", follow=True))


@pytest.mark.parametrize("state", [WorkspaceState.REMOVED, WorkspaceState.CREATING])
def test_checkout_that_is_not_there__has_no_form_but_its_commands(as_maintainer, task, workspace, state):
    command(workspace)
    Workspace.objects.filter(pk=workspace.pk).update(state=state)
    Command.objects.update(output_gone=True)
    page = tab(as_maintainer, task)
    assert 'id="cmd-text"' not in page
    assert "Run again" not in page
    assert "not kept any more" in page
    assert "make test" in page


def test_list__is_short_until_all_of_it_is_asked_for(as_viewer, task, workspace):
    for number in range(SHOWN + 3):
        command(workspace, text=f"echo {number}", output=b"something\n")
    page = tab(as_viewer, task)
    assert page.count('<li class="cmd') == SHOWN
    assert "Show older ones" in page
    assert page.count("something") == 1  # only the newest one's output is on the page
    whole = body(as_viewer.get(f"{url(workspace)}?all=1", headers=FRAGMENT))
    assert whole.count('<li class="cmd') == SHOWN + 3
    assert "Show older ones" not in whole


def test_one_command__comes_with_the_end_of_its_output(as_viewer, workspace):
    row = command(workspace, output=b"".join(b"line %d\n" % n for n in range(5000)))
    page = body(as_viewer.get(f"/commands/{row.pk}/", headers=FRAGMENT))
    assert "line 4999\n" in page
    assert "line 100\n" not in page
    assert f'data-next="{row.output_bytes}"' in page
    assert as_viewer.get(f"/commands/{row.pk}/").status_code == 302


def test_whole_output__is_plain_text_and_says_what_is_missing(as_viewer, workspace):
    row = command(workspace)
    writer = OutputWriter(places.folder_of(row.pk).output)
    for _ in range(40):
        writer.append(b"y" * 49_999 + b"\n")
    writer.close()
    response = as_viewer.get(f"/commands/{row.pk}/output/")
    text = body(response)
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "[951,424 bytes in the middle were not kept]" in text
    assert len(text) < 1_100_000


def test_suggestions__are_what_ran_in_the_project(as_maintainer, task, workspace):
    for text in ("make lint", "make test", "make test", "a\nb", "z" * 400):
        command(workspace, text=text)
    page = tab(as_maintainer, task)
    assert page.count('<option value="make test">') == 1
    assert '<option value="make lint">' in page
    assert "zzzz" not in page.partition("<datalist")[2].partition("</datalist>")[0]


def test_agents_command__says_so(as_viewer, task, workspace):
    row = command(workspace)
    Command.objects.filter(pk=row.pk).update(requested_by=RequestedBy.AGENT, started_at=now())
    assert "The agent" in tab(as_viewer, task)


def test_pages__have_no_inline_script_or_style(as_maintainer, task, workspace):
    command(workspace, output=b"x\n")
    for path in (f"/tasks/{task.key}/?tab=commands", url(workspace)):
        page = body(as_maintainer.get(path))
        assert "<script>" not in page
        assert " style=" not in page
        assert "onclick" not in page
        assert "js/commands.js" in page
