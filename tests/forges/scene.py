"""A repository on a real Gitea, with what people and the studio do there."""

from __future__ import annotations

import itertools
from typing import Any

from tests.real.gitea import Gitea
from tests.repositories import git, make_repository
from workspaces.forge.addresses import push_header
from workspaces.forge.base import NewPull
from workspaces.forge.gitea import Gitea as Client
from workspaces.vcs import SYSTEMS

SCOPES = ("write:repository", "write:issue")
BRANCH = "studio/demo-1"
NEW = NewPull(BRANCH, "main", "Add a farewell", "Politely.")
numbers = itertools.count(1)


class Place:
    """A repository on the forge, a person's clone of it, and the studio's client with a token that just suffices."""

    def __init__(self, server: Gitea) -> None:
        self.server = server
        self.repository = server.repository(f"app-{next(numbers)}")
        self.url = f"{server.url}/{self.repository}.git"
        self.folder = make_repository()
        self.token = server.token("octo", *SCOPES)
        self.push("main")
        server.await_content(self.repository)
        git(self.folder, "checkout", "-q", "-b", BRANCH)
        self.first = self.commit("app.py", "".join(f"print({number})\n" for number in range(30)))

    def client(self, token: str | None = None, repository: str = "") -> Client:
        token = self.token if token is None else token
        return Client(f"{self.server.url}/api/v1", repository or self.repository, token)

    def commit(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-q", "-m", name)
        return git(self.folder, "rev-parse", "HEAD").strip()

    def push(self, branch: str = BRANCH, *, token: str = "", commit: str = "HEAD", expected: str | None = None) -> None:
        header = push_header(f"{self.server.url}/api/v1", self.url, token or self.token)
        at = git(self.folder, "rev-parse", commit).strip()
        SYSTEMS["git"].push(self.folder, self.url, at, branch, expected=expected, header=header)

    def ask(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """A request to the repository, as its owner or with another token."""
        return self.server.ask(method, f"/repos/{self.repository}{path}", body, token=token)

    def one_of_everything(self) -> None:
        """A pull request with a review of a line, an issue with a label, and a status."""
        self.push()
        self.client().create(NEW)
        ada = self.server.token("ada", "all")
        line = {"path": "app.py", "body": "Rename.", "new_position": 17}
        self.ask("POST", "/pulls/1/reviews", {"body": "All.", "event": "COMMENT", "comments": [line]}, token=ada)
        label = self.ask("POST", "/labels", {"name": "bug", "color": "#ff0000"})["id"]
        self.ask("POST", "/issues", {"title": "It crashes", "body": "Always.", "labels": [label]})
        self.ask("POST", f"/statuses/{self.first}", {"state": "success", "context": "build"})
