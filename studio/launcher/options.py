"""The options of `manage.py up`, and the environment that they amount to."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.env import BASE_DIR
from studio.launcher.errors import LauncherError

DEFAULT_PORT = 8000
DEFAULT_WORKERS = 2
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 -- recognised, not bound


@dataclass(frozen=True, slots=True)
class Options:
    """What `up` was asked for."""

    data: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    workers: int = DEFAULT_WORKERS
    sample: bool = True
    agent: bool = True
    json: bool = False

    @property
    def connect_host(self) -> str:
        """An address at which this host reaches the web server."""
        return WILDCARDS.get(self.host, self.host)

    @property
    def local_url(self) -> str:
        """The address for this host's own use."""
        return f"http://{bracketed(self.connect_host)}:{self.port}"

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """The variables that the options decide; what a person has set for the outside stays."""
        hosts = given.get("STUDIO_ALLOWED_HOSTS") or ",".join(
            dict.fromkeys(["localhost", "127.0.0.1", "[::1]", bracketed(self.connect_host)])
        )
        return {
            "STUDIO_HOME": str(self.data),
            "STUDIO_HOST": self.host,
            "STUDIO_PORT": str(self.port),
            "STUDIO_URL": given.get("STUDIO_URL") or self.local_url,
            "STUDIO_INTERNAL_URL": given.get("STUDIO_INTERNAL_URL") or self.local_url,
            "STUDIO_ALLOWED_HOSTS": hosts,
            "STUDIO_AGENT": "1" if self.agent else "0",
        }


def bracketed(host: str) -> str:
    """`host` as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """--data, which every command of the launcher has."""
    parser.add_argument(
        "--data", metavar="FOLDER", help="the data folder (default: STUDIO_HOME, or var/ in the checkout)"
    )


def add_up_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `up`."""
    add_data_argument(parser)
    parser.add_argument("--host", help="the address to listen on (default: STUDIO_HOST, or 127.0.0.1)")
    parser.add_argument("--port", help=f"the port, 0 for any free one (default: STUDIO_PORT, or {DEFAULT_PORT})")
    parser.add_argument("--workers", help=f"jobs that run at the same time (default: {DEFAULT_WORKERS})")
    parser.add_argument("--no-sample", action="store_true", help="do not register the sample project")
    parser.add_argument("--no-agent", action="store_true", help="start no agent server")
    parser.add_argument(
        "--json", action="store_true", help="print one line of JSON when ready; progress goes to stderr"
    )


def data_folder(named: str | None, environ: Mapping[str, str]) -> Path:
    """The data folder that --data and STUDIO_HOME mean."""
    return Path(named or environ.get("STUDIO_HOME") or BASE_DIR / "var").expanduser().resolve()


def read_options(values: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Options:
    """Options from parsed arguments and the environment. Raises LauncherError for what makes no sense."""
    return Options(
        data=data_folder(values.get("data"), environ),
        host=values.get("host") or environ.get("STUDIO_HOST") or "127.0.0.1",
        port=_number(values.get("port") or environ.get("STUDIO_PORT") or DEFAULT_PORT, "port", 0, 65535),
        workers=_number(values.get("workers") or DEFAULT_WORKERS, "number of workers", 1, 64),
        sample=not values.get("no_sample"),
        agent=not values.get("no_agent"),
        json=bool(values.get("json")),
    )


def _number(value: object, name: str, low: int, high: int) -> int:
    text = str(value)
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise LauncherError(f"The {name} must be a whole number from {low} to {high}, not {text[:40]!r}.")
    return int(text)


def free_port(options: Options) -> int:
    """The port to listen on. Raises LauncherError when it is taken or the address is not one of this host."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            options.host or None, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise LauncherError(f"There is no address called {options.host!r}. Name another one with --host.") from error
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            # Some systems let a second socket bind beside one that listens on all addresses.
            if options.port and _answers(options.connect_host, options.port):
                raise OSError("something answers there")
        except PermissionError as error:
            raise LauncherError(
                f"This account may not listen on port {options.port}. Choose one from 1024 on with --port."
            ) from error
        except OSError as error:
            raise LauncherError(_taken(options)) from error
        chosen: int = probe.getsockname()[1]
        return chosen


def _taken(options: Options) -> str:
    if not _is_own_address(options.host):
        return f"{options.host} is not an address of this computer. Name another one with --host."
    return (
        f"Port {options.port} on {options.host} is in use by another program. Choose another one with "
        f'--port, for example: make run ARGS="--port {options.port + 1 if options.port < 65535 else 8000}"'
    )


def _is_own_address(host: str) -> bool:
    try:
        infos = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with socket.socket(infos[0][0], socket.SOCK_STREAM) as probe:
            probe.bind(infos[0][4])
    except OSError:
        return False
    return True


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this computer can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
