"""What pages say about agent servers: the line on every page, and the health page."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agents.models import AgentServer
from studio import health
from studio.kernel.clock import later, now
from tests.factories import make_server
from tests.pages.conftest import body

pytestmark = pytest.mark.django_db

MISSING = "OpenCode was not found. Run `cd /srv/studio && npm ci` to fetch it."


def broken(**fields):
    return make_server(state="down", trouble="binary_missing", error=MISSING, **fields)


def test_line__says_what_is_missing_and_takes_itself_away(as_owner):
    server = broken()
    page = body(as_owner.get("/projects/"))
    assert "No agent can run." in page
    assert "<code>cd /srv/studio &amp;&amp; npm ci</code>" in page
    assert 'hx-get="/health/servers/"' in page
    assert "No agent can run." in body(as_owner.get("/health/servers/"))
    AgentServer.objects.filter(pk=server.pk).update(state="ready", trouble="", error="")
    assert "banner" not in body(as_owner.get("/health/servers/"))
    assert "No agent can run." not in body(as_owner.get("/projects/"))


def test_line__is_for_people_who_are_signed_in(client):
    broken()
    assert "No agent can run." not in body(client.get("/login/"))
    assert client.get("/health/servers/").status_code == 302


@pytest.mark.parametrize("state", ["ready", "starting", "recycling"])
def test_line__is_not_shown_while_another_server_is_there(as_owner, state):
    broken()
    make_server(state=state, practice=state == "ready")
    page = body(as_owner.get("/projects/"))
    assert "No agent can run." not in page
    assert ("Practice model:" in page) == (state == "ready")


def test_line__costs_one_query(as_owner):
    broken()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        as_owner.get("/projects/")
    assert len([one for one in queries if "agents_agentserver" in one["sql"]]) == 1


def test_health_page__tells_deaths_memory_and_next_start(as_owner):
    make_server(
        state="down",
        trouble="crashing",
        error="OpenCode ended by itself with exit code 3. It has ended 4 times in a row.",
        crashes=4,
        crash="OpenCode ended by itself with exit code 3.\n<script>alert(1)</script>",
        crashed_at=now(),
        next_start_at=later(4),
    )
    make_server(state="ready", memory_mb=1720, started_at=now())
    page = body(as_owner.get("/health/"))
    assert "4 times in a row, last" in page
    assert "Next start" in page
    assert "<script>alert" not in page
    assert "1720 MB, above its limit of 1500 MB" in page
    assert 'hx-trigger="every 5s"' in page


def test_health_page__is_asked_again_without_the_page_around_it(as_owner):
    make_server()
    part = body(as_owner.get("/health/", headers={"HX-Request": "true"}))
    assert part.startswith('<div id="health"')
    assert "<html" not in part


def test_readiness__needs_one_server_and_names_the_trouble():
    broken(name="local")
    make_server(name="other", state="starting")
    message = health.part_health("agent_servers").message
    assert message == "The agent server local is down: OpenCode is missing."
    AgentServer.objects.filter(name="other").update(state="recycling")
    assert health.part_health("agent_servers").ok
