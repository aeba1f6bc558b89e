"""A session's log as people read it: stretches of it, each tool once, in the order in which the agent began things.

A log of any length costs the same: a stretch reads its own entries and a bounded number of others, all by an index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TypedDict

from django.db.models import Count, Q, Sum

from sessions_app import selectors
from sessions_app.entries import HIDDEN, SHOWN, EntryView, duration, view
from sessions_app.models import AgentSession, Ask, SessionEvent, SubSession, Turn, Usage
from studio.topics import Event

PAGE = 100  # entries of the log that a transcript begins with, and with each step back or forth
ROOM = 120_000  # characters of text that one stretch shows without unfolding
WAITED = 1_000  # milliseconds for a person that are worth a word
LEAST = 1_500  # characters of each text, however full the stretch is
STARTED, FINISHED = "tool.started", "tool.finished"
MOVABLE = {"text", "reasoning", "tool_started", "tool_finished"}
# What was before one of these belongs to an earlier step.
STEP_ENDS = {"step_finished", "user", "error", "compacted", "turn_started", "turn_resumed", "turn_settled"}


@dataclass(slots=True)
class Group:
    """What one sub-agent did, in a stretch."""

    child: str
    label: str = ""
    entries: list[EntryView] = field(default_factory=list)

    @property
    def seq(self) -> int:
        """The number of its first entry."""
        return self.entries[0].seq


Item = EntryView | Group


class Figures(TypedDict):
    """What the models of a turn used."""

    steps: int
    input: int
    output: int
    reasoning: int
    cached: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Transcript:
    """A stretch of the log. `first` and `last` are the numbers it covers, `head` is the log's last one."""

    session: AgentSession
    items: list[Item]
    first: int
    last: int
    head: int

    @property
    def earlier(self) -> bool:
        """Whether there is more before it."""
        return self.first > 1

    @property
    def full(self) -> bool:
        """Whether there may be more after it."""
        return self.last < self.head


def latest(session: AgentSession) -> Transcript:
    """The end of the log: what a page begins with."""
    return _stretch(session, after=max(0, session.last_seq - PAGE))


def since(session: AgentSession, after: int, *, limit: int = PAGE) -> Transcript:
    """What came after a cursor, the ends of tools included whose starts a reader has already."""
    return _stretch(session, after=after, limit=limit, ends=True)


def following(session: AgentSession, after: int) -> Transcript:
    """The next stretch for somebody who reads on from `after`."""
    return _stretch(session, after=after)


def earlier(session: AgentSession, before: int) -> Transcript:
    """The entries right before number `before`."""
    after = max(0, before - 1 - PAGE)
    return _stretch(session, after=after, limit=max(0, before - 1 - after))


def of_turn(session: AgentSession, number: int) -> Transcript:
    """The stretch that begins with a turn; the end of the log where there is no such turn."""
    seq = turn_begins(session, number)
    return _stretch(session, after=seq - 1) if seq else latest(session)


def one(session: AgentSession, seq: int) -> EntryView | None:
    """The entry number `seq` in full."""
    events = selectors.read_session(str(session.pk), seq - 1, 1)
    if not events or events[0].seq != seq:
        return None
    return _with_waits(session, [view(events[0], whole=True)])[0]


def turn_begins(session: AgentSession, number: int) -> int:
    """The number of the entry with which a turn begins; 0 when it has not begun."""
    turn = session.turns.filter(number=number).only("pk", "resumes").first()
    if turn is None:
        return 0
    keys = [f"turn.started:{turn.pk}:{n}" for n in range(turn.resumes + 1)]
    keys += [f"turn.resumed:{turn.pk}:{n}" for n in range(turn.resumes + 1)]
    found = SessionEvent.objects.filter(session=session, upstream_key__in=keys)
    return min(found.values_list("seq", flat=True), default=0)


def figures(turns: Iterable[Turn]) -> dict[int, Figures]:
    """What each of the turns used so far, by its number."""
    rows = (
        Usage.objects.filter(turn__in=list(turns))
        .order_by()
        .values("turn__number")
        .annotate(
            steps=Count("pk"),
            input=Sum("tokens_input"),
            output=Sum("tokens_output"),
            reasoning=Sum("tokens_reasoning"),
            cached=Sum("tokens_cached"),
            cost=Sum("cost"),
        )
    )
    return {
        row["turn__number"]: Figures(
            steps=row["steps"],
            input=row["input"],
            output=row["output"],
            reasoning=row["reasoning"],
            cached=row["cached"],
            cost=row["cost"],
        )
        for row in rows
    }


def _stretch(session: AgentSession, *, after: int, limit: int = PAGE, ends: bool = False) -> Transcript:
    events = selectors.read_session(str(session.pk), after, limit) if limit else []
    last = max([after, *(event.seq for event in events)])
    shown, begun_before = _once_each(session, events)
    if not ends:
        shown = [event for event in shown if event.seq not in begun_before]
    entries = _with_waits(session, _views(shown, begun_before))
    return Transcript(
        session=session,
        items=_grouped(session, _with_figures(session, entries)),
        first=after + 1,
        last=last,
        head=max(session.last_seq, last),
    )


def _once_each(session: AgentSession, events: list[Event]) -> tuple[list[Event], set[int]]:
    """Each tool once, where it began: with its end as soon as there is one, whichever stretch that is in.

    Besides, the numbers of the ends whose starts are in an earlier stretch: they stand there.
    """
    finished = {str(event.data.get("part")): event for event in events if event.kind == FINISHED}
    started = {str(event.data.get("part")) for event in events if event.kind == STARTED}
    keys = [f"{FINISHED}:{part}" for part in started - finished.keys()]
    keys += [f"{STARTED}:{part}" for part in finished.keys() - started]
    begun_before: set[int] = set()
    if keys:
        for row in SessionEvent.objects.filter(session=session, upstream_key__in=keys):
            part = str(row.data.get("part"))
            if row.kind == FINISHED:
                finished[part] = Event(f"session:{session.pk}", row.seq, row.kind, row.data, row.at)
            elif not events or row.seq < events[0].seq:
                begun_before.add(finished[part].seq)
    shown: list[Event] = []
    for event in events:
        part = str(event.data.get("part"))
        if event.kind == STARTED and part in finished:
            shown.append(finished[part])
        elif event.kind not in HIDDEN and not (event.kind == FINISHED and part in started):
            shown.append(event)
    return shown, begun_before


def _views(events: list[Event], begun_before: set[int]) -> list[EntryView]:
    room = ROOM
    views = []
    for event in events:
        entry = view(event, room=min(SHOWN, max(LEAST, room)))
        if event.kind == "text":
            room -= min(SHOWN, len(str(event.data.get("text", ""))))
        views.append(replace(entry, elsewhere=True) if event.seq in begun_before else entry)
    return views


def _with_waits(session: AgentSession, entries: list[EntryView]) -> list[EntryView]:
    """Tools whose time was partly a person's: what they took without it, and how long they waited for an answer.

    A sub-agent's tool call waits for what the sub-agent asked, too.
    """
    timed = [one for one in entries if _is_timed(one)]
    calls = {str(one.data["call"]) for one in timed if one.data.get("call")}
    opened = {one.more["opens"] for one in timed if one.more.get("opens")}
    if not calls:
        return entries
    mine = Q(detail__call__in=calls) | Q(external_session__in=opened)
    asks = Ask.objects.filter(mine, session=session, answered_at__isnull=False)
    waits: dict[str, int] = defaultdict(int)
    for ask in asks.only("created_at", "answered_at", "detail", "external_session"):
        if ask.answered_at is not None:
            waited = int((ask.answered_at - ask.created_at).total_seconds() * 1_000)
            detail = ask.detail if isinstance(ask.detail, dict) else {}
            waits[str(detail.get("call"))] += waited
            waits[ask.external_session or "-"] += waited
    return [_with_wait(one, waits) if _is_timed(one) else one for one in entries] if waits else entries


def _is_timed(entry: EntryView) -> bool:
    return entry.kind == "tool_finished" and isinstance(entry.data.get("ms"), int)


def _with_wait(entry: EntryView, waits: dict[str, int]) -> EntryView:
    waited = waits[str(entry.data.get("call"))] + (waits[entry.more["opens"]] if entry.more.get("opens") else 0)
    waited = min(waited, entry.data["ms"])
    if waited < WAITED:
        return entry
    own = duration(entry.data["ms"] - waited)
    return replace(entry, more={**entry.more, "took": own, "waited": duration(waited, whole=True)})


def _with_figures(session: AgentSession, entries: list[EntryView]) -> list[EntryView]:
    """The ends of turns with what the turns used and how long they took."""
    numbers = {entry.data.get("turn") for entry in entries if entry.kind == "turn_settled"}
    wanted = [number for number in numbers if isinstance(number, int)]
    if not wanted:
        return entries
    turns = list(session.turns.filter(number__in=wanted).only("number", "started_at", "settled_at"))
    used, times = figures(turns), {turn.number: turn for turn in turns}
    return [
        replace(
            entry,
            more={
                **entry.more,
                "used": used.get(entry.data.get("turn", 0)),
                "turn": times.get(entry.data.get("turn", 0)),
            },
        )
        if entry.kind == "turn_settled"
        else entry
        for entry in entries
    ]


def _grouped(session: AgentSession, entries: list[EntryView]) -> list[Item]:
    """The entries in reading order, a sub-agent's together where they begin."""
    items: list[Item] = []
    groups: dict[str, Group] = {}
    for entry in entries:
        if not entry.child:
            _place(items, entry)
            continue
        if entry.child not in groups:
            groups[entry.child] = Group(entry.child)
            items.append(groups[entry.child])
        _place(groups[entry.child].entries, entry)
    if groups:
        titles = SubSession.objects.filter(session=session, external_id__in=groups)
        for external_id, title in titles.values_list("external_id", "title"):
            groups[external_id].label = title
    return items


def _place(items: list[Item] | list[EntryView], entry: EntryView) -> None:
    """Put `entry` where its step began it: the log notes a text when it has ended, which may be after the tools that the
    agent called later. Parts are numbered by their beginning; static/js/transcript.js does the same."""
    at = len(items)
    if entry.kind in MOVABLE and entry.part:
        for index in range(len(items) - 1, -1, -1):
            other = items[index]
            if isinstance(other, Group):
                continue
            if other.kind in STEP_ENDS:
                break
            if other.kind in MOVABLE and len(other.part) == len(entry.part) and other.part > entry.part:
                at = index
    items.insert(at, entry)
