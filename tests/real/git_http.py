"""git over HTTP on loopback: the real `git http-backend` behind a token, and what such a server can do wrong."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.repositories import GIT_ENV

REALM = {"WWW-Authenticate": 'Basic realm="A forge"', "Content-Type": "text/plain"}


def password_of(header: str) -> str:
    """The password of a Basic header, which is where git's clients put a token; empty for anything else."""
    scheme, _, given = header.partition(" ")
    try:
        return base64.b64decode(given).decode().partition(":")[2] if scheme == "Basic" else ""
    except ValueError:
        return ""


def body_of(handler: BaseHTTPRequestHandler) -> bytes:
    """A request's body, which git sends in chunks when it is large."""
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    body = b""
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def answer(handler: BaseHTTPRequestHandler, code: int, body: bytes, headers: dict[str, str]) -> None:
    """Send one answer."""
    handler.send_response(code)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def serve_git(handler: BaseHTTPRequestHandler, repository: Path, inside: str, query: str, body: bytes) -> None:
    """Have git itself answer for a bare repository; whoever asks has shown that they may write."""
    headers = handler.headers
    done = subprocess.run(
        ["git", "http-backend"],
        env={
            **GIT_ENV,
            "GIT_PROJECT_ROOT": str(repository.parent),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{repository.name}{inside}",
            "REQUEST_METHOD": handler.command,
            "QUERY_STRING": query,
            "CONTENT_TYPE": headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": headers.get("Git-Protocol", ""),
            "REMOTE_USER": "somebody",
            "REMOTE_ADDR": "127.0.0.1",
        },
        input=body,
        capture_output=True,
        timeout=60,
        check=True,
    )
    head, _, said = done.stdout.partition(b"\r\n\r\n")
    rows = [row.partition(": ") for row in head.decode().split("\r\n")]
    told = {name: value for name, _, value in rows}
    answer(handler, int(told.pop("Status", "200").split()[0]), said, told)


@dataclass
class GitServer:
    """One bare repository at `url`, for whoever shows a token; `tokens` says which may write."""

    repository: Path
    tokens: dict[str, bool]
    fault: Callable[[Handler], None] | None = None
    during: Callable[[], None] = lambda: None  # called while git waits for its answer
    authorisations: list[str] = field(default_factory=list)
    url: str = ""
    halt: threading.Event = field(default_factory=threading.Event)


class Server(ThreadingHTTPServer):
    """A server that knows what it serves."""

    daemon_threads = True
    git: GitServer


class Handler(BaseHTTPRequestHandler):
    """One request of git."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    @property
    def git(self) -> GitServer:
        return self.server.git

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        forge, body, parts = self.git, body_of(self), urlsplit(self.path)
        header = self.headers.get("Authorization", "")
        forge.authorisations.append(header)
        forge.during()
        if forge.fault is not None:
            forge.fault(self)
            return
        may_write = forge.tokens.get(password_of(header))
        if may_write is None:
            answer(self, 401, b"Who are you?\n", REALM)
        elif not may_write and "git-receive-pack" in self.path:
            answer(self, 403, b"You may not write here.\n", {"Content-Type": "text/plain"})
        else:
            inside = parts.path.removeprefix("/octo/app.git")
            serve_git(self, forge.repository, inside, parts.query, body)


@contextmanager
def git_server(repository: Path, tokens: dict[str, bool]) -> Iterator[GitServer]:
    """A running server of git, on loopback."""
    forge = GitServer(repository, tokens)
    server = Server(("127.0.0.1", 0), Handler)
    server.git = forge
    forge.url = f"http://127.0.0.1:{server.server_address[1]}/octo/app.git"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield forge
    finally:
        forge.halt.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


# Faults.


def refuse(code: int, said: str = "", **headers: str) -> Callable[[Handler], None]:
    """This status, with words that may hold HEADER for the Authorization header and TOKEN for what is in it."""

    def do(handler: Handler) -> None:
        header = handler.headers.get("Authorization", "")
        body = said.replace("HEADER", header).replace("TOKEN", password_of(header) or "nothing").encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer(handler, code, body, {"Content-Type": "text/plain", **named})

    return do


def hang(handler: Handler) -> None:
    """No answer until the test is over."""
    handler.git.halt.wait(60)
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    """The connection is closed without an answer."""
    handler.close_connection = True


def garbage(handler: Handler) -> None:
    """What no server of git says, though it claims to be one."""
    kind = "application/x-git-receive-pack-advertisement"
    answer(handler, 200, os.urandom(64) + b"TOKEN\n", {"Content-Type": kind})


def page(handler: Handler) -> None:
    """A page that wants somebody to sign in."""
    answer(handler, 200, b"<!doctype html><title>Sign in</title>", {"Content-Type": "text/html"})


def command_lines() -> str:
    """The command lines of all processes of this machine."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(place.read_bytes().decode("utf-8", "replace"))
        except OSError:
            continue  # it has ended
    return "\n".join(found)
