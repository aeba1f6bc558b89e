"""A task of a project that is connected to a forge on loopback."""

from __future__ import annotations

import pytest

from tests.real.forge_server import GIT, REPOSITORY, TOKEN, forge_server
from tests.repositories import git
from tests.tasks.pull_requests.syncing import sync
from workspaces.forge.connections import save_connection


@pytest.fixture
def forge(request, tmp_path):
    remote = tmp_path / "remote.git"
    remote.mkdir()
    git(remote, "init", "-q", "--bare", "-b", "main")
    with forge_server(getattr(request, "param", "github"), remote) as running:
        yield running


@pytest.fixture
def ready(pipeline, forge, owner):
    """A task in review of a project that is connected to the forge."""
    project = pipeline.task.project
    git(project.path, "push", "-q", str(forge.remote), "main")
    git(project.path, "remote", "add", "origin", f"{forge.url}{GIT}")
    save_connection(
        actor=owner,
        project=project,
        kind=forge.kind,
        base_url=forge.url,
        repository=REPOSITORY,
        token=TOKEN,
        reviewers=["ada"],
        labels=["bug"],
    )
    pipeline.to_review()
    return pipeline


@pytest.fixture
def proposed(ready):
    """A task whose pull request is open."""
    ready.act("complete", how="pull_request")
    sync()
    return ready


@pytest.fixture
def bells(requested_jobs, django_capture_on_commit_callbacks):
    """The jobs that a sweeper rings for."""

    def rung(sweeper):
        requested_jobs.clear()
        with django_capture_on_commit_callbacks(execute=True):
            sweeper()
        return list(requested_jobs)

    return rung
