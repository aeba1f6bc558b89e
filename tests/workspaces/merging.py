"""Work in a workspace, its merge, and looks at what the repository has then."""

from __future__ import annotations

from pathlib import Path

from tests.factories import git
from workspaces.services import commit_left, request_merge, run_merge


def merge(workspace, how="merge", actor=None, message="Add it\n\nTask: DEMO-1"):
    attempt = request_merge(workspace=workspace, how=how, message=message, actor=actor)
    run_merge(attempt.pk)
    attempt.refresh_from_db()
    return attempt


def work(workspace, files, message="Work"):
    for name, text in files.items():
        path = Path(workspace.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return commit_left(workspace, message=message, author_name="agent")


def tree(folder, commit):
    return git(folder, "rev-parse", f"{commit}^{{tree}}").strip()


def parents(folder, commit="trunk"):
    return git(folder, "log", "-1", "--format=%P", commit).split()


def clean_at(folder, branch="trunk"):
    """The checkout is on the branch and shows exactly its commit."""
    return (
        git(folder, "status", "--porcelain") == ""
        and git(folder, "branch", "--show-current").strip() == branch
        and git(folder, "write-tree").strip() == tree(folder, branch)
    )
