"""The storage page, and what other pages say of checkouts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync

from studio.models import FeedEvent
from tests import factories
from tests.factories import git
from tests.pages.conftest import FRAGMENT, body
from workspaces.models import KeptWork, Project, ProjectSetup, Workspace
from workspaces.services import (
    commit_left,
    delete_kept,
    ensure_workspace,
    look_at,
    make_workspace,
    release_workspace,
    remove_workspace,
    request_merge,
    request_removal,
    restore_kept,
    run_merge,
)

PAGE = "/projects/DEMO/storage/"
CONFIRM = re.compile(r'name="confirm" value="([0-9a-f]+)"')


@pytest.fixture
def workspace(project) -> Workspace:
    found = ensure_workspace(project=project, label="DEMO-1")
    (Path(found.path) / "new.txt").write_text("1\n")
    commit_left(found, message="m", author_name="agent")
    look_at(found.pk)
    found.refresh_from_db()
    return found


@pytest.fixture
def kept(workspace) -> KeptWork:
    request_removal(workspace)
    remove_workspace(workspace.pk)
    return KeptWork.objects.get(workspace=workspace)


def test_page__lists_checkouts_with_what_can_be_done(as_owner, as_viewer, as_stranger, workspace):
    page = body(as_owner.get(PAGE))
    assert "<b>Not merged:</b> 1 commit." in page
    assert "Keep until I say" in page
    assert "Remove now" not in page  # its task goes on in it
    assert "Keep until I say" not in body(as_viewer.get(PAGE))
    assert as_stranger.get(PAGE).status_code == 404
    as_owner.post(f"/workspaces/{workspace.pk}/do/keep/")
    assert "Let it go in time" in body(as_owner.get(PAGE))
    release_workspace(workspace)
    page = body(as_owner.post(f"/workspaces/{workspace.pk}/remove/", follow=True))  # nothing is lost with it
    assert "is being removed" in page


def test_page__says_what_a_squash_merged_and_what_came_after_it(as_owner, project, workspace):
    run_merge(request_merge(workspace=workspace, how="squash", message="m").pk)
    look_at(workspace.pk)
    merged = f"Merged, squashed as {git(project.path, 'rev-parse', 'main')[:8]}."
    page = body(as_owner.get(PAGE))
    assert (merged in page, "Not merged" in page) == (True, False)
    (Path(workspace.path) / "later.txt").write_text("2\n")
    look_at(workspace.pk)
    page = body(as_owner.get(PAGE))
    assert f"{merged} <b>Not merged since then:</b> 1 uncommitted file." in page


def test_remove__is_confirmed_with_what_goes_and_what_is_kept(as_owner, as_reviewer, workspace):
    url = f"/workspaces/{workspace.pk}/remove/"
    assert "is not finished" in body(as_owner.get(url, follow=True))
    release_workspace(workspace)
    assert f'href="{url}"' in body(as_owner.get(PAGE))
    assert as_reviewer.get(url).status_code == 403
    page = body(as_owner.get(url))
    assert ("<b>1 commit</b>, kept" in page, "A patch and a bundle" in page, "for good" in page) == (True, True, False)
    (Path(workspace.path) / ".gitignore").write_text(".env\n")
    (Path(workspace.path) / ".env").write_text("SECRET=1\n")
    page = body(as_owner.get(url))
    assert "1 ignored file goes for good" in page
    assert '<code class="break">.env</code>' in page
    assert "<b>1 file</b>, kept as a last commit" in page
    page = body(as_owner.post(url, follow=True))  # without the confirmation it is asked for
    assert ("was not removed" in page, "Remove it all the same" in page) == (True, True)
    assert Workspace.objects.get(pk=workspace.pk).state == "ready"
    shown = CONFIRM.search(page)[1]
    (Path(workspace.path) / "more").mkdir()
    (Path(workspace.path) / "more" / ".env").write_text("SECRET=2\n")
    page = body(as_owner.post(url, {"confirm": shown}, follow=True))
    assert ("has changed since" in page, '<code class="break">more/' in page) == (True, True)
    assert Workspace.objects.get(pk=workspace.pk).state == "ready"
    assert "is being removed" in body(as_owner.post(url, {"confirm": CONFIRM.search(page)[1]}, follow=True))
    assert ">being removed</span>" in body(as_owner.get(PAGE))


def test_live__the_feed_tells_of_removal_kept_work_and_restore(as_owner, workspace, owner):
    page = body(as_owner.get(PAGE))
    assert f'<live-storage data-project="{workspace.project_id}" data-cursor="' in page
    told = FeedEvent.objects.filter(project_id=workspace.project_id)
    task = factories.make_task(workspace.project)
    Workspace.objects.filter(pk=workspace.pk).update(label=task.key)
    topics = [f"task:{task.pk}", f"workspace:{workspace.pk}"]

    def news() -> list[str]:
        found = sorted({event.topic for event in told})
        told.delete()
        return found

    told.delete()
    release_workspace(workspace)
    assert news() == topics
    request_removal(Workspace.objects.get(pk=workspace.pk))
    assert news() == topics
    remove_workspace(workspace.pk)
    assert news() == topics
    assert f"kept-{KeptWork.objects.get().pk}" in body(as_owner.get(PAGE, headers=FRAGMENT))
    row = restore_kept(actor=owner, kept=KeptWork.objects.get())
    assert f"workspace:{row.pk}" in news()
    make_workspace(row.pk)
    assert f"workspace:{row.pk}" in news()
    fragment = body(as_owner.get(PAGE, headers=FRAGMENT))
    assert ("<html" in fragment, f'href="#checkout-{row.pk}"' in fragment) == (False, True)
    assert f"storage/#checkout-{row.pk}" in body(as_owner.get(f"/tasks/{task.key}/?tab=task"))
    delete_kept(actor=owner, kept=KeptWork.objects.get())
    assert f"project:{workspace.project_id}" in news()


def test_page__offers_kept_work(as_owner, as_viewer, kept):
    page = body(as_owner.get(PAGE))
    assert f"/kept/{kept.pk}/patch/" in page
    assert "Restore" in page
    assert "Restore" not in body(as_viewer.get(PAGE))
    response = as_viewer.get(f"/kept/{kept.pk}/patch/")
    assert response["Content-Type"] == "text/x-patch"

    async def read() -> bytes:
        return b"".join([piece async for piece in response.streaming_content])

    assert b"new.txt" in async_to_sync(read)()
    assert "A checkout is being made" in body(as_owner.post(f"/kept/{kept.pk}/do/restore/", follow=True))
    assert as_owner.post(f"/kept/{kept.pk}/do/nonsense/").status_code == 404


def test_page__limits_are_an_owners(as_owner, as_reviewer, project):
    as_owner.post(PAGE, {"retention_days": "", "quota_mb": "500"})
    project.refresh_from_db()
    assert (project.retention_days, project.quota_mb) == (None, 500)
    for days, megabytes, said in (
        ("some", "", "from 0 to 3650"),
        ("-1", "", "from 0 to 3650"),
        ("3651", "", "from 0 to 3650"),
        ("", "0", "from 1 to 2147483647"),
        ("", "99999999999", "from 1 to 2147483647"),
    ):
        response = as_owner.post(PAGE, {"retention_days": days, "quota_mb": megabytes})
        assert (response.status_code, f"a whole number {said}" in body(response)) == (400, True)
    project.refresh_from_db()
    assert (project.retention_days, project.quota_mb) == (None, 500)
    assert as_reviewer.post(PAGE, {"retention_days": "1"}).status_code == 403


def test_board__warns_of_the_limit_and_of_a_repository_that_is_away(as_viewer, project, workspace):
    assert "overquota" not in body(as_viewer.get("/projects/DEMO/board/"))
    Project.objects.filter(pk=project.pk).update(quota_mb=1)
    Workspace.objects.filter(pk=workspace.pk).update(size_bytes=5 << 20)
    assert "more room than its people set" in body(as_viewer.get("/projects/DEMO/board/"))
    away = Path(project.path).rename(f"{project.path}-away")
    assert "is not there" in body(as_viewer.get("/projects/DEMO/board/"))
    page = body(as_viewer.get(PAGE))
    assert ("is not there" in page, "It was moved here" in page) == (True, False)
    away.rename(project.path)


def test_task__says_damage_and_offers_what_it_may_start_from(as_owner, project, kept):
    task = factories.make_task(project)
    page = body(as_owner.get(f"/tasks/{task.key}/?tab=task"))
    assert f'value="kept:{kept.pk}"' in page
    page = body(as_owner.post(f"/tasks/{task.key}/start-from/", {"from": f"kept:{kept.pk}"}, follow=True))
    assert "starts from what was kept of DEMO-1" in page
    task.refresh_from_db()
    made = ensure_workspace(project=project, label=task.key, workspace_id=task.workspace_id)
    Workspace.objects.filter(pk=made.pk).update(trouble="Its folder is gone.")
    page = body(as_owner.get(f"/tasks/{task.key}/"))
    assert "The checkout was damaged from outside." in page
    assert f"/workspaces/{made.pk}/do/repair/" in page


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("creating", "is being made. Wait"),
        ("failed", "Retry its task"),
        ("removing", "is being removed. What"),
        ("removed", "has been removed. What"),
    ],
)
def test_repair__of_a_checkout_that_is_not_there_says_what_to_do(as_owner, workspace, state, words):
    Workspace.objects.filter(pk=workspace.pk).update(state=state)
    refused = as_owner.post(f"/api/v1/workspaces/{workspace.pk}/repair", content_type="application/json")
    assert refused.status_code == 409, refused.content
    assert words in refused.json()["error"]["message"]


def test_health__names_unknown_folders_to_superusers(as_owner, as_viewer, project, settings, workspace_root):
    stranger = workspace_root / project.key / "left-over"
    stranger.mkdir(parents=True)
    page = body(as_owner.get("/health/"))
    assert f"Unknown folder: {stranger}" in page
    assert str(stranger) not in body(as_viewer.get("/health/"))
    assert "besides these" not in page
    for number in range(102):
        (stranger.parent / f"folder-{number:03}").mkdir()
    page = body(as_owner.get("/health/"))
    assert page.count("Unknown folder: ") == 100
    assert "Unknown folders besides these: 3." in page
    settings.STUDIO_DISK_LOW_MB = 10**9
    assert "are free on the disk" in body(as_viewer.get("/health/"))


def test_health__tells_of_a_project_only_to_those_who_see_it(as_owner, as_viewer, project):
    other = factories.make_project(name="Secret merger", quota_mb=0)
    factories.make_workspace(other, size_bytes=1)
    Project.objects.filter(pk=other.pk).update(path="/srv/secret/merger")
    Project.objects.filter(pk=project.pk).update(path="/srv/farewell")
    words = ("Secret merger takes", "/srv/secret/merger", "/srv/farewell")
    for client, seen in ((as_owner, [True, True, True]), (as_viewer, [False, False, True])):
        notes = " ".join(client.get("/api/v1/health").json()["storage"]["notes"])
        assert [word in notes for word in words] == seen
        page = body(client.get("/health/"))
        assert [word in page for word in words] == seen


def test_create__continues_from_a_worktree_or_a_branch(as_owner, as_reviewer, project):
    repository = Path(project.path)
    (repository / "app.py").write_text("half done\n")
    (repository / ".env.prod").write_text("secret\n")
    ProjectSetup.objects.create(project=project, copy=[".env*"])
    git(repository, "branch", "feature/other")
    url = "/projects/DEMO/tasks/new/"
    page = body(as_owner.get(url))
    value = f"worktree:{repository}"
    assert (f'value="{value}"' in page, 'value="branch:feature/other"' in page) == (True, True)
    assert "Continue from" not in body(as_reviewer.get(url))
    assert f'value="{value}"' in body(as_owner.get("/projects/DEMO/starts/", headers=FRAGMENT))
    posted = {"prompt": "Go on", "start_at": "worktree:/nowhere"}
    page = body(as_owner.post(url, posted))
    assert ("is no worktree of" in page, project.tasks.count()) == (True, 0)  # nothing half made
    assert ('id="start-wrong"' in page, 'id="prompt-wrong"' in page, "from what you chose" in page) == (
        True,
        False,
        True,
    )
    for unknown in ("zzz:1", "kept:x", "branch:"):
        page = body(as_owner.post(url, {**posted, "start_at": unknown}))
        assert (f"not from “{unknown}”" in page, 'id="start-wrong"' in page, project.tasks.count()) == (True, True, 0)
    as_owner.post(url, {**posted, "start_at": value})
    task = project.tasks.get()
    assert "with 1 file that was not committed; not taken, because setup copies or links it: .env.prod" in (
        task.workspace.started_from
    )
    made = ensure_workspace(project=project, label=task.key, workspace_id=task.workspace_id)
    assert (Path(made.path) / "app.py").read_text() == "half done\n"
    assert f'value="{repository}"' in body(as_owner.get(f"/tasks/{factories.make_task(project).key}/?tab=task"))
