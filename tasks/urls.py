"""The addresses of the board and of tasks."""

from __future__ import annotations

from django.urls import path

from tasks.views import board, health, merge, pull_request, start, task, usage, waiting

urlpatterns = [
    path("waiting/", waiting.waiting, name="waiting"),
    path("waiting/count/", waiting.waiting_count, name="waiting-count"),
    path("health/", health.health, name="health"),
    path("health/servers/", health.servers, name="server-notice"),
    path("projects/", board.projects, name="projects"),
    path("projects/<str:key>/", board.project, name="project"),
    path("projects/<str:key>/board/", board.board, name="board"),
    path("projects/<str:key>/board/cards/", board.board_cards, name="board-cards"),
    path("projects/<str:key>/board/<slug:status>/", board.board_column, name="board-column"),
    path("projects/<str:key>/usage/", usage.usage, name="project-usage"),
    path("projects/<str:key>/tasks/new/", board.create, name="task-create"),
    path("projects/<str:key>/settings/forge/import/", pull_request.import_from_forge, name="project-import-issues"),
    path("tasks/<str:ref>/pull-request/markers/", merge.proposed, name="task-proposed"),
    path("tasks/<str:ref>/pull-request/<slug:action>/", pull_request.act, name="pull-request-act"),
    path("tasks/<str:ref>/", task.task, name="task"),
    path("tasks/<str:ref>/edit/", task.task_edit, name="task-edit"),
    path("tasks/<str:ref>/merge/", merge.merge_preview, name="task-merge"),
    path("tasks/<str:ref>/conflicts/", merge.conflicts, name="task-conflicts"),
    path("projects/<str:key>/starts/", start.start_places, name="start-places"),
    path("tasks/<str:ref>/start-from/", start.task_start_from, name="task-start-from"),
    path("tasks/<str:ref>/act/<slug:action>/", task.task_act, name="task-act"),
]
