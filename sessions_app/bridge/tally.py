"""What a server's stream carried and what of it was refused, counted by reason where an operator sees it."""

from __future__ import annotations

import time
import uuid
from collections import Counter

from django.db import transaction
from django.db.models import F

from sessions_app.models import StreamCount
from sessions_app.streams import HEARTBEAT, TAKEN
from studio.kernel.clock import now

SAVE_SECONDS = 5.0
FOREIGN, UNSTORABLE, GAP, FLOOD = "foreign_session", "unstorable", "gap", "too_much_text"


__all__ = ["FLOOD", "FOREIGN", "GAP", "HEARTBEAT", "TAKEN", "UNSTORABLE", "Tally"]


class Tally:
    """Counts in memory, written now and then: one line in a table, never one in a log for each event."""

    def __init__(self, server_id: uuid.UUID) -> None:
        self.server_id = server_id
        self.total: Counter[str] = Counter()  # since this bridge began
        self._unsaved: Counter[str] = Counter()
        self._due = 0.0

    def note(self, reason: str, count: int = 1) -> None:
        """Count something."""
        if count:
            self.total[reason] += count
            self._unsaved[reason] += count

    def save(self) -> None:
        """Add what has been counted to the rows, every SAVE_SECONDS."""
        at = time.monotonic()
        if at < self._due or not self._unsaved:
            return
        self._due = at + SAVE_SECONDS
        unsaved, self._unsaved = self._unsaved, Counter()
        with transaction.atomic():
            for reason, count in sorted(unsaved.items()):
                row = StreamCount.objects.filter(server_id=self.server_id, reason=reason)
                if not row.update(count=F("count") + count, last_at=now()):
                    StreamCount.objects.get_or_create(
                        server_id=self.server_id, reason=reason, defaults={"count": count, "last_at": now()}
                    )
