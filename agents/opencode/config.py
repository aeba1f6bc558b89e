"""How a managed OpenCode server is set up: its folders, its configuration, its environment, its shell.

It uses the user's own providers and login (read, never written) and keeps its sessions in the studio's data folder, so
the user's own OpenCode history is not touched.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from agents.environment import COMMAND, INHERITED, MARK, PROVIDER_KEYS
from agents.roles import (
    DESCRIPTIONS,
    ROLES,
    agent_name,
    permission_config,
    permission_rules,
    server_rules,
    sub_agent_rules,
)

PRACTICE_REF = "practice/practice"
ZEN = "opencode"  # the provider that OpenCode connects by itself, with models of unknown owners
PROVIDER_TIMEOUT_MS = 120_000
# By which key in the environment OpenCode finds which provider; those with one key for one provider.
KEY_PROVIDERS = {
    "ANTHROPIC_API_KEY": "anthropic", "OPENAI_API_KEY": "openai", "GEMINI_API_KEY": "google", "GOOGLE_API_KEY": "google",
    "GOOGLE_GENERATIVE_AI_API_KEY": "google", "OPENROUTER_API_KEY": "openrouter", "GROQ_API_KEY": "groq",
    "MISTRAL_API_KEY": "mistral", "DEEPSEEK_API_KEY": "deepseek", "XAI_API_KEY": "xai", "CEREBRAS_API_KEY": "cerebras",
    "TOGETHER_API_KEY": "togetherai", "FIREWORKS_API_KEY": "fireworks-ai", "PERPLEXITY_API_KEY": "perplexity",
    "COHERE_API_KEY": "cohere", "MOONSHOT_API_KEY": "moonshotai", "DEEPINFRA_API_KEY": "deepinfra",
    "HF_TOKEN": "huggingface",
}  # fmt: skip
XDG = {
    "XDG_DATA_HOME": "data",
    "XDG_CONFIG_HOME": "config",
    "XDG_CACHE_HOME": "cache",
    "XDG_STATE_HOME": "state",
}
# No tool may wait for a terminal that is not there.
NO_TERMINAL = {"GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat", "PAGER": "cat", "GIT_EDITOR": "true"}


@dataclass(frozen=True, slots=True)
class ServerFolder:
    """The part of the data folder that belongs to the server; made on use, closed to other users."""

    root: Path

    @property
    def working_directory(self) -> Path:
        """Where the server itself runs: an empty folder that is no project."""
        return self.root / "cwd"

    @property
    def login(self) -> Path:
        """The server's copy of the user's login."""
        return self.root / "data" / "opencode" / "auth.json"

    @property
    def shell(self) -> Path:
        """The folder of the shell wrapper."""
        return self.root / "shell"

    def prepare(self) -> None:
        """Make the folders; idempotent."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (
            self.working_directory,
            self.login.parent,
            self.shell,
            *(self.root / name for name in XDG.values()),
        ):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@dataclass(frozen=True, slots=True)
class UserSetup:
    """What the user's own OpenCode has: its configuration file and its login, where they exist."""

    config: Path | None
    login: Path | None

    def settings(self) -> dict[str, Any]:
        """The configuration's content; empty when it cannot be read. Only for what must be merged with ours."""
        try:
            value = json.loads(without_comments(self.config.read_text())) if self.config else {}
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def logins(self) -> set[str]:
        """The providers that the login names."""
        try:
            value = json.loads(self.login.read_text()) if self.login else {}
        except (OSError, ValueError):
            return set()
        return set(value) if isinstance(value, dict) else set()

    def signed_in(self, provider: str) -> bool:
        """Whether the login names `provider`."""
        return provider in self.logins()


def find_user_setup(environ: Mapping[str, str]) -> UserSetup:
    """Look where OpenCode itself looks."""
    home = Path(environ.get("HOME") or Path.home())
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "opencode"
    login = Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "opencode" / "auth.json"
    named = environ.get("OPENCODE_CONFIG")
    candidates = (
        [Path(named)] if named else [config / name for name in ("opencode.jsonc", "opencode.json", "config.json")]
    )
    return UserSetup(
        config=next((path for path in candidates if path.is_file()), None), login=login if login.is_file() else None
    )


def without_comments(text: str) -> str:
    """JSON with comments and trailing commas as plain JSON; strings are left alone."""
    token = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
    bare = token.sub(lambda match: match[1] or "", text)
    comma = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', re.DOTALL)
    return comma.sub(lambda match: match[1] or "", bare)


def copy_login(user: UserSetup, folder: ServerFolder) -> None:
    """Bring the server's copy of the login up to date.

    The server renews tokens in its copy, so the copy is replaced only when the user's own file has changed since.
    """
    note = folder.root / "login.sha256"
    if user.login is None:
        folder.login.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        return
    content = user.login.read_bytes()
    digest = sha256(content).hexdigest()
    if folder.login.exists() and note.exists() and note.read_text() == digest:
        return
    _write_private(folder.login, content)
    _write_private(note, digest.encode())


def build_config(
    *,
    user: UserSetup,
    shell: Path,
    practice_url: str,
    practice_only: bool = False,
    provider_timeout_ms: int = PROVIDER_TIMEOUT_MS,
    providers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The configuration that the server is started with. It outranks the user's own, which is read before it.

    `providers` are settings of real ones, by their ids.
    """
    theirs = user.settings()
    disabled = {one for one in theirs.get("disabled_providers") or [] if isinstance(one, str)}
    if not user.signed_in(ZEN):
        disabled.add(ZEN)
    config: dict[str, Any] = {
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,  # the studio keeps what an agent did in version control
        "shell": str(shell),
        "disabled_providers": sorted(disabled - {"practice"}),
        "provider": {**(providers or {}), "practice": practice_provider(practice_url, provider_timeout_ms)},
        # The rules of a session decide; these are for sub-agents, which inherit only a session's denials.
        "permission": permission_config(sub_agent_rules()),
        "agent": {
            agent_name(role): {
                "description": DESCRIPTIONS[role],
                "mode": "primary",
                "permission": permission_config(server_rules(role, permission_rules(role))),
            }
            for role in ROLES
        },
    }
    if isinstance(theirs.get("enabled_providers"), list):
        config["enabled_providers"] = sorted({*theirs["enabled_providers"], "practice"})
    if practice_only:
        config["model"] = config["small_model"] = PRACTICE_REF
    return config


def timed_providers(user: UserSetup, environ: Mapping[str, str], timeout_ms: int) -> dict[str, Any]:
    """Time-outs for the providers that the user has, except those whose own configuration names some; none for 0.

    Only for those: a provider that is named in the configuration counts as connected, with a login or without.
    OpenCode's own time-outs are 300 s, because a model may think for minutes before its first word.
    """
    if not timeout_ms:
        return {}
    theirs = user.settings().get("provider")
    configured: dict[str, Any] = theirs if isinstance(theirs, dict) else {}
    by_key = {provider for name, provider in KEY_PROVIDERS.items() if environ.get(name)}
    options = {"headerTimeout": timeout_ms, "chunkTimeout": timeout_ms}
    return {
        name: {"options": options}
        for name in sorted({*configured, *user.logins(), *by_key})
        if not options.keys() & _options(configured.get(name)).keys()
    }


def _options(provider: Any) -> dict[str, Any]:
    options = provider.get("options") if isinstance(provider, dict) else None
    return options if isinstance(options, dict) else {}


def practice_provider(url: str, timeout_ms: int) -> dict[str, Any]:
    """The provider entry of the practice model."""
    return {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Practice (a script, no AI)",
        "options": {"baseURL": url, "apiKey": "practice", "headerTimeout": timeout_ms, "chunkTimeout": timeout_ms},
        "models": {
            "practice": {
                "name": "Practice model",
                "limit": {"context": 400_000, "output": 32_000},
                "cost": {"input": 1, "output": 2},
            }
        },
    }


def build_environment(
    *,
    environ: Mapping[str, str],
    pass_env: list[str],
    user: UserSetup,
    folder: ServerFolder,
    config: dict[str, Any],
    username: str,
    password: str,
) -> dict[str, str]:
    """The whole environment of the server: an allow-list of `environ`, the folders, the configuration."""
    environment = {name: environ[name] for name in (*INHERITED, *PROVIDER_KEYS, *pass_env) if name in environ}
    environment |= {name: str(folder.root / part) for name, part in XDG.items()} | NO_TERMINAL
    environment |= {
        MARK: str(folder.root),
        "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_CONFIG_CONTENT": json.dumps(config),
        "OPENCODE_SERVER_USERNAME": username,
        "OPENCODE_SERVER_PASSWORD": password,
    }
    if user.config:
        environment["OPENCODE_CONFIG"] = str(user.config)
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, [environment.get(name, ""), "127.0.0.1", "localhost"]))
    return environment


def write_shell(folder: ServerFolder, environ: Mapping[str, str], pass_env: list[str]) -> Path:
    """The shell that an agent's commands run in: the real one, without what only the server may know.

    Where a command was begun is kept in its environment, so that what it leaves running is known wherever it goes.
    """
    real = shutil.which("bash") or "/bin/sh"
    hidden = ("OPENCODE_SERVER_PASSWORD", "OPENCODE_SERVER_USERNAME", "OPENCODE_CONFIG_CONTENT", "OPENCODE_CONFIG")
    words = ["exec", "/usr/bin/env"]
    for name in (*hidden, *PROVIDER_KEYS, *pass_env, *(name for name in XDG if name not in environ)):
        words += ["-u", shlex.quote(name)]
    words += [shlex.quote(f"{name}={environ[name]}") for name in XDG if name in environ]
    words.append(f'{COMMAND}="$PWD"')
    path = folder.shell / Path(real).name  # the server tells by the name how to call it
    _write_private(path, f'#!/bin/sh\n{" ".join(words)} {shlex.quote(real)} "$@"\n'.encode(), mode=0o700)
    return path


def _write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as handle:
        handle.write(content)
    scratch.replace(path)
