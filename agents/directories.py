"""The directories for which a server keeps something in memory: loaded ahead, noted when used, let go when nobody needs them.

A server that lets go of a directory aborts what runs there. So whoever sends a turn marks the turn first and calls `begin_use`
afterwards; whoever lets go claims the row first and looks for turns afterwards. One of the two sees the other.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db.models import F, Q, QuerySet

from agents.models import AgentServer, LoadedDirectory
from agents.services import backend_for
from agents.supervision import still_the_old_one
from studio.kernel.clock import now

UNUSED = timedelta(minutes=30)
# A claim to let go that is older than this belongs to a job that died.
LEAVING = timedelta(seconds=60)


def begin_use(server: AgentServer, directory: str) -> bool:
    """Note that a turn goes to `directory`; False while the server is being replaced or just lets go of it: try again soon."""
    if AgentServer.objects.filter(still_the_old_one(), pk=server.pk).exists():
        return False
    note_use(server, directory)
    rows = LoadedDirectory.objects.filter(server=server, directory=directory)
    return not rows.filter(leaving_at__gt=now() - LEAVING).exists()


def note_use(server: AgentServer, directory: str) -> None:
    """Write down that the server holds something for `directory` from now on."""
    at = now()
    LoadedDirectory.objects.update_or_create(
        server=server, directory=directory, defaults={"boot": server.boot, "used_at": at}
    )


def warm_directory(server: AgentServer, directory: str) -> bool:
    """Let the server load `directory` unless it has; whether it was asked to. Raises Upstream when it does not answer."""
    if is_loaded(server, directory):
        return False
    note_use(server, directory)  # first, so that a second caller does not ask again
    backend_for(server).warm(directory)
    return True


def is_loaded(server: AgentServer, directory: str) -> bool:
    """Whether the server's present process holds something for `directory`."""
    return LoadedDirectory.objects.filter(server=server, directory=directory, boot=server.boot).exists()


def unused_directories() -> QuerySet[LoadedDirectory]:
    """Those that nobody has used for UNUSED and nobody is letting go of now."""
    at = now()
    free = Q(leaving_at__isnull=True) | Q(leaving_at__lte=at - LEAVING)
    return LoadedDirectory.objects.filter(free, used_at__lte=at - UNUSED)


def claim_leaving(loaded_id: int) -> LoadedDirectory | None:
    """Claim the row for letting go; None when it is gone or somebody else has it."""
    at = now()
    free = Q(leaving_at__isnull=True) | Q(leaving_at__lte=at - LEAVING)
    if not LoadedDirectory.objects.filter(free, pk=loaded_id).update(leaving_at=at):
        return None
    return LoadedDirectory.objects.select_related("server").filter(pk=loaded_id).first()


def keep(loaded: LoadedDirectory) -> None:
    """Give up a claim: the directory is in use after all."""
    LoadedDirectory.objects.filter(pk=loaded.pk).update(leaving_at=None, used_at=now())


def let_go(loaded: LoadedDirectory) -> None:
    """Let the server free what it holds for a claimed directory. Raises Upstream; the claim then runs out by itself."""
    if loaded.boot == loaded.server.boot:  # an earlier process took all of it along
        backend_for(loaded.server).dispose_directory(loaded.directory)
    LoadedDirectory.objects.filter(pk=loaded.pk, leaving_at=loaded.leaving_at).delete()


def forget_earlier(server_id: uuid.UUID) -> int:
    """Delete the rows of a server's earlier processes; how many."""
    return LoadedDirectory.objects.filter(server_id=server_id).exclude(boot=F("server__boot")).delete()[0]
