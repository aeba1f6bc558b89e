"""The addresses of the files of a checkout."""

from __future__ import annotations

from django.urls import path

from workspaces.files import views

urlpatterns = [
    path("workspaces/<uuid:workspace_id>/files/", views.files, name="workspace-files"),
    path("workspaces/<uuid:workspace_id>/files/side/", views.side, name="workspace-files-side"),
    path("workspaces/<uuid:workspace_id>/files/folder/", views.folder, name="workspace-files-folder"),
    path("workspaces/<uuid:workspace_id>/files/view/", views.view, name="workspace-file"),
    path("workspaces/<uuid:workspace_id>/files/raw/", views.raw, name="workspace-file-raw"),
    path("workspaces/<uuid:workspace_id>/files/image/", views.image, name="workspace-file-image"),
    path("workspaces/<uuid:workspace_id>/patch/", views.patch, name="workspace-patch"),
]
