"""What agents ask of people: taken from the server, answered once, delivered, and found again after any restart.

An answer is stored before it is sent. The server is always told "once": what holds for longer is a rule of the studio's.
"""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F, Max, Q

from agents.asks import AskEnded, PermissionAsked, QuestionAsked
from agents.backend import AgentBackend
from agents.models import AgentRole, AgentServer
from agents.rules import ALLOW, ASK, DENY
from agents.services import backend_for
from sessions_app.models import (
    AgentSession,
    Ask,
    AskKind,
    AskReply,
    AskState,
    PermissionRule,
    RuleAction,
    SubSession,
    Turn,
    TurnState,
)
from sessions_app.services import budgets, policy
from sessions_app.services.ask_rows import OF_AGENTS, by_policy, close_row, earlier_answer, lose_answered, open_row
from sessions_app.services.ask_words import already, checked_answers, checked_message, lasting_patterns, rejection
from sessions_app.services.turns import lock_session
from studio.kernel.clock import later, now
from studio.kernel.errors import Invalid, NotFound, Upstream
from studio.kernel.permissions import Role
from studio.queue import Names, enqueue
from workspaces.selectors import require_role

log = structlog.get_logger(__name__)

AT_WORK = [TurnState.DISPATCHING, TurnState.RUNNING]
STUDIO = "studio"
ELSEWHERE = "the agent server"  # who answered, when nobody did so here
DEPTH = 16  # sub-agents of sub-agents
AGAIN_SECONDS = 10.0  # after a delivery whose end nobody saw
BACKOFF_CAP = 15.0  # seconds
NOT_ALLOWED = "The rules of this project do not allow this. Go on without it."
NO_QUESTIONS = "Nobody answers questions here. Decide yourself, and say so."


def take(server: AgentServer, asked: PermissionAsked | QuestionAsked) -> Ask | None:
    """Let something that an agent asks become a row, or answer it at once where the rules decide. Idempotent by its id.

    None when it is not the studio's business: another program's session, a turn that is over, or something that the role's
    own rules decide, as they do with most of what sub-agents ask. Raises Upstream when the server cannot be asked.
    """
    backend = backend_for(server)
    session = find_session(server, asked.session, backend)
    if session is None:
        return None
    decision = policy.decide(session, asked)
    if decision.action != ASK and not decision.by_rule:
        _reply(backend, asked, allowed=decision.action == ALLOW)
        return None
    asker = _asker(session, asked, backend)
    with transaction.atomic():
        lock_session(session.pk)
        known = Ask.objects.filter(session=session, external_id=asked.id).first()
        turn = session.turns.filter(state__in=AT_WORK, abort_requested_at__isnull=True).first()
        if known is not None or turn is None:
            return known
        if decision.action == ASK:
            answer = earlier_answer(turn, asked)
        else:
            allowed = decision.action == ALLOW
            answer = by_policy(AskReply.ONCE if allowed else AskReply.REJECT, "" if allowed else NOT_ALLOWED)
        ask = open_row(session, turn, asked, asker=asker, answer=answer)
    if ask.state == AskState.ANSWERED:
        deliver(ask.pk)
    return ask


def find_session(server: AgentServer, external_id: str, backend: AgentBackend) -> AgentSession | None:
    """The studio's session behind a session of the server: itself, or the one whose agent opened it, however deep."""
    below: list[tuple[str, str, str]] = []  # what the way up has to add: session, parent, title
    current = external_id
    for _ in range(DEPTH):
        own = AgentSession.objects.select_related("server").filter(server=server, external_id=current).first()
        sub = None if own else SubSession.objects.filter(external_id=current, session__server=server).first()
        session = own or (sub.session if sub else None)
        if session is not None:
            for child, parent, title in below:
                values = {"parent_external_id": parent, "title": title}
                SubSession.objects.get_or_create(session=session, external_id=child, defaults=values)
            return session
        info = backend.session_info(current)
        if info is None or not info.parent:
            return None
        below.append((current, info.parent, info.title))
        current = info.parent
    return None


def _asker(session: AgentSession, asked: PermissionAsked | QuestionAsked, backend: AgentBackend) -> str:
    if asked.session == session.external_id:
        return AgentRole(session.role).label
    sub = SubSession.objects.filter(session=session, external_id=asked.session).first()
    if sub is not None and not sub.title:
        info = backend.session_info(asked.session)
        sub.title = info.title if info else ""
        sub.save(update_fields=["title"])
    return sub.title if sub is not None and sub.title else "A sub-agent"


def _reply(backend: AgentBackend, asked: PermissionAsked | QuestionAsked, *, allowed: bool) -> None:
    """Answer for the role's own rules, of which no row is kept."""
    if isinstance(asked, QuestionAsked):
        backend.answer_question(asked.id, asked.directory, [[NO_QUESTIONS] for _ in asked.questions])
    elif allowed:
        backend.answer_permission(asked.id, asked.directory, "once")
    else:
        backend.answer_permission(asked.id, asked.directory, "reject", NOT_ALLOWED)


def answer(*, ask_id: uuid.UUID | str, actor: Any, reply: str = "", message: str = "", answers: Any = None) -> Ask:
    """Answer for `actor` (None: the studio itself): once, always or reject, or `answers` to questions. The first one wins.

    Raises NotFound, Forbidden (it takes a maintainer), Invalid, and Conflict: `already_answered` with who and what, or
    `ask_over` when it waits no longer.
    """
    found = Ask.objects.select_related("session__project").filter(pk=ask_id).first()
    if found is None:
        raise NotFound("Nobody asks this.")
    if actor is not None:
        require_role(actor, found.session.project, Role.MAINTAINER)
    fields = _checked(found, reply, message, answers)
    name = str(actor.get_username()) if actor is not None else STUDIO
    fields |= {"answered_by": actor, "answered_name": name, "answered_at": now()}
    with transaction.atomic():
        lock_session(found.session_id)
        said = {"reply": fields["reply"], "by": name, "message": fields["message"]}
        said |= {"answers": fields["answers"]} if fields.get("answers") else {}
        if not close_row(found, AskState.ANSWERED, "answered", said, **fields):
            raise already(Ask.objects.get(pk=found.pk))
        if found.reply == AskReply.ALWAYS and found.kind == AskKind.PERMISSION:
            _keep(found, actor)
            enqueue(Names.RECONSIDER_ASKS, found.session.project_id)
        if found.kind == AskKind.BUDGET:
            budgets.answered(found)
        else:
            enqueue(Names.DELIVER_ANSWER, found.pk)
    return found


def _checked(ask: Ask, reply: str, message: str, answers: Any) -> dict[str, Any]:
    """The fields of the answer; raises Invalid for what does not answer this."""
    text = checked_message(message)
    if ask.kind == AskKind.QUESTION:
        if answers is None and reply == AskReply.REJECT:
            return {"reply": AskReply.REJECT, "message": text}
        if reply not in ("", AskReply.ANSWERS) or answers is None:
            raise Invalid("Answer the questions, or reject them.", detail={"field": "answers"})
        return {"reply": AskReply.ANSWERS, "message": "", "answers": checked_answers(ask, answers)}
    if answers is not None:
        raise Invalid("This is no question: reply once, always or reject.", detail={"field": "answers"})
    if reply not in (AskReply.ONCE, AskReply.ALWAYS, AskReply.REJECT):
        raise Invalid("Reply once, always or reject.", detail={"field": "reply"})
    if reply == AskReply.ALWAYS and ask.kind == AskKind.PERMISSION and not lasting_patterns(ask):
        raise Invalid("This can only be allowed once.", detail={"field": "reply"})
    return {"reply": AskReply(reply), "message": text}


def _keep(ask: Ask, actor: Any) -> None:
    """Store "always" as rules of the project for the role that asked, after all others."""
    project, profile = ask.session.project_id, policy.profile_of(ask.session)
    last = PermissionRule.objects.filter(project_id=project).aggregate(last=Max("position"))["last"] or 0
    for number, pattern in enumerate(lasting_patterns(ask), start=last + 1):
        PermissionRule.objects.update_or_create(
            project_id=project,
            profile=profile,
            permission=ask.permission,
            pattern=pattern,
            defaults={"action": RuleAction.ALLOW, "position": number, "from_ask": ask, "created_by": actor},
        )


def deliver(ask_id: uuid.UUID | str) -> None:
    """Send a stored answer to the server. Idempotent: one that has arrived is not asked there any more.

    When the server has forgotten the ask, the turn is held against it: it is resumed, and asks anew.
    """
    due = Q(next_try_at__isnull=True) | Q(next_try_at__lte=now())
    waiting = Ask.objects.filter(due, undelivered(), pk=ask_id)
    if not waiting.update(attempts=F("attempts") + 1, next_try_at=later(AGAIN_SECONDS)):
        return
    ask = Ask.objects.select_related("session__server").get(pk=ask_id)
    try:
        arrived = _send(backend_for(ask.session.server), ask)
    except Upstream as error:
        delay = min(BACKOFF_CAP, 0.5 * 2 ** min(ask.attempts, 6))
        Ask.objects.filter(pk=ask.pk, delivered_at__isnull=True).update(next_try_at=later(delay))
        log.info("answer_postponed", ask=str(ask.pk), error=error.message)
        return
    with transaction.atomic():
        lock_session(ask.session_id)
        if arrived:
            Ask.objects.filter(pk=ask.pk).update(delivered_at=now(), next_try_at=None)
        else:
            lose_answered(ask)
            enqueue(Names.RECONCILE_TURN, ask.turn_id)


def undelivered() -> Q:
    """Answers that the server must still be told."""
    said = Q(state=AskState.ANSWERED) | Q(state=AskState.EXPIRED, reply=AskReply.REJECT)
    at_work = Q(turn__state__in=AT_WORK, turn__abort_requested_at__isnull=True)
    return said & at_work & Q(kind__in=OF_AGENTS, delivered_at__isnull=True)


def _send(backend: AgentBackend, ask: Ask) -> bool:
    if ask.kind == AskKind.QUESTION:
        # Dismissing a question would end the turn; words let the agent go on.
        said = ask.answers if ask.reply == AskReply.ANSWERS else [[rejection(ask)] for _ in ask.questions]
        return backend.answer_question(ask.external_id, ask.directory, said)
    if ask.reply == AskReply.REJECT:
        return backend.answer_permission(ask.external_id, ask.directory, "reject", rejection(ask))
    return backend.answer_permission(ask.external_id, ask.directory, "once")


def ended(server: AgentServer, item: AskEnded) -> None:
    """The server says that something is asked no longer: the studio's own answer has arrived, or somebody answered there."""
    ask = Ask.objects.filter(external_id=item.id, session__server=server).select_related("session").first()
    if ask is None:
        return
    with transaction.atomic():
        lock_session(ask.session_id)
        reply = AskReply(item.reply)
        said = {"reply": reply, "by": ELSEWHERE}
        fields = {"reply": reply, "answered_name": ELSEWHERE, "answered_at": now(), "delivered_at": now()}
        if not close_row(ask, AskState.ANSWERED, "answered", said, **fields):
            Ask.objects.filter(pk=ask.pk, delivered_at__isnull=True).exclude(state=AskState.LOST).update(
                delivered_at=now(), next_try_at=None
            )


def sync(server: AgentServer, directories: set[str]) -> None:
    """Hold what is asked against the server, as after a lost stream: what is new there becomes a row, and what is not asked
    there any more is lost. Raises Upstream when the server cannot be asked."""
    backend = backend_for(server)
    for directory in sorted(directories):
        before = now()
        listed = backend.pending_asks(directory)
        for asked in listed:
            take(server, asked)
        gone = Ask.objects.filter(
            session__server=server,
            directory=directory,
            kind__in=OF_AGENTS,
            state=AskState.PENDING,
            created_at__lt=before,
            turn__state=TurnState.RUNNING,
        ).exclude(external_id__in=[asked.id for asked in listed])
        for ask in gone.select_related("session"):
            with transaction.atomic():
                lock_session(ask.session_id)
                if close_row(ask, AskState.LOST, "lost", {}):
                    enqueue(Names.RECONCILE_TURN, ask.turn_id)


def reconsider(project_id: uuid.UUID | str) -> int:
    """Answer what still waits and a rule decides by now; how many were answered. Idempotent."""
    waiting = Ask.objects.filter(kind=AskKind.PERMISSION, state=AskState.PENDING, session__project_id=project_id)
    answered = 0
    for ask in waiting.select_related("session"):
        action = policy.decide(ask.session, asked_again(ask)).action
        if action == ASK:
            continue
        reply = AskReply.REJECT if action == DENY else AskReply.ONCE
        fields = by_policy(reply, NOT_ALLOWED if action == DENY else "")
        fields.pop("state")
        with transaction.atomic():
            lock_session(ask.session_id)
            said = {"reply": reply, "by": fields["answered_name"]}
            if close_row(ask, AskState.ANSWERED, "answered", said, **fields):
                enqueue(Names.DELIVER_ANSWER, ask.pk)
                answered += 1
    return answered


def asked_again(ask: Ask) -> PermissionAsked:
    """A permission's row as it was asked."""
    return PermissionAsked(
        session=ask.external_session or ask.session.external_id,
        id=ask.external_id,
        directory=ask.directory,
        permission=ask.permission,
        patterns=tuple(ask.patterns),
        command=str(ask.detail.get("command", "")),
        exact=bool(ask.detail.get("exact", True)),
    )


def turns_at_work(server: AgentServer) -> set[str]:
    """The directories in which something may be asked now."""
    running = Turn.objects.filter(session__server=server, state=TurnState.RUNNING)
    return set(running.values_list("session__directory", flat=True))
