"""Text of people and agents is hostile: wherever it is shown it stays text. And the policy of every page forbids inline code."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from agents.backend import LogEntry
from sessions_app.log import append
from sessions_app.models import Ask
from tasks.choices import Needs, RunState, Status
from tests import factories
from tests.pages.conftest import FRAGMENT, body
from tests.repositories import git
from workspaces.models import PullRequest, ReviewComment, Workspace
from workspaces.services import commit_left, ensure_workspace, release_workspace

EVIL = (
    '"><script>alert(1)</script><img src=x onerror=alert(1)><template hx type="partial" hx-target="body">x</template>'
    "<hx-partial hx-target=body>x</hx-partial><a href='javascript:alert(1)' hx-get='/x'>x</a>"
)
MARKDOWN = f'{EVIL}\n\n[x](javascript:alert(1)) ![x](x" onerror="alert(1))\n\n<script>alert(1)</script>\n'
OURS = {"live-board", "live-task", "live-transcript"}


class Reader(HTMLParser):
    """Collects what could run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name.startswith(("on", "hx-on", "data-hx")) or name in ("style", "srcdoc"):
                self.found.append(f"{tag} {name}={value}")
            if name in ("href", "src", "action", "formaction") and (value or "").strip().lower().startswith(
                "javascript"
            ):
                self.found.append(f"{tag} {name}={value}")
            if name == "hx-get" and value == "/x":
                self.found.append(f"{tag} {name}={value}")
            if name == "src" and value == "x":
                self.found.append(f"{tag} {name}={value}")
        if tag == "script" and not dict(attrs).get("src"):
            self.found.append("inline script")
        if tag == "style" or tag == "base" or tag.startswith("hx-"):
            self.found.append(tag)
        if tag == "template" and dict(attrs).get("hx-target") == "body":
            self.found.append("a partial of somebody else")


def assert_inert(page):
    reader = Reader()
    reader.feed(page)
    assert reader.found == []
    assert "<script>alert" not in page


@pytest.fixture
def evil(project, owner):
    """A task whose every text is hostile."""
    task = factories.make_task(
        project, title=EVIL[:200], description=MARKDOWN, labels=[EVIL[:40]], status=Status.IN_PROGRESS,
        run_state=RunState.FAILED, needs=Needs.FAILURE, error_code="provider_error", reason=EVIL,
    )  # fmt: skip
    task.workspace = factories.make_workspace(project)
    task.save()
    factories.make_plan(task, text=MARKDOWN, feedback=EVIL)
    factories.make_finding(task, title=EVIL[:300], body=MARKDOWN, file=EVIL[:1000], note=EVIL, line=1)
    task.reviews.update(summary=MARKDOWN)
    session = factories.make_session(task.workspace, title=EVIL[:200], model=EVIL[:100])
    turn = factories.make_turn(session, retry_note=EVIL)
    factories.make_run(task, session=session, turn=turn, summary=EVIL, note=EVIL, error_message=EVIL)
    data = {
        "text": MARKDOWN, "part": EVIL, "tool": EVIL, "title": EVIL, "input": {EVIL: EVIL}, "output": EVIL, "error": EVIL,
        "message": EVIL, "name": EVIL, "what": EVIL, "detail": EVIL, "model": EVIL, "outcome": EVIL, "status": "error",
        "items": [{"content": EVIL, "status": EVIL}],
    }  # fmt: skip
    kinds = "user text reasoning tool.started tool.finished retry error ask.rejected notice turn.started turn.settled todo new"
    at = datetime(2026, 1, 1, tzinfo=UTC)
    append(session.pk, [LogEntry(kind, f"{kind}:1", {**data, "part": f"{kind}{EVIL}"}, at) for kind in kinds.split()])
    return task


@pytest.mark.parametrize("tab", ["task", "plan", "transcript", "review", "history"])
def test_a_hostile_task_is_inert_on_every_tab(as_owner, evil, tab):
    page = body(as_owner.get(f"/tasks/{evil.key}/?tab={tab}"))
    assert_inert(page)
    assert "alert(1)" in page  # it is shown, as text


def test_a_hostile_task_is_inert_on_the_board_and_in_its_fragments(as_owner, evil):
    assert_inert(body(as_owner.get("/projects/DEMO/board/")))
    assert_inert(body(as_owner.get(f"/projects/DEMO/board/cards/?key={evil.key}", headers=FRAGMENT)))
    assert_inert(body(as_owner.get("/projects/DEMO/board/in_progress/", headers=FRAGMENT)))


def test_a_hostile_transcript_is_inert(as_owner, evil):
    session = evil.runs.get(session__isnull=False).session
    assert_inert(body(as_owner.get(f"/sessions/{session.pk}/")))
    assert_inert(body(as_owner.get(f"/sessions/{session.pk}/entries/?after=0", headers=FRAGMENT)))


def test_a_filter_is_shown_as_text(as_owner, project):
    factories.make_task(project)
    assert_inert(body(as_owner.get("/projects/DEMO/board/", {"q": EVIL, "state": EVIL, "column": EVIL})))


def test_what_is_refused_is_shown_as_text(as_owner, project):
    task = factories.make_task(project, status=Status.PLANNING_REVIEW)
    for headers in ({}, FRAGMENT):
        form = {"prompt": "\n", "labels": EVIL, "priority": EVIL}
        assert_inert(body(as_owner.post("/projects/DEMO/tasks/new/", form, headers=headers)))
        assert_inert(
            body(as_owner.post(f"/tasks/{task.key}/edit/", {"title": "", "description": EVIL}, headers=headers))
        )
        response = as_owner.post(f"/tasks/{task.key}/act/complete/", {"how": EVIL}, headers=headers)
        assert_inert(body(response))


def test_an_error_page_shows_text(as_owner, project):
    assert_inert(body(as_owner.get(f"/projects/{'%3Cscript%3Ealert(1)%3C%2Fscript%3E'}/board/")))


def test_a_hostile_project_is_inert(as_owner, owner):
    project = factories.make_project(key="EVIL", name=EVIL[:120], owner=owner)
    project.default_branch = EVIL[:200]
    project.save()
    factories.make_task(project)
    for path in ("/projects/", "/projects/EVIL/board/", "/tasks/EVIL-1/", "/projects/EVIL/tasks/new/"):
        assert_inert(body(as_owner.get(path)))


UNSEEN = "x\u202ey\u200b"


def assert_seen(page):
    """No name is shown with a character that nobody sees. What a form sends back is the name itself."""
    assert not re.search("[\u202e\u200b]", re.sub(r'value="[^"]*"', "", page))


def test_names_of_branches_and_files_hide_nothing(as_owner, project):
    git(project.path, "branch", UNSEEN)
    project.default_branch = UNSEEN
    project.save()
    row = ensure_workspace(project=project, label="DEMO-1")
    Workspace.objects.update(started_from=UNSEEN)
    Path(row.path, f"{UNSEEN}.txt").write_text("new\n")
    commit_left(row, message="New", author_name="agent")
    task = factories.make_task(project, status=Status.REVIEW, workspace=row)
    factories.make_finding(task, title="x", file=UNSEEN)
    pull = PullRequest.objects.create(
        workspace=row, title=UNSEEN, head_branch=UNSEEN, base_branch=UNSEEN, state="open", number=1
    )
    ReviewComment.objects.create(pull_request=pull, upstream_id="1", path=UNSEEN, body="x")
    release_workspace(row)
    for tab in ("task", "changes", "files", "commands", "review", "pull_request"):
        page = body(as_owner.get(f"/tasks/DEMO-1/?tab={tab}"))
        assert_seen(page)
        assert "x\\u202ey" in page or tab in ("changes", "files", "commands"), tab  # which are read in by the page
    factories.make_task(project)
    for path in (
        "/projects/", "/projects/DEMO/board/", "/projects/DEMO/tasks/new/", "/tasks/DEMO-1/merge/", "/tasks/DEMO-2/",
        "/projects/DEMO/storage/", f"/workspaces/{row.pk}/remove/",
    ):  # fmt: skip
        page = body(as_owner.get(path))
        assert_seen(page)
        assert "x\\u202ey" in page, path


def test_what_an_agent_asks_or_names_hides_nothing(as_owner, session, turn):
    detail = {"command": f"rm -rf {UNSEEN}", "exact": True}
    Ask.objects.create(
        session=session,
        turn=turn,
        kind="permission",
        external_id="per_1",
        directory="/x",
        permission="bash",
        detail=detail,
    )
    detail = {"paths": [UNSEEN]}
    Ask.objects.create(
        session=session,
        turn=turn,
        kind="permission",
        external_id="per_2",
        directory="/x",
        permission="edit",
        detail=detail,
    )
    data = {"tool": "read", "part": "1", "title": UNSEEN, "input": {}, "output": "", "status": "done"}
    append(session.pk, [LogEntry("tool.finished", "1", data, datetime(2026, 1, 1, tzinfo=UTC))])
    page = body(as_owner.get(f"/sessions/{session.pk}/"))
    assert_seen(page)
    assert page.count("x\\u202ey") == 3


@pytest.mark.parametrize(
    "path", ["/login/", "/projects/", "/projects/DEMO/board/", "/tasks/DEMO-1/", "/health/", "/nowhere/"]
)
def test_every_page_forbids_inline_code(as_owner, project, path):
    factories.make_task(project)
    policy = as_owner.get(path)["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "unsafe" not in policy


def test_templates_hold_no_inline_code():
    for path in Path(settings.BASE_DIR, "templates").rglob("*.html"):
        if "admin" in path.parts:
            continue
        text = path.read_text()
        assert not re.search(r"\s(style|on[a-z]+|hx-on[^=]*)=", text), path
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path
        assert "|safe" not in text, path


@pytest.mark.parametrize("path", ["/tasks/DEMO-1/act/start/", "/tasks/DEMO-1/edit/", "/projects/DEMO/tasks/new/", "/projects/register/"])  # fmt: skip
def test_a_form_of_another_site_is_refused(owner, project, path):
    factories.make_task(project)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(owner)
    response = strict.post(path, {"prompt": "Evil"})
    assert response.status_code == 403
    assert project.tasks.get().status == Status.TODO
