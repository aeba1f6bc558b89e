"""GitHub and GitHub Enterprise over REST."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from workspaces.forge import answers
from workspaces.forge.base import (
    CHECKS_LIMIT,
    COMMENTS_LIMIT,
    ISSUES_LIMIT,
    Access,
    Check,
    Comment,
    ForgeError,
    Issue,
    NewPull,
    NotThere,
    Pull,
)
from workspaces.forge.http import ForgeClient

FOUND_LIMIT = 100  # pull requests of one branch that are looked through
# How a finished check run counts; anything else failed.
CONCLUSIONS = {"success": "passed", "neutral": "neutral", "skipped": "neutral", "stale": "neutral"}
STATUSES = {"success": "passed", "pending": "pending"}
SCOPES = {"repo", "public_repo"}
ARCHIVED = "The repository is archived: nothing can be pushed to it."


class GitHub:
    """One repository on GitHub; see workspaces/forge/base.py for what each method promises."""

    def __init__(self, base_url: str, repository: str, token: str) -> None:
        self._client = ForgeClient(base_url, token=token, scheme="Bearer", accept="application/vnd.github+json")
        self._owner = repository.partition("/")[0]
        self._path = f"/repos/{quote(repository, safe='/')}"

    def check_access(self) -> Access:
        """See Forge. A classic token names its scopes in a header; a fine-grained one shows what it may do."""
        try:
            found, headers = self._client.answer("GET", self._path)
        except ForgeError as error:
            if error.transient:
                raise
            hint = " A private repository needs the scope “repo”, or the permission “Contents”."
            return Access(problems=(error.message + (hint if isinstance(error, NotThere) else ""),))
        problems = []
        scopes = {scope.strip() for scope in headers.get("X-OAuth-Scopes", "").split(",") if scope.strip()}
        if "X-OAuth-Scopes" in headers and not scopes & SCOPES:
            problems.append("The token lacks the scope “repo”: it cannot create pull requests.")
        elif answers.part(found, "permissions", "push") is not True:
            problems.append(
                "The token may read this repository but not write to it. It needs write access to contents and pull requests."
            )
        if answers.part(found, "archived") is True:
            problems.append(ARCHIVED)
        return Access(answers.line(found, "full_name"), answers.line(found, "default_branch"), tuple(problems))

    def create(self, new: NewPull) -> Pull:
        """See Forge."""
        body = {"title": new.title, "head": new.head, "base": new.base, "body": new.body, "draft": new.draft}
        return _pull(self._client.post(f"{self._path}/pulls", body))

    def decorate(self, number: int, reviewers: Sequence[str], labels: Sequence[str]) -> list[str]:
        """See Forge. A reviewer who is none of the repository's people would make GitHub refuse all: each is asked alone."""
        notes = []
        for reviewer in reviewers:
            note = self._try(f"{self._path}/pulls/{number}/requested_reviewers", {"reviewers": [reviewer]})
            notes += [f"{reviewer} was not asked to review. {note}"] if note else []
        if labels:
            note = self._try(f"{self._path}/issues/{number}/labels", {"labels": list(labels)})
            notes += [f"The labels were not set. {note}"] if note else []
        return notes

    def _try(self, path: str, body: dict[str, Any]) -> str:
        """Why the forge did not take it; empty when it did. What may pass by itself is raised."""
        try:
            self._client.post(path, body)
        except ForgeError as error:
            if error.transient:
                raise
            return error.message
        return ""

    def find(self, branch: str, commit: str) -> Pull | None:
        """See Forge."""
        rows = self._client.pages(
            f"{self._path}/pulls", most=FOUND_LIMIT, size="per_page", head=f"{self._owner}:{branch}", state="all"
        )
        return chosen([_pull(row) for row in answers.objects(list(rows))], branch, commit)

    def pull(self, number: int) -> Pull:
        """See Forge."""
        return _pull(self._client.get(f"{self._path}/pulls/{number}"))

    def checks(self, commit: str) -> list[Check]:
        """See Forge. Check runs (Actions and apps), then statuses, which older services set."""
        where = f"{self._path}/commits/{quote(commit, safe='')}"
        runs = self._client.pages(
            f"{where}/check-runs", most=CHECKS_LIMIT, size="per_page", key="check_runs", filter="latest"
        )
        found = [_run(row) for row in answers.objects(list(runs))]
        statuses = self._client.get(f"{where}/status", per_page=CHECKS_LIMIT)
        found += [status(row, "state", STATUSES) for row in answers.objects(answers.part(statuses, "statuses"))]
        return found[:CHECKS_LIMIT]

    def log(self, check: Check) -> str:
        """See Forge. The id of a check run of GitHub Actions is its job's."""
        if check.id.isdecimal() and "/actions/runs/" in check.url:
            return self._client.tail(f"{self._path}/actions/jobs/{check.id}/logs")
        return check.summary

    def comments(self, number: int) -> list[Comment]:
        """See Forge. The lines' comments, and what a review says about all of the change."""
        where = f"{self._path}/pulls/{number}"
        rows = self._client.pages(f"{where}/comments", most=COMMENTS_LIMIT, size="per_page")
        found = [_comment(row) for row in answers.objects(list(rows))]
        reviews = self._client.pages(f"{where}/reviews", most=COMMENTS_LIMIT, size="per_page")
        sent = [row for row in answers.objects(list(reviews)) if is_sent(row)]
        found += [remark(row) for row in sent if answers.text(row, "body").strip()]
        return found[:COMMENTS_LIMIT]

    def issue(self, number: int) -> Issue:
        """See Forge. For GitHub a pull request is an issue too."""
        found = self._client.get(f"{self._path}/issues/{number}")
        if answers.part(found, "pull_request") is not None:
            raise NotThere(f"#{number} is a pull request, not an issue.")
        return issue(found)

    def issues(self, label: str) -> list[Issue]:
        """See Forge."""
        rows = self._client.pages(
            f"{self._path}/issues", most=ISSUES_LIMIT, size="per_page", labels=label, state="open"
        )
        return [issue(row) for row in answers.objects(list(rows)) if answers.part(row, "pull_request") is None]

    def comment(self, number: int, body: str) -> None:
        """See Forge."""
        self._client.post(f"{self._path}/issues/{number}/comments", {"body": body})


def chosen(pulls: Sequence[Pull], branch: str, commit: str) -> Pull | None:
    """The open one from `branch`, else the newest that was merged with exactly `commit`. A closed one may be done anew."""
    ours = [pull for pull in pulls if pull.head == branch]
    merged = (pull for pull in ours if pull.state == "merged" and pull.head_commit == commit)
    return next((pull for pull in ours if pull.state == "open"), None) or next(merged, None)


def is_sent(row: dict[str, Any]) -> bool:
    """Whether a review was handed in; forges show some people also what is still being written."""
    return answers.line(row, "state") != "PENDING"


def remark(row: dict[str, Any]) -> Comment:
    """What a review says about the whole change; GitHub and Gitea tell it alike."""
    return Comment(
        id=f"review-{answers.identity(row, 'id')}",
        author=answers.line(row, "user", "login"),
        path="",
        line=None,
        body=answers.text(row, "body", limit=answers.BODY_LIMIT),
        url=answers.url(row, "html_url"),
    )


def issue(row: Any) -> Issue:
    """An issue; GitHub and Gitea tell it alike."""
    return Issue(
        number=answers.number(row, "number"),
        url=answers.url(row, "html_url"),
        title=answers.line(row, "title", limit=300),
        body=answers.text(row, "body", limit=100_000),
        labels=answers.names(answers.part(row, "labels"), "name"),
    )


def status(row: dict[str, Any], key: str, words: dict[str, str]) -> Check:
    """A commit's status, which some service set; GitHub and Gitea tell it alike but for the name of the state."""
    return Check(
        id=f"status-{answers.identity(row, 'id')}",
        name=answers.line(row, "context") or "status",
        state=words.get(answers.line(row, key), "failed"),
        url=answers.url(row, "target_url"),
        summary=answers.line(row, "description", limit=1_000),
    )


def pull_of(row: Any, *, title: str, draft: bool) -> Pull:
    """A pull request; GitHub and Gitea tell it alike but for what a draft is."""
    merged = answers.part(row, "merged") is True or bool(answers.line(row, "merged_at"))
    closed = answers.line(row, "state") == "closed"
    return Pull(
        number=answers.number(row, "number"),
        url=answers.url(row, "html_url"),
        state="merged" if merged and closed else "closed" if closed else "open",
        draft=draft,
        title=title,
        head=answers.line(row, "head", "ref", limit=250),
        head_commit=commit_id(answers.line(row, "head", "sha")),
        base=answers.line(row, "base", "ref", limit=250),
        merge_commit=commit_id(answers.line(row, "merge_commit_sha")) if merged and closed else "",
    )


def commit_id(found: str) -> str:
    """A commit's id; empty for anything else."""
    return found if re.fullmatch(r"[0-9a-f]{40,64}", found) else ""


def _pull(row: Any) -> Pull:
    return pull_of(row, title=answers.line(row, "title", limit=300), draft=answers.part(row, "draft") is True)


def _run(row: dict[str, Any]) -> Check:
    done = answers.line(row, "status") == "completed"
    said = [answers.text(row, "output", key, limit=4_000) for key in ("title", "summary", "text")]
    return Check(
        id=answers.identity(row, "id"),
        name=answers.line(row, "name") or "check",
        state=CONCLUSIONS.get(answers.line(row, "conclusion"), "failed") if done else "pending",
        url=answers.url(row, "html_url") or answers.url(row, "details_url"),
        summary="\n\n".join(part for part in said if part.strip()),
    )


def _comment(row: dict[str, Any]) -> Comment:
    return Comment(
        id=f"comment-{answers.identity(row, 'id')}",
        author=answers.line(row, "user", "login"),
        path=answers.line(row, "path", limit=1_000),
        line=answers.number(row, "line") or answers.number(row, "original_line") or None,
        body=answers.text(row, "body", limit=answers.BODY_LIMIT),
        url=answers.url(row, "html_url"),
    )
