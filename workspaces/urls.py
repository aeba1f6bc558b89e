"""The addresses of repositories and checkouts."""

from __future__ import annotations

from django.urls import path

from workspaces import storage_views as storage
from workspaces import views
from workspaces.commands import views as commands
from workspaces.files.urls import urlpatterns as files
from workspaces.forge import views as forge
from workspaces.setup import views as setup

urlpatterns = [
    *files,
    path("projects/register/", views.register, name="project-register"),
    path("projects/<str:key>/settings/", views.settings, name="project-settings"),
    path("projects/<str:key>/storage/", storage.storage, name="project-storage"),
    path("projects/<str:key>/relocate/", storage.relocate, name="project-relocate"),
    path("workspaces/<uuid:workspace_id>/do/<slug:action>/", storage.workspace_do, name="workspace-do"),
    path("workspaces/<uuid:workspace_id>/remove/", storage.workspace_remove, name="workspace-remove"),
    path("kept/<uuid:kept_id>/do/<slug:action>/", storage.kept_do, name="kept-do"),
    path("kept/<uuid:kept_id>/<slug:form>/", storage.kept_file, name="kept-file"),
    path("projects/<str:key>/setup/", setup.setup, name="project-setup"),
    path("workspaces/<uuid:workspace_id>/setup/", setup.strip, name="workspace-setup"),
    *[
        path(f"workspaces/<uuid:workspace_id>/setup/{what}/", setup.act, {"what": what}, name=f"workspace-do-{what}")
        for what in setup.ACTS
    ],
    path("projects/<str:key>/settings/forge/", forge.forge, name="project-forge"),
    path("projects/<str:key>/settings/forge/check/", forge.check, name="project-forge-check"),
    path("projects/<str:key>/settings/forge/remove/", forge.remove, name="project-forge-remove"),
    path("workspaces/<uuid:workspace_id>/diff/", views.diff, name="workspace-diff"),
    path("workspaces/<uuid:workspace_id>/commands/", commands.commands, name="workspace-commands"),
    path("commands/<uuid:command_id>/", commands.command, name="command"),
    path("commands/<uuid:command_id>/cancel/", commands.cancel, name="command-cancel"),
    path("commands/<uuid:command_id>/output/", commands.output, name="command-output"),
]
