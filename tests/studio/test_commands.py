"""The commands for accounts and tokens, and what a first run makes."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from knox.models import get_token_model

from agents.models import AgentProfile, AgentServer
from studio.env import BASE_DIR
from studio.kernel.errors import NotFound
from studio.login_links import find_link
from studio.owner import ensure_owner, find_owner
from tasks.models import Task
from tests.factories import make_user
from workspaces.models import Project
from workspaces.selectors import may_register

pytestmark = pytest.mark.django_db


def output(*arguments: str) -> str:
    stream = io.StringIO()
    call_command(*arguments, stdout=stream)
    return stream.getvalue().strip()


def link_user(text: str) -> str:
    link = find_link(text.rstrip("/").rpartition("/")[2])
    assert link is not None
    return link.user.username


def test_owner__is_made_once_and_has_no_password():
    with pytest.raises(NotFound, match="createowner"):
        find_owner()
    owner, made = ensure_owner()
    assert (owner.username, made, owner.is_superuser, owner.has_usable_password()) == ("owner", True, True, False)
    assert ensure_owner() == (owner, False)
    assert find_owner() == owner
    assert may_register(owner)


def test_owner__is_the_oldest_active_superuser():
    first, second = make_user(superuser=True), make_user(superuser=True)
    assert find_owner() == first
    get_user_model().objects.filter(pk=first.pk).update(is_active=False)
    assert ensure_owner() == (second, False)


def test_token__begins_with_its_name_and_belongs_to_the_owner():
    with pytest.raises(CommandError, match="createowner"):
        output("token", "ci")
    owner, _ = ensure_owner()
    token = output("token", "CI runner no. 5")
    assert token.startswith("ci-runner-")
    row = get_token_model().objects.get()
    assert row.user == owner
    assert token.startswith(row.token_key)
    assert token not in row.digest
    with pytest.raises(CommandError, match="letter or a digit"):
        output("token", "—")


def test_loginlink__is_for_the_owner_or_the_account_that_is_named():
    with pytest.raises(CommandError, match="createowner"):
        output("loginlink")
    ensure_owner()
    assert link_user(output("loginlink")) == "owner"
    assert output("loginlink", "--path").startswith("/login/link/")
    make_user("ada")
    assert link_user(output("loginlink", "ada")) == "ada"
    with pytest.raises(CommandError, match="no active account called 'bob'"):
        output("loginlink", "bob")


@pytest.mark.parametrize("command", [["loginlink"], ["token", "ci"]])
def test_account__where_no_studio_is_set_up(command, tmp_path):
    argv = [sys.executable, str(BASE_DIR / "manage.py"), *command, "--data", str(tmp_path)]
    done = subprocess.run(argv, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert f"No studio is set up in {tmp_path}: start it with make run" in done.stderr


def test_createowner__makes_an_owner_with_a_link():
    assert link_user(output("createowner", "ada", "--email", "ada@example.invalid")) == "ada"
    assert find_owner().email == "ada@example.invalid"
    assert may_register(find_owner())
    with pytest.raises(CommandError, match="loginlink ada"):
        output("createowner", "ada")


def test_createowner__takes_a_password_that_is_good_enough(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("12345678\n"))
    with pytest.raises(CommandError, match="common"):
        output("createowner", "--password")
    assert not get_user_model().objects.exists()
    monkeypatch.setattr(sys, "stdin", io.StringIO("a long enough phrase\n"))
    output("createowner", "--password")
    assert find_owner().check_password("a long enough phrase")


def test_firstrun__makes_owner_servers_profiles_and_sample_once(settings, tmp_path):
    settings.STUDIO_SAMPLE_ROOT = tmp_path / "sample"
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STUDIO_REPOSITORY_ROOTS = [tmp_path]
    for _ in range(2):
        assert link_user(output("firstrun")) == "owner"
    assert AgentServer.objects.filter(enabled=True).count() == 1
    assert AgentProfile.objects.filter(is_default=True).count() == 3
    project = Project.objects.get()
    assert project.is_sample
    assert Task.objects.filter(project=project).count() == 3
    assert set(Task.objects.values_list("status", "run_state")) == {("todo", "idle")}


def test_firstrun__does_not_bring_back_a_sample_that_was_removed(settings, tmp_path):
    settings.STUDIO_SAMPLE_ROOT = tmp_path / "sample"
    settings.STATIC_ROOT = tmp_path / "static"
    output("firstrun")
    Task.objects.all().delete()
    Project.objects.all().delete()
    output("firstrun")
    assert not Project.objects.exists()


def test_firstrun__without_sample_and_agents(settings, tmp_path):
    settings.STUDIO_SAMPLE_ROOT = tmp_path / "sample"
    settings.STATIC_ROOT = tmp_path / "static"
    settings.STUDIO_AGENT = False
    output("firstrun", "--no-sample")
    assert not Project.objects.exists()
    assert not AgentServer.objects.exists()
    assert AgentProfile.objects.count() == 3
