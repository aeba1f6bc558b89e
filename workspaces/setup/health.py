"""Whether a dev server answers: one bounded GET on a loopback address, and whether the answer is its own."""

from __future__ import annotations

import http.client
from contextlib import suppress
from dataclasses import dataclass

import psutil

from workspaces.commands.files import MARK, CommandFolder

ADDRESSES = ("127.0.0.1", "::1")  # some servers listen at one of them only
SECONDS = 2.0


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
    """GET `path` from the server at `port` of this host. Bounded in time; the body is not read. Never raises."""
    found = Answer(0, "", f"nothing answers at port {port}")
    for address in ADDRESSES:
        connection = http.client.HTTPConnection(address, port, timeout=SECONDS)
        try:
            headers = {"Host": f"localhost:{port}", "User-Agent": "opencode-studio", "Connection": "close"}
            connection.request("GET", path, headers=headers)
            status = connection.getresponse().status
            return Answer(status, address, f"it answered {status} at {path}")
        except TimeoutError:
            found = Answer(0, address, f"it took more than {SECONDS:g} seconds to answer {path}")
        except ConnectionRefusedError:
            continue
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not found.address:
                found = Answer(0, "", f"no HTTP answer at port {port} ({type(error).__name__})")
        finally:
            connection.close()
    return found


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
