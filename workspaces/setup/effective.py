"""What holds for a project or a checkout: what people set, overridden by the file of a repository that is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.kernel.errors import Invalid
from workspaces.models import Project, ProjectSetup, Workspace
from workspaces.setup.config import NAMES, Setup
from workspaces.setup.repository import RepositoryFile, read_file
from workspaces.vcs import vcs_named

DEFAULT, DATABASE, FILE = "default", "settings", "repository"


@dataclass(frozen=True, slots=True)
class Effective:
    """The values that hold, and for each where it comes from. `error`: the file cannot be used, so nothing should run."""

    setup: Setup
    sources: dict[str, str]
    file: RepositoryFile
    trusted: bool
    commit: str

    @property
    def error(self) -> str:
        """Why the repository's file cannot be used; empty when it can, or does not count."""
        return self.file.error if self.trusted else ""


def stored_values(project: Project) -> dict[str, Any]:
    """What people set, complete with defaults."""
    return _values(ProjectSetup.objects.filter(project=project).first() or ProjectSetup())


def _values(row: ProjectSetup) -> dict[str, Any]:
    return {name: getattr(row, name) for name in NAMES}


def _setup(values: dict[str, Any]) -> Setup:
    return Setup(**{**values, "copy": tuple(values["copy"]), "link": tuple(values["link"])})


def effective_for(project: Project, commit: str | None = None) -> Effective:
    """What holds for checkouts that begin at `commit`, or at the tip of the default branch. Raises Upstream."""
    base = commit or vcs_named(project.vcs).tip(Path(project.path), project.default_branch) or ""
    file = read_file(project, base) if base else RepositoryFile({})
    stored, usual = stored_values(project), _values(ProjectSetup())
    used = file.values if project.trusted else {}
    sources = {name: FILE if name in used else DATABASE if stored[name] != usual[name] else DEFAULT for name in NAMES}
    return Effective(_setup({**stored, **used}), sources, file, project.trusted, base)


def setup_of(workspace: Workspace) -> Setup:
    """What holds in a checkout. Raises Invalid when the repository's file cannot be used, and Upstream.

    The file is not even looked at while the project is not trusted: then this costs one query.
    """
    project = workspace.project
    if project.trusted:
        found = effective_for(project, workspace.base_commit or None)
        if found.error:
            raise Invalid(found.error, code="setup_invalid")
        return found.setup
    return _setup(stored_values(project))
