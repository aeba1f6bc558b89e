"""Which of the studio's sessions a session of the server belongs to, and how far each one's events have been read."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.db import IntegrityError, transaction

from agents.backend import ChildOpened
from sessions_app.models import AgentSession, SubSession

MEMORY = 20_000  # sessions; more are looked up again
UNKNOWN_SECONDS = 0.1  # how long a session that is not ours is not looked up again
SAVE_SECONDS = 5.0  # a cursor that is behind costs a longer replay and nothing else


@dataclass(frozen=True, slots=True)
class Place:
    """The studio's session whose log takes it; `child` for one that a sub-agent works in."""

    session: uuid.UUID
    child: bool


class Places:
    """The places of one server's sessions, as far as they have been asked for."""

    def __init__(self, server_id: uuid.UUID) -> None:
        self.server_id = server_id
        self._known: dict[str, Place] = {}
        self._unknown: dict[str, float] = {}  # until when

    def find(self, external: str) -> Place | None:
        """The place of a session that was learnt; None when it is not the studio's."""
        return self._known.get(external)

    def learn(self, externals: Iterable[str]) -> None:
        """Look up what is not known yet, in two queries at most."""
        at = time.monotonic()
        wanted = {one for one in externals if one not in self._known and self._unknown.get(one, 0.0) <= at}
        if not wanted:
            return
        if len(self._known) > MEMORY or len(self._unknown) > MEMORY:
            self._known.clear()
            self._unknown.clear()
        own = AgentSession.objects.filter(server_id=self.server_id, external_id__in=wanted)
        found = {external: Place(pk, child=False) for external, pk in own.values_list("external_id", "pk")}
        if missing := wanted - found.keys():
            children = SubSession.objects.filter(session__server_id=self.server_id, external_id__in=missing)
            found |= {name: Place(pk, child=True) for name, pk in children.values_list("external_id", "session_id")}
        self._known |= found
        self._unknown |= dict.fromkeys(wanted - found.keys(), at + UNKNOWN_SECONDS)

    def adopt(self, child: ChildOpened) -> None:
        """Remember a sub-agent's session, also for a bridge that starts later; nothing when its parent is not ours."""
        parent = self._known.get(child.parent)
        if parent is None or child.session in self._known:
            return
        try:
            SubSession.objects.get_or_create(
                session_id=parent.session,
                external_id=child.session,
                defaults={"parent_external_id": child.parent, "title": child.title},
            )
        except IntegrityError:
            self._known.pop(child.parent)  # the parent was deleted meanwhile
            return
        self._known[child.session] = Place(parent.session, child=True)


class Cursors:
    """The server's number of the last durable event of each session that was read.

    Kept in memory and written now and then: after a restart a little more is replayed than was missed.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._seqs: dict[str, int] = {}
        self._unsaved: set[str] = set()
        self._gaps: set[uuid.UUID] = set()
        self._due = 0.0

    def seed(self, cursors: Mapping[str, int]) -> None:
        """Begin where an earlier reader stopped."""
        for external, seq in cursors.items():
            self._seqs[external] = max(seq, self._seqs.get(external, -1))

    def reached(self, external: str, seq: int) -> None:
        """A replay brought everything up to `seq`."""
        if seq > self._seqs.get(external, -1):
            self._seqs[external] = seq
            self._unsaved.add(external)

    def passed(self, external: str, seq: int) -> bool:
        """The stream said everything up to `seq`; whether something before it never came."""
        known = self._seqs.get(external)
        self.reached(external, seq)
        place = self._places.find(external)
        missed = known is not None and seq > known + 1 and place is not None
        if missed and place:
            self._gaps.add(place.session)
        return missed

    def save(self) -> set[uuid.UUID]:
        """Write what has moved, every SAVE_SECONDS; the sessions whose messages must be read because of a gap."""
        at = time.monotonic()
        if at < self._due:
            return set()
        self._due = at + SAVE_SECONDS
        gaps, self._gaps = self._gaps, set()
        unsaved, self._unsaved = self._unsaved, set()
        with transaction.atomic():
            for external in sorted(unsaved):
                self._write(external, self._seqs[external])
        if len(self._seqs) > MEMORY:
            self._seqs.clear()
        return gaps

    def _write(self, external: str, seq: int) -> None:
        place = self._places.find(external)
        if place is None:
            return
        if place.child:
            rows = SubSession.objects.filter(session_id=place.session, external_id=external, upstream_seq__lt=seq)
            rows.update(upstream_seq=seq)
        else:
            AgentSession.objects.filter(pk=place.session, upstream_seq__lt=seq).update(upstream_seq=seq)
