"""The whole story of a forge against a real Gitea. `make forge` runs it; the ordinary suite does not, because Gitea is built first.

What was learned here about Gitea's answers is what tests/real/forge_server.py does for the ordinary suite.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.kernel.clock import later
from tasks.choices import Needs, RunState, Status
from tasks.models import Finding
from tasks.services import issues, pull_requests
from tests.forges import description
from tests.forges.scene import BRANCH, NEW, SCOPES, Place, numbers
from tests.real.gitea import VERSION, gitea, source
from tests.repositories import git
from tests.tasks.pipeline import Pipeline
from tests.workspaces.contract.conftest import KINDS, require_jj
from tests.workspaces.contract.world import make_world
from workspaces.forge.addresses import push_header
from workspaces.forge.base import ForgeError, NewPull, NotThere, Refused
from workspaces.forge.connections import check_connection, save_connection
from workspaces.models import PullRequest, PullRequestState
from workspaces.services import sync_pull_request
from workspaces.vcs.base import Raced, VcsError


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A running Gitea."""
    with gitea(tmp_path_factory.mktemp("gitea")) as running:
        yield running


@pytest.fixture
def place(server):
    return Place(server)


@pytest.fixture
def proposed(place):
    """A repository with an open pull request."""
    place.push()
    place.client().create(NEW)
    return place


def test_check_access__says_what_is_missing(place, server):
    access = place.client().check_access()
    assert (access.repository, access.default_branch, access.problems) == (place.repository, "main", ())
    for lacking in SCOPES:
        [has] = set(SCOPES) - {lacking}
        problems = place.client(server.token("octo", has, "read:repository", "read:issue")).check_access().problems
        assert [f"required=[{lacking}]" in problem for problem in problems] == [True]
    [problem] = place.client("wrong").check_access().problems
    assert "does not accept the token" in problem
    for unseen in (place.client(""), place.client(repository="octo/nothing")):
        assert "may not see it" in unseen.check_access().problems[0]
    assert place.ask("GET", "/pulls?state=all") == []
    assert place.ask("GET", "/issues?state=all") == []


def test_check_access__of_a_repository_that_takes_none(place):
    place.ask("PATCH", "", {"has_pull_requests": False})
    assert "turned off" in place.client().check_access().problems[0]
    place.ask("PATCH", "", {"archived": True})
    assert any("archived" in problem for problem in place.client().check_access().problems)
    with pytest.raises(VcsError, match="an archived one takes nothing"):
        place.push()


def test_renamed__says_where_to(place):
    place.ask("PATCH", "", {"name": "another-name"})
    [problem] = place.client().check_access().problems
    assert "octo/another-name" in problem
    with pytest.raises(VcsError, match="Give the remote its present address"):
        place.push()


def test_push__refused(place, server):
    place.push()
    withdrawn = server.token("octo", *SCOPES)
    place.push(token=withdrawn)
    server.withdraw("octo", withdrawn)
    for token, words in (
        ("some-other-token", "does not accept the token"),
        (withdrawn, "does not accept the token"),
        (server.token("octo", "read:repository"), "may not write there"),
        (server.token("ada", "read:repository"), "may not write there"),
    ):
        with pytest.raises(VcsError, match=words) as caught:
            place.push(token=token)
        assert token not in caught.value.message
    with pytest.raises(Raced):
        place.push(commit="main")
    with pytest.raises(Raced):
        place.push(commit="main", expected="")
    place.ask("POST", "/branch_protections", {"rule_name": "main", "enable_push": False})
    with pytest.raises(VcsError, match="protected branch"):
        place.push("main")


@pytest.mark.parametrize("kind", KINDS)
def test_push__from_each_version_control_system(place, tmp_path, kind):
    if kind != "git":
        require_jj()
    world = make_world(kind, tmp_path)
    one = world.commit(world.checkout(), {"one.txt": "1\n"})
    header = push_header(f"{place.server.url}/api/v1", place.url, place.token)
    world.vcs.push(world.repository, place.url, one, "studio/other", expected="", header=header)
    assert place.ask("GET", "/branches/studio%2Fother")["commit"]["id"] == one


def test_create__once_and_find_it_again(place):
    client = place.client()
    with pytest.raises(Refused, match="both branches"):
        client.create(NEW)
    place.push()
    assert client.find(BRANCH, place.first) is None
    with pytest.raises(ForgeError, match="required"):
        place.client(place.server.token("octo", "read:repository")).create(NEW)
    pull = client.create(NewPull(BRANCH, "main", "T", "B", draft=True))
    assert (pull.number, pull.state, pull.draft, pull.title, pull.head_commit) == (1, "open", True, "T", place.first)
    with pytest.raises(Refused, match="already exists"):
        client.create(NEW)
    assert client.find(BRANCH, place.first) == client.pull(1) == pull
    place.ask("PATCH", "/pulls/1", {"title": "T"})
    assert not client.pull(1).draft
    commit = place.server.merge(place.repository, 1, delete=True)
    merged = client.pull(1)
    assert (merged.state, merged.merge_commit, merged.head) == ("merged", commit, BRANCH)
    assert client.find(BRANCH, place.first) == merged
    assert client.find(BRANCH, "0" * 40) is None


def test_find__not_the_same_name_in_somebodys_copy(place, server):
    copy = f"copy-{next(numbers)}"
    ada = server.token("ada", "all")
    server.ask("POST", f"/repos/{place.repository}/forks", {"name": copy}, token=ada)
    url = f"{server.url}/ada/{copy}.git".replace("://", f"://ada:{ada}@")
    server.await_content(f"ada/{copy}")
    git(place.folder, "push", "-q", url, f"HEAD:refs/heads/{BRANCH}")
    place.ask("POST", "/pulls", {"title": "Mine", "head": f"ada:{BRANCH}", "base": "main"}, token=ada)
    assert place.client().find(BRANCH, place.first) is None
    place.push()
    assert place.client().find(BRANCH, place.first) is None
    ours = place.client().create(NEW)
    assert place.client().find(BRANCH, place.first) == ours


def test_decorate__asks_who_can_be_asked(proposed):
    proposed.ask("POST", "/labels", {"name": "bug", "color": "#ff0000"})
    notes = proposed.client().decorate(1, ["ada", "nobody"], ["bug", "none"])
    assert notes[0].startswith("nobody was not asked to review.")
    assert notes[1:] == ["The forge has no label none."]
    assert proposed.client().decorate(1, ["ada"], ["bug"]) == []
    found = proposed.ask("GET", "/pulls/1")
    assert [one["login"] for one in found["requested_reviewers"]] == ["ada"]
    assert [one["name"] for one in found["labels"]] == ["bug"]


def test_checks__newest_of_each_and_more_than_a_page(proposed):
    client = proposed.client()
    assert client.checks(proposed.first) == []
    for state in ("success", "failure", "pending", "error", "warning", "skipped"):
        body = {
            "state": state,
            "context": f"c-{state}",
            "description": f"It says {state}",
            "target_url": "https://ci.invalid",
        }
        proposed.ask("POST", f"/statuses/{proposed.first}", body)
    found = {check.name.removeprefix("c-"): check.state for check in client.checks(proposed.first)}
    assert found == {
        "success": "passed", "failure": "failed", "pending": "pending", "error": "failed", "warning": "neutral",
        "skipped": "neutral",
    }  # fmt: skip
    proposed.ask("POST", f"/statuses/{proposed.first}", {"state": "success", "context": "c-failure"})
    [again] = [check for check in client.checks(proposed.first) if check.name == "c-failure"]
    assert again.state == "passed"
    for number in range(55):
        proposed.ask("POST", f"/statuses/{proposed.first}", {"state": "success", "context": f"more-{number}"})
    assert len(client.checks(proposed.first)) == 61


def test_comments__of_lines_and_of_the_whole_but_no_drafts(proposed, server):
    ada, grace = server.token("ada", "all"), server.token("grace", "all")
    lines = [
        {"path": "app.py", "body": "Rename.\r\nPlease.", "new_position": 17},
        {"path": "app.py", "body": "The old one", "old_position": 1},
    ]
    proposed.ask("POST", "/pulls/1/reviews", {"body": "All of it.", "event": "COMMENT", "comments": lines}, token=ada)
    proposed.ask("POST", "/pulls/1/reviews", {"body": "No.", "event": "REQUEST_CHANGES"}, token=grace)
    half = [{"path": "app.py", "body": "Half a thou", "new_position": 3}]
    proposed.ask("POST", "/pulls/1/reviews", {"body": "Hm", "event": "PENDING", "comments": half}, token=grace)
    found = {comment.body: (comment.author, comment.path, comment.line) for comment in proposed.client().comments(1)}
    assert found == {
        "All of it.": ("ada", "", None),
        "Rename.\nPlease.": ("ada", "app.py", 17),
        "The old one": ("ada", "app.py", 1),
        "No.": ("grace", "", None),
    }
    proposed.client().comment(1, "Thanks.")
    assert [one["body"] for one in proposed.ask("GET", "/issues/1/comments")] == ["Thanks."]


def test_issues__one_or_by_a_label_that_exists(proposed):
    label = proposed.ask("POST", "/labels", {"name": "bug", "color": "#ff0000"})["id"]
    for number in range(55):
        proposed.ask("POST", "/issues", {"title": f"Crash {number}", "body": "Always.", "labels": [label]})
    proposed.ask("POST", "/issues", {"title": "Another"})
    client = proposed.client()
    assert (client.issue(2).title, client.issue(2).labels) == ("Crash 0", ("bug",))
    assert len(client.issues("bug")) == 55
    assert client.issues("no such label") == []
    for number in (1, 999):
        with pytest.raises(NotThere):
            client.issue(number)


def test_description__is_the_fixtures_and_real_answers_fit_it(place):
    place.one_of_everything()
    known = description.read()
    for path, answer in description.answers(place.ask, place.first).items():
        operation = known["paths"][path]["get"]
        assert description.misfits(known, operation["responses"], 200, answer) == "", path
        assert operation["responses"]["200"].pop("example")
    assert known == description.reduced(source(), VERSION)


@pytest.fixture
def ready(server, db, owner):
    """A task in review of a project that is connected to Gitea, over http and with a token."""
    pipeline = Pipeline()
    project = pipeline.task.project
    repository = server.repository(f"task-{next(numbers)}")
    url = f"{server.url}/{repository}.git"
    git(project.path, "push", "-q", url.replace("://", f"://octo:{server.admin}@"), "main")
    server.await_content(repository)
    git(project.path, "remote", "add", "origin", url)
    token = server.token("octo", *SCOPES)
    more = {"token": token, "reviewers": ["ada"], "labels": ["bug"]}
    save_connection(actor=owner, project=project, kind="gitea", base_url=server.url, repository=repository, **more)
    assert check_connection(actor=owner, project=project).problems == ()
    pipeline.to_review()
    return pipeline, repository


def sync() -> PullRequest:
    """The job, due now, and what follows from it."""
    row = PullRequest.objects.get()
    PullRequest.objects.filter(pk=row.pk, next_sync_at__isnull=False).update(next_sync_at=later(-1))
    sync_pull_request(row.pk)
    pull_requests.advance_pull_request(row.pk)
    row.refresh_from_db()
    return row


def test_story__from_the_task_to_the_merge_on_the_forge(ready, server, owner):
    pipeline, repository = ready
    ada = server.token("ada", "all")
    pipeline.act("complete", how="pull_request")
    row = sync()
    assert (row.state, row.number, row.error) == (PullRequestState.OPEN, 1, "")
    assert row.note == "The forge has no label bug."
    found = server.ask("GET", f"/repos/{repository}/pulls/1")
    assert (found["title"], found["head"]["ref"]) == ("Add a farewell", pipeline.task.workspace.branch)
    assert pipeline.shown == (Status.REVIEW, RunState.WAITING, Needs.PULL_REQUEST, "")

    line = {"path": "goodbye.py", "body": "Say it twice.", "new_position": 1}
    body = {"body": "Almost.", "event": "COMMENT", "comments": [line]}
    server.ask("POST", f"/repos/{repository}/pulls/1/reviews", body, token=ada)
    status = {"state": "failure", "context": "tests", "description": "1 test failed"}
    server.ask("POST", f"/repos/{repository}/statuses/{row.head_commit}", status)
    assert sync().checks_state == "failed"
    pull_requests.answer_comments(actor=owner, task_ref=pipeline.task)
    assert {finding.title for finding in Finding.objects.all()} == {"ada: Say it twice.", "ada: Almost."}
    pipeline.begin()
    pipeline.write("goodbye.py", "print('bye bye')\n")
    pipeline.settle(result_text="Twice.")
    pipeline.review()
    row = sync()
    raw = server.ask("GET", f"/repos/{repository}/contents/goodbye.py?ref={row.head_commit}")
    assert raw["size"] == len("print('bye bye')\n")
    assert row.number == 1

    commit = server.merge(repository, 1, delete=True)
    row = sync()
    assert (row.state, row.merge_commit) == (PullRequestState.MERGED, commit)
    assert pipeline.shown[0] == Status.DONE
    assert pipeline.task.completed_commit == commit
    assert token_is_nowhere(pipeline, row)


def token_is_nowhere(pipeline: Pipeline, row: PullRequest) -> bool:
    """Whether the repository's settings are without the token that was used."""
    from studio.kernel.secretbox import unseal
    from workspaces.forge.connections import require_connection

    token = unseal(require_connection(pipeline.task.project).sealed_token)
    config = (Path(pipeline.task.project.path) / ".git" / "config").read_text()
    return token not in config + row.error + row.note + pipeline.task.reason


def test_issues__become_tasks(ready, server, owner):
    pipeline, repository = ready
    label = server.ask("POST", f"/repos/{repository}/labels", {"name": "studio", "color": "#00ff00"})["id"]
    server.ask("POST", f"/repos/{repository}/issues", {"title": "It crashes", "body": "Always.", "labels": [label]})
    assert issues.import_issues(actor=owner, project=pipeline.task.project, label="no such label") == []
    [done] = issues.import_issues(actor=owner, project=pipeline.task.project, label="studio")
    assert done.task.title == "It crashes"
    [again] = issues.import_issues(actor=owner, project=pipeline.task.project, issue=done.issue.url)
    assert (again.task, again.created) == (done.task, False)
