"""The addresses of sessions."""

from __future__ import annotations

from django.urls import path

from sessions_app import views

urlpatterns = [
    path("sessions/<uuid:session_id>/", views.session, name="session"),
    path("sessions/<uuid:session_id>/entries/", views.entries, name="session-entries"),
    path("sessions/<uuid:session_id>/entries/<int:seq>/", views.entry, name="session-entry"),
]
