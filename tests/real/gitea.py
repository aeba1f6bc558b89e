"""A real Gitea on loopback: built once from its published Go module by this machine's go, then kept; data in a scratch folder.

STUDIO_GITEA names a binary to use instead (of Forgejo, for example); one without its pages inside needs STUDIO_GITEA_ROOT,
the folder with its templates.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.real.parts import free_port

MODULE, VERSION = "code.gitea.io/gitea", "v1.26.0"
TAGS = "sqlite sqlite_unlock_notify"
BUILD_SECONDS = 3600.0
START_SECONDS = 60.0
OWNER = "octo"
PASSWORD = secrets.token_urlsafe(12)
SETTINGS = """
{unsafe}
RUN_MODE = prod
WORK_PATH = {folder}
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
DISABLE_SSH = true
OFFLINE_MODE = true
STATIC_ROOT_PATH = {root}
APP_DATA_PATH = {folder}/data
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[repository]
ROOT = {folder}/repositories
[security]
INSTALL_LOCK = true
[session]
PROVIDER = memory
[indexer]
ISSUE_INDEXER_TYPE = db
[log]
MODE = file
ROOT_PATH = {folder}/log
"""


def source() -> Path:
    """The module's folder, downloaded by go and checked against its public checksum."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"],
        cwd="/",
        check=True,
        capture_output=True,
        timeout=BUILD_SECONDS,
    )
    return Path(json.loads(done.stdout)["Dir"])


def binary() -> tuple[Path, Path]:
    """(the program, the folder with its templates); builds it where it is not there yet, which takes some minutes."""
    if given := os.environ.get("STUDIO_GITEA"):
        return Path(given), Path(os.environ.get("STUDIO_GITEA_ROOT", Path(given).parent))
    root = source()
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "opencode-studio" / f"gitea-{VERSION}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        half = kept.with_suffix(f".{os.getpid()}")
        command = ["go", "build", "-C", str(root), "-ldflags", "-s -w", "-tags", TAGS, "-o", str(half), "."]
        subprocess.run(command, check=True, timeout=BUILD_SECONDS)
        half.rename(kept)
    return kept, root


@dataclass
class Gitea:
    """A running Gitea; its owner `octo` may do everything."""

    url: str
    admin: str = ""
    names: dict[str, Any] = field(default_factory=dict)  # of tokens

    def ask(self, method: str, path: str, body: Any = None, *, token: str = "", ok: bool = True) -> Any:
        """The decoded answer to a request, as the owner or with another token."""
        headers = {"Authorization": f"token {token or self.admin}"}
        done = requests.request(method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=60)
        assert done.ok or not ok, f"{method} {path}: {done.status_code} {done.text[:300]}"
        return done.json() if done.content and done.ok else None

    def token(self, user: str, *scopes: str) -> str:
        """A new token of a person."""
        body = {"name": secrets.token_hex(8), "scopes": list(scopes)}
        where = f"{self.url}/api/v1/users/{user}/tokens"
        done = requests.post(where, json=body, auth=(user, PASSWORD), timeout=60)
        assert done.status_code == 201, done.text[:300]
        token = str(done.json()["sha1"])
        self.names[token] = body["name"]
        return token

    def withdraw(self, user: str, token: str) -> None:
        """Make a token of a person's invalid."""
        where = f"{self.url}/api/v1/users/{user}/tokens/{self.names[token]}"
        assert requests.delete(where, auth=(user, PASSWORD), timeout=60).status_code == 204

    def person(self, name: str) -> None:
        """A person with an account."""
        body = {
            "username": name,
            "email": f"{name}@example.invalid",
            "password": PASSWORD,
            "must_change_password": False,
        }
        self.ask("POST", "/admin/users", body)

    def repository(self, name: str, people: tuple[str, ...] = ("ada", "grace")) -> str:
        """A new, empty and private repository of the owner's, to which some people may write: OWNER/NAME."""
        self.ask("POST", "/user/repos", {"name": name, "default_branch": "main", "private": True})
        for one in people:
            self.ask("PUT", f"/repos/{OWNER}/{name}/collaborators/{one}", {"permission": "write"})
        return f"{OWNER}/{name}"

    def await_content(self, repository: str) -> None:
        """Wait until Gitea has noticed that a repository is no longer empty; until then it has no pull requests."""
        for _ in range(300):
            if not self.ask("GET", f"/repos/{repository}")["empty"]:
                return
            time.sleep(0.1)
        raise AssertionError(f"{repository} stayed empty")

    def merge(self, repository: str, number: int, *, delete: bool) -> str:
        """Squash a pull request and give the commit that its base is at then; Gitea looks at it for a while first."""
        body = {"Do": "squash", "delete_branch_after_merge": delete}
        for _ in range(100):
            self.ask("POST", f"/repos/{repository}/pulls/{number}/merge", body, ok=False)
            found = self.ask("GET", f"/repos/{repository}/pulls/{number}")
            if found["merged"]:
                return str(found["merge_commit_sha"])
            time.sleep(0.2)
        raise AssertionError(f"{repository}#{number} was not merged")


@contextmanager
def gitea(folder: Path) -> Iterator[Gitea]:
    """A running Gitea with the people octo, ada and grace, all of it in `folder`."""
    program, root = binary()
    port = free_port()
    settings = folder / "app.ini"
    unsafe = "I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true" if os.geteuid() == 0 else ""
    settings.write_text(SETTINGS.format(folder=folder, port=port, root=root, unsafe=unsafe))
    base = [str(program), "--config", str(settings), "--work-path", str(folder)]
    account = ["--username", OWNER, "--password", PASSWORD, "--email", f"{OWNER}@example.invalid"]
    for more in (["migrate"], ["admin", "user", "create", *account, "--admin", "--must-change-password=false"]):
        subprocess.run([*base, *more], check=True, capture_output=True, timeout=START_SECONDS)
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen([*base, "web"], stdout=said, stderr=said, start_new_session=True)
    try:
        running = Gitea(f"http://127.0.0.1:{port}")
        _await(running.url, process)
        running.admin = running.token(OWNER, "all")
        for name in ("ada", "grace"):
            running.person(name)
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{url}/api/v1/version", timeout=5).ok:
                return
        except requests.RequestException:
            assert process.poll() is None, "Gitea has ended"
        time.sleep(0.1)
    raise AssertionError("Gitea does not answer")
