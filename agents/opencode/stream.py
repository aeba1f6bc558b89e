"""The server's global event stream as an iterator."""

from __future__ import annotations

import json
from collections.abc import Iterator

import requests
import structlog
from sseclient import SSEClient

from agents.backend import StreamItem
from agents.opencode.client import OpenCodeClient, unreachable
from agents.opencode.translate import Translator

log = structlog.get_logger(__name__)

EVENT_LIMIT = 32 * 1024 * 1024  # bytes of one event


def follow(client: OpenCodeClient) -> Iterator[StreamItem]:
    """Items until the stream ends, which raises Upstream(transient=True), as does a silence of 25 s.

    Closing the iterator closes the connection.
    """
    translator = Translator()
    response = client.open_stream("/global/event")
    try:
        # chunk_size=None hands pieces on as they come; the default slices a large event into 128 bytes each.
        for event in SSEClient(_bounded(response.iter_content(chunk_size=None))).events():
            try:
                value = json.loads(event.data)
            except (ValueError, RecursionError):
                translator.skipped += 1
                continue
            yield from translator.translate(value)
    except (requests.RequestException, UnicodeDecodeError) as error:
        raise unreachable("The agent server's event stream broke off or fell silent.") from error
    finally:
        response.close()
        if translator.skipped:
            log.info("events_skipped", server=client.url, count=translator.skipped)
    raise unreachable("The agent server ended its event stream.")


def _bounded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """`pieces`, as long as no event grows beyond EVENT_LIMIT."""
    size = 0
    for piece in pieces:
        size = len(piece) - piece.rfind(b"\n\n") if b"\n\n" in piece else size + len(piece)
        if size > EVENT_LIMIT:
            raise unreachable("The agent server sent an event that is too large.")
        yield piece
