"""A forge on loopback: GitHub's or Gitea's REST interface over real state (pull requests, comments, checks, issues, a git remote).

Each request is held against the forge's published OpenAPI description (tests/fixtures/forge): operation, parameters, body
and headers. What does not fit is answered with an error and kept in `problems`, which every test's fixture looks at.
Answers are the description's own examples (GitHub) or a real Gitea's with this forge's state put in; Gitea's are held against
its description too. The repository itself is served at `GIT` by git, for whoever shows the token.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import jsonschema

from tests.forges.description import misfits
from tests.real.forge_state import ForgeServer
from tests.real.git_http import REALM, body_of, password_of, serve_git

TOKEN = "ghp_aSecretThatNobodyMaySee0123456789"
PREFIX = {"github": "/api/v3", "gitea": "/api/v1"}
SCHEME = {"github": "Bearer", "gitea": "token"}
REPOSITORY = "octo/app"
GIT = f"/{REPOSITORY}.git"
LONGEST_PAGE = {"github": 100, "gitea": 50}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    @property
    def forge(self) -> ForgeServer:
        return self.server.forge

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def _handle(self, method: str) -> None:
        raw = body_of(self)
        parts = urlsplit(self.path)
        forge = self.forge
        with forge.lock:
            forge.requests.append((method, parts.path))
            fault = next((one for one in forge.faults if one.words in parts.path and one.method in ("", method)), None)
            if fault is not None:
                fault.times -= 1
                if not fault.times:
                    forge.faults.remove(fault)
        if fault is not None:
            fault.do(self)
        elif parts.path.startswith(GIT):
            self._git(parts.path.removeprefix(GIT), parts.query, raw)
        elif parts.path.startswith("/logs/"):
            self._stored_log(parts.path.rpartition("/")[2])
        else:
            with forge.lock:
                self._answer(method, parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), raw)

    def _git(self, inside: str, query: str, raw: bytes) -> None:
        """git itself, for whoever shows the token in the way that forges take it from git."""
        if password_of(self.headers.get("Authorization", "")) != TOKEN:
            self.send_text(401, "Failed to authenticate user\n", REALM)
            return
        assert self.forge.remote is not None
        serve_git(self, self.forge.remote, inside, query, raw)

    def _stored_log(self, name: str) -> None:
        """Where GitHub keeps logs: elsewhere, at a signed address that must not be sent a token."""
        if "Authorization" in self.headers:
            self.forge.problems.append("the token was sent to the store of logs")
        self.send_text(200, self.forge.logs[name])

    def _answer(self, method: str, path: str, query: dict[str, str], raw: bytes) -> None:
        forge = self.forge
        if self.headers.get("Authorization") != f"{SCHEME[forge.kind]} {TOKEN}":
            self.send_json(401, {"message": f"Bad credentials: {self.headers.get('Authorization')}"})
            return
        found = self._operation(method, path, query, raw)
        if isinstance(found, str):
            forge.problems.append(f"{method} {self.path}: {found}")
            self.send_json(500, {"message": found})
            return
        operation, given, body = found
        self.total = 0
        missing = "" if method == "GET" or forge.kind == "github" else _missing_scope(forge.lacks, path)
        if missing:
            self.send_json(
                403, {"message": f"token does not have at least one of required scope(s), required=[{missing}]"}
            )
            return
        status, answer = getattr(self, f"op_{_name(operation['operationId'])}")(given, query, body)
        declared = operation["responses"]
        if wrong := misfits(forge.description, declared, status, answer):
            forge.problems.append(f"{operation['operationId']} does not answer so: {wrong}")
        if status == 302:
            self.send_text(302, "", {"Location": answer})
            return
        told = {"X-OAuth-Scopes": forge.scopes} if forge.kind == "github" else {"X-Total-Count": str(self.total)}
        self.send_json(status, answer, told)

    def _operation(self, method: str, path: str, query: dict[str, str], raw: bytes) -> Any:
        """The described operation with its parameters and body, or what does not fit."""
        forge = self.forge
        if not path.startswith(PREFIX[forge.kind]):
            return "this is not below the interface's address"
        if self.headers.get("User-Agent") != "opencode-studio":
            return "no User-Agent"
        wanted = "application/vnd.github+json" if forge.kind == "github" else "application/json"
        if self.headers.get("Accept") != wanted:
            return "not the recommended Accept header"
        inside = path.removeprefix(PREFIX[forge.kind])
        for template, operations in forge.description["paths"].items():
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template)
            match = re.fullmatch(pattern, inside)
            if match and method.lower() in operations:
                operation = operations[method.lower()]
                given = {name: unquote(value) for name, value in match.groupdict().items()}
                wrong = _wrong(operation, given, query, raw, self.headers.get("Content-Type", ""))
                return wrong or (operation, given, json.loads(raw) if raw else None)
        return "there is no such operation"

    def send_json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        """An answer."""
        self.send_text(status, json.dumps(value), {"Content-Type": "application/json", **(headers or {})})

    def send_text(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        """An answer that is no JSON."""
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    # The operations. Those of GitHub and Gitea that tell things alike share a method.

    def op_repos_get(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        if f"{given['owner']}/{given['repo']}" != REPOSITORY:
            return 404, {"message": "Not Found"}
        forge = self.forge
        found = self._example("get", "")
        return 200, found | {
            "full_name": REPOSITORY,
            "default_branch": forge.default_branch,
            "archived": forge.archived,
            "permissions": {"admin": False, "push": forge.may_push, "pull": True},
        }

    op_repoget = op_repos_get

    def op_pulls_list(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        pulls = [pull for pull in self.forge.pulls if query.get("state") == "all" or pull["state"] == "open"]
        if "head" in query:
            pulls = [pull for pull in pulls if f"{given['owner']}:{pull['head']}" == query["head"]]
        return 200, self._page([self._pull(pull) for pull in reversed(pulls)], query)

    op_repolistpullrequests = op_pulls_list

    def op_pulls_create(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        forge = self.forge
        if body["head"] == body["base"]:
            return 422, {"message": "Invalid PullRequest: There are no changes between the head and the base"}
        exists = any(pull["head"] == body["head"] and pull["state"] == "open" and pull["own"] for pull in forge.pulls)
        if exists and forge.kind == "gitea":
            return 409, {"message": "pull request already exists for these targets"}
        if forge.kind == "gitea" and not forge.has_branch(body["head"]):
            return 404, {"message": "not found"}
        if exists or not forge.has_branch(body["head"]):
            said = "A pull request already exists for octo:x." if exists else "head is invalid"
            return 422, {"message": "Validation Failed", "errors": [{"code": "custom", "message": said}]}
        draft = body.get("draft", False) if forge.kind == "github" else body["title"].startswith("WIP:")
        pull = forge.new_pull(body["head"], body["base"], body["title"], body.get("body", ""), draft=draft)
        return 201, self._pull(pull)

    op_repocreatepullrequest = op_pulls_create

    def op_pulls_get(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        number = int(given.get("pull_number") or given["index"])
        if not 0 < number <= len(self.forge.pulls):
            return 404, {"message": "Not Found"}
        return 200, self._pull(self.forge.pulls[number - 1])

    op_repogetpullrequest = op_pulls_get

    def op_repogetpullrequestcommits(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        pull = self.forge.pulls[int(given["index"]) - 1]
        [found] = self._example("get", "/pulls/{index}/commits")
        return 200, [found | {"sha": pull.get("merged_head") or self.forge.head(pull)}]

    def op_pulls_request_reviewers(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        number = int(given.get("pull_number") or given["index"])
        if set(body["reviewers"]) - self.forge.people:
            return 422, {"message": "Reviews may only be requested from collaborators."}
        self.forge.pulls[number - 1]["reviewers"] += body["reviewers"]
        return 201, self._pull(self.forge.pulls[number - 1]) if self.forge.kind == "github" else []

    op_repocreatepullreviewrequests = op_pulls_request_reviewers

    def op_issues_add_labels(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        forge = self.forge
        if given.get("index") == "0":
            return 404, {"message": "not found"}
        names = {number: name for name, number in forge.labels.items()}
        found = [names[one] if isinstance(one, int) else one for one in body["labels"]]
        forge.pulls[int(given.get("issue_number") or given["index"]) - 1]["labels"] += found
        return 200, [{"name": name} for name in found]

    op_issueaddlabel = op_issues_add_labels

    def op_issuelistlabels(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        [example] = self._example("get", "/labels")
        rows = [{**example, "id": number, "name": name} for name, number in self.forge.labels.items()]
        return 200, self._page(rows, query)

    def op_checks_list_for_ref(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        found = self._example("get", "/commits/{ref}/check-runs")
        [example] = found["check_runs"]
        words = {"passed": "success", "failed": "failure", "pending": None}
        runs = [
            example
            | {
                "id": one["id"],
                "name": one["name"],
                "status": "completed" if words[one["state"]] else "in_progress",
                "conclusion": words[one["state"]],
                "html_url": f"{self.forge.url}/octo/app/actions/runs/1/job/{one['id']}",
                "output": {"title": one["said"], "summary": "", "text": None},
            }
            for one in self.forge.checks
        ]
        return 200, {"total_count": len(runs), "check_runs": self._page(runs, query)}

    def op_repos_get_combined_status_for_ref(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        return 200, self._example("get", "/commits/{ref}/status") | {"statuses": [], "total_count": 0}

    def op_repogetcombinedstatusbyref(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        found = self._example("get", "/commits/{ref}/status")
        [example] = found["statuses"]
        words = {"passed": "success", "failed": "failure", "pending": "pending"}
        rows = [
            example
            | {"id": one["id"], "context": one["name"], "status": words[one["state"]], "description": one["said"]}
            for one in self.forge.checks
        ]
        return 200, found | {"statuses": self._page(rows, query) or None, "total_count": len(rows)}

    def op_actions_download_job_logs_for_workflow_run(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        return 302, f"{self.forge.url.replace('127.0.0.1', 'localhost')}/logs/{given['job_id']}"

    def op_pulls_list_review_comments(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        [example] = self._example("get", "/pulls/{pull_number}/comments")
        return 200, self._page(
            [example | self._comment(one) | {"line": one["line"]} for one in self.forge.comments], query
        )

    def op_repogetpullreviewcomments(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        [example] = self._example("get", "/pulls/{index}/reviews/{id}/comments")
        return 200, [example | self._comment(one) | {"position": one["line"]} for one in self.forge.comments]

    def op_pulls_list_reviews(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        forge = self.forge
        [example] = self._example("get", "/pulls/{%s}/reviews" % ("pull_number" if forge.kind == "github" else "index"))
        rows = [
            example
            | {"id": one["id"], "body": one["body"], "state": one["state"], "user": {"login": one["author"]}}
            | ({"comments_count": 0} if forge.kind == "gitea" else {})
            for one in forge.reviews
        ]
        if forge.kind == "gitea" and forge.comments:
            rows.append(example | {"id": 699, "body": "", "comments_count": len(forge.comments)})
        return 200, self._page(rows, query)

    op_repolistpullreviews = op_pulls_list_reviews

    def op_issues_list_for_repo(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        forge, label = self.forge, query["labels"]
        ignored = forge.kind == "gitea" and label not in forge.labels  # it then gives all of them
        return 200, self._page([self._issue(one) for one in forge.issues if ignored or label in one["labels"]], query)

    op_issuelistissues = op_issues_list_for_repo

    def op_issues_get(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        number = int(given.get("issue_number") or given["index"])
        found = next((self._issue(one) for one in self.forge.issues if one["number"] == number), None)
        if found is None and 0 < number <= len(self.forge.pulls):
            found = {"number": number, "title": "A pull request", "pull_request": {"merged": False}}
        return (200, found) if found else (404, {"message": "Not Found"})

    op_issuegetissue = op_issues_get

    def op_issues_create_comment(self, given: Any, query: Any, body: Any) -> tuple[int, Any]:
        self.forge.written.append((int(given.get("issue_number") or given["index"]), body["body"]))
        return 201, {"id": 1, "body": body["body"]}

    op_issuecreatecomment = op_issues_create_comment

    def _page(self, rows: list[Any], query: dict[str, str]) -> list[Any]:
        size, page = int(query.get("per_page") or query.get("limit") or 30), int(query.get("page") or 1)
        size, self.total = min(size, LONGEST_PAGE[self.forge.kind]), len(rows)
        return rows[(page - 1) * size : page * size]

    def _pull(self, pull: dict[str, Any]) -> dict[str, Any]:
        name = "pull_number" if self.forge.kind == "github" else "index"
        commit, merged = self.forge.head(pull), pull["merged"]
        return self._example("get", f"/pulls/{{{name}}}") | {
            "number": pull["number"],
            "html_url": f"{self.forge.url}/octo/app/pull/{pull['number']}",
            "title": pull["title"],
            "body": pull["body"],
            "state": pull["state"],
            "draft": pull["draft"],
            "merged": merged,
            "merged_at": "2026-01-01T00:00:00Z" if merged else None,
            # GitHub names a test merge here while the pull request is open.
            "merge_commit_sha": pull["merge_commit"] or "e" * 40,
            "head": self._end(pull, "head", commit),
            "base": self._end(pull, "base", "b" * 40),
        }

    def _end(self, pull: dict[str, Any], end: str, commit: str) -> dict[str, Any]:
        """Where a pull request comes from or goes to."""
        name = pull[end]
        if self.forge.kind == "github":
            return {"label": f"octo:{name}", "ref": name, "sha": commit}
        gone = end == "head" and not (pull["own"] and self.forge.has_branch(name))
        ref = f"refs/pull/{pull['number']}/head" if gone else name
        return {"label": name, "ref": ref, "sha": commit, "repo_id": 1 if end == "base" or pull["own"] else 2}

    def _comment(self, one: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.forge.url}/octo/app/pull/1#comment-{one['id']}"
        return {
            "id": one["id"], "body": one["body"], "path": one["path"], "html_url": url, "user": {"login": one["author"]},
        }  # fmt: skip

    def _issue(self, one: dict[str, Any]) -> dict[str, Any]:
        name = "issue_number" if self.forge.kind == "github" else "index"
        found = self._example("get", f"/issues/{{{name}}}")
        found.pop("pull_request", None)
        labels = [{"id": self.forge.labels.get(label, 1), "name": label} for label in one["labels"]]
        return found | {
            "number": one["number"],
            "title": one["title"],
            "body": one["body"],
            "labels": labels,
            "html_url": f"{self.forge.url}/octo/app/issues/{one['number']}",
        }

    def _example(self, method: str, path: str) -> Any:
        """The answer that the description gives as an example."""
        responses = self.forge.description["paths"][f"/repos/{{owner}}/{{repo}}{path}"][method]["responses"]
        return copy.deepcopy(next(one["example"] for one in responses.values() if "example" in one))


def _name(operation: str) -> str:
    return operation.replace("/", "_").replace("-", "_").lower()


def _missing_scope(lacks: str, path: str) -> str:
    """The scope that a change needs, when the token is without it."""
    needed = "write:issue" if "/issues" in path else "write:repository"
    return needed if needed in lacks else ""


def _wrong(operation: Any, given: dict[str, str], query: dict[str, str], raw: bytes, content: str) -> str:
    """What of a request does not fit its description; empty when all does."""
    known = {(one["in"], one["name"]): one for one in operation["parameters"]}
    for place, values in (("path", given), ("query", query)):
        for name, value in values.items():
            parameter = known.get((place, name))
            if parameter is None:
                return f"no {place} parameter {name}"
            schema = parameter["schema"]
            numeric = schema.get("type") == "integer"
            if numeric and not value.isdecimal():
                return f"{name} is no number"
            meant = {"true": True, "false": False}.get(value, value) if schema.get("type") == "boolean" else value
            try:
                jsonschema.validate(int(value) if numeric else meant, schema)
            except jsonschema.ValidationError as error:
                return f"{name}: {error.message}"
    if missing := [
        name for (place, name), one in known.items() if one.get("required") and name not in {**given, **query}
    ]:
        return f"without {missing}"
    described = operation.get("requestBody")
    if described is None:
        return "a body that nobody reads" if raw else ""
    if not content.startswith("application/json"):
        return f"a body of the type {content!r}"
    schema = described["content"]["application/json"]["schema"]
    closed = schema if "oneOf" in schema else {**schema, "additionalProperties": False}
    try:
        jsonschema.validate(json.loads(raw), closed)
    except (ValueError, jsonschema.ValidationError) as error:
        return str(error)[:300]
    return ""


class Server(ThreadingHTTPServer):
    """A server on a port of its own, whose handlers find the forge that they answer for."""

    daemon_threads = True

    def __init__(self, forge: ForgeServer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.forge = forge


@contextmanager
def forge_server(kind: str, remote: Path | None = None, **state: Any) -> Iterator[ForgeServer]:
    """A running forge; it fails when a request did not fit the description."""
    forge = ForgeServer(kind, remote, **state)
    server = Server(forge)
    forge.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield forge
        assert forge.problems == []
    finally:
        forge.halt.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
