"""What the servers' event streams carried, and what of it could not be used, for health pages and endpoints."""

from __future__ import annotations

from typing import TypedDict

from sessions_app.models import StreamCount

TAKEN, HEARTBEAT = "taken", "heartbeat"  # everything else is one of REASONS
REASONS = {
    "unknown_type": "events of a kind that this version does not know",
    "malformed": "events without what their kind must have",
    "not_json": "events that are no JSON",
    "bad_encoding": "events that are no UTF-8",
    "too_large": "events larger than 16 MB",
    "foreign_session": "events of sessions that are not the studio's",
    "unstorable": "entries that the database refused",
    "gap": "times at which the stream had left something out",
    "too_much_text": "pieces of text that came faster than anybody reads",
}


class StreamHealth(TypedDict):
    """One server's stream. Moments are ISO 8601, null before the first."""

    server: str
    entries: int
    last_entry_at: str | None
    heartbeats: int
    last_heartbeat_at: str | None
    problems: dict[str, int]  # see REASONS


def stream_health() -> list[StreamHealth]:
    """The streams of the enabled servers that have said something, by name."""
    by_server: dict[str, dict[str, StreamCount]] = {}
    for row in StreamCount.objects.filter(server__enabled=True).select_related("server").order_by("server__name"):
        by_server.setdefault(row.server.name, {})[row.reason] = row
    return [_health(name, counts) for name, counts in by_server.items()]


def _health(server: str, counts: dict[str, StreamCount]) -> StreamHealth:
    taken, heartbeat = counts.get(TAKEN), counts.get(HEARTBEAT)
    return {
        "server": server,
        "entries": taken.count if taken else 0,
        "last_entry_at": taken.last_at.isoformat() if taken else None,
        "heartbeats": heartbeat.count if heartbeat else 0,
        "last_heartbeat_at": heartbeat.last_at.isoformat() if heartbeat else None,
        "problems": {reason: row.count for reason, row in counts.items() if reason not in (TAKEN, HEARTBEAT)},
    }
