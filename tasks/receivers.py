"""News from below: the receivers run inside the settling transaction and only request a job."""

from __future__ import annotations

import uuid
from typing import Any

from sessions_app.models import Turn
from sessions_app.signals import turn_settled
from studio.queue import Names, enqueue
from workspaces.signals import merge_settled


def on_turn_settled(*, turn: Turn, **_: Any) -> None:
    """A turn has ended: its run may advance."""
    enqueue(Names.ADVANCE_TURN, turn.pk)


def on_merge_settled(*, attempt_id: uuid.UUID | str, **_: Any) -> None:
    """A merge has ended: its task may be done."""
    enqueue(Names.ADVANCE_MERGE, attempt_id)


def connect() -> None:
    """Called once by the app's configuration; connecting again changes nothing."""
    turn_settled.connect(on_turn_settled, dispatch_uid="tasks.turn_settled")
    merge_settled.connect(on_merge_settled, dispatch_uid="tasks.merge_settled")
