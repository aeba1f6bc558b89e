"""Addresses: where a forge's REST interface is, what a remote is called there, and where its token may go."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from studio.kernel.errors import Invalid
from workspaces.forge.http import is_loopback

GITHUB = "github"
GITEA = "gitea"
PUBLIC_GITHUB = "https://api.github.com"
KNOWN_GITEA = ("codeberg.org", "gitea.com", "code.forgejo.org", "v8.next.forgejo.org")
SUFFIXES = {GITHUB: "/api/v3", GITEA: "/api/v1"}

REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}/[A-Za-z0-9_.-]{1,100}")
SCP = re.compile(r"(?:[^@/\s]+@)?([^:/\s]+):(?!/)(.+)")


@dataclass(frozen=True, slots=True)
class Place:
    """What a remote's address says: the forge's host and the repository there."""

    host: str
    repository: str
    kind: str


def place_of(remote: str) -> Place | None:
    """The forge and the repository behind a remote's address; None for a folder or an address without both."""
    if "://" in remote:
        try:
            parts = urlsplit(remote)
            host, path = (
                (parts.netloc.rpartition("@")[2] if parts.scheme.startswith("http") else parts.hostname),
                parts.path,
            )
        except ValueError:
            return None
        if parts.scheme not in ("https", "http", "ssh", "git") or not host:
            return None
    elif found := SCP.fullmatch(remote):
        host, path = found[1], found[2]
    else:
        return None
    repository = unquote(path).strip("/").removesuffix(".git")
    if not is_repository(repository):
        return None
    return Place(host.lower(), repository, kind_of(host.lower()))


def kind_of(host: str) -> str:
    """What kind of forge a host is likely to be; people can say otherwise."""
    return GITEA if host in KNOWN_GITEA or "gitea" in host or "forgejo" in host else GITHUB


def is_repository(name: str) -> bool:
    """Whether `name` is OWNER/NAME."""
    return REPOSITORY.fullmatch(name) is not None and name.rpartition("/")[2] not in (".", "..")


def api_url(kind: str, host: str) -> str:
    """Where the REST interface of a forge at `host` usually is."""
    return PUBLIC_GITHUB if kind == GITHUB and host == "github.com" else f"https://{host}{SUFFIXES[kind]}"


def checked_base_url(kind: str, given: str) -> str:
    """The address of a forge's REST interface as it is kept: https, or http on this machine.

    A company's forge is often in a private network, so private addresses are possible: only owners set them. Link-local
    ones are not, because machines of cloud providers tell their secrets there. Raises Invalid.
    """
    text = given.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise _refused("This is no address of a forge, such as https://api.github.com.") from None
    if parts.scheme not in ("https", "http") or not host or not text.isascii() or not text.isprintable() or " " in text:
        raise _refused("Give the forge's address with https://, such as https://api.github.com.")
    if len(text) > 300 or parts.username or parts.password or parts.query or parts.fragment:
        raise _refused("The address has neither a name and password nor a query; the token has its own field.")
    if parts.scheme == "http" and not is_loopback(text):
        raise _refused("A token is sent over https only; http is for a forge on this very machine.")
    if _is_link_local(host):
        raise _refused("A forge has no link-local address.")
    if kind == GITHUB and host in ("github.com", "www.github.com", "api.github.com"):
        return PUBLIC_GITHUB
    return text if text.endswith(SUFFIXES[kind]) else f"{text}{SUFFIXES[kind]}"


def web_host(base_url: str) -> str:
    """The host, with a port that is not the usual one, under which the same forge serves git and pages."""
    host = urlsplit(base_url).netloc.lower()
    return "github.com" if host == "api.github.com" else host


def push_header(base_url: str, remote: str, token: str) -> str:
    """The Authorization header with which `remote` takes a push; empty where the token must not go.

    That is any remote but the forge's own over https (or http on this machine): ssh and folders have their own ways.
    """
    parts = urlsplit(remote) if "://" in remote else None
    if not token or parts is None or parts.scheme not in ("https", "http"):
        return ""
    if parts.scheme == "http" and not is_loopback(remote):
        return ""
    if parts.netloc.rpartition("@")[2].lower() != web_host(base_url):
        return ""
    return "Authorization: Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()


def _is_link_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


def _refused(sentence: str) -> Invalid:
    return Invalid(sentence, detail={"field": "base_url"})
