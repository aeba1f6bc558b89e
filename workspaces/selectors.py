"""Who may see which project, and as what."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.contrib.auth.models import PermissionsMixin
from django.db.models import QuerySet

from studio.kernel.errors import Forbidden, NotFound
from studio.kernel.permissions import Role, at_least
from workspaces.models import MergeState, Project, ProjectMembership, PullRequestState, Workspace

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser

NO_PROJECT = "There is no such project."
REGISTER = "workspaces.add_project"  # a permission of Django's, given to accounts or groups in the admin
NO_REGISTERING = (
    "Your account may not register repositories. Ask a superuser of this studio to register one and make you a member, or to "
    f"give you the permission {REGISTER} in the admin."
)


def projects_visible_to(user: Person) -> QuerySet[Project]:
    """The projects of which `user` is a member; all of them for a superuser, none for somebody who is not signed in."""
    if not user.is_authenticated:
        return Project.objects.none()
    if getattr(user, "is_superuser", False):
        return Project.objects.all()
    # A subquery instead of a join: the result can be filtered and counted without doubles.
    return Project.objects.filter(pk__in=ProjectMembership.objects.filter(user_id=user.pk).values("project_id"))


def role_in(user: Person, project: Project) -> Role | None:
    """What `user` is in `project`; None when the person may not know that it exists."""
    if not user.is_authenticated:
        return None
    if getattr(user, "is_superuser", False):
        return Role.OWNER
    role = ProjectMembership.objects.filter(project=project, user_id=user.pk).values_list("role", flat=True).first()
    return Role(role) if role is not None else None


def roles_in(user: Person, projects: Iterable[Project]) -> dict[uuid.UUID, Role]:
    """What `user` is in each of `projects`, as far as the person may see them, in one query."""
    if getattr(user, "is_superuser", False):
        return dict.fromkeys((project.pk for project in projects), Role.OWNER)
    rows = ProjectMembership.objects.filter(project__in=list(projects), user_id=user.pk or 0)
    return {project: Role(role) for project, role in rows.values_list("project_id", "role")}


def require_role(user: Person, project: Project, needed: Role) -> Role:
    """The person's role, which includes `needed`. Raises NotFound to a stranger and Forbidden when it is not enough."""
    role = role_in(user, project)
    if role is None:
        raise NotFound(NO_PROJECT)
    if not at_least(role, needed):
        raise Forbidden(
            f"You are a {role.value} of {project.name}; this needs the role {needed.value}.",
            detail={"role": role.value, "needed": needed.value},
        )
    return role


def may_register(user: Person) -> bool:
    """Whether `user` may register repositories. Whoever does is their owner, and may run commands as the studio's account."""
    return isinstance(user, PermissionsMixin) and user.has_perm(REGISTER)


def project_by(ref: uuid.UUID | str) -> Project:
    """The project with the id or key `ref`, whoever asks: hold it against `role_in`. Raises NotFound."""
    text = str(ref).strip()
    try:
        found = Project.objects.filter(pk=uuid.UUID(text)).first()
    except ValueError:
        found = Project.objects.filter(key=text.upper()).first() if text.isascii() and text.isalnum() else None
    if found is None:
        raise NotFound(NO_PROJECT)
    return found


def workspaces_visible_to(user: Person) -> QuerySet[Workspace]:
    """The workspaces of the projects that `user` may see."""
    return Workspace.objects.filter(project__in=projects_visible_to(user)).select_related("project")


def workspace_visible_to(user: Person, workspace_id: uuid.UUID | str) -> Workspace:
    """The workspace with its project, if the person may see it. Raises NotFound."""
    try:
        wanted = uuid.UUID(str(workspace_id))
    except ValueError:
        raise NotFound("There is no such workspace.") from None
    found = workspaces_visible_to(user).filter(pk=wanted).first()
    if found is None:
        raise NotFound("There is no such workspace.")
    return found


def is_being_taken(workspace: Workspace) -> bool:
    """Whether the workspace is taken as it lies there, uncommitted files too: a merge of it, its reverse, its restoration, or a
    push for its pull request has not settled yet."""
    merges = workspace.merges.filter(state__in=[MergeState.QUEUED, MergeState.COMPUTED])
    proposed = [PullRequestState.INTENDED, PullRequestState.OPEN]
    pushes = workspace.pull_requests.filter(state__in=proposed, push_requested_at__isnull=False)
    return merges.exists() or pushes.exists()
