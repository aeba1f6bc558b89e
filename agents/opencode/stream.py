"""The server's global event stream as an iterator."""

from __future__ import annotations

import json
from collections.abc import Iterator

import requests
from sseclient import SSEClient

from agents.backend import Skipped, StreamItem
from agents.opencode.client import OpenCodeClient, unreachable
from agents.opencode.translate import Translator

EVENT_LIMIT = 16 * 1024 * 1024  # bytes of one event; a larger one is dropped
DROP_LIMIT = 256 * 1024 * 1024  # bytes that are dropped before the stream itself is given up
ENDS = (b"\n\n", b"\r\n\r\n")  # of an event
TOO_LARGE, BAD_ENCODING, NOT_JSON = "too_large", "bad_encoding", "not_json"  # reasons


def follow(client: OpenCodeClient) -> Iterator[StreamItem]:
    """Items until the stream ends, which raises Upstream(transient=True), as does a silence of 25 s.

    An event that is too large, no UTF-8, no JSON or of no known shape becomes a Skipped item, and the rest goes on.
    Closing the iterator closes the connection.
    """
    translator = Translator()
    refused: list[str] = []
    response = client.open_stream("/global/event")
    try:
        # chunk_size=None hands pieces on as they come; the default slices a large event into 128 bytes each.
        for event in SSEClient(_whole(response.iter_content(chunk_size=None), refused)).events():
            yield from _skipped(refused)
            try:
                value = json.loads(event.data)
            except (ValueError, RecursionError):
                yield Skipped(NOT_JSON)
                continue
            yield from translator.translate(value)
        yield from _skipped(refused)
    except requests.RequestException as error:
        raise unreachable("The agent server's event stream broke off or fell silent.") from error
    finally:
        response.close()
    raise unreachable("The agent server ended its event stream.")


def _skipped(refused: list[str]) -> Iterator[Skipped]:
    while refused:
        yield Skipped(refused.pop(0))


def _whole(pieces: Iterator[bytes], refused: list[str]) -> Iterator[bytes]:
    """`pieces` regrouped into whole events; the reason of each that cannot be handed on is added to `refused`."""
    waiting = bytearray()
    dropping = 0  # bytes of the event that is being dropped
    for piece in pieces:
        start = max(0, len(waiting) - 3)  # an end may lie across two pieces
        waiting += piece
        cut = max(waiting.rfind(end, start) + len(end) if end in waiting[start:] else 0 for end in ENDS)
        if cut:
            block = bytes(waiting[:cut])
            del waiting[:cut]
            if dropping:
                block = block[min(block.find(end) + len(end) for end in ENDS if end in block) :]
                dropping = 0
            yield from _readable(block, refused)
        if len(waiting) > EVENT_LIMIT:
            if not dropping:
                refused.append(TOO_LARGE)
            dropping += len(waiting)
            del waiting[:-3]
            if dropping > DROP_LIMIT:
                raise unreachable("The agent server sent an event without an end.")


def _readable(block: bytes, refused: list[str]) -> Iterator[bytes]:
    """The block of events, without those that are not UTF-8."""
    try:
        block.decode()
    except UnicodeDecodeError:
        for event in block.replace(b"\r\n", b"\n").split(b"\n\n"):
            try:
                event.decode()
            except UnicodeDecodeError:
                refused.append(BAD_ENCODING)
            else:
                yield event + b"\n\n"
    else:
        yield block
