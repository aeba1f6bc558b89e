"""What the studio asks of a forge. Services know only this; each forge is one module beside it.

Every text that a forge gives is hostile input: it is cleaned and bounded before it is put into these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from studio.kernel.errors import Upstream


class ForgeError(Upstream):
    """A forge refused something or failed. `transient`: trying again can help, not before `retry_at` where that is known."""

    code = "forge_failed"

    def __init__(
        self, message: str, *, code: str | None = None, transient: bool = False, retry_at: datetime | None = None
    ) -> None:
        super().__init__(message, code=code, transient=transient)
        self.retry_at = retry_at


class NotThere(ForgeError):
    """There is no such thing on the forge, or the token may not know that there is."""

    code = "forge_not_found"


class Refused(ForgeError):
    """The forge understood the request and does not take it, for example because there is such a pull request already."""

    code = "forge_refused"


@dataclass(frozen=True, slots=True)
class Access:
    """What a connection can do. `problems` are sentences for the owner; none means that it works."""

    repository: str = ""
    default_branch: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewPull:
    """A pull request to create. Reviewers are account names; both branches are in the connection's repository."""

    head: str
    base: str
    title: str
    body: str
    draft: bool = False


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request as the forge has it."""

    number: int
    url: str
    state: str  # open, merged, closed
    draft: bool
    title: str
    head: str
    head_commit: str
    base: str
    merge_commit: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a commit, newest result only. `id` is what `log` takes."""

    id: str
    name: str
    state: str  # pending, passed, failed, neutral
    url: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody wrote about a change. `path` is empty for a remark about all of it."""

    id: str
    author: str
    path: str
    line: int | None
    body: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue of the forge."""

    number: int
    url: str
    title: str
    body: str
    labels: tuple[str, ...] = ()


class Forge(Protocol):
    """A repository on a forge, seen with a token. Each method is bounded in time and size and raises ForgeError."""

    def check_access(self) -> Access:
        """Whether the repository is there and the token is enough; what is missing in words. Raises only when nobody answers."""
        ...

    def create(self, new: NewPull) -> Pull:
        """Create a pull request. Raises Refused when the branch has one already, or nothing to pull."""
        ...

    def decorate(self, number: int, reviewers: Sequence[str], labels: Sequence[str]) -> list[str]:
        """Ask for reviewers and set labels; sentences about what the forge did not take. May be repeated."""
        ...

    def find(self, branch: str, commit: str) -> Pull | None:
        """The open pull request from `branch`, else one that was merged with exactly `commit`; None when there is none."""
        ...

    def pull(self, number: int) -> Pull:
        """The pull request as it is now. The head of a merged one is what was merged; empty when the forge cannot tell."""
        ...

    def checks(self, commit: str) -> list[Check]:
        """The checks of a commit, at most CHECKS_LIMIT."""
        ...

    def log(self, check: Check) -> str:
        """The end of a check's log; where the forge gives none over its interface, what it says about the check."""
        ...

    def comments(self, number: int) -> list[Comment]:
        """What reviewers wrote, oldest first, at most COMMENTS_LIMIT."""
        ...

    def issue(self, number: int) -> Issue:
        """One issue. Raises NotThere, also for a number that is a pull request."""
        ...

    def issues(self, label: str) -> list[Issue]:
        """The open issues with a label, at most ISSUES_LIMIT."""
        ...

    def comment(self, number: int, body: str) -> None:
        """Write a comment under a pull request or an issue. Not to be repeated: each call is one comment."""
        ...


CHECKS_LIMIT = 100
COMMENTS_LIMIT = 300
ISSUES_LIMIT = 100
