"""The forges' REST interfaces, against a local server that holds each request against the published description."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.real.forge_faults import drip, hang, html, huge, limited, status
from tests.real.forge_server import REPOSITORY, TOKEN
from tests.repositories import git, make_repository
from workspaces.forge import http
from workspaces.forge.base import ForgeError, NewPull, NotThere, Refused
from workspaces.forge.gitea import Gitea
from workspaces.forge.github import GitHub

NEW = NewPull("studio/demo-1", "main", "Add a farewell", "Politely.")


@pytest.fixture
def branch(forge):
    """A branch of the remote to propose; its commit."""
    folder = make_repository()
    git(folder, "push", "-q", str(forge.remote), f"main:refs/heads/{NEW.head}")
    return git(folder, "rev-parse", "HEAD").strip()


def test_check_access__says_what_is_there(client):
    access = client.check_access()
    assert (access.repository, access.default_branch, access.problems) == (REPOSITORY, "main", ())


def test_check_access__says_what_is_missing(forge, client):
    forge.may_push = False
    assert "write" in client.check_access().problems[0]
    wrong = type(client)(client._client.base_url, REPOSITORY, "another-token")
    [problem] = wrong.check_access().problems
    assert "does not accept the token" in problem
    assert "another-token" not in problem
    [problem] = type(client)(client._client.base_url, "octo/other", TOKEN).check_access().problems
    assert "may not see it" in problem


def test_check_access__an_archived_repository_takes_nothing(forge, client):
    forge.archived = True
    [problem] = client.check_access().problems
    assert "archived" in problem


@pytest.mark.parametrize("scope", ["write:repository", "write:issue"])
def test_check_access__gitea_token_without_a_scope(scope):
    from tests.real.forge_server import forge_server

    with forge_server("gitea", lacks=scope) as running:
        [problem] = Gitea(f"{running.url}/api/v1", REPOSITORY, TOKEN).check_access().problems
        assert running.pulls == []
    assert f"required=[{scope}]" in problem


def test_check_access__classic_token_without_scope():
    from tests.real.forge_server import forge_server

    with forge_server("github", scopes="gist") as running:
        [problem] = GitHub(f"{running.url}/api/v3", REPOSITORY, TOKEN).check_access().problems
    assert "scope “repo”" in problem


def test_create__and_find_again(forge, client, branch):
    assert client.find(NEW.head, branch) is None
    pull = client.create(NEW)
    assert (pull.number, pull.state, pull.draft, pull.title, pull.base) == (1, "open", False, NEW.title, "main")
    assert pull.head_commit == branch
    assert pull.merge_commit == ""
    assert client.find(NEW.head, branch) == pull == client.pull(1)
    with pytest.raises(Refused) as caught:
        client.create(NEW)
    assert "already exists" in caught.value.message
    forge.close(1)
    assert client.find(NEW.head, branch) is None  # it may be proposed anew
    forge.pulls[0]["state"] = "open"
    commit = forge.merge(1)
    assert client.find(NEW.head, branch).state == "merged"
    assert client.find(NEW.head, "0" * 40) is None
    assert (client.pull(1).state, client.pull(1).merge_commit) == ("merged", commit)
    forge.delete_branch(NEW.head)
    assert client.find(NEW.head, branch).state == "merged"


def test_find__not_the_same_name_in_somebodys_copy_of_the_repository(forge, client, branch):
    if forge.kind == "github":
        return  # which is asked for the owner's own branch
    forge.copy(NEW.head, branch)
    assert client.find(NEW.head, branch) is None
    pull = client.create(NEW)
    assert client.find(NEW.head, branch) == pull


def test_create__without_one_of_the_branches(client):
    with pytest.raises(Refused):
        client.create(NEW)


def test_create__draft(forge, client, branch):
    pull = client.create(NewPull(NEW.head, "main", "T", "", draft=True))
    assert (pull.draft, pull.title) == (True, "T")
    assert forge.pulls[0]["draft"]


def test_decorate__asks_who_can_be_asked(forge, client, branch):
    client.create(NEW)
    notes = client.decorate(1, ["ada", "nobody"], ["bug", "studio"])
    assert forge.pulls[0]["reviewers"] == ["ada"]
    assert forge.pulls[0]["labels"] == ["bug", "studio"]
    [note] = notes
    assert note.startswith("nobody was not asked to review.")


def test_checks__in_four_words(forge, client, branch):
    client.create(NEW)
    forge.check("build", "passed")
    forge.check("test", "failed", log="boom", said="1 test failed")
    forge.check("lint", "pending")
    found = {check.name: check.state for check in client.checks(branch)}
    assert found == {"build": "passed", "test": "failed", "lint": "pending"}
    for number in range(60):
        forge.check(f"more-{number}", "failed" if number == 59 else "passed")
    found = {check.name: check.state for check in client.checks(branch)}
    assert (len(found), found["more-59"]) == (63, "failed")


def test_log__is_the_end_of_a_long_one_without_control_codes(forge, client, branch):
    client.create(NEW)
    forge.check("test", "failed", log="x" * 300_000 + "\n\x1b[31mFAILED\x1b[0m\x00", said="1 test failed")
    [check] = client.checks(branch)
    log = client.log(check)
    if forge.kind == "gitea":
        assert log == "1 test failed"
        return
    assert log.endswith("\nFAILED")
    assert len(log) < http.TAIL_LIMIT + 1
    assert forge.asked("GET", "/logs/") == 1


def test_comments__of_lines_and_of_the_whole(forge, client, branch):
    client.create(NEW)
    forge.comment("Rename this.\r\nPlease.", path="app.py", line=3)
    forge.remark("Almost there.")
    found = {comment.author: comment for comment in client.comments(1)}
    assert (found["ada"].path, found["ada"].line, found["ada"].body) == ("app.py", 3, "Rename this.\nPlease.")
    assert (found["grace"].path, found["grace"].line, found["grace"].body) == ("", None, "Almost there.")
    assert len({comment.id for comment in found.values()}) == 2


def test_comments__more_than_a_page(forge, client, branch):
    client.create(NEW)
    for number in range(130):
        forge.remark(f"Remark {number}")
    forge.comment("The newest line.")
    found = [comment.body for comment in client.comments(1)]
    assert len(found) == 131
    assert "The newest line." in found


def test_comments__not_what_is_still_being_written(forge, client, branch):
    client.create(NEW)
    forge.remark("Half a thou", state="PENDING")
    assert client.comments(1) == []


def test_issues__one_or_by_label(forge, client, branch):
    forge.issue(12, "It crashes", "Always.", "bug")
    forge.issue(13, "It is slow", "", "speed")
    assert client.issue(12).title == "It crashes"
    assert client.issue(12).labels == ("bug",)
    assert [issue.number for issue in client.issues("bug")] == [12]
    assert client.issues("nobody has this one") == []
    for number in range(20, 80):
        forge.issue(number, "One of many", "", "studio")
    assert len(client.issues("studio")) == 60
    with pytest.raises(NotThere):
        client.issue(99)
    client.create(NEW)
    with pytest.raises(NotThere) as caught:
        client.issue(1)
    assert "pull request" in caught.value.message


def test_comment__is_written(forge, client, branch):
    client.create(NEW)
    client.comment(1, "Thanks.")
    assert forge.written == [(1, "Thanks.")]


@pytest.mark.parametrize(
    ("fault", "code", "transient", "words"),
    [
        (status(401, {"message": "Bad credentials"}), "forge_unauthorised", False, "Bad credentials"),
        (status(403, {"message": "Not for you"}), "forge_forbidden", False, "Not for you"),
        (status(404, {"message": "Not Found"}), "forge_not_found", False, "may not see"),
        (status(422, {"message": "No", "errors": [{"message": "head is invalid"}]}), "forge_refused", False, "head is"),
        (status(500), "forge_failed", True, "failed (500)"),
        (status(502, None), "forge_failed", True, "failed (502)"),
        (html, "forge_answer", False, "Is the address right?"),
        (huge, "forge_answer", False, "more than"),
        (status(301, {}, Location="https://elsewhere.invalid/x"), "forge_moved", False, "elsewhere.invalid"),
        (status(200, [1, {"a": None}]), "", False, ""),
    ],
    ids=["401", "403", "404", "422", "500", "502", "html", "100 MB", "redirect", "strange JSON"],
)
def test_fault__has_a_sentence(forge, client, fault, code, transient, words):
    forge.fault("/pulls/1", fault)
    if not code:
        assert client.pull(1).number == 0
        return
    with pytest.raises(ForgeError) as caught:
        client.pull(1)
    assert (caught.value.code, caught.value.transient) == (code, transient)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (status(429, {"message": "Slow down"}, Retry_After="90"), 90),
        (limited, 600),
        (status(429, {}), 60),
        (status(429, {}, Retry_After="99999999999999"), 60),
        (status(429, {}, Retry_After="9999999"), 7200),
    ],
    ids=["retry-after", "reset", "nothing said", "nonsense", "far too long"],
)
def test_rate_limit__says_when(forge, client, fault, seconds):
    forge.fault("/pulls/1", fault)
    with pytest.raises(ForgeError) as caught:
        client.pull(1)
    assert (caught.value.code, caught.value.transient) == ("forge_limited", True)
    assert abs(caught.value.retry_at - timezone.now() - timedelta(seconds=seconds)) < timedelta(seconds=30)


@pytest.mark.parametrize("fault", [hang, drip], ids=["hanging", "dripping"])
def test_slow__is_given_up(forge, client, fault, monkeypatch):
    monkeypatch.setattr(http, "READ_SECONDS", 0.3)
    monkeypatch.setattr(http, "TOTAL_SECONDS", 0.5)
    forge.fault("/pulls/1", fault)
    with pytest.raises(ForgeError) as caught:
        client.pull(1)
    assert (caught.value.code, caught.value.transient) == ("forge_unreachable", True)


def test_nobody_there__is_said():
    with pytest.raises(ForgeError) as caught:
        GitHub("http://127.0.0.1:9/api/v3", REPOSITORY, TOKEN).pull(1)
    assert caught.value.transient
    assert "cannot be reached" in caught.value.message


def test_token__is_in_no_error(forge, client):
    said = {"message": f"Bad token {TOKEN} (Authorization: Bearer {TOKEN})\x1b[2J\x00"}
    forge.fault("/pulls/1", status(403, said))
    with pytest.raises(ForgeError) as caught:
        client.pull(1)
    assert TOKEN not in caught.value.message
    assert "\x1b" not in caught.value.message
    assert "[redacted]" in caught.value.message


def test_netrc__is_not_looked_into(forge, client, branch, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setattr(http, "is_loopback", lambda _: False)
    monkeypatch.setenv("NO_PROXY", "*")
    assert client.create(NEW).number == 1


def test_log__elsewhere_inside_the_network_is_not_fetched(forge, client, branch, monkeypatch):
    if forge.kind == "gitea":
        return
    client.create(NEW)
    forge.check("test", "failed")
    [check] = client.checks(branch)
    for target in ("http://127.0.0.1:1/x", "https://127.0.0.2/x", "file:///etc/passwd", "https://10.0.0.1/x"):
        forge.fault("/actions/jobs/", status(302, {}, Location=target))
        with pytest.raises(ForgeError), monkeypatch.context() as patch:
            patch.setattr(http, "is_loopback", lambda url: url.startswith(forge.url))
            client.log(check)
    assert forge.asked("GET", "/logs/") == 0


def test_gitea__says_pull_requests_are_off():
    from tests.real.forge_server import forge_server

    with forge_server("gitea") as running:
        running.fault(
            "/repos/octo/app",
            status(200, {"full_name": "octo/app", "has_pull_requests": False, "permissions": {"push": True}}),
        )
        [problem] = Gitea(f"{running.url}/api/v1", REPOSITORY, TOKEN).check_access().problems
    assert "turned off" in problem
