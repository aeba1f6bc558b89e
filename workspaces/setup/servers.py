"""Dev servers: what is wanted stands in the row, and `advance_server` brings the command that runs one towards it.

The server is a command in the background, so it outlives every process of the studio and ends with a stop of the studio, with
its checkout, and when it is asked to. `advance_server` may be called at any time by anybody, and changes the row by conditional
updates only.
"""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.db import close_old_connections, transaction
from django.db.models import Q

from studio import outbox
from studio.kernel.clock import now
from studio.kernel.errors import Conflict, Invalid, StudioError
from studio.kernel.permissions import Role
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.commands.places import folder_of, own_host
from workspaces.commands.services import ACTIVE, request_end, start_command
from workspaces.models import (
    Command,
    CommandKind,
    CommandState,
    DevServer,
    ProjectSetup,
    RequestedBy,
    ServerState,
    Workspace,
    WorkspaceState,
)
from workspaces.selectors import require_role
from workspaces.services.checkouts import opened
from workspaces.setup import health
from workspaces.setup.config import Setup
from workspaces.setup.effective import setup_of
from workspaces.setup.environment import filled, placeholders, variables
from workspaces.setup.placing import VARIABLES, write_variables
from workspaces.setup.ports import is_free, reserve
from workspaces.setup.selectors import read_row

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

log = structlog.get_logger(__name__)

MOST = 6  # dev servers that run at once
LONGEST = 24 * 60 * 60  # seconds; one that nobody stops ends by itself
TITLE = "Dev server"
STUDIO = "studio"
# The states in which something is to be done or looked at.
LIVE = (
    ServerState.REQUESTED, ServerState.STARTING, ServerState.HEALTHY, ServerState.UNHEALTHY, ServerState.STOPPING,
)  # fmt: skip
LOOK_SECONDS = 1.0  # between two looks at a server that is starting
EVERY = timedelta(seconds=10)  # the same for one that runs
OVERDUE = timedelta(seconds=30)  # nobody looks: the sweeper asks


def start_server(*, workspace: Workspace, actor: Person) -> DevServer:
    """Have the checkout's dev server started. Needs the role maintainer; one that runs goes on.

    Raises Invalid when the project has none, and Conflict when the checkout is gone or too many run.
    """
    require_role(actor, workspace.project, Role.MAINTAINER)
    if not setup_of(workspace).server:
        raise Invalid("This project has no dev server. An owner sets its command under Setup.", code="no_server")
    with transaction.atomic():
        row = _locked(workspace)
        if row.wanted and row.state in LIVE:
            return row
        if _running(besides=row) >= MOST:
            raise Conflict(f"{MOST} dev servers run already. Stop one that nobody needs.", code="too_many_servers")
        return _ask(row, by=actor.get_username())


def stop_server(*, workspace: Workspace, actor: Person) -> DevServer:
    """Have the dev server stopped. Needs the role maintainer; one that does not run stays so."""
    require_role(actor, workspace.project, Role.MAINTAINER)
    with transaction.atomic():
        row = _locked(workspace, ready=False)
        _dismiss(row, f"Stopped by {actor.get_username()}.")
    return row


def restart_server(*, workspace: Workspace, actor: Person) -> DevServer:
    """Have the dev server stopped and started again, with the settings as they are now. As `start_server` when none runs."""
    require_role(actor, workspace.project, Role.MAINTAINER)
    if not setup_of(workspace).server:
        raise Invalid("This project has no dev server. An owner sets its command under Setup.", code="no_server")
    with transaction.atomic():
        row = _locked(workspace)
        if row.command is not None and row.command.state in ACTIVE:
            request_end(row.command.pk, f"Restarted by {actor.get_username()}.")
        elif _running(besides=row) >= MOST:
            raise Conflict(f"{MOST} dev servers run already. Stop one that nobody needs.", code="too_many_servers")
        return _ask(row, by=actor.get_username())


def want_at_review(workspace: Workspace) -> None:
    """Note that the task reached review, where the project may want a server. Rows only: the job reads the settings."""
    project = workspace.project
    if not (project.trusted or ProjectSetup.objects.filter(project=project, at_review=True).exists()):
        return
    with transaction.atomic():
        row, _ = DevServer.objects.get_or_create(workspace=workspace)
        if not (row.wanted and row.state in LIVE):
            _ask(row, by=STUDIO, by_review=True)


def let_go(workspace: Workspace, note: str) -> None:
    """Have the server of a checkout stopped, if there is one: nobody needs it any more. Idempotent."""
    with transaction.atomic():
        row = DevServer.objects.select_related("workspace").filter(workspace=workspace, state__in=LIVE).first()
        if row is not None:
            _dismiss(row, note)


def _locked(workspace: Workspace, *, ready: bool = True) -> DevServer:
    live = Workspace.objects.select_for_update(of=("self",)).get(pk=workspace.pk)
    if ready and live.state != WorkspaceState.READY:
        raise Conflict(
            f"The checkout of {live.label} is {live.state}, so nothing can run in it.", code="workspace_gone"
        )
    row, _ = DevServer.objects.select_related("workspace", "command").get_or_create(workspace=workspace)
    return row


def _ask(row: DevServer, *, by: str, by_review: bool = False) -> DevServer:
    values = {"wanted": True, "renew": True, "by_review": by_review, "asked_by": by, "note": ""}
    _change(row, ServerState.REQUESTED, **values)
    enqueue(Names.ADVANCE_SERVER, row.workspace_id)
    return row


def _dismiss(row: DevServer, note: str) -> None:
    if row.state in LIVE:
        _change(row, ServerState.STOPPING, wanted=False, renew=False, note=note)
        enqueue(Names.ADVANCE_SERVER, row.workspace_id)


def _running(besides: DevServer) -> int:
    return DevServer.objects.filter(state__in=LIVE).exclude(pk=besides.pk).count()


def _change(row: DevServer, state: str, **values: Any) -> None:
    """Write a new state and tell the feed. Inside a transaction that knows the row."""
    if row.state != state:
        values["since"] = now()
    row.state = state
    for name, value in values.items():
        setattr(row, name, value)
    row.save(update_fields=["state", *values])
    publish(row)


def publish(row: DevServer) -> None:
    """Tell the project's feed how the server stands."""
    payload = {"workspace": str(row.workspace_id), "state": row.state, "port": row.port, "note": cut(row.note, 200)}
    outbox.publish(row.workspace.project_id, f"workspace:{row.workspace_id}", "server.state", payload)


def advance_server(workspace_id: uuid.UUID | str) -> None:
    """Do the next thing for a dev server: start it, end it, take note of its end, or look how it is. Idempotent."""
    row = DevServer.objects.select_related("workspace__project", "command").filter(workspace_id=workspace_id).first()
    if row is None or row.state not in LIVE:
        return
    command = row.command
    active = command is not None and command.state in ACTIVE
    if command is not None and active and (row.renew or not row.wanted):
        request_end(command.pk, row.note or "It is started again.")
    elif row.renew and row.wanted:
        _start(row)
    elif not row.wanted:
        _conclude(row, ServerState.STOPPED, row.note)
    elif command is not None and active:
        _look(row, command)
    else:
        _ended(row)


def _conclude(row: DevServer, state: str, note: str) -> None:
    """The server does not run, and is not to."""
    with transaction.atomic():
        fresh = DevServer.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=row.pk)
        if (fresh.command_id, fresh.renew, fresh.wanted) == (row.command_id, row.renew, row.wanted):
            _change(fresh, state, wanted=False, renew=False, note=cut(clean(note), 1_000))


def _ended(row: DevServer) -> None:
    """Its command has ended though it was wanted."""
    command = row.command
    if command is None:
        _conclude(row, ServerState.FAILED, "Its command is not known any more. Start it again.")
    elif command.state in (CommandState.CANCELLED, CommandState.TIMED_OUT):
        _conclude(row, ServerState.STOPPED, command.note)
    else:
        code = f" with exit code {command.exit_code}" if command.exit_code is not None else ""
        said = [f"It ended by itself{code}.", command.note, "Read its log, then start it again."]
        _conclude(row, ServerState.FAILED, " ".join(part for part in said if part))


def _start(row: DevServer) -> None:
    workspace = row.workspace
    try:
        setup = setup_of(workspace)
        if not setup.server or (row.by_review and not setup.at_review):
            _conclude(row, ServerState.STOPPED, "" if row.by_review else "The project has no dev server any more.")
            return
        if _running(besides=row) >= MOST:
            _conclude(row, ServerState.STOPPED, f"{MOST} dev servers run already, so it was not started.")
            return
        port, note = _port(workspace, setup)
        text = filled(setup.server, placeholders(workspace), quoted=True)
    except StudioError as error:
        _conclude(row, ServerState.FAILED, error.message)
        return
    except OSError as error:
        _conclude(row, ServerState.FAILED, f"Its variables could not be written: {error.strerror}.")
        return
    with transaction.atomic():
        Workspace.objects.select_for_update(of=("self",)).get(pk=workspace.pk)
        fresh = DevServer.objects.select_related("workspace").get(pk=row.pk)
        if not (fresh.renew and fresh.wanted):
            return  # another worker was first, or it is not wanted any more
        command = start_command(
            workspace=workspace,
            text=text,
            actor=None,
            title=TITLE,
            time_limit=LONGEST,
            requested_by=RequestedBy.STUDIO,
            author_name=fresh.asked_by,
            kind=CommandKind.DEV_SERVER,
        )
        values = {"renew": False, "command": command, "port": port, "address": "", "note": note}
        settings = {"health_path": setup.health_path, "ready_seconds": setup.ready_seconds}
        _change(fresh, ServerState.STARTING, **values, **settings)


def _port(workspace: Workspace, setup: Setup) -> tuple[int, str]:
    """The checkout's port; another one when a foreign program has taken it, and then a sentence about that."""
    port = reserve(workspace)
    if is_free(port):
        return port, ""
    fresh = reserve(workspace, anew=True)
    row = read_row(workspace.pk)
    if row is not None and VARIABLES in row.placed:
        with opened(workspace) as (_, checkout):
            write_variables(checkout, variables(workspace, setup))
    return fresh, (
        f"Another program has taken port {port}, so this checkout has {fresh} now. If the setup script wrote the port down, "
        "run the setup again."
    )


def _look(row: DevServer, command: Command) -> None:
    """Ask the server how it is, and write down what is new."""
    if command.state != CommandState.RUNNING or row.port is None or command.host != own_host():
        return
    answer = health.ask(row.port, row.health_path)
    state, note = _judged(row, command, answer)
    if (state, note, answer.address or row.address) == (row.state, row.note, row.address):
        DevServer.objects.filter(pk=row.pk).update(checked_at=now())
        return
    with transaction.atomic():
        fresh = DevServer.objects.select_for_update(of=("self",)).select_related("workspace").get(pk=row.pk)
        if (fresh.command_id, fresh.renew, fresh.wanted, fresh.state) == (row.command_id, False, True, row.state):
            _change(fresh, state, note=note, address=answer.address or fresh.address, checked_at=now())


def _judged(row: DevServer, command: Command, answer: health.Answer) -> tuple[str, str]:
    """The state that an answer means, with its note."""
    assert row.port is not None  # noqa: S101 -- for the type checker: `_look` has looked
    if answer.is_good:
        if row.state == ServerState.HEALTHY or health.is_own(row.port, folder_of(command.pk)):
            return ServerState.HEALTHY, "" if row.state == ServerState.UNHEALTHY else row.note
        return ServerState.UNHEALTHY, f"Another program answers at port {row.port}, not this server. Restart it."
    patience = timedelta(seconds=row.ready_seconds)
    if row.state == ServerState.STARTING and now() - (command.started_at or now()) < patience:
        return ServerState.STARTING, row.note
    return ServerState.UNHEALTHY, f"{answer.said[:1].upper()}{answer.said[1:]}."


def due() -> list[uuid.UUID]:
    """The checkouts of this host whose servers are to be looked at now."""
    at = now()
    mine = DevServer.objects.filter(command__host=own_host(), command__state=CommandState.RUNNING)
    soon = Q(state=ServerState.STARTING) | Q(checked_at__isnull=True) | Q(checked_at__lte=at - EVERY)
    rows = mine.filter(soon, state__in=[ServerState.STARTING, ServerState.HEALTHY, ServerState.UNHEALTHY])
    return list(rows.values_list("workspace_id", flat=True)[: 4 * MOST])


def follow(stop: threading.Event) -> None:
    """Look after the dev servers of this host until `stop` is set. Does not raise."""
    while not stop.is_set():
        try:
            for workspace_id in due():
                advance_server(workspace_id)
        except Exception:
            log.exception("watching_servers_failed")  # the next look tries again
        finally:
            close_old_connections()
        stop.wait(LOOK_SECONDS)


def ring_for_due() -> int:
    """Ask for every server that nobody has looked at for a while, and for lost starts and stops; how many."""
    at = now()
    waiting = Q(state__in=[ServerState.REQUESTED, ServerState.STOPPING]) | Q(command__isnull=True)
    ended = ~Q(command__state__in=ACTIVE)
    unseen = Q(checked_at__isnull=True, since__lte=at - OVERDUE) | Q(checked_at__lte=at - OVERDUE)
    ids = list(
        DevServer.objects.filter(waiting | ended | unseen, state__in=LIVE).values_list("workspace_id", flat=True)
    )
    for workspace_id in ids:
        enqueue(Names.ADVANCE_SERVER, workspace_id)
    return len(ids)
