"""Pushing over HTTP with a token: a real server of git on loopback, and what such a server can do wrong."""

from __future__ import annotations

import base64
import secrets
from datetime import timedelta

import pytest

from tests.real.git_http import command_lines, garbage, git_server, hang, hang_up, page, refuse
from tests.real.tls import Authority, TlsProxy
from tests.repositories import git, make_repository
from tests.workspaces.contract.world import World
from workspaces.forge.addresses import push_header
from workspaces.vcs import SYSTEMS, git_push
from workspaces.vcs.base import Raced, VcsError

TOKEN = "t0ken/That+nobody_may-see=="
ECHO = "I was shown HEADER, which has TOKEN."


@pytest.fixture
def remote(tmp_path):
    """A forge's git server with an empty repository, and a token that may write to it."""
    bare = tmp_path / "app.git"
    bare.mkdir()
    git(bare, "init", "-q", "--bare")
    with git_server(bare, {TOKEN: True}) as running:
        yield running


def push(world: World, url: str, commit: str, *, expected: str | None = "") -> None:
    header = push_header(url.rpartition("/octo/")[0] + "/api/v1", url, TOKEN)
    assert header
    world.vcs.push(world.repository, url, commit, "feature", expected=expected, header=header)


def refused(world: World, url: str) -> VcsError:
    """The error of a push that must not succeed."""
    with pytest.raises(VcsError) as caught:
        push(world, url, world.target)
    error = caught.value
    words = error.message + getattr(error, "said", "") + str(error.detail)
    for secret in shown():
        assert secret not in words
    return error


def shown() -> list[str]:
    return [TOKEN, base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()]


def test_push__shows_the_token_to_the_server_and_to_nobody_else(world, checkout, remote):
    seen = []
    remote.during = lambda: seen.append(command_lines())
    git(world.store, "config", "http.postBuffer", "65536")
    one = world.commit(checkout, {"one.txt": "1\n", "sent in chunks": secrets.token_hex(100_000)})
    push(world, remote.url, one)
    two = world.commit(checkout, {"two.txt": "2\n"})
    push(world, remote.url, two, expected=one)
    assert git(remote.repository, "rev-parse", "feature").strip() == two
    with pytest.raises(Raced):
        push(world, remote.url, world.target, expected=one)
    with pytest.raises(Raced):
        push(world, remote.url, world.target, expected=None)
    assert set(remote.authorisations) == {f"Basic {shown()[1]}"}
    assert all("remote-http" in lines for lines in seen)
    for secret in shown():
        assert not any(secret in lines for lines in seen)
        for folder in (world.repository, world.store, checkout):
            found = [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
            assert found == []


def test_push__refusals_and_faults_have_a_sentence_without_the_token(world, remote, tmp_path, monkeypatch):
    with git_server(remote.repository, {TOKEN: True}) as other:
        elsewhere = f"{other.url}/info/refs?service=git-receive-pack"
        faults = {
            "does not accept the token": (refuse(401, ECHO, WWW_Authenticate='Basic realm="TOKEN"'), False),
            "may not write": (refuse(403, ECHO), False),
            "no such repository": (refuse(404, ECHO), False),
            "enough requests": (refuse(429, ECHO), True),
            "failed and may work again": (refuse(503, ECHO), True),
            "sends requests on": (refuse(302, ECHO, Location=elsewhere), False),
            "as a server of git does": (garbage, False),
            "Is the address right": (page, False),
            "broke off": (hang_up, True),
            "did not end within": (hang, True),
        }
        for words, (fault, passes) in faults.items():
            remote.fault = fault
            with monkeypatch.context() as impatient:
                if fault is hang:
                    impatient.setattr(git_push, "PUSH_TIMEOUT", 1.0)
                error = refused(world, remote.url)
            assert words in error.message
            assert error.transient is passes, words
        assert other.authorisations == []
    error = refused(world, "http://127.0.0.1:9/octo/app.git")
    assert ("cannot be reached" in error.message, error.transient) == (True, True)


def test_push__a_token_that_is_wrong_or_may_only_read(world, remote, tmp_path):
    (tmp_path / "helper").write_text(f"#!/bin/sh\ntouch '{tmp_path}/asked'\n")
    (tmp_path / "helper").chmod(0o755)
    git(world.store, "config", "credential.helper", str(tmp_path / "helper"))
    remote.tokens = {TOKEN: False}
    assert "may not write" in refused(world, remote.url).message
    remote.tokens = {}
    assert "Enter a new one in the project's settings" in refused(world, remote.url).message
    assert not (tmp_path / "asked").exists()
    assert git(remote.repository, "branch") == ""


def test_push__a_certificate_that_nobody_vouches_for_gets_no_token(world, remote, tmp_path, own_home):
    authority = Authority()
    good = authority.issue(tmp_path, "127.0.0.1")
    others = (
        authority.issue(tmp_path, "elsewhere.invalid"),
        authority.issue(tmp_path, "127.0.0.1", valid=-timedelta(1)),
    )
    with TlsProxy(remote.url, good) as tls:
        url = f"{tls.url}/octo/app.git"
        assert "certificate" in refused(world, url).message
        # A checkout shares its repository's settings with the agent that works in it.
        git(world.store, "config", "http.sslVerify", "false")
        error = refused(world, url)
        assert ("is not trusted" in error.message, error.transient) == (True, False)
        # What it trusts is for the account that runs the studio to say.
        (tmp_path / "authority.pem").write_text(authority.pem)
        for key in ("http.sslCAInfo", f"http.{url}.sslCAInfo"):
            git(world.store, "config", key, str(tmp_path / "authority.pem"))
        assert "is not trusted" in refused(world, url).message
    (own_home / ".gitconfig").write_text(f"[http]\n\tsslCAInfo = {tmp_path / 'authority.pem'}\n")
    for certificate in others:
        with TlsProxy(remote.url, certificate) as tls:
            assert "is not trusted" in refused(world, f"{tls.url}/octo/app.git").message
    assert remote.authorisations == []
    with TlsProxy(remote.url, good) as tls:
        push(world, f"{tls.url}/octo/app.git", world.target)
    assert git(remote.repository, "rev-parse", "feature").strip() == world.target


def test_push__nothing_in_the_repositorys_settings_sends_the_token_elsewhere(world, remote, tmp_path):
    """An agent can write there: in its checkout it shares them with the person's own."""
    (tmp_path / "included").write_text("[http]\n\tproxy = http://127.0.0.1:9\n")
    with git_server(remote.repository, {TOKEN: True}) as other:
        elsewhere = other.url.removesuffix("/octo/app.git")
        for key, value in {
            "http.proxy": elsewhere,
            f"http.{remote.url}.proxy": elsewhere,
            f"http.{remote.url}/info.proxy": elsewhere,  # one that fits better than what is said about the address
            f"url.{other.url}.insteadOf": remote.url,
            f"url.{other.url}.pushInsteadOf": remote.url,
            "http.curloptResolve": "127.0.0.1:1:127.0.0.2",
            "http.extraHeader": "X-Mine: yes",
            "http.followRedirects": "true",
            "core.alternateRefsCommand": f"touch '{tmp_path}/ran'; true",
            "credential.helper": f"!touch '{tmp_path}/ran'; true",
            "include.path": str(tmp_path / "included"),
        }.items():
            git(world.store, "config", key, value)
        push(world, remote.url, world.target)
        assert other.authorisations == []
    assert git(remote.repository, "rev-parse", "feature").strip() == world.target
    assert set(remote.authorisations) == {f"Basic {shown()[1]}"}
    assert not (tmp_path / "ran").exists()
    with pytest.raises(VcsError, match="to an address only"):
        world.vcs.push(world.repository, "origin", world.target, "feature", expected=None, header="Basic x")


def test_push__from_a_shallow_repository(remote, tmp_path):
    whole = make_repository(tmp_path / "whole", files={"a": "a\n"})
    git(whole, "commit", "-q", "--allow-empty", "-m", "Two")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{whole}", "shallow")
    git(whole, "push", "-q", str(remote.repository), "HEAD:refs/heads/main")
    git(tmp_path / "shallow", "commit", "-q", "--allow-empty", "-m", "Three")
    made = git(tmp_path / "shallow", "rev-parse", "HEAD").strip()
    header = push_header(remote.url.rpartition("/octo/")[0] + "/api/v1", remote.url, TOKEN)
    SYSTEMS["git"].push(tmp_path / "shallow", remote.url, made, "feature", expected="", header=header)
    assert git(remote.repository, "rev-parse", "feature").strip() == made


def test_push__the_settings_of_the_account_hold(world, remote, own_home):
    """Such as a company's address for the forge: the token is not for it, and goes nowhere."""
    with git_server(remote.repository, {TOKEN: True}) as other:
        (own_home / ".gitconfig").write_text(f'[url "{other.url}"]\n\tinsteadOf = {remote.url}\n')
        refused(world, remote.url)
        assert not any(other.authorisations + remote.authorisations)
