"""Commands in the background that an agent asks for while its run is active: in the run's own checkout, by the run's own rules.

As with results, the run's row decides, under the task's lock. Asking for the same command again while it runs is the same
command: an agent whose call was cut off asks again.
"""

from __future__ import annotations

import re

from django.db import transaction

from agents.rules import ALLOW, DENY, evaluate
from sessions_app.models import AgentSession
from sessions_app.services.commands import note_start
from sessions_app.services.policy import rules_for
from studio.kernel.errors import Conflict, Forbidden, NotFound
from tasks.choices import Phase
from tasks.models import PhaseRun
from tasks.services.results import acting
from workspaces.commands import selectors
from workspaces.commands.services import cancel_command, find_command, start_command
from workspaces.models import Command, RequestedBy

PHASES = (Phase.IMPLEMENTATION, Phase.FIX)

# Where one command ends and another begins, as far as that can be seen without being a shell; quotes may hold a whole one.
BORDERS = re.compile(r"\$\(|[;&|\n(){}`'\"]")
# What may stand before the command that is really meant.
BEFORE = re.compile(r"^(?:(?:\w+=\S*|sudo|env|exec|eval|nohup|time|command|then|do|else|!)\s+)+")


def run_command(
    run_id: str, text: str, *, title: str = "", time_limit: int | None = None, wake: bool = False
) -> tuple[Command, bool]:
    """Start `text` in the run's checkout; its row, and whether it is a new one.

    Raises Forbidden where the rules for the agent's shell do not simply allow it: nobody can be asked in the background.
    """
    with transaction.atomic():
        _, run = acting(run_id, "run_command", PHASES)
        session = _session(run)
        same = _same(run, text)
        if same is not None:
            return same, False
        _require_allowed(session, text)
        command = start_command(
            workspace=session.workspace,
            text=text,
            actor=None,
            title=title,
            time_limit=time_limit,
            requested_by=RequestedBy.AGENT,
            author_name=session.agent,
            origin=str(run.pk),
            deliver_to=str(session.pk),
            wake=wake,
        )
        note_start(session, command)
    return command, True


def command_of(run_id: str, command_id: str) -> Command:
    """A command of the run's checkout, with what it has written until now. Raises NotFound for any other."""
    with transaction.atomic():
        _, run = acting(run_id, "command_status", PHASES)
        [command] = selectors.counted([_own(run, command_id)])
    return command


def end_command(run_id: str, command_id: str) -> Command:
    """Have a command of the run's checkout ended, if an agent started it. Raises Conflict when it has ended."""
    with transaction.atomic():
        _, run = acting(run_id, "cancel_command", PHASES)
        command = _own(run, command_id)
        if command.requested_by != RequestedBy.AGENT:
            raise Forbidden("A person started this command; it is not yours to end.")
        return cancel_command(command=command, actor=None, by="the agent")


def _own(run: PhaseRun, command_id: str) -> Command:
    command = find_command(command_id)
    if command.workspace_id != _session(run).workspace_id:
        raise NotFound("There is no such command in this checkout.")
    return command


def _session(run: PhaseRun) -> AgentSession:
    if run.session is None:
        raise Conflict("This run has no checkout yet.")
    return run.session


def _same(run: PhaseRun, text: str) -> Command | None:
    """The command with this text that the run has started and that still runs."""
    mine = Command.objects.filter(origin=str(run.pk), text=text.strip()).order_by("-created_at")
    return next((command for command in mine[:1] if selectors.is_active(command)), None)


def _require_allowed(session: AgentSession, text: str) -> None:
    """The rules for the agent's shell hold here too, for the whole text and for each command in it."""
    rules = rules_for(session)
    for piece in [text.strip(), *_pieces(text)]:
        action = evaluate(rules, "bash", piece)
        if action == DENY:
            raise Forbidden(f"“{piece[:80]}” is not allowed to you, in the background neither.")
        if action != ALLOW:
            raise Forbidden(f"“{piece[:80]}” needs a person's permission: run it with your shell tool, which asks.")


def _pieces(text: str) -> list[str]:
    """The commands that the text seems to consist of."""
    found = (BEFORE.sub("", piece.strip()).strip() for piece in BORDERS.split(text))
    return [piece for piece in found if piece]
