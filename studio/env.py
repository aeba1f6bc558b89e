"""Typed readers for the environment: the data folder, secrets, days, and the broker's addresses.

Every secret can be given as NAME or as NAME_FILE (a path whose content is the secret); a file that is
named but missing is an error, never an empty secret.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

BASE_DIR = Path(__file__).resolve().parent.parent

# A unix socket's path may have about 107 bytes on Linux and 103 on macOS (libraries.md, section C.3).
SOCKET_PATH_LIMIT = 100


def data_folder() -> Path:
    """The one folder that holds everything the studio writes: STUDIO_HOME, or `var/` in the checkout."""
    return Path(os.environ.get("STUDIO_HOME") or BASE_DIR / "var").expanduser().resolve()


def secret(name: str) -> str:
    """The secret `name` from NAME_FILE or NAME; empty when neither is set."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        return Path(path).read_text().strip()
    return os.environ.get(name, "")


def stored_secret(name: str, folder: Path) -> str:
    """The secret from the environment, else from a 0600 file in the data folder, made at first use.

    Two processes that start together agree on one value: the file is created exclusively.
    """
    given = secret(name)
    if given:
        return given
    path = folder / "secrets" / name.lower()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_urlsafe(48))
        try:
            os.link(scratch, path)
        except FileExistsError:
            pass  # another process was first: its value counts
        finally:
            scratch.unlink()
    return path.read_text().strip()


def days(name: str, usual: int) -> int | None:
    """A number of days; None (for ever) when the variable is there and empty."""
    given = os.environ.get(name)
    if given is None:
        return usual
    return int(given) if given.strip() else None


def valkey_socket(folder: Path) -> Path:
    """Where the embedded Valkey listens: in the data folder, or in the temporary folder when that path is too long."""
    path = folder / "run" / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    digest = sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"opencode-studio-{os.getuid()}-{digest}" / "valkey.sock"


def broker_urls(folder: Path) -> tuple[str, str]:
    """(Celery's URL, the channel layer's URL) for REDIS_URL, or for the embedded server's unix socket.

    The two clients read different forms of a unix-socket address (libraries.md, section C.3).
    """
    given = os.environ.get("REDIS_URL")
    if given:
        parts = urlsplit(given)
        base = parts.path.rstrip("/").rpartition("/")[0] if parts.path.strip("/").isdigit() else ""
        return given, urlunsplit(parts._replace(path=f"{base}/1"))
    password = quote(stored_secret("VALKEY_PASSWORD", folder), safe="")
    socket = quote(str(valkey_socket(folder)))
    return f"redis+socket://:{password}@{socket}?virtual_host=0", f"unix://:{password}@{socket}?db=1"


def cache_url(channels: str) -> str:
    """The cache's URL beside the channel layer's: the same server, its next database."""
    parts = urlsplit(channels)
    if parts.scheme == "unix":
        return channels.replace("?db=1", "?db=2")
    return urlunsplit(parts._replace(path=f"{parts.path.removesuffix('/1')}/2"))
