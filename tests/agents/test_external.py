"""Servers that somebody else runs: their addresses, their certificates, and what is said when something is wrong with them."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from agents import services
from agents.models import AgentServer, ServerTrouble
from agents.opencode.client import OpenCodeClient
from agents.selectors import health_summary, server_notice
from studio.kernel.errors import Invalid, Upstream
from studio.kernel.secretbox import seal
from tests.agents.test_client import reply, serving
from tests.real.tls import Authority, TlsProxy

HEALTHY = {"healthy": True, "version": "1.18.33"}


@pytest.fixture(autouse=True)
def no_settings(settings, tmp_path):
    settings.DATA = tmp_path
    settings.OPENCODE_URL = ""
    services._backends.clear()


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def secure(authority, tmp_path):
    """Serves an answer behind TLS: secure(answer, *names) -> context manager of the proxy."""

    def make(target, *names, by=authority, **more):
        return TlsProxy(target, by.issue(tmp_path, *(names or ("127.0.0.1",)), **more))

    return make


def asked(url, ca_pem="", path="/global/health"):
    return OpenCodeClient(url, "opencode", "secret", ca_pem=ca_pem).get(path)


def refused(url, ca_pem=""):
    with pytest.raises(Upstream) as raised:
        asked(url, ca_pem)
    return raised.value.detail["trouble"], raised.value.message


def synced(url, **fields):
    server = AgentServer.objects.create(name="gpu", managed=False, url=url, sealed_password=seal("secret"), **fields)
    services.sync_server(server.pk)
    server.refresh_from_db()
    return server


def answers(version="1.18.33", password="Basic b3BlbmNvZGU6c2VjcmV0"):
    """An answer like an OpenCode server's."""
    bodies = {
        "/global/health": {"healthy": True, "version": version},
        "/config/providers": {"providers": [], "default": {}},
        "/config": {},
        "/agent": [],
    }

    def answer(handler):
        if handler.headers.get("Authorization") != password:
            return reply(401, b"")(handler)
        return reply(body=json.dumps(bodies[handler.path]).encode())(handler)

    return answer


def test_certificate__of_a_private_authority_is_accepted_where_that_is_given(authority, secure):
    with serving(reply(body=json.dumps(HEALTHY).encode())) as (target, seen), secure(target) as proxy:
        assert asked(proxy.url, authority.pem) == HEALTHY
        assert len(seen) == 1
        trouble, message = refused(proxy.url)
        assert (trouble, len(seen)) == ("certificate", 1)
        assert "is not trusted" in message
        assert "certificate authority" in message


def test_certificate__of_another_authority_another_name_or_another_time_is_refused(authority, secure):
    with serving(reply(body=json.dumps(HEALTHY).encode())) as (target, seen):
        with secure(target, by=Authority("Somebody else")) as proxy:
            assert refused(proxy.url, authority.pem)[0] == "certificate"
        with secure(target, "agents.example") as proxy:
            assert "IP address mismatch" in refused(proxy.url, authority.pem)[1]
        with secure(target, valid=timedelta(hours=-1)) as proxy:
            assert "expired" in refused(proxy.url, authority.pem)[1]
        assert seen == []  # the password was shown to nobody


def test_certificate__is_checked_whatever_the_environment_says(authority, secure, monkeypatch, tmp_path):
    other = tmp_path / "other.pem"
    other.write_text(Authority("Somebody else").pem)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    monkeypatch.setenv("CURL_CA_BUNDLE", "")
    monkeypatch.setattr("agents.opencode.client.is_loopback", lambda url: False)  # whose environment does not count
    with serving(reply(body=json.dumps(HEALTHY).encode())) as (target, _), secure(target) as proxy:
        assert asked(proxy.url, authority.pem) == HEALTHY
        assert refused(proxy.url, other.read_text())[0] == "certificate"
        assert refused(proxy.url)[0] == "certificate"
        other.write_text(authority.pem)
        assert asked(proxy.url) == HEALTHY  # a list that the operator named for this system counts too


def test_wrong_scheme__is_named(secure, authority):
    with serving(reply(body=b"{}")) as (target, _):
        assert "does not speak https" in refused(target.replace("http:", "https:"))[1]
        with secure(target) as proxy:
            trouble, _ = refused(proxy.url.replace("https:", "http:"))
            assert trouble in ("unreachable", "not_opencode")


def test_redirect__is_not_followed_and_the_password_goes_nowhere_else():
    with serving(reply(body=json.dumps(HEALTHY).encode())) as (elsewhere, other):
        with serving(reply(302, b"", Location=f"{elsewhere}/global/health")) as (url, seen):
            trouble, message = refused(url)
        assert trouble == "not_opencode"
        assert "not followed" in message
        assert (len(seen), other) == (1, [])


@pytest.mark.parametrize(
    ("answer", "trouble", "said"),
    [
        (answers(password="another"), ServerTrouble.PASSWORD_REFUSED, "refused the studio's password"),
        (reply(body=b"<html>"), ServerTrouble.NOT_OPENCODE, "did not answer like an OpenCode server"),
        (reply(body=b'{"status": "ok"}'), ServerTrouble.NOT_OPENCODE, "did not answer like an OpenCode server"),
        (reply(404, b"Not found"), ServerTrouble.NOT_OPENCODE, "did not answer like an OpenCode server"),
        (reply(500, b""), ServerTrouble.UNREACHABLE, "HTTP 500"),
        (answers(version="1.18.10"), ServerTrouble.UNSUPPORTED_VERSION, "1.18.10 is too old"),
        (answers(version="0.9.1"), ServerTrouble.UNSUPPORTED_VERSION, "0.9.1 is too old"),
        (answers(version="2.0.0"), ServerTrouble.UNSUPPORTED_VERSION, "newer than the studio knows"),
        (answers(version="latest"), ServerTrouble.UNSUPPORTED_VERSION, "does not tell its version"),
    ],
)
@pytest.mark.django_db
def test_server__that_cannot_be_used_says_so_in_words(answer, trouble, said):
    with serving(answer) as (url, _):
        server = synced(url)
    assert (server.state, server.trouble) == ("down", trouble)
    assert said in server.error
    assert server_notice().trouble == server.error
    shown = health_summary()[0]
    assert shown["remedy"]
    assert "secret" not in json.dumps(shown)


@pytest.mark.django_db
def test_server__that_is_not_there_says_so_and_comes_back_by_itself():
    server = synced("http://127.0.0.1:1")
    assert (server.state, server.trouble) == ("down", ServerTrouble.UNREACHABLE)
    with serving(answers()) as (url, _):
        AgentServer.objects.update(url=url)
        assert services.sync_server(server.pk)
    server.refresh_from_db()
    assert (server.state, server.trouble, server.error, server.version) == ("ready", "", "", "1.18.33")


@pytest.mark.django_db
def test_environment__may_bring_an_authority(settings, authority, secure):
    with serving(answers()) as (target, _), secure(target) as proxy:
        settings.OPENCODE_URL, settings.OPENCODE_PASSWORD, settings.OPENCODE_CA = proxy.url, "secret", authority.pem
        server = services.ensure_servers()
        assert services.sync_server(server.pk)
        settings.OPENCODE_CA = "no certificate"
        assert not services.sync_server(services.ensure_servers().pk)
        server.refresh_from_db()
        assert "no certificate in PEM form" in server.error


@pytest.mark.parametrize(
    "text",
    [
        "", "agents.example:4096", "ftp://agents.example", "https://", "http://:4096", "https://me:pw@agents.example",
        "https://agents.example/?x=1", "https://agents.example/#x", "https://agents.example:99999", "http://[::1",
        "https://agents example", "file:///etc/passwd", "http://a\nb",
    ],
)  # fmt: skip
def test_address__of_anything_else_is_refused(text):
    with pytest.raises(Invalid):
        services.checked_url(text)


def test_address__is_kept_without_its_last_slash():
    assert services.checked_url(" https://agents.example:4096/oc/ ") == "https://agents.example:4096/oc"
    assert services.checked_url("http://[::1]:4096") == "http://[::1]:4096"


def test_authority__is_a_certificate_and_no_key(authority, tmp_path):
    assert services.checked_authority(f"\n{authority.pem}\n") == authority.pem.strip()
    assert services.checked_authority("  ") == ""
    for text in ("hello", authority.issue(tmp_path, "x.example").read_text(), authority.pem[:200]):
        with pytest.raises(Invalid):
            services.checked_authority(text)
