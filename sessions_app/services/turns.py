"""Opening sessions and admitting turns: rows only. Nothing is sent before the transaction of the row has committed."""

from __future__ import annotations

import uuid

from django.db import IntegrityError, transaction
from django.db.models import Max

from agents.models import AgentServer
from sessions_app.models import AgentSession, Turn
from studio.kernel.clock import now
from studio.kernel.errors import Conflict
from studio.kernel.ids import derived_id, new_id
from studio.kernel.text import clean, cut
from studio.queue import Names, enqueue
from workspaces.models import Workspace


def lock_session(session_id: uuid.UUID | str) -> AgentSession | None:
    """The session, held until the end of the caller's transaction; None when it is gone.

    Whoever changes a session's turns, inbox and log together takes this lock first, so that nobody waits in a circle.
    """
    sessions = AgentSession.objects.select_for_update(of=("self",)).select_related("workspace", "server")
    return sessions.filter(pk=session_id).first()


def lock_sessions_in(workspace_id: uuid.UUID) -> None:
    """Every session of a checkout, held until the end of the caller's transaction: until then no message opens a turn there.

    Whoever locks a task too takes that lock before this one, and the feed's row after it.
    """
    sessions = AgentSession.objects.select_for_update(of=("self",)).filter(workspace_id=workspace_id).order_by("pk")
    list(sessions.values_list("pk"))


def open_session(
    *,
    workspace: Workspace,
    server: AgentServer,
    role: str,
    title: str,
    agent: str,
    model: str,
    subject: str = "",
    fingerprint: str = "",
    previous: AgentSession | None = None,
) -> AgentSession:
    """A new conversation in `workspace`, for `subject` (a task's id). The server hears of it with its first turn."""
    return AgentSession.objects.create(
        project_id=workspace.project_id,
        workspace=workspace,
        server=server,
        role=role,
        title=cut(clean(title), 200),
        directory=workspace.path,
        agent=agent,
        model=model,
        subject=subject,
        fingerprint=fingerprint,
        previous=previous,
    )


def admit_turn(
    *,
    session: AgentSession,
    prompt: str,
    system: str = "",
    tool_subject: str = "",
    max_steps: int,
    wall_seconds: int,
    idle_seconds: int,
    ids: tuple[str, str] | None = None,
    continues: Turn | None = None,
) -> Turn:
    """Admit a prompt as the session's next turn and request its dispatch.

    The ids by which the server will know the prompt are fixed here (`ids` when it was tried under some before). Raises
    Conflict while another turn of the session is not settled.
    """
    turn_id, at = new_id(), now()
    message_id, part_id = ids or (derived_id("msg", turn_id, at, 1), derived_id("prt", turn_id, at, 2))
    try:
        with transaction.atomic():
            last = session.turns.aggregate(last=Max("number"))["last"] or 0
            turn = Turn.objects.create(
                id=turn_id,
                session=session,
                number=last + 1,
                prompt=clean(prompt),
                system=clean(system),
                agent=session.agent,
                model=session.model,
                tool_subject=tool_subject,
                message_id=message_id,
                part_id=part_id,
                continues=continues,
                max_steps=max_steps,
                wall_seconds=wall_seconds,
                idle_seconds=idle_seconds,
            )
            enqueue(Names.DISPATCH_TURN, turn.pk)
    except IntegrityError as error:
        raise Conflict("This session is still working on its last prompt.", code="turn_active") from error
    return turn
