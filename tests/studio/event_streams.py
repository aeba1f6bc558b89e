"""Reading an event stream from the studio's ASGI application, in the test's own process."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application

from tests.studio.feed import PATIENCE


def request_scope(path: str, query: str = "", accept: str = "text/event-stream", **headers: str) -> dict[str, Any]:
    """The ASGI scope of a GET; a header's underscores are hyphens."""
    sent = {"host": "testserver", "accept": accept, **{name.replace("_", "-"): text for name, text in headers.items()}}
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), text.encode("latin1")) for name, text in sent.items()],
    }


class EventStream:
    """One request for an event stream; `status` and `headers` are there after `open`."""

    def __init__(self, *arguments: str, **headers: str) -> None:
        self._application = ApplicationCommunicator(get_asgi_application(), request_scope(*arguments, **headers))
        self._text = ""
        self.is_over = False

    async def open(self) -> EventStream:
        """Send the request and read the head of the answer."""
        await self._application.send_input({"type": "http.request", "body": b"", "more_body": False})
        head = await self._application.receive_output(PATIENCE)
        self.status: int = head["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in head["headers"]}
        return self

    async def block(self) -> str:
        """What stands before the next empty line; nothing at the end of the answer."""
        while "\n\n" not in self._text and not self.is_over:
            await self._more()
        block, _, self._text = self._text.partition("\n\n")
        return block

    async def _more(self) -> None:
        piece = await self._application.receive_output(PATIENCE)
        self._text += piece.get("body", b"").decode()
        self.is_over = not piece.get("more_body", False)

    async def event(self) -> dict[str, Any]:
        """The next event: its fields, `data` decoded; comments and `retry` are passed over. {} at the end."""
        while block := await self.block():
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "event" in fields:
                return {**fields, "data": json.loads(fields["data"])}
        return {}

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next events of the topic, without the notices."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            event = await self.event()
            assert event, f"the stream ended after {found}"
            if "id" in event:
                found.append(event)
        return found

    async def body(self) -> Any:
        """The whole answer as JSON."""
        while not self.is_over:
            await self._more()
        await self.leave()
        return json.loads(self._text)

    async def leave(self) -> None:
        """The client goes."""
        await self._application.send_input({"type": "http.disconnect"})
        await self._application.wait(PATIENCE)

    async def ended(self) -> None:
        """Wait until the studio has ended the answer and let go of it."""
        while not self.is_over:
            await self.block()
        await self.leave()


async def until(check: Any) -> None:
    """Wait until `check()` holds."""
    async with asyncio.timeout(PATIENCE):
        while not check():  # noqa: ASYNC110 -- what it waits for has no event
            await asyncio.sleep(0.01)
