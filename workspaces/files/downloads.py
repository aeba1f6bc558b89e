"""Downloads: the change as one patch, a file as it is, a small image to be shown. None of it is ever run by a browser."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import IO

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header

from studio.kernel.errors import Conflict
from workspaces.files.content import IMAGE_BYTES, image_type
from workspaces.files.paths import missing
from workspaces.files.source import Source
from workspaces.models import Workspace
from workspaces.services.checkouts import write_patch
from workspaces.vcs.base import readable

PATCH_BYTES = 256 * 1024 * 1024
IN_MEMORY = 1024 * 1024
PIECE = 256 * 1024
LOCKED = "default-src 'none'; sandbox"


class Pieces:
    """What a response streams. Reading may wait for a disk or a program, so an asynchronous server does it in a thread."""

    def __init__(self, pieces: Iterator[bytes], stack: ExitStack) -> None:
        self._pieces, self._stack = pieces, stack

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await asyncio.to_thread(next, self._pieces, b"")) != b"":
            yield piece

    def close(self) -> None:
        """Let go of the file or the program. Called by the response when it ends, however it ends."""
        self._stack.close()


class PlainPieces(Pieces):
    """The same for a synchronous server."""

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


def attachment(
    request: HttpRequest, pieces: Iterator[bytes], stack: ExitStack, name: str, kind: str
) -> HttpResponseBase:
    """A file to be saved as `name`, whatever is in it."""
    streamed = (Pieces if isinstance(request, ASGIRequest) else PlainPieces)(pieces, stack)
    response = StreamingHttpResponse(streamed, content_type=kind)
    letters = os.fsencode(name).decode("utf-8", "replace")
    printable = "".join(letter if letter.isprintable() else "_" for letter in letters)
    response["Content-Disposition"] = content_disposition_header(True, printable) or "attachment"
    return guarded(response)


def guarded(response: HttpResponseBase) -> HttpResponseBase:
    """The response as something that no browser guesses about, runs, or gives to other sites."""
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = LOCKED
    response["Cross-Origin-Resource-Policy"] = "same-origin"
    response["Cache-Control"] = "private, no-store"
    return response


def raw_file(request: HttpRequest, source: Source, path: str) -> HttpResponseBase:
    """The file at `path` as it is. Raises NotFound, and Forbidden for one that is kept from the reader."""
    with ExitStack() as stack:
        pieces = stack.enter_context(source.content(path))
        return attachment(request, pieces, stack.pop_all(), path.rpartition("/")[2], "application/octet-stream")


def image(source: Source, path: str) -> HttpResponseBase:
    """The image at `path`, with the type that its first bytes have. Raises NotFound for anything else."""
    raw = bytearray()
    with source.content(path) as pieces:
        for piece in pieces:
            raw += piece
            if len(raw) > IMAGE_BYTES or not image_type(bytes(raw[:16])):
                raise missing(path)
    kind = image_type(bytes(raw[:16]))
    if not kind:
        raise missing(path)
    return guarded(HttpResponse(bytes(raw), content_type=kind))


def patch(request: HttpRequest, workspace: Workspace) -> HttpResponseBase:
    """The whole change as one patch, which `git apply` puts onto the base. Raises Conflict when it is too large for that."""
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY))
        base = write_patch(workspace, file, limit=PATCH_BYTES)
        if base is None:
            raise Conflict(
                f"The change is larger than {PATCH_BYTES // 1024**2} MB as a patch. "
                f"Fetch the branch instead: git fetch {readable(workspace.project.path)} {workspace.branch}",
                code="patch_too_large",
            )
        file.seek(0)
        return attachment(request, _read(file), stack.pop_all(), patch_name(workspace, base), "text/x-patch")


def patch_name(workspace: Workspace, base: str) -> str:
    """The name that the patch is saved under: what it is for, and which commit it goes onto."""
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", workspace.label).strip("-.") or "change"
    return f"{label}-onto-{base[:10]}.patch"


def _read(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
