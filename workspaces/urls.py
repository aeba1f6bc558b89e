"""The addresses of repositories and checkouts."""

from __future__ import annotations

from django.urls import path

from workspaces import views
from workspaces.commands import views as commands

urlpatterns = [
    path("projects/register/", views.register, name="project-register"),
    path("projects/<str:key>/settings/", views.settings, name="project-settings"),
    path("workspaces/<uuid:workspace_id>/diff/", views.diff, name="workspace-diff"),
    path("workspaces/<uuid:workspace_id>/commands/", commands.commands, name="workspace-commands"),
    path("commands/<uuid:command_id>/", commands.command, name="command"),
    path("commands/<uuid:command_id>/cancel/", commands.cancel, name="command-cancel"),
    path("commands/<uuid:command_id>/output/", commands.output, name="command-output"),
]
