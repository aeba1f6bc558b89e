"""Registering: every input that cannot be used is refused with a sentence that says what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, Group, Permission

from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from studio.kernel.permissions import Role
from tests.factories import make_member, make_project
from tests.repositories import git, make_repository
from workspaces.models import Project
from workspaces.selectors import role_in
from workspaces.services import (
    commit_left,
    ensure_workspace,
    register_project,
    relocate_project,
    remove_project,
    remove_workspace,
    request_removal,
    update_project,
)
from workspaces.services.projects import free_key, resolve_path
from workspaces.signals import removing_project

pytestmark = pytest.mark.django_db


def refusal(owner, path) -> Invalid:
    with pytest.raises(Invalid) as caught:
        register_project(actor=owner, path=str(path))
    assert caught.value.detail == {"field": "path"}
    assert not Project.objects.exists()
    return caught.value


def test_register__detects_what_it_needs(member, tmp_path):
    folder = make_repository(tmp_path / "Größe und Leere", branch="entwicklung/neu")
    project = register_project(actor=member, path=f"{folder}/")
    assert (project.path, project.default_branch, project.vcs) == (str(folder), "entwicklung/neu", "git")
    assert (project.name, project.key) == ("Größe und Leere", "GUL")
    assert role_in(member, project) == Role.OWNER


def test_register__needs_the_permission_whatever_role_one_has_elsewhere(stranger, owner, tmp_path):
    folder = make_repository(tmp_path / "private")
    make_member(make_project(), Role.OWNER, stranger)
    for path in (folder, tmp_path / "nowhere"):  # refused before it is looked at
        with pytest.raises(Forbidden, match="Ask a superuser"):
            register_project(actor=stranger, path=str(path))
    with pytest.raises(Forbidden):
        register_project(actor=AnonymousUser(), path=str(folder))
    people = Group.objects.create(name="Operators")
    people.permissions.add(Permission.objects.get(content_type__app_label="workspaces", codename="add_project"))
    stranger.groups.add(people)
    again = type(stranger).objects.get(pk=stranger.pk)  # permissions are looked up once an account
    assert role_in(again, register_project(actor=again, path=str(folder))) == Role.OWNER


@pytest.mark.parametrize("branch", ["master", "main", "trunk", "ünïcode", "a/b"])
def test_register__any_default_branch(owner, tmp_path, branch):
    project = register_project(actor=owner, path=str(make_repository(tmp_path / "r", branch=branch)))
    assert project.default_branch == branch
    assert ensure_workspace(project=project, label="X-1").base_branch == branch


def test_register__a_dirty_checkout_is_fine_and_left_alone(owner, repository):
    (repository / "app.py").write_text("unsaved\n")
    (repository / "new.txt").write_text("new\n")
    git(repository, "add", "app.py")
    before = git(repository, "status", "--porcelain")
    project = register_project(actor=owner, path=str(repository))
    ensure_workspace(project=project, label="X-1")
    assert git(repository, "status", "--porcelain") == before


def test_register__a_linked_worktree_is_fine(owner, repository, tmp_path):
    git(repository, "worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    project = register_project(actor=owner, path=str(tmp_path / "linked"))
    assert project.default_branch == "side"
    assert Path(ensure_workspace(project=project, label="X-1").path).is_dir()


def test_register__relative(owner):
    error = refusal(owner, "some/folder")
    assert error.code == "path_not_absolute"
    assert "begin with /" in error.message


@pytest.mark.parametrize("path", ["", "   ", "/tmp/a\0b", "/" + "x" * 2000, "/tmp/\x1b[31mred"])
def test_register__not_a_path(owner, path):
    assert refusal(owner, path).code == "path_invalid"


def test_register__does_not_exist(owner, tmp_path):
    error = refusal(owner, tmp_path / "nowhere")
    assert error.code == "path_missing"
    assert "does not exist" in error.message


def test_register__a_file(owner, tmp_path):
    (tmp_path / "file").write_text("x")
    error = refusal(owner, tmp_path / "file")
    assert (error.code, "is a file" in error.message) == ("path_not_a_folder", True)


def test_register__no_repository(owner, tmp_path):
    (tmp_path / "plain").mkdir()
    error = refusal(owner, tmp_path / "plain")
    assert (error.code, "git init" in error.message) == ("not_a_repository", True)


def test_register__bare(owner, tmp_path):
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    error = refusal(owner, tmp_path / "bare.git")
    assert (error.code, "bare" in error.message) == ("repository_bare", True)


def test_register__inside_the_git_folder(owner, repository):
    assert refusal(owner, repository / ".git").code == "not_a_repository"
    assert refusal(owner, repository / ".git" / "objects").code == "not_a_repository"


def test_register__no_commit(owner, tmp_path):
    git(tmp_path, "init", "-q", "empty")
    error = refusal(owner, tmp_path / "empty")
    assert (error.code, "no commit" in error.message) == ("repository_empty", True)


def test_register__detached_head(owner, repository):
    git(repository, "checkout", "-q", "--detach")
    error = refusal(owner, repository)
    assert (error.code, "git switch" in error.message) == ("detached_head", True)


def test_register__a_subfolder_names_the_root(owner, repository):
    error = refusal(owner, repository / "lib" / "deep")
    assert error.code == "repository_subfolder"
    assert str(repository) in error.message


def test_register__another_account_owns_it(owner, repository, own_home, monkeypatch):
    monkeypatch.setattr("workspaces.vcs.git_command.ENVIRONMENT", _with_different_owner())
    error = refusal(owner, repository)
    assert (error.code, "safe.directory" in error.message) == ("repository_unsafe", True)


def _with_different_owner():
    from workspaces.vcs.git_command import ENVIRONMENT

    return {**ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}


def test_register__below_the_data_folder(owner, monkeypatch):
    inside = make_repository(Path(settings.DATA) / "workspaces" / "sneaky" / "repo")
    error = refusal(owner, inside)
    assert (error.code, "data folder" in error.message) == ("path_in_data_folder", True)


def test_register__outside_the_roots(owner, repository, tmp_path):
    from django.test import override_settings

    elsewhere = tmp_path / "allowed"
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to(repository)
    with override_settings(STUDIO_REPOSITORY_ROOTS=[elsewhere]):
        for path in (repository, elsewhere / "link", elsewhere / ".." / repository.name, tmp_path / "nowhere"):
            error = refusal(owner, path)
            assert error.code == "path_outside_roots"
            assert "STUDIO_REPOSITORY_ROOTS" in error.message
            assert str(elsewhere) in error.message


def test_register__unreadable(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # the superuser may read everything
        with pytest.raises(Invalid) as caught:
            resolve_path(str(tmp_path / "closed"))
    finally:
        os.seteuid(user)
    assert caught.value.code == "path_unreadable"


def test_register__names_that_no_database_takes(owner, tmp_path):
    folder = make_repository(tmp_path / os.fsdecode(b"bad\xff"))
    (tmp_path / "link").symlink_to(folder)
    assert refusal(owner, tmp_path / "link").code == "path_invalid"
    odd = make_repository(tmp_path / "odd", branch=os.fsdecode(b"bad\xff"))
    assert refusal(owner, odd).code == "branch_invalid"


def test_register__twice(owner, project, repository, tmp_path):
    (tmp_path / "link").symlink_to(repository)
    for path in (repository, tmp_path / "link"):
        with pytest.raises(Conflict) as caught:
            register_project(actor=owner, path=str(path))
        assert caught.value.code == "already_registered"


def test_register__keys(owner, project, tmp_path):
    folder = str(make_repository(tmp_path / "other"))
    with pytest.raises(Conflict, match="DEMO is taken"):
        register_project(actor=owner, path=folder, key="demo")
    with pytest.raises(Invalid, match="ten capital letters"):
        register_project(actor=owner, path=folder, key="1X")
    assert register_project(actor=owner, path=folder, key=" ab2 ").key == "AB2"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Demo", "DEMO2"),
        ("opencode-studio", "OS"),
        ("Größe", "GROS"),
        ("日本", "PROJ"),
        ("7zip", "ZIP"),
        ("x", "XPRO"),
        ("one two three four five six seven", "OTTFF"),
    ],
)
def test_free_key__is_made_of_the_name(project, name, key):
    assert free_key(name) == key


def test_free_key__always_finds_one(project):
    for number in range(12):
        Project.objects.create(name="n", key=free_key("Demo"), path=f"/n/{number}", default_branch="b")
    assert Project.objects.filter(key="DEMO13").exists()


def test_update__changes_what_may_be_changed(owner, project, repository):
    git(repository, "branch", "release")
    update_project(
        actor=owner, project=project, name="  Another   name ", default_branch="release", max_review_rounds=5
    )
    project.refresh_from_db()
    assert (project.name, project.default_branch, project.max_review_rounds) == ("Another name", "release", 5)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"default_branch": "nope"}, "default_branch"),
        ({"default_branch": "--help"}, "default_branch"),
        ({"default_branch": ""}, "default_branch"),
        ({"max_review_rounds": 21}, "max_review_rounds"),
        ({"max_parallel_runs": 0}, "max_parallel_runs"),
        ({"plan_approval": "perhaps"}, "plan_approval"),
        ({"key": "OTHER"}, "key"),
        ({"path": "/etc"}, "path"),
    ],
)
def test_update__refuses(owner, project, fields, field):
    with pytest.raises(Invalid) as caught:
        update_project(actor=owner, project=project, **fields)
    assert caught.value.detail == {"field": field}
    before = Project.objects.get(pk=project.pk)
    assert (before.name, before.default_branch, before.key) == ("Demo", "trunk", "DEMO")


@pytest.mark.parametrize("meanwhile", ["another default branch", "amended", "amended, and all removed but one"])
def test_relocate__the_bases_of_tasks_need_not_be_on_the_default_branch(
    owner, project, repository, commit, tmp_path, meanwhile
):
    git(repository, "branch", "release")
    (repository / "app.py").write_text("1\n")
    commit(repository)
    workspace = ensure_workspace(project=project, label="DEMO-1")
    if meanwhile == "another default branch":
        update_project(actor=owner, project=project, default_branch="release")
    else:
        (repository / "app.py").write_text("2\n")
        git(repository, "commit", "-q", "-a", "--amend", "--no-edit")
    if meanwhile == "amended, and all removed but one":
        request_removal(workspace)
        remove_workspace(workspace.pk)
        git(repository, "reflog", "expire", "--expire=now", "--all")
        git(repository, "gc", "-q", "--prune=now")
        workspace = ensure_workspace(project=project, label="DEMO-2")
    project.refresh_from_db()
    moved = repository.rename(tmp_path / "moved")
    assert relocate_project(actor=owner, project=project, path=str(moved)).path == str(moved)
    assert commit_left(workspace, message="m", author_name="a")  # its links were mended


@pytest.mark.parametrize("removed", [False, True])
def test_relocate__another_repository_with_such_a_branch_is_refused(owner, project, repository, tmp_path, removed):
    workspace = ensure_workspace(project=project, label="DEMO-1")
    if removed:
        request_removal(workspace)
        remove_workspace(workspace.pk)
    repository.rename(tmp_path / "moved")
    another = make_repository(tmp_path / "another", branch="trunk", files={"another.txt": "x\n"})
    with pytest.raises(Invalid, match="is not the one of Demo"):
        relocate_project(actor=owner, project=project, path=str(another))


def test_update_and_remove__are_the_owners(project, stranger):
    maintainer = make_member(project, Role.MAINTAINER)
    for person, error in ((stranger, NotFound), (maintainer, Forbidden)):
        with pytest.raises(error):
            update_project(actor=person, project=project, name="Mine")
        with pytest.raises(error):
            remove_project(actor=person, project=project)
    assert Project.objects.filter(name="Demo").exists()


def test_remove__keeps_the_repository_and_the_unmerged_work(owner, project, repository, workspace, checkout):
    (checkout / "new.txt").write_text("new\n")
    remove_project(actor=owner, project=project)
    assert not Project.objects.exists()
    assert not checkout.exists()
    assert git(repository, "status", "--porcelain") == ""
    kept = list((Path(settings.DATA) / "kept" / "DEMO").glob(f"*{workspace.pk.hex[:8]}.patch"))
    assert len(kept) == 1
    assert "+new" in kept[0].read_text()


def test_remove__can_be_prevented(owner, project, workspace, checkout):
    def at_work(**_):
        raise Conflict("An agent is at work.")

    removing_project.connect(at_work)
    try:
        with pytest.raises(Conflict):
            remove_project(actor=owner, project=project)
    finally:
        removing_project.disconnect(at_work)
    assert checkout.is_dir()
    assert Project.objects.exists()
