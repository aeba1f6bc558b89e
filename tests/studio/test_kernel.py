"""The shared pieces: claims, ids, text, secrets, markdown, columns under threads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django_fsm import ConcurrentTransition

from agents.models import AgentServer
from studio.kernel import claim, clock, ids, markdown, owners, permissions, redact, secretbox, text, tokens
from studio.kernel.errors import Invalid
from tasks.models import Task
from workspaces.models import Project


@pytest.fixture
def server(db):
    return AgentServer.objects.create(name="local")


def test_claim__one_owner_at_a_time(server):
    rows = AgentServer.objects.filter(pk=server.pk)
    first = claim.claim(rows, seconds=30)
    assert first == 1
    assert claim.claim(rows, seconds=30) is None
    assert claim.renew(AgentServer, server.pk, first, seconds=30)
    assert claim.release(AgentServer, server.pk, first)
    assert claim.claim(rows, seconds=30) == 2


def test_claim__a_stale_owner_changes_nothing(server):
    rows = AgentServer.objects.filter(pk=server.pk)
    old = claim.claim(rows, seconds=30)
    rows.update(lease_until=clock.now() - timedelta(seconds=1))
    new = claim.claim(rows, seconds=30)
    assert claim.fenced(AgentServer, server.pk, old).update(name="stale") == 0
    assert not claim.renew(AgentServer, server.pk, old, seconds=30)
    assert not claim.release(AgentServer, server.pk, old)
    assert claim.fenced(AgentServer, server.pk, new).update(name="fresh") == 1


def test_release_dead__frees_what_a_killed_process_held(server):
    rows = AgentServer.objects.filter(pk=server.pk)
    claim.claim(rows, seconds=300)
    assert claim.release_dead(AgentServer) == 0  # this process lives
    host, _, *rest = AgentServer.objects.get().lease_owner.split("|")
    rows.update(lease_owner="|".join([host, str(2**22 + 1), *rest]))
    assert claim.release_dead(AgentServer) == 1
    assert claim.claim(rows, seconds=300) == 2
    rows.update(lease_owner="|".join(["another-host", str(2**22 + 1), *rest]))
    assert claim.release_dead(AgentServer) == 0


def test_release_dead__leaves_alone_what_another_container_of_the_same_host_name_holds(server):
    rows = AgentServer.objects.filter(pk=server.pk)
    for owner in owners_in_another_container():
        assert owner.split("|")[0] == owners.owner_name().split("|")[0]
        rows.update(lease_owner=owner, lease_until=clock.later(300))
        assert claim.release_dead(AgentServer) == 0
        assert claim.claim(rows, seconds=30) is None


def owners_in_another_container() -> list[str]:
    """The name of a process that nobody here sees; where one may make a space of process numbers, a real one's too."""
    host, _, started, thread, world = owners.owner_name().split("|")
    found = [f"{host}|{2**22 + 1}|{started}|{thread}|{world}9"]
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") and subprocess.run([*apart, "true"], capture_output=True, timeout=60).returncode == 0:
        code = "from studio.kernel.owners import owner_name; print(owner_name())"
        made = subprocess.run(
            [*apart, sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        found.append(made.stdout.strip())
    return found


def test_owner__lives_on_when_the_systems_clock_is_corrected():
    host, pid, started, *rest = owners.owner_name().split("|")
    assert not owners.is_dead("|".join([host, pid, f"{float(started) + 1:.2f}", *rest]))
    assert owners.is_dead("|".join([host, pid, f"{float(started) + 5:.2f}", *rest]))


def test_owner__of_before_the_systems_start_is_dead_where_no_other_machine_can_be_meant():
    host, pid, started, thread, world = owners.owner_name().split("|")
    earlier = f"{host}|{pid}|{started}|{thread}|0{world}"
    assert owners.is_dead(earlier, one_machine=True)
    assert not owners.is_dead(earlier)
    assert not owners.is_dead(f"other{earlier}", one_machine=True)


def test_owner_name__fits_its_column(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 64)
    limit = AgentServer._meta.get_field("lease_owner").max_length
    assert len(owners.owner_name()) <= limit - 5  # a process's number may have seven digits


@pytest.mark.django_db(transaction=True)
def test_claim__of_eight_threads_one_wins():
    server = AgentServer.objects.create(name="raced")
    won = []

    def run() -> None:
        won.append(claim.claim(AgentServer.objects.filter(pk=server.pk), seconds=30))
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(epoch is not None for epoch in won) == [False] * 7 + [True]


def test_derived_id__depends_on_its_arguments_only():
    source, at = ids.new_id(), clock.now()
    first = ids.derived_id("msg", source, at, 1)
    assert first == ids.derived_id("msg", source, at, 1)
    assert first != ids.derived_id("msg", source, at, 2)
    assert len(first) == len("msg_") + 12 + 14


def test_derived_id__has_the_servers_clock():
    at = clock.now().fromtimestamp(1795223744.335, tz=clock.now().tzinfo)
    assert ids.derived_id("msg", ids.new_id(), at, 1).startswith("msg_1fbac6f4f001")


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("a\x00b", "ab"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07rest", "rest"),
        ("lone \ud800 half", "lone ??? half"),
    ],
)
def test_clean__makes_text_storable(raw, cleaned):
    result = text.clean(raw)
    assert result.encode("utf-8")
    assert result.replace("�", "?") == cleaned


def test_cut_bytes__never_halves_a_character():
    assert text.cut_bytes("ääää", 5) == "ää"
    assert text.cut("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    "secret",
    ["Bearer abcdefgh12345", "sk-proj-abcdefghij1234", "password=hunter22", "https://me:hunter22@host.invalid/x"],
)
def test_redact__hides_credentials(secret):
    hidden = redact.redact(f"before {secret} after")
    assert "[redacted]" in hidden
    assert secret.split()[-1] not in hidden
    assert hidden.startswith("before")


def test_secretbox__round_trip(settings):
    sealed = secretbox.seal("hunter2")
    assert "hunter2" not in sealed
    assert secretbox.unseal(sealed) == "hunter2"
    assert secretbox.seal("") == secretbox.unseal("") == ""
    settings.SECRET_KEY = "another"
    with pytest.raises(Invalid):
        secretbox.unseal(sealed)


def test_tokens__only_our_own_are_read():
    token = tokens.sign_subject("run-1")
    assert tokens.read_subject(token) == "run-1"
    assert tokens.read_subject(token + "x") is None
    assert tokens.read_subject("") is None


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "<img src=x onerror=alert(1)>",
        "[x](data:text/html;base64,AAAA)",
        '<a href="x" onclick="alert(1)">x</a>',
    ],
)
def test_markdown__hostile_text_is_inert(hostile):
    html = markdown.render(hostile)
    for bad in ("<script", "<img", 'javascript:alert(1)"', "onclick=", 'href="data:', 'href="javascript:'):
        assert bad not in html.replace("&lt;", "").replace("onclick=&quot;", "").replace('onclick="alert(1)"&gt;', "")


def test_markdown__renders_what_plans_use():
    html = markdown.render("# T\n\n- a\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1\n```")
    for tag in ("<h1>", "<li>", "<table>", '<code class="language-python">'):
        assert tag in html


def test_roles__include_what_is_below():
    assert permissions.at_least("owner", permissions.Role.MAINTAINER)
    assert permissions.at_least("reviewer", permissions.Role.REVIEWER)
    assert not permissions.at_least("viewer", permissions.Role.REVIEWER)
    assert not permissions.at_least(None, permissions.Role.VIEWER)


@pytest.fixture
def task(db):
    project = Project.objects.create(name="Demo", key="DEMO", path="/srv/tree", default_branch="trunk")
    return Task.objects.create(project=project, number=1, key="DEMO-1", title="x")


def test_column__cannot_be_assigned(task):
    with pytest.raises(AttributeError):
        task.status = "done"


def test_column__a_move_that_was_overtaken_is_refused(task):
    other = Task.objects.get(pk=task.pk)
    other.start()
    other.save()
    task.start()
    with pytest.raises(ConcurrentTransition):
        task.save()


@pytest.mark.django_db(transaction=True)
def test_column__refreshing_under_threads_keeps_the_guard(django_user_model):
    project = Project.objects.create(name="Demo", key="DEMO", path="/srv/tree", default_branch="trunk")
    task = Task.objects.create(project=project, number=1, key="DEMO-1", title="x")
    errors = []

    def run() -> None:
        mine = Task.objects.get(pk=task.pk)
        for _ in range(50):
            try:
                mine.refresh_from_db()
            except AttributeError as error:
                errors.append(error)
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with pytest.raises(AttributeError):
        task.status = "done"
