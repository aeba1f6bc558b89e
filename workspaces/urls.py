"""The addresses of repositories and checkouts."""

from __future__ import annotations

from django.urls import path

from workspaces import views

urlpatterns = [
    path("projects/register/", views.register, name="project-register"),
    path("projects/<str:key>/settings/", views.settings, name="project-settings"),
    path("workspaces/<uuid:workspace_id>/diff/", views.diff, name="workspace-diff"),
]
