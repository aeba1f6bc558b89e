"""The storage page, and what other pages say of checkouts."""

from __future__ import annotations

from pathlib import Path

import pytest
from asgiref.sync import async_to_sync

from tests import factories
from tests.pages.conftest import body
from workspaces.models import KeptWork, Project, Workspace
from workspaces.services import (
    commit_left,
    ensure_workspace,
    look_at,
    release_workspace,
    remove_workspace,
    request_removal,
)

PAGE = "/projects/DEMO/storage/"


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
    page = body(as_owner.post(f"/workspaces/{workspace.pk}/do/remove/", follow=True))
    assert "is being removed" in page


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
    response = as_owner.post(PAGE, {"retention_days": "some", "quota_mb": ""})
    assert (response.status_code, "whole numbers" in body(response)) == (400, True)
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


def test_health__names_unknown_folders(as_owner, project, settings, tmp_path):
    settings.STUDIO_WORKSPACE_ROOT = str(tmp_path)  # other tests leave folders in the common one
    stranger = tmp_path / project.key / "left-over"
    stranger.mkdir(parents=True)
    page = body(as_owner.get("/health/"))
    assert f"Unknown folder: {stranger}" in page
    stranger.rmdir()
    settings.STUDIO_DISK_LOW_MB = 10**9
    assert "are free on the disk" in body(as_owner.get("/health/"))
