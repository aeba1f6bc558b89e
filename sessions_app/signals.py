"""The news that travels upwards. Sent inside the transaction that makes it true; a receiver may only enqueue."""

from __future__ import annotations

from django.dispatch import Signal

turn_settled = Signal()  # turn: Turn, settled
