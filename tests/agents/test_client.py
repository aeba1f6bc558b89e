"""The HTTP client and the stream against a server that answers as the test says."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agents.backend import TEXT_LIMIT, Connected, Entry, Heartbeat, Skipped
from agents.opencode import client as client_module
from agents.opencode.backend import OpenCodeBackend
from agents.opencode.client import OpenCodeClient
from agents.opencode.stream import follow
from studio.kernel.errors import NotFound, Upstream


@contextmanager
def serving(answer):
    """A server whose every request is given to `answer(handler)`; yields its URL and the list of requests."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def handle_any(self):
            length = int(self.headers.get("Content-Length") or 0)
            self.body = self.rfile.read(length)
            seen.append((self.command, self.path, self.headers.get("Authorization"), self.client_address[1]))
            answer(self)

        do_GET = do_POST = handle_any  # noqa: N815 -- the names are the base class's

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reply(status=200, body=b"{}", **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def ask(answer, **options):
    with serving(answer) as (url, _):
        return OpenCodeClient(url, "opencode", "secret").get("/thing", **options)


def test_answer__is_decoded_and_the_password_sent():
    with serving(reply(body=b'{"a": 1}')) as (url, seen):
        client = OpenCodeClient(f"{url}/", "opencode", "secret")
        assert client.get("/thing", directory="/a b") == {"a": 1}
        assert client.post("/other", {"x": 1}) == {"a": 1}
    assert [one[:3] for one in seen] == [
        ("GET", "/thing?directory=%2Fa+b", "Basic b3BlbmNvZGU6c2VjcmV0"),
        ("POST", "/other", "Basic b3BlbmNvZGU6c2VjcmV0"),
    ]
    assert seen[0][3] == seen[1][3]  # one connection


def test_empty_answer__is_none():
    assert ask(reply(204, b"")) is None


@pytest.mark.parametrize(
    ("status", "body", "transient"),
    [
        (500, b"", True),
        (503, b'{"name":"UnknownError","data":{"message":"busy"}}', True),
        (401, b"", True),
        (403, b"", True),
        (400, b'{"_tag":"BadRequest"}', False),
        (409, b"[]", False),
        (302, b"", False),
        (200, b"<html>", True),
        (200, b"[" * 5000, True),
    ],
)
def test_failures__are_upstream_errors_with_one_code(status, body, transient):
    with pytest.raises(Upstream) as raised:
        ask(reply(status, body, Location="http://127.0.0.1:1/"))
    assert (raised.value.code, raised.value.transient) == ("server_unreachable", transient)


def test_unknown_thing__is_not_found():
    with pytest.raises(NotFound, match="Session not found"):
        ask(reply(404, b'{"name":"NotFoundError","data":{"message":"Session not found: ses_1"}}'))


def test_too_large_answer__is_refused(monkeypatch):
    monkeypatch.setattr(client_module, "ANSWER_LIMIT", 1000)
    with pytest.raises(Upstream, match="too large"):
        ask(reply(body=b"1" * 5000))


def test_silent_server__times_out():
    gone = threading.Event()
    try:
        with pytest.raises(Upstream, match="in time"):
            ask(lambda _handler: gone.wait(20), timeout=0.2)
    finally:
        gone.set()


def test_nobody_there__is_unreachable():
    with serving(reply()) as (url, _):
        pass
    with pytest.raises(Upstream, match="cannot be reached") as raised:
        OpenCodeClient(url, "opencode", "x").get("/thing")
    assert raised.value.transient


def test_kept_connection_that_was_closed__is_opened_again():
    answered = []

    def answer(handler):
        answered.append(1)
        if len(answered) == 2:
            handler.close_connection = True  # without an answer, as a server that ends an idle connection
            return
        reply()(handler)

    with serving(answer) as (url, seen):
        client = OpenCodeClient(url, "opencode", "x")
        assert client.get("/one") == {}
        assert client.get("/two") == {}
    assert [one[1] for one in seen] == ["/one", "/two", "/two"]


def sse(*blocks, status=200):
    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")  # as the real server sends it
        handler.end_headers()
        for block in [*blocks, b""]:
            if isinstance(block, float):
                time.sleep(block)
            else:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))

    return answer


def event(kind, **properties):
    value = {"payload": {"type": kind, "properties": properties}}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def items_of(answer):
    """What the stream gave before it broke, and the error."""
    found = []
    with serving(answer) as (url, _):
        try:
            found.extend(follow(OpenCodeClient(url, "opencode", "x")))
        except Upstream as error:
            return found, error
    raise AssertionError("a stream must end with an error")


def test_stream__gives_items_until_it_ends_with_an_error():
    whole = event("server.heartbeat")
    found, error = items_of(sse(event("server.connected"), whole[:9], whole[9:], b"data: {\n\n", whole))
    assert found == [Connected(), Heartbeat(), Skipped("not_json"), Heartbeat()]
    assert error.transient


def test_silent_stream__breaks_off(monkeypatch):
    monkeypatch.setattr(client_module, "STREAM_SILENCE_SECONDS", 1.0)
    found, error = items_of(sse(event("server.connected"), 2.0))
    assert found == [Connected()]
    assert "silent" in error.message


def test_event_that_is_too_large__costs_only_itself(monkeypatch):
    monkeypatch.setattr("agents.opencode.stream.EVENT_LIMIT", 10_000)
    heartbeat = event("server.heartbeat")
    large = [b"data: " + b"x" * 4000, *[b"x" * 4000] * 5, b"x\n\n" + heartbeat]
    found, _ = items_of(sse(event("server.connected"), *large, heartbeat))
    assert found == [Connected(), Skipped("too_large"), Heartbeat(), Heartbeat()]


def test_event_without_an_end__breaks_off(monkeypatch):
    monkeypatch.setattr("agents.opencode.stream.EVENT_LIMIT", 10_000)
    monkeypatch.setattr("agents.opencode.stream.DROP_LIMIT", 20_000)
    found, error = items_of(sse(event("server.connected"), *[b"x" * 4000] * 9))
    assert found == [Connected()]
    assert "without an end" in error.message


def test_event_of_ten_megabytes__is_read_and_cut():
    part = {
        "id": "prt_1",
        "sessionID": "ses_1",
        "messageID": "msg_1",
        "type": "text",
        "text": "x" * 10_000_000,
        "time": {"end": 5},
    }
    found, _ = items_of(sse(event("message.part.updated", part=part), event("server.heartbeat")))
    assert [type(item) for item in found] == [Entry, Heartbeat]
    assert len(found[0].entry.data["text"]) == TEXT_LIMIT


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_event_that_is_no_utf8__costs_only_itself(end):
    heartbeat = event("server.heartbeat").replace(b"\n\n", end)
    found, _ = items_of(sse(heartbeat, b"data: \xff\xfe" + end + heartbeat, heartbeat))
    assert found.count(Heartbeat()) == 3
    assert found.count(Skipped("bad_encoding")) == 1


def test_stream_that_is_refused():
    _, error = items_of(sse(status=401))
    assert "password" in error.message


@pytest.mark.parametrize("body", [b"[]", b'{"healthy": false}', b"3"])
def test_health__of_something_else_is_unreachable(body):
    with serving(reply(body=body)) as (url, _), pytest.raises(Upstream):
        OpenCodeBackend(OpenCodeClient(url, "opencode", "x")).health()


@pytest.mark.parametrize(
    "body", [b"[]", b"7", b'{"ses_1": 7}', b'[{"info": {"id": "msg_1", "role": "user"}, "parts": [7]}]']
)
def test_nonsense__never_gets_out_as_a_python_error(body):
    with serving(reply(body=body)) as (url, _):
        backend = OpenCodeBackend(OpenCodeClient(url, "opencode", "x"))
        for call in (
            backend.catalog,
            lambda: backend.view_turn("ses_1", "/srv/tree", "msg_1"),
            lambda: backend.pending_asks("/srv/tree"),
            lambda: backend.open_session(directory="/", title="t", rules=[], agent="a", model=""),
            lambda: backend.busy("/srv/tree"),
            lambda: backend.attach_tools("/srv/tree", "token"),
        ):
            with suppress(Upstream):
                call()
