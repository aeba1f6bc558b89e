"""A project's connection: what is told by its remotes, what is refused, and that a token never comes out again."""

from __future__ import annotations

import pytest

from studio.kernel.errors import Forbidden, Invalid
from studio.kernel.permissions import Role
from tests.factories import make_member
from tests.real.forge_server import REPOSITORY, TOKEN, forge_server
from tests.repositories import git
from workspaces.forge.addresses import checked_base_url, place_of, push_header
from workspaces.forge.connections import check_connection, forge_for, save_connection, suggest
from workspaces.models import ForgeConnection

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("remote", "host", "repository", "kind"),
    [
        ("https://github.com/octo/app.git", "github.com", "octo/app", "github"),
        ("git@github.com:octo/app.git", "github.com", "octo/app", "github"),
        ("ssh://git@ghe.example.com:2222/octo/app", "ghe.example.com", "octo/app", "github"),
        ("https://user:secret@codeberg.org/octo/app.git", "codeberg.org", "octo/app", "gitea"),
        ("http://127.0.0.1:3000/octo/app.git", "127.0.0.1:3000", "octo/app", "github"),
        ("https://gitea.example.com/octo/app/", "gitea.example.com", "octo/app", "gitea"),
    ],
)
def test_place__is_told_by_a_remote(remote, host, repository, kind):
    place = place_of(remote)
    assert (place.host, place.repository, place.kind) == (host, repository, kind)


@pytest.mark.parametrize(
    "remote",
    ["/srv/git/app.git", "file:///srv/app.git", "../app", "https://github.com/app", "https://h/a/b/c", "", "x:y"],
)
def test_place__is_none_elsewhere(remote):
    assert place_of(remote) is None


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("github", "https://github.com", "https://api.github.com"),
        ("github", "https://ghe.example.com/", "https://ghe.example.com/api/v3"),
        ("gitea", "https://codeberg.org", "https://codeberg.org/api/v1"),
        ("gitea", "https://example.com/git/api/v1", "https://example.com/git/api/v1"),
        ("gitea", "https://10.1.2.3:3000", "https://10.1.2.3:3000/api/v1"),  # a company's own network
        ("gitea", "http://localhost:3000", "http://localhost:3000/api/v1"),
    ],
)
def test_base_url__is_completed(kind, given, kept):
    assert checked_base_url(kind, given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "http://ghe.example.com", "ftp://example.com", "example.com", "https://user:pw@example.com", "https://169.254.169.254",
        "https://x/?q=1", "https://ex ample.com", "https://[1", "https://[fe80::1]", "", "https://example.com:99999",
        f"https://{'x' * 300}.com",
    ],
)  # fmt: skip
def test_base_url__is_refused(given):
    with pytest.raises(Invalid) as caught:
        checked_base_url("github", given)
    assert caught.value.detail == {"field": "base_url"}


@pytest.mark.parametrize(
    ("base_url", "remote", "sent"),
    [
        ("https://api.github.com", "https://github.com/octo/app.git", True),
        ("https://api.github.com", "https://github.com.evil.example/octo/app.git", False),
        ("https://api.github.com", "https://evil.example/github.com/octo/app.git", False),
        ("https://api.github.com", "http://github.com/octo/app.git", False),
        ("https://api.github.com", "git@github.com:octo/app.git", False),
        ("https://api.github.com", "/srv/app.git", False),
        ("https://ghe.example.com/api/v3", "https://ghe.example.com/octo/app.git", True),
        ("https://ghe.example.com/api/v3", "https://ghe.example.com:8443/octo/app.git", False),
        ("http://127.0.0.1:3000/api/v1", "http://127.0.0.1:3000/octo/app.git", True),
    ],
)
def test_token__goes_to_its_own_forge_only(base_url, remote, sent):
    assert bool(push_header(base_url, remote, TOKEN)) is sent


def test_suggest__reads_the_remotes(project):
    assert suggest(project) == {}
    git(project.path, "remote", "add", "upstream", "https://codeberg.org/them/app.git")
    assert suggest(project)["remote"] == "upstream"
    git(project.path, "remote", "add", "origin", "git@github.com:octo/app.git")
    assert suggest(project) == {
        "kind": "github", "base_url": "https://api.github.com", "repository": "octo/app", "remote": "origin",
    }  # fmt: skip


def test_save__takes_from_the_remotes_what_is_not_said_and_seals_the_token(project, owner):
    git(project.path, "remote", "add", "origin", "git@github.com:octo/app.git")
    row = save_connection(actor=owner, project=project, token=f" {TOKEN}\n", reviewers=["@ada", "ada", " "])
    assert (row.repository, row.base_url, row.reviewers) == ("octo/app", "https://api.github.com", ["ada"])
    stored = ForgeConnection.objects.values().get()
    assert TOKEN not in str(stored)
    assert forge_for(row)._client._token == TOKEN
    save_connection(actor=owner, project=project, draft=True)
    assert ForgeConnection.objects.get().sealed_token == stored["sealed_token"]
    with pytest.raises(Invalid) as caught:
        save_connection(actor=owner, project=project, base_url="https://evil.example")
    assert caught.value.detail == {"field": "token"}
    save_connection(actor=owner, project=project, token="")
    assert ForgeConnection.objects.get().sealed_token == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "svn"), ("repository", "app"), ("repository", "../.."), ("repository", "a/b/c"), ("remote", "--upload-pack=x"),
        ("remote", ""), ("base_branch", "a b"), ("token", "two words"), ("token", "ü"), ("reviewers", ["x" * 101]),
        ("labels", [str(n) for n in range(21)]), ("colour", "red"),
    ],
)  # fmt: skip
def test_save__refuses_with_the_field(project, owner, field, value):
    given = {"kind": "github", "base_url": "https://api.github.com", "repository": "octo/app", field: value}
    with pytest.raises(Invalid) as caught:
        save_connection(actor=owner, project=project, **given)
    assert caught.value.detail == {"field": field}
    assert not ForgeConnection.objects.exists()


def test_roles__owners_only(project):
    with pytest.raises(Forbidden):
        save_connection(actor=make_member(project, Role.MAINTAINER), project=project, repository="octo/app")


def test_check__names_everything_that_is_missing(project, owner):
    with forge_server("gitea") as forge:
        given = {"kind": "gitea", "base_url": forge.url, "repository": REPOSITORY}
        save_connection(actor=owner, project=project, **given)
        problems = " ".join(check_connection(actor=owner, project=project).problems)
        assert "no token" in problems
        assert "no remote called “origin”" in problems
        assert "does not accept the token" in problems
        host = forge.url.removeprefix("http://")
        git(project.path, "remote", "add", "origin", f"http://{host}/octo/another.git")
        save_connection(actor=owner, project=project, token=TOKEN)
        [problem] = check_connection(actor=owner, project=project).problems
        assert "leads to octo/another" in problem
        git(project.path, "remote", "set-url", "origin", f"http://{host}/octo/app.git")
        assert check_connection(actor=owner, project=project).problems == ()
    [problem] = check_connection(actor=owner, project=project).problems
    assert "cannot be reached" in problem
