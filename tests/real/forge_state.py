"""The state of a forge on loopback: what is there, and what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.repositories import git

if TYPE_CHECKING:
    from tests.real.forge_server import Handler

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "forge"


@dataclass
class Fault:
    """What happens to the next requests whose path has `words` in it."""

    words: str
    do: Callable[[Handler], None]
    times: int
    method: str = ""


@dataclass
class ForgeServer:
    """The state of one forge with one repository, and what it was asked."""

    kind: str
    remote: Path | None = None
    default_branch: str = "main"
    may_push: bool = True
    archived: bool = False
    scopes: str = "repo"
    lacks: str = ""  # scopes that the token does not have; Gitea names them when it refuses
    people: set[str] = field(default_factory=lambda: {"ada", "grace"})
    labels: dict[str, int] = field(default_factory=lambda: {"bug": 7, "studio": 8})
    pulls: list[dict[str, Any]] = field(default_factory=list)
    issues: list[dict[str, Any]] = field(default_factory=list)
    comments: list[dict[str, Any]] = field(default_factory=list)  # of lines
    reviews: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    written: list[tuple[int, str]] = field(default_factory=list)  # comments that the studio wrote
    requests: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    url: str = ""
    halt: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.description = json.loads((FIXTURES / f"{self.kind}.json").read_text())
        self.lock = threading.RLock()

    def fault(self, words: str, do: Callable[[Handler], None], *, times: int = 1, method: str = "") -> None:
        """Let `do` answer the next requests to a path with `words`."""
        self.faults.append(Fault(words, do, times, method))

    def issue(self, number: int, title: str, body: str = "", *labels: str) -> None:
        """An open issue."""
        self.issues.append({"number": number, "title": title, "body": body, "labels": list(labels), "state": "open"})

    def check(self, name: str, state: str, log: str = "", said: str = "") -> str:
        """Set a check of the newest commit: passed, failed or pending. Its id."""
        number = next((one["id"] for one in self.checks if one["name"] == name), 900 + len(self.checks))
        self.checks = [one for one in self.checks if one["name"] != name]
        self.checks.append({"id": number, "name": name, "state": state, "said": said})
        self.logs[str(number)] = log
        return str(number) if self.kind == "github" else f"status-{number}"

    def comment(self, body: str, path: str = "app.py", line: int = 1, author: str = "ada") -> None:
        """A reviewer's comment on a line."""
        number = 500 + len(self.comments)
        self.comments.append({"id": number, "body": body, "path": path, "line": line, "author": author})

    def remark(self, body: str, author: str = "grace", state: str = "COMMENT") -> None:
        """A review's words about the whole change."""
        self.reviews.append({"id": 700 + len(self.reviews), "body": body, "author": author, "state": state})

    def merge(self, number: int) -> str:
        """Merge a pull request as a person does on its page; the commit that the base is at then."""
        pull = self.pulls[number - 1]
        commit = self.head(pull)
        if self.remote is not None:
            git(self.remote, "update-ref", f"refs/heads/{pull['base']}", commit)
        pull |= {"state": "closed", "merged": True, "merge_commit": commit, "merged_head": commit}
        return commit

    def delete_branch(self, name: str) -> None:
        """Delete a branch, as forges do after a merge."""
        assert self.remote is not None
        git(self.remote, "update-ref", "-d", f"refs/heads/{name}")

    def close(self, number: int) -> None:
        """Close a pull request without merging it."""
        self.pulls[number - 1]["state"] = "closed"

    def head(self, pull: dict[str, Any]) -> str:
        """The commit of a pull request's branch."""
        if self.remote is None:
            return "a" * 40
        # GitHub keeps what was merged; Gitea names the branch's present commit as long as there is the branch.
        frozen = self.kind == "github" and pull["merged"]
        if pull["own"] and not frozen and self.has_branch(pull["head"]):
            pull["commit"] = git(self.remote, "rev-parse", f"refs/heads/{pull['head']}").strip()
        return str(pull["commit"])

    def copy(self, head: str, commit: str) -> None:
        """A pull request of somebody's copy of the repository, from a branch that may be called like one of ours."""
        self.new_pull(head, "main", "From elsewhere", "", commit=commit, own=False)

    def has_branch(self, name: str) -> bool:
        """Whether the remote has the branch."""
        return self.remote is None or name in git(self.remote, "branch", "--format=%(refname:short)").splitlines()

    def new_pull(self, head: str, base: str, title: str, body: str, **more: Any) -> dict[str, Any]:
        """An open pull request; the newest has the highest number."""
        pull = {
            "number": len(self.pulls) + 1, "title": title, "body": body, "head": head, "base": base, "draft": False,
            "state": "open", "merged": False, "merge_commit": "", "labels": [], "reviewers": [], "own": True, **more,
        }  # fmt: skip
        self.pulls.append(pull)
        return pull

    def asked(self, method: str, words: str) -> int:
        """How often it was asked so."""
        return sum(1 for one, path in self.requests if one == method and words in path)
