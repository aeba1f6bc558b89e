"""Gitea and Forgejo over REST (api/v1). Where they tell things as GitHub does, github.py reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from workspaces.forge import answers, github
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
    Refused,
)
from workspaces.forge.github import chosen, pull_of, remark
from workspaces.forge.http import ForgeClient

DRAFT = "WIP: "  # a pull request whose title begins so is a draft there
DRAFTS = re.compile(r"^(?:WIP:|\[WIP\])\s*", re.IGNORECASE)
FOUND_LIMIT = 200  # pull requests that are looked through for one branch: the list has no filter for it
REVIEWS_LIMIT = 50  # reviews whose lines are read, the newest: each needs a request of its own
LABELS_LIMIT = 200
STATUSES = {"success": "passed", "pending": "pending", "warning": "neutral", "skipped": "neutral"}


class Gitea:
    """One repository on Gitea or Forgejo; see workspaces/forge/base.py for what each method promises."""

    def __init__(self, base_url: str, repository: str, token: str) -> None:
        self._client = ForgeClient(base_url, token=token, scheme="token", accept="application/json")
        self._path = f"/repos/{quote(repository, safe='/')}"

    def check_access(self) -> Access:
        """See Forge."""
        try:
            found = self._client.get(self._path)
        except ForgeError as error:
            if error.transient:
                raise
            hint = " It needs the scope “write:repository”."
            return Access(problems=(error.message + (hint if isinstance(error, NotThere) else ""),))
        problems = []
        if answers.part(found, "permissions", "push") is not True:
            problems.append(
                "The token may read this repository but not write to it. It needs the scopes “write:repository” and "
                "“write:issue”, of an account that may write."
            )
        else:
            problems += self._scope_problems(answers.line(found, "default_branch", limit=250))
        if answers.part(found, "archived") is True:
            problems.append(github.ARCHIVED)
        if answers.part(found, "has_pull_requests") is False:
            problems.append("Pull requests are turned off in this repository's settings on the forge.")
        return Access(answers.line(found, "full_name"), answers.line(found, "default_branch"), tuple(problems))

    def _scope_problems(self, branch: str) -> list[str]:
        """What the token's scopes keep it from. No answer names them, so two things are tried that are refused anyway:
        a pull request of a branch into itself, and no labels for the issue 0."""
        found = []
        for path, body in (
            (f"{self._path}/pulls", {"title": "No change", "head": branch, "base": branch}),
            (f"{self._path}/issues/0/labels", {"labels": []}),
        ):
            try:
                self._client.post(path, body)
            except ForgeError as error:
                if error.transient:
                    raise
                found += [error.message] if error.code == "forge_forbidden" else []
        return found

    def create(self, new: NewPull) -> Pull:
        """See Forge."""
        title = f"{DRAFT}{new.title}" if new.draft else new.title
        body = {"title": title, "head": new.head, "base": new.base, "body": new.body}
        try:
            return _pull(self._client.post(f"{self._path}/pulls", body))
        except NotThere as error:
            raise Refused(f"{error.message} Does it have both branches, {new.head} and {new.base}?") from error

    def decorate(self, number: int, reviewers: Sequence[str], labels: Sequence[str]) -> list[str]:
        """See Forge. Labels are named by numbers here, which are looked up first."""
        notes = []
        for reviewer in reviewers:
            try:
                self._client.post(f"{self._path}/pulls/{number}/requested_reviewers", {"reviewers": [reviewer]})
            except ForgeError as error:
                if error.transient:
                    raise
                notes.append(f"{reviewer} was not asked to review. {error.message}")
        if labels:
            rows = self._client.pages(f"{self._path}/labels", most=LABELS_LIMIT, size="limit")
            known = {answers.line(row, "name"): answers.number(row, "id") for row in answers.objects(list(rows))}
            missing = [label for label in labels if label not in known]
            if missing:
                notes.append(f"The forge has no label {', '.join(missing)}.")
            ids = [known[label] for label in labels if label in known]
            if ids:
                self._client.post(f"{self._path}/issues/{number}/labels", {"labels": ids})
        return notes

    def find(self, branch: str, commit: str) -> Pull | None:
        """See Forge. Whoever may read the repository may propose a branch of the same name from a copy of it."""
        rows = self._client.pages(
            f"{self._path}/pulls", most=FOUND_LIMIT, size="limit", state="all", sort="recentupdate"
        )
        own = (
            row
            for row in answers.objects(list(rows))
            if answers.part(row, "head", "repo_id") == answers.part(row, "base", "repo_id")
        )
        return chosen([_pull(row) for row in own], branch, commit)

    def pull(self, number: int) -> Pull:
        """See Forge. Of a merged one it names what its branch has now, which may be newer than what was merged."""
        found = _pull(self._client.get(f"{self._path}/pulls/{number}"))
        return replace(found, head_commit=self._merged_head(number)) if found.state == "merged" else found

    def _merged_head(self, number: int) -> str:
        """The newest commit that was merged; empty when the forge cannot tell any more."""
        where = f"{self._path}/pulls/{number}/commits"
        try:
            rows = self._client.get(where, limit="1", verification="false", files="false")
        except NotThere:
            return ""
        newest = next(iter(answers.objects(rows)), {})
        return github.commit_id(answers.line(newest, "sha"))

    def checks(self, commit: str) -> list[Check]:
        """See Forge."""
        where = f"{self._path}/commits/{quote(commit, safe='')}/status"
        rows = self._client.pages(where, most=CHECKS_LIMIT, size="limit", key="statuses")
        return [github.status(row, "status", STATUSES) for row in answers.objects(list(rows))]

    def log(self, check: Check) -> str:
        """See Forge. A status names a page, not a job whose log could be asked for."""
        return check.summary

    def comments(self, number: int) -> list[Comment]:
        """See Forge."""
        where = f"{self._path}/pulls/{number}/reviews"
        rows = self._client.pages(where, most=COMMENTS_LIMIT, size="limit")
        reviews = [row for row in answers.objects(list(rows)) if github.is_sent(row)]
        with_lines = [row for row in reviews if answers.number(row, "comments_count")][-REVIEWS_LIMIT:]
        found: list[Comment] = []
        for row in reviews:
            if answers.text(row, "body").strip():
                found.append(remark(row))
            if row in with_lines:
                rows = self._client.get(f"{where}/{answers.identity(row, 'id')}/comments")
                found += [_comment(one) for one in answers.objects(rows)]
        return found[:COMMENTS_LIMIT]

    def issue(self, number: int) -> Issue:
        """See Forge."""
        found = self._client.get(f"{self._path}/issues/{number}")
        if answers.part(found, "pull_request") is not None:
            raise NotThere(f"#{number} is a pull request, not an issue.")
        return github.issue(found)

    def issues(self, label: str) -> list[Issue]:
        """See Forge. Asked for a label that it does not have, this forge gives all issues."""
        rows = self._client.pages(
            f"{self._path}/issues", most=ISSUES_LIMIT, size="limit", labels=label, state="open", type="issues"
        )
        found = [github.issue(row) for row in answers.objects(list(rows))]
        return [one for one in found if label.casefold() in (name.casefold() for name in one.labels)]

    def comment(self, number: int, body: str) -> None:
        """See Forge."""
        self._client.post(f"{self._path}/issues/{number}/comments", {"body": body})


def _pull(row: Any) -> Pull:
    """The label has the branch's name also when the branch is deleted, the ref then has the pull request's own."""
    title = answers.line(row, "title", limit=300)
    bare, said = DRAFTS.sub("", title), answers.part(row, "draft")
    found = pull_of(row, title=bare, draft=said if isinstance(said, bool) else bare != title)
    return replace(found, head=answers.line(row, "head", "label", limit=250) or found.head)


def _comment(row: dict[str, Any]) -> Comment:
    return Comment(
        id=f"comment-{answers.identity(row, 'id')}",
        author=answers.line(row, "user", "login"),
        path=answers.line(row, "path", limit=1_000),
        line=answers.number(row, "position") or answers.number(row, "original_position") or None,
        body=answers.text(row, "body", limit=answers.BODY_LIMIT),
        url=answers.url(row, "html_url"),
    )
