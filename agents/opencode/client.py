"""HTTP to an OpenCode server: one place for time-outs, size limits, authentication and the meaning of failures."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import requests

from agents.opencode.transport import VerifyingAdapter, is_loopback, tls_context, tls_problem
from studio.kernel.errors import NotFound, Upstream
from studio.kernel.text import clean, cut

CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0  # a cold directory takes seconds on a busy machine (opencode.md, section 12)
QUICK_SECONDS = 5.0
STREAM_SILENCE_SECONDS = 25.0  # the server sends a heartbeat every 10 s
ANSWER_LIMIT = 64 * 1024 * 1024  # bytes
PIECE = 64 * 1024


def unreachable(message: str, *, transient: bool = True, trouble: str = "unreachable") -> Upstream:
    """The error for a server that does not answer as it should; `trouble` is a value of agents.models.ServerTrouble."""
    return Upstream(message, code="server_unreachable", transient=transient, detail={"trouble": trouble})


class TimedOut(Upstream):
    """The server did not answer in time; it may still be at work on the request."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="server_unreachable", transient=True, detail={"trouble": "unreachable"})


class OpenCodeClient:
    """Requests to one server, over http or https. Connections are kept, per process and thread.

    Redirects are not followed, so the password goes to no other host. A certificate is always checked: against `ca_pem`
    alone when it is given, else against what this system trusts.
    """

    def __init__(self, url: str, username: str, password: str, *, ca_pem: str = "") -> None:
        self.url = url.rstrip("/")
        self._auth = (username, password)
        self._ca_pem = ca_pem
        self._local = threading.local()
        # A proxy from the environment is never right for a server on this machine.
        self._trust_env = not is_loopback(self.url)

    def get(self, path: str, *, timeout: float = READ_SECONDS, **params: str | int) -> Any:
        """GET; the decoded JSON."""
        return self._json("GET", path, params, None, timeout)

    def get_page(self, path: str, **params: str | int) -> tuple[Any, str]:
        """GET of a list that has older pages: (the decoded JSON, the cursor of the page before; empty at the first)."""
        value, headers = self._call("GET", path, params, None, READ_SECONDS)
        return value, headers.get("X-Next-Cursor") or ""

    def post(self, path: str, body: Any = None, *, timeout: float = READ_SECONDS, **params: str | int) -> Any:
        """POST; the decoded JSON, None when the answer has no body."""
        return self._json("POST", path, params, body, timeout)

    def patch(self, path: str, body: Any) -> Any:
        """PATCH; the decoded JSON."""
        return self._json("PATCH", path, {}, body, READ_SECONDS)

    def open_stream(self, path: str) -> requests.Response:
        """GET of an endless answer, unread. A read that waits longer than STREAM_SILENCE_SECONDS fails."""
        response = self._send("GET", path, {}, None, STREAM_SILENCE_SECONDS)
        if response.status_code != 200:
            with response:
                raise _refused(response.status_code, _read(response))
        return response

    def _json(self, method: str, path: str, params: dict[str, str | int], body: Any, timeout: float) -> Any:
        return self._call(method, path, params, body, timeout)[0]

    def _call(
        self, method: str, path: str, params: dict[str, str | int], body: Any, timeout: float
    ) -> tuple[Any, requests.structures.CaseInsensitiveDict[str]]:
        with self._send(method, path, params, body, timeout) as response:
            data = _read(response)
            if response.status_code not in (200, 201, 204):
                raise _refused(response.status_code, data)
            if not data:
                return None, response.headers
            try:
                return json.loads(data), response.headers
            except (ValueError, RecursionError) as error:
                raise unreachable(
                    f"{self.url} did not answer like an OpenCode server.", trouble="not_opencode"
                ) from error

    def _send(
        self, method: str, path: str, params: dict[str, str | int], body: Any, timeout: float
    ) -> requests.Response:
        session = self._session()
        for last in (False, True):
            try:
                return session.request(
                    method,
                    f"{self.url}{path}",
                    params=params,
                    json=body,
                    timeout=(CONNECT_SECONDS, timeout),
                    stream=True,
                    allow_redirects=False,
                )
            except requests.Timeout as error:
                raise TimedOut(f"The agent server at {self.url} did not answer in time.") from error
            except requests.exceptions.SSLError as error:
                raise unreachable(tls_problem(self.url, error), trouble="certificate") from error
            except requests.ConnectionError as error:
                # A kept connection that the server has just closed: every request of ours may be sent again.
                if last or not _was_open(error):
                    raise unreachable(f"The agent server at {self.url} cannot be reached.") from error
            except requests.RequestException as error:
                raise unreachable(f"The agent server at {self.url} cannot be asked: {type(error).__name__}.") from error
        raise AssertionError("unreachable")

    def _session(self) -> requests.Session:
        """This thread's session; made anew after a fork, because a connection must not be shared."""
        if getattr(self._local, "pid", None) != os.getpid():
            session = requests.Session()
            session.auth = self._auth
            session.trust_env = self._trust_env
            secure = self.url.startswith("https://")
            adapter = VerifyingAdapter(tls_context(self._ca_pem) if secure else None)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            self._local.session, self._local.pid = session, os.getpid()
        session = self._local.session
        assert isinstance(session, requests.Session)  # noqa: S101 -- for the type checker: a thread-local is untyped
        return session


def _read(response: requests.Response) -> bytes:
    """The body, up to ANSWER_LIMIT."""
    pieces, size = [], 0
    try:
        for piece in response.iter_content(PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > ANSWER_LIMIT:
                raise unreachable("The agent server's answer is too large.", transient=False)
    except requests.RequestException as error:
        raise unreachable("The agent server broke off in the middle of its answer.") from error
    return b"".join(pieces)


def _refused(status: int, body: bytes) -> NotFound | Upstream:
    """The error for an answer that is not a success."""
    message = _message(body)
    if status == 404:
        return NotFound(message or "The agent server does not know this.")
    if status in (401, 403):
        return unreachable("The agent server refused the studio's password.", trouble="password_refused")
    if 300 <= status < 400:
        return unreachable(
            "The agent server sends the studio to another address, which is not followed. Enter that address itself.",
            transient=False,
            trouble="not_opencode",
        )
    if status >= 500:
        return unreachable(f"The agent server failed (HTTP {status}). {message}".strip())
    return unreachable(f"The agent server refused the request (HTTP {status}). {message}".strip(), transient=False)


def _message(body: bytes) -> str:
    try:
        value = json.loads(body)
        data = value.get("data") or {}
        text = data.get("message") or value.get("message") or value.get("name") or value.get("_tag") or ""
    except (ValueError, AttributeError, RecursionError):
        return ""
    return cut(clean(text), 500)


def _was_open(error: requests.ConnectionError) -> bool:
    """Whether the connection had been there: a refused one need not be tried again at once."""
    return "RemoteDisconnected" in repr(error) or "ConnectionResetError" in repr(error) or "BrokenPipe" in repr(error)
