"""Sending a turn to the agent server: short, repeatable, and exact about what a crash leaves behind.

The prompt carries message and part ids derived from the row. The real server makes a repeated POST of both a no-op while
the turn runs, and a resume after a crash (opencode.md, section 3). So whenever it is unclear whether a prompt was sent,
it is sent again.
"""

from __future__ import annotations

import random
import uuid

import structlog
from django.db import transaction
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce

from agents.backend import AgentBackend, LogEntry, Prompt
from agents.directories import begin_use
from agents.services import backend_for
from sessions_app import log as session_log
from sessions_app.models import AgentSession, Delivery, InboxState, Turn, TurnOutcome, TurnState
from sessions_app.services import budgets, clock
from sessions_app.services.policy import rules_for_server
from sessions_app.services.retries import mark_unknown
from sessions_app.services.settle import settle, settle_stopped
from sessions_app.services.steer import sent_batches, steer_prompt
from sessions_app.services.turns import lock_session
from sessions_app.signals import turn_changed
from studio.kernel.claim import claim, fenced, renew
from studio.kernel.clock import later, now
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.faultpoints import reach
from studio.kernel.tokens import sign_subject
from studio.queue import Names, enqueue
from workspaces.models import Workspace

log = structlog.get_logger(__name__)

# Short, renewed before each call: a second dispatcher after a slow call does no harm, because the ids are the same.
LEASE_SECONDS = 10
GIVE_UP_TRIES = 45  # about ten minutes of them
BACKOFF_CAP = 15.0  # seconds
STAND_BACK_SECONDS = 1.0
OCCUPIED_SECONDS = 2.0  # until a workspace in which another turn runs is looked at again


def dispatch(turn_id: uuid.UUID | str) -> None:
    """Send the turn's prompt if it is due. Idempotent; returns at once when another worker holds the turn."""
    turn = Turn.objects.select_related("session__server", "session__workspace").filter(pk=turn_id).first()
    if turn is None or turn.state not in (TurnState.ADMITTED, TurnState.DISPATCHING):
        return
    # One that was cut off in the middle is sent all the same, and held when it runs: it may be there already.
    if (turn.hold and turn.state == TurnState.ADMITTED) or (turn.next_try_at and turn.next_try_at > now()):
        return
    if turn.state == TurnState.ADMITTED and not turn.abort_requested_at and budgets.bars(turn):
        return
    reach("dispatch.before_claim")
    epoch = claim(Turn.objects.filter(pk=turn.pk, state=turn.state), seconds=LEASE_SECONDS)
    if epoch is None:
        return
    reach("dispatch.after_claim")
    if turn.abort_requested_at:
        settle_stopped(turn)
        return
    if not _enter(turn, epoch):
        return
    if not begin_use(turn.session.server, turn.session.directory):
        _stand_back(turn, epoch)
        return
    try:
        backend = backend_for(turn.session.server)
        sent = _send(turn, epoch, backend)
    except NotFound as error:
        _lost(turn, epoch, error)
    except Upstream as error:
        if error.transient:
            _postpone(turn, epoch, error)
            _confirm_if_stopped(turn)
        else:
            settle(turn.pk, TurnOutcome.REJECTED, error_code=error.code, error_message=error.message)
    else:
        if sent and not _mark_running(turn, epoch):
            _confirm_if_stopped(turn)


def _stand_back(turn: Turn, epoch: int) -> None:
    """The server is being replaced, or lets go of the directory: nothing was sent, and the try does not count."""
    fenced(Turn, turn.pk, epoch).update(
        state=turn.state,
        attempts=turn.attempts,
        next_try_at=later(STAND_BACK_SECONDS),
        lease_owner="",
        lease_until=None,
    )


def _enter(turn: Turn, epoch: int) -> bool:
    """Mark the turn as at work in its workspace; False while another one is, or when the turn went to somebody else.

    Two turns of a workspace are sent at once by two workers: only under its lock does the second see the first.
    """
    with transaction.atomic():
        list(Workspace.objects.select_for_update(no_key=True).filter(pk=turn.session.workspace_id).values_list("pk"))
        mine = fenced(Turn, turn.pk, epoch)
        if _occupied(turn):
            mine.update(next_try_at=later(OCCUPIED_SECONDS), lease_owner="", lease_until=None)
            return False
        return bool(mine.update(state=TurnState.DISPATCHING, attempts=F("attempts") + 1))


def _occupied(turn: Turn) -> bool:
    """Whether another turn is at work in the same directory, or may be: two agents never share a workspace."""
    here = Turn.objects.filter(session__workspace_id=turn.session.workspace_id)
    at_work = Q(state__in=[TurnState.DISPATCHING, TurnState.RUNNING]) & ~Q(session_id=turn.session_id)
    may_be = Q(unconfirmed=True, session__server_id=turn.session.server_id)
    return here.filter(at_work | may_be).exists()


def _lost(turn: Turn, epoch: int, error: NotFound) -> None:
    """The server does not know the session. A turn that was never sent gets a new one; else only a person can decide."""
    if turn.started_at is None and turn.attempts == 0 and turn.number == 1:
        with transaction.atomic():
            lock_session(turn.session_id)
            if fenced(Turn, turn.pk, epoch).update(lease_owner="", lease_until=None, next_try_at=now()):
                AgentSession.objects.filter(pk=turn.session_id).update(external_id="", upstream_seq=-1)
                enqueue(Names.DISPATCH_TURN, turn.pk)
        return
    turn.lease_epoch = epoch
    mark_unknown(turn, error.message)


def _send(turn: Turn, epoch: int, backend: AgentBackend) -> bool:
    """Make the calls of one dispatch; False when the turn went to somebody else before its prompt was sent."""
    session = turn.session
    rules = rules_for_server(session)
    if session.external_id:
        backend.set_rules(session.external_id, rules)
    else:
        reach("dispatch.before_session")
        opened = backend.open_session(
            directory=session.directory,
            title=session.title,
            rules=rules,
            agent=session.agent,
            model=session.model,
        )
        reach("dispatch.session_opened")
        # Committed before the prompt goes out: the bridge must know the session when its first event comes.
        AgentSession.objects.filter(pk=session.pk, external_id="").update(external_id=opened)
        session.refresh_from_db(fields=["external_id"])
    if not renew(Turn, turn.pk, epoch, seconds=LEASE_SECONDS):
        return False
    reach("dispatch.before_tools")
    if turn.tool_subject and not backend.attach_tools(
        directory=session.directory, token=sign_subject(turn.tool_subject)
    ):
        log.warning("tools_not_attached", turn=str(turn.pk))  # the prompt names the prose forms that work without
    if not renew(Turn, turn.pk, epoch, seconds=LEASE_SECONDS):
        return False
    reach("dispatch.before_post")
    backend.admit(
        Prompt(
            external_session=session.external_id,
            directory=session.directory,
            message_id=turn.message_id,
            part_id=turn.part_id,
            agent=turn.agent,
            model=turn.model,
            system=turn.system,
            text=turn.prompt,
        )
    )
    reach("dispatch.after_post")
    for batch in sent_batches(turn):  # of an earlier try: what the server has of them it knows by their ids
        backend.admit(steer_prompt(session, turn, batch))
    return True


def _confirm_if_stopped(turn: Turn) -> None:
    """A turn that was stopped while its prompt went out must not run on unseen: it is held against the server (again)."""
    with transaction.atomic():
        stopped = Turn.objects.filter(pk=turn.pk, state=TurnState.SETTLED, abort_requested_at__isnull=False)
        if stopped.update(unconfirmed=True, next_try_at=None):
            enqueue(Names.CONFIRM_STOPPED, turn.pk)


def _mark_running(turn: Turn, epoch: int) -> bool:
    """Running; False when the turn was already settled by what the bridge saw meanwhile."""
    again = turn.started_at is not None
    with transaction.atomic():
        lock_session(turn.session_id)
        moved = fenced(Turn, turn.pk, epoch).update(
            state=TurnState.RUNNING,
            started_at=Coalesce(F("started_at"), Value(now())),
            last_event_at=now(),
            next_try_at=None,
            server_boot=turn.session.server.boot,
            lease_owner="",
            lease_until=None,
        )
        if moved:
            kind = "turn.resumed" if again else "turn.started"
            data = {"turn": turn.number, "model": turn.model, "agent": turn.agent}
            entry = LogEntry(kind=kind, key=f"{kind}:{turn.pk}:{epoch}", data=data, at=now())
            session_log.append(turn.session_id, [entry])
            clock.go(turn.pk)
            if turn.retry_code or turn.hold or turn.waiting_since:
                turn_changed.send(sender=Turn, turn=turn)
            if turn.session.inbox.filter(state=InboxState.WAITING, delivery=Delivery.STEER).exists():
                enqueue(Names.DELIVER_MESSAGES, turn.session_id)
        reach("dispatch.in_transaction")
    reach("dispatch.running")
    return bool(moved)


def _postpone(turn: Turn, epoch: int, error: Upstream) -> None:
    """Try again later, with backoff and jitter; give up when the server stayed away too long."""
    if turn.attempts >= GIVE_UP_TRIES:
        settle(
            turn.pk,
            TurnOutcome.FAILED,
            error_code="server_unreachable",
            error_message=error.message,
            unconfirmed=True,  # a prompt may have arrived although its answer did not
        )
        return
    delay = min(BACKOFF_CAP, 0.5 * 2 ** min(turn.attempts, 10)) * random.uniform(0.75, 1.25)  # noqa: S311 -- jitter
    fenced(Turn, turn.pk, epoch).update(
        next_try_at=later(delay), error_message=error.message, lease_owner="", lease_until=None
    )
    log.info("dispatch_postponed", turn=str(turn.pk), seconds=round(delay, 1), error=error.message)
