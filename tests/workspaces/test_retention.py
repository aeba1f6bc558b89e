"""How long checkouts and kept work stay: days, people who keep them, processes inside, and whose a folder is."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings

from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Forbidden, NotFound
from studio.kernel.permissions import Role
from tests.factories import git, make_member
from workspaces import disk, jobs
from workspaces.models import KeptWork, Project, PullRequest, Workspace
from workspaces.services import (
    commit_left,
    delete_kept,
    discard_workspace,
    ensure_workspace,
    find_kept,
    hold_kept,
    hold_workspace,
    let_go,
    look_at,
    look_before_removal,
    make_workspace,
    mark_seen,
    register_project,
    release_workspace,
    remove_workspace,
    request_merge,
    request_removal,
    request_revert,
    restore_kept,
    retention,
    run_merge,
    sweep,
)
from workspaces.services.ownership import note_of, unknown_folders
from workspaces.vcs.git import GitVcs

pytestmark = pytest.mark.django_db


@pytest.fixture
def unmerged(workspace, checkout) -> KeptWork:
    """What is kept of a workspace with one commit that nobody merged, once it was removed."""
    (checkout / "new.txt").write_text("worth keeping\n")
    commit_left(workspace, message="Add a file", author_name="agent")
    request_removal(workspace)
    remove_workspace(workspace.pk)
    return KeptWork.objects.get(workspace=workspace)


def finished(workspace: Workspace, **ago: float) -> Workspace:
    """The workspace, finished some time ago."""
    release_workspace(workspace)
    Workspace.objects.filter(pk=workspace.pk).update(finished_at=now() - timedelta(**ago))
    workspace.refresh_from_db()
    return workspace


def state_of(workspace: Workspace) -> str:
    sweep()
    return Workspace.objects.values_list("state", flat=True).get(pk=workspace.pk)


@pytest.mark.parametrize(
    ("days", "ago", "state"),
    [(7, 6.9, "ready"), (7, 7.1, "removing"), (0, 0.1, "removing"), (None, 5000, "ready")],
)
def test_retention__days_after_the_task_was_finished(project, workspace, days, ago, state):
    Project.objects.filter(pk=project.pk).update(retention_days=days)
    finished(workspace, days=ago)
    assert state_of(workspace) == state


def test_retention__a_workspace_in_work_never_goes(project, workspace):
    Project.objects.filter(pk=project.pk).update(retention_days=0)
    Workspace.objects.filter(pk=workspace.pk).update(created_at=now() - timedelta(days=900))
    assert state_of(workspace) == "ready"


def test_retention__what_ends_just_now_has_a_moment(project, workspace):
    Project.objects.filter(pk=project.pk).update(retention_days=0)
    release_workspace(workspace)
    assert state_of(workspace) == "ready"


def test_retention__a_sweep_removes_a_few_and_the_oldest_first(owner, project):
    rows = [finished(ensure_workspace(project=project, label=f"DEMO-{n}"), days=10 + n) for n in range(7)]
    sweep()
    going = set(Workspace.objects.filter(state="removing").values_list("label", flat=True))
    assert going == {row.label for row in rows[2:]}
    sweep()
    assert not Workspace.objects.filter(state="ready").exists()


def test_keep__until_a_person_says(owner, workspace):
    finished(workspace, days=100)
    hold_workspace(actor=owner, workspace=workspace, keep=True)
    assert state_of(workspace) == "ready"
    assert let_go(workspace) is False  # a reopened or deleted task does not take it away either
    hold_workspace(actor=owner, workspace=workspace, keep=False)
    assert state_of(workspace) == "removing"
    with pytest.raises(Conflict):
        hold_workspace(actor=owner, workspace=workspace, keep=True)


def test_retention__a_person_keeps_one_while_others_are_taken(owner, project, monkeypatch):
    first, second = (finished(ensure_workspace(project=project, label=f"DEMO-{n}"), days=20 - n) for n in (1, 2))

    def requested(row, **options):
        hold_workspace(actor=owner, workspace=second, keep=True)
        return request_removal(row, **options)

    monkeypatch.setattr(retention, "request_removal", requested)
    assert (state_of(first), state_of(second)) == ("removing", "ready")


def test_discard__only_a_finished_one_and_only_by_a_maintainer(project, owner, workspace):
    with pytest.raises(Conflict, match="not finished"):
        discard_workspace(actor=owner, workspace=workspace)
    release_workspace(workspace)
    with pytest.raises(Forbidden):
        discard_workspace(actor=make_member(project, Role.REVIEWER), workspace=workspace)
    discard_workspace(actor=make_member(project, Role.MAINTAINER), workspace=workspace)
    assert state_of(workspace) == "removing"


def test_remove__waits_for_a_process_that_works_inside(workspace, checkout):
    with subprocess.Popen([sys.executable, "-c", "input()"], cwd=checkout, stdin=subprocess.PIPE) as process:
        request_removal(workspace)
        remove_workspace(workspace.pk)
        workspace.refresh_from_db()
        assert (workspace.state, (checkout / "app.py").exists()) == ("removing", True)
        assert f"process {process.pid}" in workspace.error
        process.communicate(b"\n")
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    assert (workspace.state, workspace.error, checkout.exists()) == ("removed", "", False)


def test_remove__names_an_open_file(workspace, checkout):
    code = f"import sys; opened = open({str(checkout / 'app.py')!r}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        request_removal(workspace)
        remove_workspace(workspace.pk)
        workspace.refresh_from_db()
        assert f"process {process.pid}" in workspace.error
        process.communicate(b"")


def confirmed(owner, workspace: Workspace) -> None:
    """What a person does who was shown what goes."""
    shown = look_before_removal(actor=owner, workspace=workspace)
    discard_workspace(actor=owner, workspace=workspace, confirm=shown.fingerprint)


@pytest.fixture
def confirm(owner, workspace, checkout):
    """A finished workspace with something ignored in it, and what confirms its removal."""
    (checkout / ".gitignore").write_text("*.sqlite3\n")
    (checkout / "old.sqlite3").write_text("1\n")
    release_workspace(workspace)
    return lambda: confirmed(owner, workspace)


@pytest.mark.parametrize("waiting", [False, True], ids=["at once", "waited for a process"])
def test_remove__not_what_changed_after_it_was_confirmed(workspace, checkout, confirm, waiting):
    """Somebody's editor is still open, and what it writes is in no commit."""
    confirm()
    if waiting:
        with subprocess.Popen([sys.executable, "-c", "input()"], cwd=checkout, stdin=subprocess.PIPE) as process:
            jobs.remove(str(workspace.pk))
            workspace.refresh_from_db()
            assert "Still in use" in workspace.error
            process.communicate(b"\n")
    (checkout / "new.sqlite3").write_text("1\n")
    for _ in range(2):  # the sweeper rang for it as well
        jobs.remove(str(workspace.pk))
        workspace.refresh_from_db()
        assert (workspace.state, (checkout / "new.sqlite3").exists()) == ("ready", True)
        assert "has changed since that was confirmed" in workspace.error
    confirm()
    jobs.remove(str(workspace.pk))
    workspace.refresh_from_db()
    assert (workspace.state, workspace.error, checkout.exists()) == ("removed", "", False)


@pytest.mark.parametrize("step", ["commit_all", "export", "remove_checkout", "delete_branch"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_remove__its_own_steps_are_no_change_of_what_was_confirmed(workspace, confirm, monkeypatch, step, when):
    real = getattr(GitVcs, step)

    def die(*args, **options):
        if when == "after":
            real(*args, **options)
        raise KeyboardInterrupt

    confirm()
    with monkeypatch.context() as broken:
        broken.setattr(GitVcs, step, staticmethod(die))
        with pytest.raises(KeyboardInterrupt):
            jobs.remove(str(workspace.pk))
    jobs.remove(str(workspace.pk))
    workspace.refresh_from_db()
    assert workspace.state == "removed"


def test_retention__what_nobody_confirmed_goes_as_it_is(project, workspace, checkout):
    project.retention_days = 7
    project.save()
    finished(workspace, days=8)
    assert state_of(workspace) == "removing"
    (checkout / "new.txt").write_text("1\n")
    jobs.remove(str(workspace.pk))
    workspace.refresh_from_db()
    assert (workspace.state, Path(workspace.kept_patch).exists()) == ("removed", True)


@pytest.mark.parametrize("note", ["missing", "another", "link"])
def test_remove__a_folder_whose_note_is_not_ours_is_left(workspace, checkout, tmp_path, note):
    place = note_of(checkout)
    said = place.read_text()
    place.unlink()
    if note == "another":
        place.write_text(said.replace(workspace.marker, "0" * 32))
    if note == "link":
        (tmp_path / "said").write_text(said)
        place.symlink_to(tmp_path / "said")
    request_removal(workspace)
    remove_workspace(workspace.pk)
    workspace.refresh_from_db()
    assert (workspace.state, (checkout / "app.py").exists()) == ("removing", True)
    assert "is not the folder that the studio made" in workspace.error


def test_unknown_folders__are_named_and_never_deleted(project, workspace):
    root = Path(settings.STUDIO_WORKSPACE_ROOT)
    stranger = root / project.key / "left-over"
    stranger.mkdir()
    (stranger / "precious").write_text("x")
    assert str(stranger) in unknown_folders()
    assert workspace.path not in unknown_folders()
    request_removal(workspace)
    remove_workspace(workspace.pk)
    sweep()
    assert (stranger / "precious").exists()
    assert str(stranger) in unknown_folders()
    (stranger / "precious").unlink()
    stranger.rmdir()


def test_kept__is_a_row_with_both_files(unmerged, workspace):
    assert (unmerged.label, unmerged.project_key, unmerged.base_branch) == ("DEMO-1", "DEMO", "trunk")
    assert unmerged.patch_bytes == Path(unmerged.patch).stat().st_size > 0
    assert unmerged.bundle_bytes == Path(unmerged.bundle).stat().st_size > 0
    remove_workspace(workspace.pk)
    assert KeptWork.objects.count() == 1


def test_kept__never_goes_before_somebody_was_shown_it(unmerged, settings):
    settings.STUDIO_KEPT_DAYS = 30
    KeptWork.objects.update(created_at=now() - timedelta(days=5000))
    sweep()
    assert Path(unmerged.patch).exists()
    mark_seen(KeptWork.objects.all())
    sweep()
    assert Path(unmerged.patch).exists()  # its time has just begun
    KeptWork.objects.update(seen_at=now() - timedelta(days=31), keep=True)
    sweep()
    assert Path(unmerged.patch).exists()  # a person keeps it
    KeptWork.objects.update(keep=False)
    sweep()
    assert (Path(unmerged.patch).exists(), Path(unmerged.bundle).exists()) == (False, False)
    unmerged.refresh_from_db()
    assert (unmerged.deleted_at is not None, unmerged.patch, unmerged.bundle) == (True, "", "")


@pytest.mark.parametrize("act", ["keep", "restore"])
def test_kept__a_person_keeps_or_restores_it_while_others_expire(owner, project, settings, monkeypatch, act):
    settings.STUDIO_KEPT_DAYS = 30
    for label in ("A", "B"):
        row = ensure_workspace(project=project, label=label)
        (Path(row.path) / "new.txt").write_text("worth keeping\n")
        request_removal(row)
        remove_workspace(row.pk)
    first, second = KeptWork.objects.order_by("created_at")
    for days, row in ((33, first), (32, second)):
        KeptWork.objects.filter(pk=row.pk).update(seen_at=now() - timedelta(days=days))
    unlink = Path.unlink

    def unlinked(place, **options):
        if place == Path(first.bundle) and act == "keep":
            hold_kept(actor=owner, kept=second, keep=True)
        if place == Path(first.bundle) and act == "restore":
            restore_kept(actor=owner, kept=second)
        unlink(place, **options)

    monkeypatch.setattr(Path, "unlink", unlinked)
    sweep()
    second.refresh_from_db()
    assert (Path(first.bundle).exists(), Path(second.bundle).exists(), second.deleted_at) == (False, True, None)


def test_kept__a_deletion_that_was_killed_is_finished(unmerged, owner, monkeypatch):
    def die(*_args, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            delete_kept(actor=owner, kept=unmerged)
    with pytest.raises(NotFound, match="has just been deleted"):
        hold_kept(actor=owner, kept=unmerged, keep=True)
    KeptWork.objects.update(deleted_at=now() - timedelta(hours=2))
    sweep()
    assert (Path(unmerged.patch).exists(), Path(unmerged.bundle).exists()) == (False, False)


def test_kept__for_ever_where_no_time_is_set(unmerged, settings):
    settings.STUDIO_KEPT_DAYS = None
    KeptWork.objects.update(seen_at=now() - timedelta(days=5000))
    sweep()
    assert Path(unmerged.patch).exists()


def test_kept__roles(unmerged, project, stranger):
    viewer, reviewer, maintainer = (
        make_member(project, role) for role in (Role.VIEWER, Role.REVIEWER, Role.MAINTAINER)
    )
    with pytest.raises(NotFound):
        find_kept(stranger, unmerged.pk)
    assert find_kept(viewer, unmerged.pk) == unmerged
    with pytest.raises(Forbidden):
        hold_kept(actor=viewer, kept=unmerged, keep=True)
    assert hold_kept(actor=reviewer, kept=unmerged, keep=True).keep
    with pytest.raises(Forbidden):
        delete_kept(actor=reviewer, kept=unmerged)
    delete_kept(actor=maintainer, kept=unmerged)
    assert not Path(unmerged.bundle).exists()


def test_restore__a_workspace_of_its_own_on_a_new_branch(
    unmerged, owner, repository, requested_jobs, django_capture_on_commit_callbacks
):
    before = git(repository, "rev-parse", "HEAD", "trunk")
    with django_capture_on_commit_callbacks(execute=True):
        row = restore_kept(actor=owner, kept=unmerged)
    assert ("workspaces.make", (str(row.pk),)) in requested_jobs
    make_workspace(row.pk)
    row.refresh_from_db()
    assert (row.state, row.keep, row.restores) == ("ready", True, unmerged)
    assert (Path(row.path) / "new.txt").read_text() == "worth keeping\n"
    assert git(repository, "log", "--format=%s", f"trunk..{row.branch}").split("\n")[0] == "Add a file"
    assert git(repository, "rev-parse", "HEAD", "trunk") == before
    make_workspace(row.pk)
    assert Path(unmerged.bundle).exists()  # restored, and still offered


def test_restore__after_git_has_cleaned_up(unmerged, owner, repository):
    row = restore_kept(actor=owner, kept=unmerged)
    git(repository, "reflog", "expire", "--expire=now", "--all")
    git(repository, "gc", "-q", "--prune=now")
    make_workspace(row.pk)
    row.refresh_from_db()
    assert (row.state, (Path(row.path) / "new.txt").exists()) == ("ready", True)


def test_restore__its_time_is_over_while_its_commits_are_fetched(unmerged, owner, repository, settings, monkeypatch):
    settings.STUDIO_KEPT_DAYS = 30
    KeptWork.objects.update(seen_at=now() - timedelta(days=31))
    bring_back = GitVcs.bring_back

    def brought(*args):
        head = bring_back(*args)
        sweep()
        return head

    monkeypatch.setattr(GitVcs, "bring_back", staticmethod(brought))
    row = restore_kept(actor=owner, kept=unmerged)
    git(repository, "gc", "-q", "--prune=now")
    make_workspace(row.pk)
    row.refresh_from_db()
    assert (row.state, Path(unmerged.bundle).exists()) == ("ready", False)
    assert (Path(row.path) / "new.txt").read_text() == "worth keeping\n"


def test_look_at__measures_and_says_what_is_not_merged(workspace, checkout, tmp_path):
    (checkout / "big.bin").write_bytes(b"x" * 1_000_000)
    (checkout / "same.bin").hardlink_to(checkout / "big.bin")
    (checkout / "out").symlink_to(tmp_path)
    (tmp_path / "huge.bin").write_bytes(b"x" * 3_000_000)
    look_at(workspace.pk)
    workspace.refresh_from_db()
    assert 1_000_000 <= workspace.size_bytes < 1_200_000
    assert (workspace.ahead, workspace.uncommitted, workspace.trouble) == (0, 3, "")
    commit_left(workspace, message="m", author_name="a")
    look_at(workspace.pk)
    workspace.refresh_from_db()
    assert (workspace.ahead, workspace.uncommitted) == (1, 0)


def test_measure__counts_blocks_and_stops_in_time(tmp_path):
    with (tmp_path / "sparse").open("wb") as handle:
        handle.truncate(1 << 30)
    assert disk.measure(tmp_path, seconds=5).bytes < 1_000_000
    assert disk.measure(tmp_path, seconds=-1) == disk.Size(0, partial=True)
    assert disk.measure(tmp_path / "nothing", seconds=5) == disk.Size(0, partial=False)


def test_sweep__has_workspaces_looked_at_a_few_at_a_time(project, requested_jobs, django_capture_on_commit_callbacks):
    for n in range(4):
        ensure_workspace(project=project, label=f"X-{n}")
    Workspace.objects.update(look_due=None)
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
        sweep()
        sweep()
    asked = [ids for name, ids in requested_jobs if name == "workspaces.look_at"]
    assert len(asked) == len(set(asked)) == 4


def test_removing_a_project__leaves_what_was_kept(unmerged, owner, project):
    from workspaces.services import remove_project

    remove_project(actor=owner, project=project)
    unmerged.refresh_from_db()
    assert (unmerged.project, unmerged.project_key, Path(unmerged.patch).exists()) == (None, "DEMO", True)


def test_register__takes_the_usual_days(owner, repository, settings):
    settings.STUDIO_WORKSPACE_DAYS = 3
    assert register_project(actor=owner, path=str(repository), key="THREE").retention_days == 3


def looked_at(workspace: Workspace) -> tuple[int | None, int | None, str, str]:
    """What a look finds merged and not: commits, files, by which merge, as what."""
    look_at(workspace.pk)
    workspace.refresh_from_db()
    return workspace.ahead, workspace.uncommitted, workspace.merged_how, workspace.merged_as


@pytest.mark.parametrize("how", ["squash", "rebase"])
def test_look_at__a_recorded_merge_counts_as_merged(workspace, checkout, repository, commit, how):
    for name in ("one.txt", "two.txt"):
        (checkout / name).write_text("1\n")
        commit_left(workspace, message="m", author_name="a")
    (repository / "app.py").write_text("moved on\n")
    commit(repository)
    assert looked_at(workspace) == (2, 0, "", "")
    run_merge(request_merge(workspace=workspace, how=how, message="m").pk)
    result = git(repository, "rev-parse", "trunk").strip()
    assert looked_at(workspace) == (0, 0, how, result)
    (checkout / "later.txt").write_text("2\n")
    assert looked_at(workspace) == (0, 1, how, result)
    commit_left(workspace, message="m", author_name="a")
    assert looked_at(workspace) == (1, 0, how, result)  # what came after that merge, and nothing else


@pytest.mark.parametrize("fate", ["taken back", "target put back", "target deleted"])
def test_retention__a_merge_that_is_no_longer_there_counts_for_nothing(workspace, checkout, repository, owner, fate):
    before = git(repository, "rev-parse", "trunk").strip()
    (checkout / "new.txt").write_text("1\n")
    commit_left(workspace, message="another than the squash, whatever the second", author_name="a")
    run_merge(request_merge(workspace=workspace, how="squash", message="m").pk)
    attempt = workspace.merges.get()
    if fate == "taken back":
        run_merge(request_revert(merge=attempt, message="Take it back", actor=owner).pk)
    elif fate == "target put back":
        git(repository, "reset", "-q", "--hard", before)
    else:
        git(repository, "switch", "-q", "-c", "elsewhere", before)
        git(repository, "branch", "-q", "-D", "trunk")
    assert looked_at(workspace)[0] == 1
    request_removal(workspace)
    remove_workspace(workspace.pk)
    assert "new.txt" in Path(KeptWork.objects.get(workspace=workspace).patch).read_text()


def test_look_at__a_merge_that_was_taken_back_is_in_the_history_still(workspace, checkout, owner):
    (checkout / "new.txt").write_text("1\n")
    attempt = request_merge(workspace=workspace, how="merge", message="m")
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    assert looked_at(workspace) == (0, 0, "merge", attempt.result_commit)
    run_merge(request_revert(merge=attempt, message="Take it back", actor=owner).pk)
    assert looked_at(workspace) == (0, 0, "taken_back", attempt.result_commit)


def test_look_at__a_merged_pull_request_counts_once_the_target_has_it(workspace, checkout, repository):
    (checkout / "new.txt").write_text("1\n")
    head = commit_left(workspace, message="m", author_name="a")
    git(repository, "merge", "-q", "--squash", head)
    git(repository, "commit", "-q", "-m", "Squashed on the forge (#7)")
    merged = git(repository, "rev-parse", "trunk").strip()
    git(repository, "reset", "-q", "--hard", "trunk~1")
    PullRequest.objects.create(
        workspace=workspace, state="merged", repository="o/r", number=7, title="t", head_branch="studio/demo-1",
        base_branch="trunk", head_commit=head, merge_commit=merged,
    )  # fmt: skip
    assert looked_at(workspace) == (1, 0, "", "")  # on the forge only
    git(repository, "merge", "-q", "--ff-only", merged)
    assert looked_at(workspace) == (0, 0, "pull_request", merged)
