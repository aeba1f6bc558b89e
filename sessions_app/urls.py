"""The addresses of sessions."""

from __future__ import annotations

from django.urls import path

from sessions_app.views import asks, budgets, inbox, pages, rules

urlpatterns = [
    path("settings/budgets/", budgets.everywhere, name="every-budgets"),
    path("settings/budgets/<uuid:budget_id>/", budgets.everywhere_one, name="every-budget"),
    path("projects/<str:key>/settings/budgets/", budgets.budgets, name="project-budgets"),
    path("projects/<str:key>/settings/budgets/<uuid:budget_id>/", budgets.budget, name="project-budget"),
    path("projects/<str:key>/settings/permissions/", rules.permissions, name="project-permissions"),
    path("projects/<str:key>/settings/permissions/time-out/", rules.time_out, name="project-ask-policy"),
    path("projects/<str:key>/settings/permissions/<int:rule_id>/", rules.rule, name="project-rule"),
    path("asks/<uuid:ask_id>/answer/", asks.answer, name="ask-answer"),
    path("sessions/<uuid:session_id>/", pages.session, name="session"),
    path("sessions/<uuid:session_id>/entries/", pages.entries, name="session-entries"),
    path("sessions/<uuid:session_id>/entries/<int:seq>/", pages.entry, name="session-entry"),
    path("sessions/<uuid:session_id>/turns/", pages.turns, name="session-turns"),
    path("sessions/<uuid:session_id>/turns/<int:turn_number>/<slug:action>/", inbox.turn, name="session-turn-act"),
    path("sessions/<uuid:session_id>/inbox/", inbox.send, name="session-send"),
    path("sessions/<uuid:session_id>/inbox/<uuid:item_id>/<slug:action>/", inbox.message, name="session-message"),
]
