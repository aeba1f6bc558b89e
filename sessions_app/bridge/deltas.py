"""Text that is being written, joined to at most one frame per session every DELTA_PERIOD. Disposable."""

from __future__ import annotations

import time
import uuid

from studio import doorbell

DELTA_PERIOD = 0.05  # seconds: at most 20 frames a second per session
FRAME_CHARS = 32_000  # of one frame
WAITING_CHARS = 256_000  # of one part; what comes beyond is dropped until its finished text is there


class Deltas:
    """The pieces that wait to be sent, by session and part, oldest part first."""

    def __init__(self) -> None:
        self._waiting: dict[uuid.UUID, dict[str, tuple[str, bool]]] = {}  # text, and whether it is reasoning
        self._due = 0.0

    def add(self, session_id: uuid.UUID, part: str, text: str, reasoning: bool) -> bool:
        """Take a piece; False when too much of the part waits already."""
        parts = self._waiting.setdefault(session_id, {})
        joined, _ = parts.get(part, ("", reasoning))
        if len(joined) > WAITING_CHARS:
            return False
        parts[part] = (joined + text[:WAITING_CHARS], reasoning)
        return True

    def drop(self, session_id: uuid.UUID, part: str) -> None:
        """Forget what waits of the part: its finished text has come."""
        parts = self._waiting.get(session_id)
        if parts:
            parts.pop(part, None)

    def void(self, session_id: uuid.UUID, part: str) -> None:
        """What was sent of the part counts no longer: the server tries again."""
        self.drop(session_id, part)
        doorbell.send_pieces([(f"session:{session_id}", part, None, False)])

    def clear(self) -> None:
        """Forget everything: the stream that carried the pieces is gone."""
        self._waiting.clear()

    def flush(self) -> None:
        """Send one frame of each session that has something to say, if it is time."""
        at = time.monotonic()
        if not self._waiting or at < self._due:
            return
        self._due = at + DELTA_PERIOD
        pieces: list[doorbell.Piece] = []
        for session_id in list(self._waiting):
            parts = self._waiting[session_id]
            if not parts:
                del self._waiting[session_id]
                continue
            part, (text, reasoning) = next(iter(parts.items()))
            pieces.append((f"session:{session_id}", part, text[:FRAME_CHARS], reasoning))
            if len(text) > FRAME_CHARS:
                parts[part] = (text[FRAME_CHARS:], reasoning)
            else:
                del parts[part]
        doorbell.send_pieces(pieces)
