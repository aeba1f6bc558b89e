"""Opening sessions and admitting turns: rows only. Nothing is sent before the transaction of the row has committed."""

from __future__ import annotations

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


def open_session(
    *, workspace: Workspace, server: AgentServer, role: str, title: str, agent: str, model: str
) -> AgentSession:
    """A new conversation in `workspace`. The server hears of it when its first turn is dispatched."""
    return AgentSession.objects.create(
        project_id=workspace.project_id,
        workspace=workspace,
        server=server,
        role=role,
        title=cut(clean(title), 200),
        directory=workspace.path,
        agent=agent,
        model=model,
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
) -> Turn:
    """Admit a prompt as the session's next turn and request its dispatch.

    The ids by which the server will know the prompt are fixed here. Raises Conflict while another turn of the session
    is not settled.
    """
    turn_id, at = new_id(), now()
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
                message_id=derived_id("msg", turn_id, at, 1),
                part_id=derived_id("prt", turn_id, at, 2),
                max_steps=max_steps,
                wall_seconds=wall_seconds,
                idle_seconds=idle_seconds,
            )
            enqueue(Names.DISPATCH_TURN, turn.pk)
    except IntegrityError as error:
        raise Conflict("This session is still working on its last prompt.", code="turn_active") from error
    return turn
