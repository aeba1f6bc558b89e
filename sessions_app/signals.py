"""The news that travels upwards. Sent inside the transaction that makes it true; a receiver may only enqueue."""

from __future__ import annotations

from django.dispatch import Signal

turn_settled = Signal()  # turn: Turn, settled
# turn: Turn, not settled: a message opened it, a retry is planned, nobody knows, it waits for a person, it goes on
turn_changed = Signal()
ask_opened = Signal()  # ask: Ask, pending
ask_closed = Signal()  # ask: Ask, no longer pending
