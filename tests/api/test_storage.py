"""Storage over REST: what a project takes, who may do what, and the files."""

from __future__ import annotations

from pathlib import Path

import pytest
from asgiref.sync import async_to_sync

from studio.kernel.permissions import Role
from tests.api.conftest import error_of, token_client
from tests.factories import git, make_member, make_repository, make_task
from workspaces.locks import held
from workspaces.models import KeptWork, Workspace
from workspaces.services import (
    commit_left,
    ensure_workspace,
    leaving,
    look_at,
    make_workspace,
    release_workspace,
    remove_workspace,
    request_removal,
    retention,
)


@pytest.fixture
def kept(project) -> KeptWork:
    workspace = ensure_workspace(project=project, label="DEMO-1")
    (Path(workspace.path) / "new.txt").write_text("worth keeping\n")
    commit_left(workspace, message="Add a file", author_name="agent")
    request_removal(workspace)
    remove_workspace(workspace.pk)
    return KeptWork.objects.get(workspace=workspace)


def content(response) -> bytes:
    """What a download holds."""

    async def read() -> bytes:
        return b"".join([piece async for piece in response.streaming_content])

    return async_to_sync(read)()


def test_storage__says_what_is_there_and_marks_it_seen(project, kept, viewer, outsider):
    workspace = ensure_workspace(project=project, label="DEMO-2")
    look_at(workspace.pk)
    assert KeptWork.objects.get().seen_at is None
    body = viewer.get("/api/v1/projects/DEMO/storage").json()
    assert [one["label"] for one in body["workspaces"]] == ["DEMO-2"]
    assert body["workspaces"][0]["size_bytes"] == body["checkout_bytes"] > 0
    assert body["bytes"] == body["checkout_bytes"] + body["kept_bytes"]
    assert (body["quota_bytes"], body["over_quota"], body["repository_trouble"]) == (None, False, "")
    assert [(one["id"], one["patch_bytes"]) for one in body["kept"]] == [(str(kept.pk), kept.patch_bytes)]
    assert KeptWork.objects.get().seen_at is not None
    error_of(outsider.get("/api/v1/projects/DEMO/storage"), 404)


def test_quota__warns_its_people(project, kept, viewer, outsider):
    owner = token_client(make_member(project, Role.OWNER))
    assert owner.patch("/api/v1/projects/DEMO", {"quota_mb": 1, "retention_days": 3}).json()["quota_mb"] == 1
    Workspace.objects.filter(pk=ensure_workspace(project=project, label="DEMO-2").pk).update(size_bytes=3 << 20)
    assert viewer.get("/api/v1/projects/DEMO/storage").json()["over_quota"] is True
    notes = viewer.get("/api/v1/health").json()["storage"]["notes"]
    assert any(note.startswith(f"{project.name} takes 3 MB of the 1 MB") for note in notes)
    assert outsider.get("/api/v1/health").json()["storage"]["notes"] == []
    error_of(owner.patch("/api/v1/projects/DEMO", {"retention_days": -1}), 400)


@pytest.mark.parametrize(("form", "kind"), [("patch", "text/x-patch"), ("bundle", "application/x-git-bundle")])
def test_kept_file__is_streamed_with_its_type(kept, viewer, outsider, form, kind):
    response = viewer.get(f"/api/v1/kept/{kept.pk}/{form}", HTTP_ACCEPT="*/*")
    assert (response.status_code, response["Content-Type"]) == (200, kind)
    assert response["Content-Disposition"] == f'attachment; filename="demo-1-{kept.workspace_id.hex[:8]}.{form}"'
    assert content(response) == Path(getattr(kept, form)).read_bytes()
    error_of(outsider.get(f"/api/v1/kept/{kept.pk}/{form}"), 404)
    Path(getattr(kept, form)).unlink()
    error_of(viewer.get(f"/api/v1/kept/{kept.pk}/{form}"), 404, "not_kept")


def test_kept_file__never_leads_out_of_its_folder(kept, viewer, tmp_path):
    (tmp_path / "secret.patch").write_text("secret")
    place = Path(kept.patch)
    place.unlink()
    place.symlink_to(tmp_path / "secret.patch")
    error_of(viewer.get(f"/api/v1/kept/{kept.pk}/patch"), 404, "not_kept")
    KeptWork.objects.update(patch=str(tmp_path / "secret.patch"))
    error_of(viewer.get(f"/api/v1/kept/{kept.pk}/patch"), 404, "not_kept")


def test_kept__restore_keep_and_delete_by_role(kept, viewer, reviewer, maintainer):
    url = f"/api/v1/kept/{kept.pk}"
    error_of(viewer.patch(url, {"keep": True}), 403)
    assert reviewer.patch(url, {"keep": True}).json()["keep"] is True
    error_of(reviewer.post(f"{url}/restore"), 403)
    response = maintainer.post(f"{url}/restore")
    assert (response.status_code, response.json()["state"], response.json()["keep"]) == (202, "creating", True)
    error_of(reviewer.delete(url), 403)
    assert maintainer.delete(url).status_code == 204
    error_of(maintainer.get(url), 404)


def test_workspace__keep_and_remove(project, viewer, reviewer, maintainer):
    workspace = ensure_workspace(project=project, label="DEMO-3")
    url = f"/api/v1/workspaces/{workspace.pk}"
    error_of(viewer.post(f"{url}/keep", {"keep": True}), 403)
    assert reviewer.post(f"{url}/keep", {"keep": True}).json()["keep"] is True
    error_of(maintainer.post(f"{url}/remove"), 409)
    release_workspace(workspace)
    error_of(reviewer.post(f"{url}/remove"), 403)
    response = maintainer.post(f"{url}/remove")
    assert (response.status_code, response.json()["state"]) == (202, "removing")


def test_workspace__removal_says_what_goes_and_wants_it_confirmed(project, reviewer, maintainer):
    workspace = ensure_workspace(project=project, label="DEMO-4")
    url, folder = f"/api/v1/workspaces/{workspace.pk}/remove", Path(workspace.path)
    error_of(maintainer.get(url), 409)  # not finished
    (folder / ".gitignore").write_text(".env\nnode_modules/\n*.sqlite3\n")
    (folder / "node_modules" / "deep").mkdir(parents=True)
    (folder / "node_modules" / "deep" / "big.js").write_text("x" * 9_000)
    (folder / "node_modules" / "out").symlink_to("/")
    for name in (".env", "local.sqlite3"):
        (folder / name).write_text("1\n")
    (Path(project.path) / ".env").write_text("1\n")  # the person has the same
    release_workspace(workspace)
    error_of(reviewer.get(url), 403)  # names of ignored files are for those who may remove, as on the page
    found = maintainer.get(url).json()
    assert [(one["name"], one["files"]) for one in found["lost"]] == [("local.sqlite3", 1), ("node_modules/", 1)]
    assert (found["lost_files"], found["lost_bytes"] > 9_000, found["needs_confirmation"]) == (2, True, True)
    assert (found["not_merged"], found["uncommitted_names"], found["kept"]) == (0, [".gitignore"], True)
    refused = error_of(maintainer.post(url), 409, "confirmation_needed")
    assert ("local.sqlite3" in refused["message"], refused["detail"]["lost_files"]) == (True, 2)
    assert folder.is_dir()
    assert refused["detail"]["confirm"] == found["confirm"] == maintainer.get(url).json()["confirm"]
    for wrong in ({"confirmed": found["confirm"]}, {"confirm": True}):
        error_of(maintainer.post(url, wrong), 400)
    assert maintainer.post(url, {"confirm": found["confirm"]}).status_code == 202
    remove_workspace(workspace.pk)
    assert not folder.exists()
    error_of(maintainer.get(url), 409)


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        *((one, 4.0) for one in ("new", "grown", "ignored since", "in a folder", "no longer elsewhere", "uncommitted")),
        ("new", -1.0),  # names alone are compared when there is no time to weigh
    ],
)
def test_workspace__a_removal_is_confirmed_for_what_was_shown(project, maintainer, monkeypatch, change, seconds):
    monkeypatch.setattr(leaving, "WEIGH_SECONDS", seconds)
    workspace = ensure_workspace(project=project, label="DEMO-6")
    url, folder = f"/api/v1/workspaces/{workspace.pk}/remove", Path(workspace.path)
    (folder / ".gitignore").write_text(".env\nbuild/\n*.sqlite3\n")
    (folder / "build").mkdir()
    (folder / "notes.txt").write_text("mine\n")
    for place in (folder / ".env", folder / "local.sqlite3", folder / "build" / "one", Path(project.path) / ".env"):
        place.write_text("1\n")
    release_workspace(workspace)
    shown = maintainer.get(url).json()
    {
        "new": lambda: (folder / "other.sqlite3").write_text("1\n"),
        "grown": lambda: (folder / "local.sqlite3").write_text("12\n"),
        "ignored since": lambda: (folder / ".gitignore").write_text(".env\nbuild/\n*.sqlite3\nnotes.txt\n"),
        "in a folder": lambda: (folder / "build" / "one").rename(folder / "build" / "two"),
        "no longer elsewhere": lambda: (Path(project.path) / ".env").unlink(),
        "uncommitted": lambda: (folder / "new.txt").write_text("1\n"),
    }[change]()
    refused = error_of(maintainer.post(url, {"confirm": shown["confirm"]}), 409, "confirmation_needed")
    now = maintainer.get(url).json()
    assert "has changed since" in refused["message"]
    assert refused["detail"] == {name: now[name] for name in refused["detail"]}
    assert (refused["detail"]["confirm"] != shown["confirm"], folder.is_dir()) == (True, True)
    assert Workspace.objects.get(pk=workspace.pk).state == "ready"
    assert maintainer.post(url, {"confirm": now["confirm"]}).status_code == 202


def test_workspace__a_removal_is_not_begun_while_something_is_at_work_in_it(project, maintainer, monkeypatch):
    monkeypatch.setattr(retention, "LOCK_PATIENCE", 0.0)
    workspace = ensure_workspace(project=project, label="DEMO-7")
    release_workspace(workspace)
    url = f"/api/v1/workspaces/{workspace.pk}/remove"
    with held(f"workspace:{workspace.pk}", patience=0.0):
        assert "try again" in error_of(maintainer.post(url), 409)["message"]
    assert maintainer.post(url).status_code == 202


def test_workspace__a_removal_that_cannot_be_foreseen_wants_it_confirmed(project, maintainer):
    workspace = ensure_workspace(project=project, label="DEMO-5")
    release_workspace(workspace)
    (Path(workspace.path) / ".git").write_text("gitdir: /nowhere\n")
    url = f"/api/v1/workspaces/{workspace.pk}/remove"
    found = maintainer.get(url).json()
    assert ("lost its link" in found["unknown"], found["needs_confirmation"]) == (True, True)
    error_of(maintainer.post(url), 409, "confirmation_needed")
    assert maintainer.post(url, {"confirm": found["confirm"]}).status_code == 202


def test_start_from__a_branch_of_a_person(project, maintainer, reviewer):
    repository = Path(project.path)
    git(repository, "switch", "-q", "-c", "feature/half-done")
    (repository / "half.txt").write_text("half\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "Half of it")
    tip = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "switch", "-q", "main")
    task = make_task(project)
    url = f"/api/v1/tasks/{task.key}/start-from"
    error_of(reviewer.post(url, {"branch": "feature/half-done"}), 403)
    for wrong in ("nonsense", "--all", "HEAD~1"):
        assert error_of(maintainer.post(url, {"branch": wrong}), 400)["detail"]["field"] == "branch"
    assert maintainer.post(url, {"branch": "feature/half-done"}).status_code == 200
    task.refresh_from_db()
    workspace = ensure_workspace(project=project, label=task.key, workspace_id=task.workspace_id)
    assert (Path(workspace.path) / "half.txt").read_text() == "half\n"
    assert workspace.base_commit == git(repository, "rev-parse", "main").strip()
    assert git(repository, "rev-parse", "feature/half-done").strip() == tip
    assert workspace.branch != "feature/half-done"
    error_of(maintainer.post(url, {"branch": ""}), 409)  # its checkout is there: it has started


def test_start_from__kept_work_of_an_earlier_attempt(project, kept, maintainer):
    task = make_task(project)
    url = f"/api/v1/tasks/{task.key}/start-from"
    assert maintainer.post(url, {"kept": str(kept.pk)}).json()["branch"].startswith("studio/")
    assert maintainer.post(url, {}).json()["workspace"] is None  # the target branch again
    maintainer.post(url, {"kept": str(kept.pk)})
    task.refresh_from_db()
    make_workspace(task.workspace_id)
    assert (Path(task.workspace.path) / "new.txt").read_text() == "worth keeping\n"
    error_of(maintainer.post(f"/api/v1/tasks/{task.key}/start-from", {"kept": str(kept.pk), "branch": "main"}), 400)


def test_start_from__a_worktree_of_a_person_with_what_is_not_committed(
    project, maintainer, reviewer, tmp_path, settings
):
    repository, place = Path(project.path), Path(project.path).with_name(f"{Path(project.path).name} by hand")
    git(repository, "worktree", "add", "-q", "-b", "feature/by-hand", str(place))
    (place / "half.txt").write_text("half\n")
    git(place, "add", "-A")
    (place / "half.txt").write_text("half, and more\n")
    (place / "out").symlink_to("/etc")
    said, index = git(place, "status", "--porcelain"), Path(git(place, "rev-parse", "--git-dir").strip(), "index")
    before = index.read_bytes()
    own = ensure_workspace(project=project, label="DEMO-9")
    url = "/api/v1/projects/DEMO/starts"
    error_of(reviewer.get(url), 403)
    found = maintainer.get(url).json()
    assert found["worktrees"] == [
        {"path": str(repository), "branch": "main"},
        {"path": str(place), "branch": "feature/by-hand"},
    ]
    task = make_task(project)
    url = f"/api/v1/tasks/{task.key}/start-from"
    error_of(reviewer.post(url, {"worktree": str(place)}), 403)
    for wrong in (own.path, "/etc", str(place / "nothing"), "nonsense"):
        assert error_of(maintainer.post(url, {"worktree": wrong}), 400)["detail"]["field"] == "worktree"
    assert maintainer.post(url, {"worktree": str(place)}).status_code == 200
    assert (index.read_bytes(), git(place, "status", "--porcelain")) == (before, said)
    (place / "half.txt").write_text("the person went on\n")
    task.refresh_from_db()
    assert (
        "with 2 files that were not committed; taken as a link that leads outside: out" in task.workspace.started_from
    )
    git(repository, "gc", "-q", "--prune=now")  # it waits on a branch of its own
    workspace = ensure_workspace(project=project, label=task.key, workspace_id=task.workspace_id)
    folder = Path(workspace.path)
    assert ((folder / "half.txt").read_text(), (folder / "out").readlink()) == ("half, and more\n", Path("/etc"))
    assert git(folder, "log", "-1", "--format=%an").strip() == "A Person"
    assert workspace.base_commit == git(repository, "rev-parse", "main").strip()


def test_start_from__a_worktree_that_leads_into_another_repository(project, maintainer):
    repository, stranger = Path(project.path), make_repository()
    place = repository.with_name(f"{repository.name} lying")
    git(repository, "worktree", "add", "-q", "--detach", str(place))
    (place / ".git").write_text(f"gitdir: {stranger / '.git'}\n")
    objects = sorted((stranger / ".git").rglob("*"))
    (place / "new.txt").write_text("1\n")
    url = f"/api/v1/tasks/{make_task(project).key}/start-from"
    assert error_of(maintainer.post(url, {"worktree": str(place)}), 400)["detail"]["field"] == "worktree"
    assert sorted((stranger / ".git").rglob("*")) == objects
