"""The checks of `manage.py doctor`: each part is really used once, and whatever fails comes with its remedy."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import DatabaseError
from redis.exceptions import RedisError
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Origin

from agents.discovery import find_binary
from agents.models import AgentServer
from agents.selectors import remedy_for
from agents.services import backend_for
from studio import health, signs
from studio.kernel.errors import StudioError
from studio.launcher import leftovers
from studio.launcher.bootstrap import OLDEST as OLDEST_PYTHON
from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder
from studio.launcher.record import read_record
from studio.owner import find_owner
from studio.queue import Names, enqueue
from workspaces.disk import disk
from workspaces.storage import storage_notes
from workspaces.vcs.git_command import OLDEST as OLDEST_GIT
from workspaces.vcs.git_command import version as git_version
from workspaces.vcs.jj_command import OLDEST as OLDEST_JJ
from workspaces.vcs.jj_command import version as jj_version

START = "Start the studio: make run (or look at the logs in the data folder's `log`)."
QUEUE_SECONDS = 20.0
SOCKET_SECONDS = 10.0
RESTART = "Run: make down (it ends what a killed start has left running), then: make run"
DATABASE = "Check DATABASE_URL, or the disk of the data folder."
MIGRATE = "Run: .venv/bin/python manage.py migrate (make run does it too)"
LOGIN_BACKEND = "django.contrib.auth.backends.ModelBackend"


class State(StrEnum):
    """How a check ended; an advice leaves the exit code alone."""

    OK = "ok"
    ADVICE = "advice"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, and what to do about it."""

    subject: str
    state: State
    text: str = ""
    remedy: str = ""


class Ill(Exception):
    """The part does not work; with the remedy."""

    def __init__(self, text: str, remedy: str, state: State = State.FAILED) -> None:
        super().__init__(text)
        self.finding = (state, text, remedy)


def examine() -> Iterator[Finding]:
    """Run the checks in order, each on its own. Where a start was killed, starting another one is no remedy."""
    start = RESTART if was_killed() else START
    for subject, check in CHECKS.items():
        if not settings.STUDIO_AGENT and check in OF_AGENTS:
            continue
        try:
            yield Finding(subject, State.OK, check())
        except Ill as ill:
            state, text, remedy = ill.finding
            yield Finding(subject, state, text, start if remedy == START else remedy)
        except DatabaseError:
            trouble = health.database_trouble()
            remedy = MIGRATE if "set up" in trouble else DATABASE
            yield Finding(subject, State.FAILED, f"nothing is known of it while {trouble}", remedy)


def was_killed() -> bool:
    """Whether an `up` of this data folder ended without stopping its parts."""
    record = read_record(DataFolder(settings.DATA).record)
    return record is not None and record.process() is None


def check_python() -> str:
    """The interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        raise Ill(f"version {found}", "Install Python 3.11 or newer, remove .venv and run `make run`.")
    return found


def check_git() -> str:
    """The git that makes worktrees and merges."""
    remedy = f"Install git {'.'.join(map(str, OLDEST_GIT))} or newer."
    try:
        found = git_version()
    except StudioError as error:
        raise Ill(error.message, remedy) from error
    text = ".".join(map(str, found))
    if found < OLDEST_GIT:
        raise Ill(f"version {text} cannot merge without a checkout", remedy)
    return text


def check_jj() -> str:
    """The jj that works in Jujutsu repositories; nobody else needs it."""
    found = ".".join(map(str, jj_version()))
    if jj_version() < OLDEST_JJ:
        text = f"version {found} is too old" if any(jj_version()) else "jj is not on PATH"
        remedy = "Only for Jujutsu repositories: install jj 0.40 or newer (on Debian: .ci/install-jj, as root)."
        raise Ill(text, remedy, State.ADVICE)
    return found


def check_folder() -> str:
    """The data folder."""
    try:
        DataFolder(settings.DATA).prepare()
    except LauncherError as error:
        raise Ill("it cannot be used", str(error)) from error
    room = disk()
    text = f"{settings.DATA}, {room.free_bytes // 1024**3} GB free"
    if room.low:
        raise Ill(text, room.message, State.ADVICE)
    return text


def check_workspaces() -> str:
    """The checkouts: limits, repositories that are away, folders that nobody knows."""
    notes = storage_notes(None)
    if notes:
        more = f" And {len(notes) - 1} more: see the health page." if len(notes) > 1 else ""
        raise Ill(f"{len(notes)} to look at", f"{notes[0]}{more}", State.ADVICE)
    return ""


def check_start() -> str:
    """The `up` that runs this data folder, where there is one."""
    folder = DataFolder(settings.DATA)
    record = read_record(folder.record)
    if record and record.process():
        return f"runs at {record.url}" if record.ready else f"is starting at {record.url}"
    left = len(leftovers.find(folder.root))
    if record or left:
        text = f"its start at {record.url} was killed" if record else "a start was killed"
        raise Ill(f"{text}; {left} of its processes still run", RESTART)
    if os.environ.get("REDIS_URL"):
        return "its parts run as services of their own"
    raise Ill("it does not run", START)


def part(name: str, remedy: str) -> Callable[[], str]:
    """The check of studio.health called `name`."""

    def check() -> str:
        found = health.part_health(name)
        if not found.ok:
            raise Ill(found.message, remedy)
        return ""

    return check


def check_queue() -> str:
    """Send a job through broker and worker, and see its proof."""
    nonce = uuid.uuid4().hex
    began = time.monotonic()
    enqueue(Names.PING, nonce)
    while time.monotonic() - began < QUEUE_SECONDS:
        try:
            if signs.answered(nonce):
                return f"a job went through in {(time.monotonic() - began) * 1000:.0f} ms"
        except RedisError as error:
            raise Ill("the broker does not answer", START) from error
        time.sleep(0.02)
    raise Ill(f"no worker took a job within {QUEUE_SECONDS:.0f} s", START)


def check_socket() -> str:
    """Open the live feed as the owner's browser would, and have a ping answered."""
    url = f"{settings.STUDIO_INTERNAL_URL.replace('http', 'ws', 1)}/ws/feed/"
    try:
        with owner_cookie() as cookie:
            began = time.monotonic()
            with connect(
                url,
                additional_headers={"Cookie": cookie},
                origin=Origin(settings.STUDIO_INTERNAL_URL),
                open_timeout=SOCKET_SECONDS,
                proxy=None,
            ) as feed:
                feed.send('{"type": "ping"}')
                while json.loads(feed.recv(timeout=SOCKET_SECONDS)).get("type") != "pong":
                    pass
            return f"a frame went there and back in {(time.monotonic() - began) * 1000:.0f} ms"
    except StudioError as error:
        raise Ill(error.message, "Run: manage.py createowner") from error
    except (OSError, WebSocketException, ValueError) as error:
        raise Ill(f"{url} does not answer ({type(error).__name__}: {error})", START) from error


@contextmanager
def owner_cookie() -> Iterator[str]:
    """A session of the owner as a Cookie header, for as long as it is needed."""
    owner = find_owner()
    session = SessionStore()
    session[SESSION_KEY] = str(owner.pk)
    session[BACKEND_SESSION_KEY] = LOGIN_BACKEND
    session[HASH_SESSION_KEY] = owner.get_session_auth_hash()
    session.set_expiry(60)
    session.create()
    try:
        yield f"{settings.SESSION_COOKIE_NAME}={session.session_key}"
    finally:
        session.delete()


def check_binary() -> str:
    """The OpenCode that the managed server runs."""
    if settings.OPENCODE_URL:
        return f"not needed: the agent server runs elsewhere, at {settings.OPENCODE_URL}"
    try:
        binary = find_binary()
    except StudioError as error:
        raise Ill("not found", error.message) from error
    return f"{binary.version}, {binary.path}"


def check_servers() -> str:
    """Every enabled agent server: it answers now, and what it can run."""
    servers = AgentServer.objects.filter(enabled=True).order_by("created_at")
    said = []
    for server in servers:
        try:
            backend = backend_for(server)
            version, catalog = backend.health().version, backend.catalog()
        except StudioError as error:
            remedy = "Is OPENCODE_URL right, and does the server run?" if settings.OPENCODE_URL else START
            # Why it does not run is known better by whoever tries to start it.
            known = server.error if server.managed and server.trouble else error.message
            raise Ill(f"{server.name}: {known}", remedy_for(server) or remedy) from error
        models = "practice model (a script, no AI)" if catalog.practice else f"default model {catalog.default}"
        said.append(f"{server.name}: OpenCode {version}, {models}")
    if not said:
        raise Ill("none is registered", START)
    return "; ".join(said)


def check_ripgrep() -> str:
    """The search program that OpenCode's tools use."""
    found = shutil.which("rg")
    if found is None:
        raise Ill(
            "rg is not on PATH; OpenCode fetches its own where it can reach the internet",
            "Install the package ripgrep, so that agents can search files offline too.",
            State.ADVICE,
        )
    return found


CHECKS: dict[str, Callable[[], str]] = {
    "Python": check_python,
    "git": check_git,
    "jj": check_jj,
    "data folder": check_folder,
    "studio": check_start,
    "database": part("database", DATABASE),
    "migrations": part("migrations", MIGRATE),
    "checkouts": check_workspaces,
    "broker": part("broker", START),
    "worker": part("worker", START),
    "scheduler": part("beat", START),
    "queue": check_queue,
    "live feed": check_socket,
    "OpenCode binary": check_binary,
    "agent server": check_servers,
    "bridge": part("bridge", START),
    "ripgrep": check_ripgrep,
}
OF_AGENTS = {check_binary, check_servers, CHECKS["bridge"], check_ripgrep}
