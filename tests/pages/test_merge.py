"""The parts of the task page about its merge, for people and for programs."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from studio import outbox
from tasks.choices import Needs, Status
from tasks.services.advance import advance_merge
from tests import factories
from tests.pages.conftest import FRAGMENT, body
from tests.repositories import git
from workspaces.models import MergeAttempt, MergeState
from workspaces.services import commit_left, ensure_workspace, run_merge

pytestmark = pytest.mark.django_db


@pytest.fixture
def task(project):
    """A task in review whose workspace changes app.py."""
    found = factories.make_task(project, status=Status.REVIEW)
    found.workspace = ensure_workspace(project=project, label=found.key)
    found.save()
    (Path(found.workspace.path) / "app.py").write_text("<b>mine</b>\n")
    commit_left(found.workspace, message="Work", author_name="agent")
    return found


@pytest.fixture
def folder(project):
    return Path(project.path)


@pytest.fixture
def conflict(task, folder):
    (folder / "app.py").write_text("theirs\n")
    git(folder, "commit", "-qam", "Theirs")
    return MergeAttempt.objects.create(
        workspace=task.workspace, how="merge", target_branch="main", message="m", author_name="a",
        state=MergeState.CONFLICTED, conflicts=["app.py"],
    )  # fmt: skip


def preview(client, task, **query):
    return body(client.get(f"/tasks/{task.key}/merge/", query))


def test_preview__says_what_it_would_be(as_owner, as_stranger, task, folder):
    git(folder, "branch", "release<b>")
    page = preview(as_owner, task, how="squash")
    assert "<b>1 file</b>" in page
    assert "is brought along" in page
    assert 'value="release&lt;b&gt;"' in page
    assert "There is no branch" not in page
    assert "no branch called “gone”" in preview(as_owner, task, target="gone")
    assert as_stranger.get(f"/tasks/{task.key}/merge/").status_code == 404


def test_preview__names_a_dirty_checkout_and_its_files(as_owner, task, folder):
    (folder / "app.py").write_text("unsaved\n")
    page = preview(as_owner, task)
    assert "is in the way" in page
    assert '<code class="break">app.py</code>' in page
    assert (folder / "app.py").read_text() == "unsaved\n"


def test_preview__what_is_said_follows_the_target_and_what_is_true(as_owner, task, folder):
    git(folder, "branch", "release")
    page = preview(as_owner, task, how="squash", target="release")
    assert "Puts the whole change into one new commit on release." in page
    assert "main" not in page.replace('value="main"', "").replace(">main<", "")
    (folder / "app.py").write_text("theirs\n")
    git(folder, "commit", "-qam", "Theirs")
    page = preview(as_owner, task)
    assert "It would conflict with main" in page
    assert "clean: it stays as it is." in page
    assert "brought along" not in page


CLASH = "<<<<<<< one\n1\n=======\n2\n>>>>>>> two\n"


@pytest.fixture
def marked(task):
    """The names of two files of the task in which lines of a conflict stand, odd ones."""
    names = ['a "<b>.txt', "docs.md"]
    for name in names:
        (Path(task.workspace.path) / name).write_text(CLASH)
    commit_left(task.workspace, message="Marks", author_name="agent")
    return names


def test_markers__of_a_pull_request_are_named_and_can_be_meant(as_owner, as_stranger, task, marked):
    url = f"/tasks/{task.key}/pull-request/markers/"
    page = body(as_owner.get(url, headers=FRAGMENT))
    assert "are left in 2 files: it would be refused." in page
    value = html.unescape(re.search(r'name="markers_meant" value="([^"]+)">', page)[1])
    assert json.loads(value) == marked
    assert as_stranger.get(url).status_code == 404
    for name in marked:
        (Path(task.workspace.path) / name).write_text("Resolved.\n")
    assert body(as_owner.get(url, headers=FRAGMENT)).strip() == ""


def test_markers__are_named_and_can_be_meant(as_owner, task, marked):
    page = preview(as_owner, task)
    assert "are left in 2 files: it would be refused." in page
    assert "a &quot;&lt;b&gt;.txt" in page
    assert "clean: it stays as it is." in page
    value = html.unescape(re.search(r'name="markers_meant" value="([^"]+)">', page)[1])
    assert json.loads(value) == marked
    page = preview(as_owner, task, markers_meant=value)
    assert re.search(r'name="markers_meant" value="[^"]+" checked>', page)
    assert "are merged as they stand" in page
    assert "it is brought along" in page
    for odd in ('["docs.md"]', "{}", "[1]", "nonsense", "[" * 100_000):
        assert "it would be refused" in preview(as_owner, task, markers_meant=odd)
    as_owner.post(f"/tasks/{task.key}/act/complete/", {"how": "merge", "markers_meant": value})
    assert MergeAttempt.objects.get().meant == marked


def test_markers__by_the_api(as_owner, task, marked, folder):
    found = as_owner.get(f"/api/v1/tasks/{task.key}/merge").json()
    assert (found["marked"], found["possible"]) == (marked, False)
    act = f"/api/v1/tasks/{task.key}/complete"
    for wrong in ("docs.md", [["docs.md"]], ["x" * 1_001], ["x"] * 1_001):
        refused = as_owner.post(act, {"markers_meant": wrong}, content_type="application/json")
        assert refused.status_code == 400, refused.content
    settle(as_owner.post(act, {}, content_type="application/json"))
    said = as_owner.get(f"/api/v1/tasks/{task.key}").json()
    assert (said["status"], said["error_code"]) == ("review", "merge_marked")
    assert "docs.md" in said["reason"]
    assert "markers_meant" in said["next_step"]
    settle(as_owner.post(act, {"markers_meant": marked}, content_type="application/json"))
    assert as_owner.get(f"/api/v1/tasks/{task.key}").json()["status"] == "done"
    assert (folder / "docs.md").read_text() == CLASH
    history = as_owner.get(f"/api/v1/tasks/{task.key}/history").json()["results"]
    assert any("meant in a" in row["reason"] for row in history)


def settle(answer):
    """The merge that was asked for is carried out, and the task hears of it."""
    assert answer.status_code == 200, answer.content
    attempt = MergeAttempt.objects.order_by("-created_at").first()
    run_merge(attempt.pk)
    advance_merge(attempt.pk)


def test_revert__that_conflicts_gives_the_commands(as_owner, as_viewer, task, folder):
    act = f"/api/v1/tasks/{task.key}"
    settle(as_owner.post(f"{act}/complete", {}, content_type="application/json"))
    (folder / "app.py").write_text("later\n")
    git(folder, "commit", "-qam", "Later")
    settle(as_owner.post(f"{act}/revert", {}, content_type="application/json"))
    page = body(as_owner.get(f"/tasks/{task.key}/"))
    merged = MergeAttempt.objects.order_by("created_at").first()
    commands = f"git switch main\ngit revert --no-edit -m 1 {merged.result_commit}\n"
    assert commands in page
    assert commands in as_owner.get(f"{act}/conflicts").json()["commands"]
    assert [file["path"] for file in as_owner.get(f"{act}/conflicts").json()["files"]] == ["app.py"]
    assert commands not in body(as_viewer.get(f"/tasks/{task.key}/"))


def test_conflicts__each_file_with_its_sides(as_owner, task, conflict):
    assert "It would conflict with main" in preview(as_owner, task)
    listed = body(as_owner.get(f"/tasks/{task.key}/conflicts/"))
    assert 'hx-get="/tasks/' in listed
    assert "app.py" in listed
    sides = body(as_owner.get(f"/tasks/{task.key}/conflicts/", {"file": "app.py"}))
    assert "&lt;b&gt;mine&lt;/b&gt;" in sides
    assert "theirs" in sides
    assert as_owner.get(f"/tasks/{task.key}/conflicts/", {"file": "other"}).status_code == 404


def test_conflicts__sides_show_what_cannot_be_seen(as_owner, task, conflict):
    (Path(task.workspace.path) / "app.py").write_text("<mine\u202e\n")
    commit_left(task.workspace, message="More", author_name="agent")
    sides = body(as_owner.get(f"/tasks/{task.key}/conflicts/", {"file": "app.py"}))
    assert '&lt;mine<span class="unseen" data-code="U+202E"><bdi>\u202e</bdi></span>' in sides
    assert "change the direction of text: U+202E." in sides


def test_conflict__offers_an_agent_the_commands_and_a_way_back(as_owner, as_viewer, task, conflict):
    task.needs = Needs.CONFLICT
    task.save()
    page = body(as_owner.get(f"/tasks/{task.key}/"))
    for words in ("Let an agent resolve it", "I will do it", "git merge main", "I have done it", "Give the merge up"):
        assert words in page
    assert "Let an agent resolve it" not in body(as_viewer.get(f"/tasks/{task.key}/"))


def test_api__preview_and_conflicts(as_owner, task, conflict):
    found = as_owner.get(f"/api/v1/tasks/{task.key}/merge").json()
    assert (found["conflicts"], found["possible"], found["target"]) == (["app.py"], False, "main")
    listed = as_owner.get(f"/api/v1/tasks/{task.key}/conflicts").json()
    assert (listed["files"], listed["file"]) == ([{"path": "app.py", "binary": False, "cut": False}], None)
    assert "git merge main" in listed["commands"]
    one = as_owner.get(f"/api/v1/tasks/{task.key}/conflicts?file=app.py").json()["file"]
    assert (one["target"], one["source"]) == ("theirs\n", "<b>mine</b>\n")
    assert as_owner.get(f"/api/v1/tasks/{task.key}/merge?target=gone").status_code == 400
    assert as_owner.get(f"/api/v1/tasks/{factories.make_task(task.project).key}/merge").status_code == 404


def test_done__says_that_it_was_taken_back(as_owner, project):
    task = factories.make_task(project, status=Status.DONE, completed_how="merge", completed_commit="abcdef0123456")
    assert "/act/revert/" in body(as_owner.get(f"/tasks/{task.key}/"))
    task.reverted_commit = "fedcba98765"
    task.save()
    card = re.search(r'id="card-DEMO-1".*?</li>', body(as_owner.get("/projects/DEMO/board/")))[0]
    assert '<span aria-hidden="true">Taken back</span>' in card
    assert card.count("Merged, then taken back as fedcba9876") == 2  # to be read aloud, and under the pointer
    page = body(as_owner.get(f"/tasks/{task.key}/"))
    assert "taken back as fedcba9876" in page
    assert "/act/revert/" not in page


def test_cursor__is_not_beyond_the_end_of_the_tasks_own_topic(as_owner, task, project):
    """The page would take it for another history and load itself again, for ever."""
    outbox.publish(project.pk, f"task:{task.pk}", "task.updated", {})
    outbox.publish(project.pk, "task:another", "task.updated", {})
    head = outbox.topic_head(f"task:{task.pk}")
    assert head < outbox.project_head(str(project.pk))
    assert f'data-cursor="{head}"' in body(as_owner.get(f"/tasks/{task.key}/"))
