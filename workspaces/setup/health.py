"""Whether a dev server answers: one bounded GET on a loopback address, and whether the answer is its own."""

from __future__ import annotations

import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

from workspaces.commands.files import MARK, CommandFolder

ADDRESSES = ("127.0.0.1", "::1")  # some servers listen at one of them only
SECONDS = 2.0
LINE_BYTES = 1_024
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` 0: nothing, and `said` says why."""

    status: int
    address: str
    said: str

    @property
    def is_good(self) -> bool:
        """A page, or a way to one."""
        return 200 <= self.status < 400


def ask(port: int, path: str) -> Answer:
    """GET `path` from the server at `port` of this host. Never raises, and takes bounded time whatever the server does."""
    found = Answer(0, "", f"nothing answers at port {port}")
    for address in ADDRESSES:
        try:
            status = _status(address, port, path)
        except TimeoutError:
            found = Answer(0, address, f"it took more than {SECONDS:g} seconds to answer {path}")
        except (ConnectionResetError, BrokenPipeError):
            found = Answer(0, address, f"what answers at port {port} does not speak HTTP")
        except OSError:
            continue  # nobody is at this address
        else:
            said = f"it answered {status} at {path}" if status else f"what answers at port {port} does not speak HTTP"
            return Answer(status, address, said)
    return found


def _status(address: str, port: int, path: str) -> int:
    """The status of the answer, of which no more than the first line is read; 0 when it has none. Raises OSError.

    By hand: a client of the standard library waits for each byte anew, and this server may be hostile.
    """
    end, line = time.monotonic() + SECONDS, b""
    with socket.create_connection((address, port), timeout=SECONDS) as connection:
        head = (
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: opencode-studio\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode("ascii"))
        while b"\n" not in line and len(line) < LINE_BYTES:
            connection.settimeout(max(0.001, end - time.monotonic()))
            piece = connection.recv(LINE_BYTES)
            if not piece:
                break
            line += piece
    answered = STATUS.match(line)
    return int(answered[1]) if answered else 0


def is_own(port: int, folder: CommandFolder) -> bool:
    """Whether the listener at `port` belongs to the command; True where that cannot be found out."""
    owners = set()
    with suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
                owners.add(one.pid)
    known = False
    for pid in owners:
        with suppress(psutil.Error, OSError):
            known = True
            if psutil.Process(pid).environ().get(MARK) == str(folder.root):
                return True
    return not known
