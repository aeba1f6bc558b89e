"""A port for each checkout: reserved in the database, unique among live checkouts, free on this host when it was taken."""

from __future__ import annotations

import errno
import socket

from django.db import IntegrityError, transaction

from studio.kernel.errors import Upstream
from workspaces.models import Workspace, WorkspaceSetup

FIRST, LAST = 20_000, 29_999  # below the ports that systems give out by themselves, and none that browsers refuse
TRIES = 200


def is_free(port: int) -> bool:
    """Whether nobody on this host listens at `port`, on any address."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 -- a look, nothing listens
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if family == socket.AF_INET or error.errno == errno.EADDRINUSE:
                return False  # a host without the newer family has nobody there
    return True


def reserve(workspace: Workspace, *, anew: bool = False) -> int:
    """The port of the checkout, reserved at its first use; `anew` another one than it has. Raises Upstream when all are taken."""
    row, _ = WorkspaceSetup.objects.get_or_create(workspace=workspace)
    if row.port is not None and not anew:
        return row.port
    taken = set(WorkspaceSetup.objects.exclude(port=None).values_list("port", flat=True))
    begin = FIRST + workspace.pk.int % (LAST - FIRST)
    for step in range(TRIES):
        port = FIRST + (begin - FIRST + step) % (LAST - FIRST + 1)
        if port in taken or not is_free(port):
            continue
        try:
            with transaction.atomic():
                mine = WorkspaceSetup.objects.filter(pk=row.pk, port=row.port)
                if mine.update(port=port):
                    return port
        except IntegrityError:
            continue  # another checkout took it at the same moment
        row.refresh_from_db()
        if row.port is not None:
            return row.port
    raise Upstream(f"No port from {FIRST} to {LAST} is free on this host.", code="no_port", transient=True)


def give_back(workspace: Workspace) -> None:
    """Let others have the port of a checkout that is gone. Idempotent."""
    WorkspaceSetup.objects.filter(workspace=workspace).update(port=None)
