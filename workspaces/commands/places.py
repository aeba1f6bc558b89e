"""Where the files of this host's commands are, and which host this is."""

from __future__ import annotations

import os
import secrets
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from workspaces.commands.files import FOLDER, CommandFolder, command_folder


def own_host() -> str:
    """Names this data folder: a command belongs to the host that has its files. Made at first use, and kept."""
    path = Path(settings.DATA) / FOLDER / "host"
    with suppress(OSError):
        return path.read_text().strip()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".host.{os.getpid()}.{secrets.token_hex(4)}")
    scratch.write_text(f"{socket.gethostname()[:60]}-{secrets.token_hex(6)}")
    with suppress(FileExistsError):
        os.link(scratch, path)
    scratch.unlink()
    return path.read_text().strip()


def folder_of(command_id: uuid.UUID | str) -> CommandFolder:
    """Where the files of a command are."""
    return command_folder(Path(settings.DATA), command_id)
