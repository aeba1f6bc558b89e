"""What changes servers, catalogues and profiles, and how one gets a server's backend."""

from __future__ import annotations

import os
import uuid
from threading import Lock
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F

from agents.backend import AgentBackend, Catalog, Health
from agents.discovery import unsupported
from agents.endpoint import Endpoint, read_endpoint
from agents.models import AgentProfile, AgentRole, AgentServer, ModelCatalog, ServerState, ServerTrouble
from agents.opencode.backend import OpenCodeBackend
from agents.opencode.client import OpenCodeClient
from agents.opencode.transport import tls_context
from agents.roles import agent_name
from agents.supervision import ERROR_LIMIT, MANAGED_NAME, note_supervisor, still_the_old_one
from studio.kernel.clock import now
from studio.kernel.errors import Invalid, StudioError, Upstream
from studio.kernel.secretbox import seal, unseal
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue

log = structlog.get_logger(__name__)

EXTERNAL_NAME = "external"  # the server that OPENCODE_URL names
TOOLS_PATH = "/mcp"

Access = tuple[str, str, str, str, str]  # url, user name, password, boot, certificate authority

_backends: dict[uuid.UUID, tuple[int, Access, OpenCodeBackend]] = {}
_backends_lock = Lock()


def backend_for(server: AgentServer) -> AgentBackend:
    """The backend of `server`, shared within this process so that its connections and catalogue are kept.

    A managed server's address is read from its endpoint file where this host has one, so that a server that has just
    been started again is found at once. Raises Upstream(server_unreachable) when no address is known.
    """
    access = _access(server)
    if not access[0]:
        raise Upstream(
            "The agent server has not started yet.",
            code="server_unreachable",
            transient=True,
            detail={"trouble": ""},
        )
    with _backends_lock:
        known = _backends.get(server.pk)
        if known and known[:2] == (os.getpid(), access):
            return known[2]
        url, username, password, boot, ca_pem = access
        backend = OpenCodeBackend(
            OpenCodeClient(url, username, password, ca_pem=ca_pem),
            boot=boot,
            tools_url=f"{settings.STUDIO_INTERNAL_URL}{TOOLS_PATH}",
            practice_only=settings.OPENCODE_PRACTICE,
        )
        _backends[server.pk] = (os.getpid(), access, backend)
        return backend


def _access(server: AgentServer) -> Access:
    endpoint = read_endpoint(settings.DATA) if server.managed else None
    if endpoint:
        return endpoint.url, endpoint.username, endpoint.password, endpoint.boot, ""
    return server.url, server.username, unseal(server.sealed_password), server.boot, server.ca_pem


def ensure_servers() -> AgentServer:
    """Make the rows fit the environment: the external server of OPENCODE_URL, else the managed one; the one that counts.

    Idempotent. The other of the two is disabled if it exists; servers that an operator added are left alone.
    """
    external = bool(settings.OPENCODE_URL)
    name, other = (EXTERNAL_NAME, MANAGED_NAME) if external else (MANAGED_NAME, EXTERNAL_NAME)
    with transaction.atomic():
        AgentServer.objects.filter(name=other, enabled=True).update(enabled=False)
        server, created = AgentServer.objects.get_or_create(name=name, defaults={"managed": not external})
        if external:
            access = (
                settings.OPENCODE_URL,
                settings.OPENCODE_USERNAME,
                settings.OPENCODE_PASSWORD,
                "",
                settings.OPENCODE_CA,
            )
        else:
            access = _endpoint_access(server, read_endpoint(settings.DATA))
        if created or not server.enabled or access != _stored_access(server):
            server.url, server.username, password, server.boot, server.ca_pem = access
            server.sealed_password = seal(password)
            server.managed, server.enabled = not external, True
            server.save(update_fields=["url", "username", "sealed_password", "boot", "ca_pem", "managed", "enabled"])
    return server


def is_own(server: AgentServer) -> bool:
    """Whether the studio decides where the server is: it starts it, or the environment names it."""
    return server.managed or (server.name == EXTERNAL_NAME and bool(settings.OPENCODE_URL))


def checked_url(text: str) -> str:
    """The address of an agent server. Raises Invalid for anything else than http(s)://host[:port][/path]."""
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Invalid("This is no address.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise Invalid("Enter an address like https://agents.example:4096.")
    if "@" in parts.netloc:
        raise Invalid("Enter user name and password in their own fields, not in the address.")
    if parts.query or parts.fragment:
        raise Invalid("Enter the address without what follows a “?” or “#”.")
    return url


def checked_authority(text: str) -> str:
    """Certificates in PEM form, or nothing. Raises Invalid."""
    pem = text.strip()
    if pem:
        if "PRIVATE KEY" in pem:
            raise Invalid("This holds a private key. Enter the authority's certificate only.")
        tls_context(pem)
    return pem


def _stored_access(server: AgentServer) -> Access:
    try:
        return server.url, server.username, unseal(server.sealed_password), server.boot, server.ca_pem
    except StudioError:
        return (
            server.url,
            server.username,
            "",
            server.boot,
            server.ca_pem,
        )  # sealed under another SECRET_KEY: it is written anew


def _endpoint_access(server: AgentServer, endpoint: Endpoint | None) -> Access:
    if endpoint is None:
        return _stored_access(server)
    return endpoint.url, endpoint.username, endpoint.password, endpoint.boot, ""


def sync_server(server_id: uuid.UUID | str) -> bool:
    """Ask the server for its health and models and write them down; whether it is ready. Does not raise for its failures."""
    server = AgentServer.objects.filter(pk=server_id, enabled=True).first()
    if server is None:
        return False
    if server.managed and server.name == MANAGED_NAME and not settings.OPENCODE_URL:
        server = ensure_servers()
    if not note_supervisor(server) or AgentServer.objects.filter(still_the_old_one(), pk=server.pk).exists():
        return False
    try:
        backend = backend_for(server)
        health = backend.health()
        reason = unsupported(health.version)
        if reason:
            mark_down(server, f"The agent server cannot be used: {reason}.", ServerTrouble.UNSUPPORTED_VERSION)
            return False
        catalog = backend.catalog()
    except StudioError as error:
        mark_down(server, error.message, _trouble(error))
        return False
    _write_catalog(server, health, catalog)
    return True


def _trouble(error: StudioError) -> str:
    if error.code == ServerTrouble.SECRET_UNREADABLE:
        return ServerTrouble.SECRET_UNREADABLE
    return str(error.detail.get("trouble", ServerTrouble.UNREACHABLE))


def _write_catalog(server: AgentServer, health: Health, catalog: Catalog) -> None:
    at = now()
    rows = [
        ModelCatalog(
            server=server,
            provider=cut(model.provider, 100, ""),
            model=cut(model.id, 200, ""),
            name=model.name,
            context_limit=min(model.context_limit, 2**31 - 1),
            output_limit=min(model.output_limit, 2**31 - 1),
            usable=model.usable,
            seen_at=at,
        )
        for model in catalog.models
    ]
    with transaction.atomic():
        current = AgentServer.objects.filter(pk=server.pk).exclude(still_the_old_one())
        state = current.values_list("state", flat=True).first()
        if state is None:
            return  # it was chosen to be replaced while it answered
        current.update(
            state=ServerState.READY,
            version=cut(health.version, 40),
            error="",
            trouble="",
            practice=catalog.practice,
            default_model=cut(catalog.default, 200, ""),
            seen_at=at,
            **({"recycle_boot": "", "recycle_asked_at": None, "recycled_at": at} if state == "recycling" else {}),
        )
        ModelCatalog.objects.bulk_create(
            {(row.provider, row.model): row for row in rows}.values(),
            update_conflicts=True,
            unique_fields=["server", "provider", "model"],
            update_fields=["name", "context_limit", "output_limit", "usable", "seen_at"],
            batch_size=200,
        )
        ModelCatalog.objects.filter(server=server, seen_at__lt=at).delete()
        if state != ServerState.READY:
            log.info("server_ready", server=server.name, version=health.version, practice=catalog.practice)
            enqueue(Names.SCHEDULE_RUNS)  # what waited for a server may start
            enqueue(Names.SWEEP_SESSIONS)  # and turns that were put off go on


def mark_down(server: AgentServer, error: str, trouble: str = "") -> None:
    """Write down that the server does not answer, and why."""
    message = cut(clean(error), ERROR_LIMIT)
    if (
        AgentServer.objects.filter(pk=server.pk)
        .exclude(state=ServerState.DOWN, error=message, trouble=trouble)
        .update(state=ServerState.DOWN, error=message, trouble=trouble)
    ):
        log.warning("server_down", server=server.name, error=message)


def ensure_profiles() -> None:
    """Make a default profile for each role that has none. Idempotent; existing profiles are left alone."""
    for role in AgentRole:
        with transaction.atomic():
            if not AgentProfile.objects.filter(role=role, is_default=True).exists():
                AgentProfile.objects.get_or_create(
                    name=role.label, defaults={"role": role, "agent": agent_name(role), "is_default": True}
                )


def note_profile_change(profile: AgentProfile) -> None:
    """A saved profile is a new version of it."""
    AgentProfile.objects.filter(pk=profile.pk).update(version=F("version") + 1)
