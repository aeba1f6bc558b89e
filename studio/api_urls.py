"""The routing table of the REST API, mounted at /api/."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path, re_path

from sessions_app import api as sessions_api
from sessions_app import asks_api, budgets_api, inbox_api, rules_api
from studio.api import document, feed, health
from tasks import api as tasks_api
from tasks import forge_api, merge_api, usage_api
from workspaces import api as workspaces_api
from workspaces import storage_api
from workspaces.commands import api as commands_api
from workspaces.files import api as files_api
from workspaces.forge import api as workspace_forge_api
from workspaces.setup import api as setup_api

version_1: list[URLPattern | URLResolver] = [
    *health.urlpatterns,
    *workspaces_api.urlpatterns,
    *storage_api.urlpatterns,
    *commands_api.urlpatterns,
    *merge_api.urlpatterns,
    *setup_api.urlpatterns,
    *files_api.urlpatterns,
    *workspace_forge_api.urlpatterns,
    *forge_api.urlpatterns,
    *tasks_api.urlpatterns,
    *sessions_api.urlpatterns,
    *inbox_api.urlpatterns,
    *asks_api.urlpatterns,
    *rules_api.urlpatterns,
    *budgets_api.urlpatterns,
    *usage_api.urlpatterns,
    *feed.urlpatterns,
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("v1/", include(version_1)),
    path("schema", document.Schema.as_view(), name="api-schema"),
    path("docs", document.docs, name="api-docs"),
    re_path(r"", document.Nothing.as_view()),
]
