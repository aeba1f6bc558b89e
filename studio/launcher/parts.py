"""The processes of a studio: what each is started with, what of the environment it may see, and how it is stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agents.environment import INHERITED, PROVIDER_KEYS
from studio.env import BASE_DIR
from studio.launcher.child import MARK
from studio.launcher.folder import DataFolder
from studio.launcher.options import Options
from studio.launcher.valkey import find_server, write_config

BASIC = (
    "PATH", "LD_LIBRARY_PATH", "HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ",
    "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS",
)  # fmt: skip
# What settings.py reads; *_FILE variants name files that hold a secret.
SETTINGS = tuple(
    name + suffix
    for name in (
        "SECRET_KEY", "VALKEY_PASSWORD", "DATABASE_URL", "REDIS_URL", "STUDIO_HOME", "STUDIO_HOST", "STUDIO_PORT",
        "STUDIO_URL", "STUDIO_INTERNAL_URL", "STUDIO_ALLOWED_HOSTS", "STUDIO_TRUSTED_ORIGINS",
        "STUDIO_REPOSITORY_ROOTS", "STUDIO_DEBUG", "STUDIO_LOG_JSON", "STUDIO_LOG_LEVEL", "STUDIO_AGENT", "STUDIO_API_RATE",
        "STUDIO_FAULTPOINTS", "STUDIO_WORKSPACE_DAYS", "STUDIO_KEPT_DAYS", "STUDIO_DISK_LOW_MB",
        "OPENCODE_URL", "OPENCODE_USERNAME", "OPENCODE_PASSWORD", "OPENCODE_BIN", "OPENCODE_PASS_ENV",
        "OPENCODE_PRACTICE", "OPENCODE_CA", "OPENCODE_PROVIDER_TIMEOUT", "STUDIO_AGENT_MEMORY_MB",
    )
    for suffix in ("", "_FILE")
)  # fmt: skip
# The agent server's supervisor has no Django: it sees no key, no database and no broker.
AGENTSERVER_SETTINGS = (
    "STUDIO_HOME", "STUDIO_LOG_JSON", "STUDIO_LOG_LEVEL", "OPENCODE_BIN", "OPENCODE_PASS_ENV", "OPENCODE_PRACTICE",
    "OPENCODE_PROVIDER_TIMEOUT",
)  # fmt: skip
USER_FOLDERS = ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "OPENCODE_CONFIG")


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process, which `studio.launcher.child` becomes. Parts start by stage, and stop the other way round."""

    name: str
    argv: tuple[str, ...]
    variables: tuple[str, ...]
    stage: int
    stop_signal: str = "TERM"
    stop_seconds: int = 5


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What the supervisor itself gets: all that any part may see."""
    wanted = (*BASIC, *SETTINGS, *USER_FOLDERS, *INHERITED, *PROVIDER_KEYS, *_passed(environ), MARK)
    return {name: environ[name] for name in dict.fromkeys(wanted) if name in environ}


def plan(options: Options, folder: DataFolder, environ: Mapping[str, str]) -> list[Part]:
    """The parts of this studio. Raises LauncherError when Valkey is missing."""
    own_broker = not environ.get("REDIS_URL")
    own_agents = options.agent and not environ.get("OPENCODE_URL")
    return [
        *([_valkey(folder)] if own_broker else []),
        *([_agentserver(environ)] if own_agents else []),
        *([Part("bridge", _manage("bridge"), (*BASIC, *SETTINGS), stage=2)] if options.agent else []),
        _worker(options),
        Part("beat", _celery("studio.beat", "beat", "--pidfile", ""), (*BASIC, *SETTINGS), stage=2),
        _web(options),
    ]


def _valkey(folder: DataFolder) -> Part:
    return Part("valkey", (str(find_server()), str(write_config(folder))), BASIC, stage=0)


def _agentserver(environ: Mapping[str, str]) -> Part:
    variables = (*BASIC, *AGENTSERVER_SETTINGS, *USER_FOLDERS, *INHERITED, *PROVIDER_KEYS, *_passed(environ))
    # It first ends its agents' turns and their commands, which may take a few seconds.
    return Part("agentserver", _manage("agentserver"), variables, stage=1, stop_seconds=14)


def _worker(options: Options) -> Part:
    argv = _celery(
        "studio.celery", "worker", "-Q", "celery", "-c", str(options.workers), "--without-gossip", "--without-mingle"
    )
    # QUIT is Celery's soft shutdown: running jobs get a few seconds, and what is cut off is delivered again.
    return Part("worker", argv, (*BASIC, *SETTINGS), stage=2, stop_signal="QUIT", stop_seconds=9)


def _web(options: Options) -> Part:
    frame = str(1024 * 1024)  # bytes; the feed's own limit, which it answers with a sentence, is far below
    arguments = ["-b", options.host, "-p", str(options.port), "-v", "0", "--no-server-name"]
    arguments += ["--websocket-max-message-size", frame, "--websocket-max-frame-size", frame]
    arguments += ["--websocket_connect_timeout", "10", "--application-close-timeout", "3"]
    argv = (sys.executable, "-m", "daphne", *arguments, "studio.asgi:application")
    return Part("web", argv, (*BASIC, *SETTINGS), stage=3)


def _manage(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(BASE_DIR / "manage.py"), *arguments)


def _celery(application: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "-A", application, *arguments)


def _passed(environ: Mapping[str, str]) -> list[str]:
    return [name.strip() for name in environ.get("OPENCODE_PASS_ENV", "").split(",") if name.strip()]


def write_plan(parts: list[Part], path: Path) -> None:
    """Write how each part is started, for `studio.launcher.child`: names of variables, never their values."""
    path.write_text(json.dumps({part.name: {"argv": part.argv, "variables": part.variables} for part in parts}))
