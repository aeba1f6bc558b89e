"""The routing table."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, URLResolver, include, path

from studio import health, views

# Here and not at start-up: processes without pages need no admin modules (see StudioAdminConfig).
admin.autodiscover()

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("api/", include("studio.api_urls")),
    path("admin/", admin.site.urls),
    path("", views.home, name="home"),
    path("login/", views.SignIn.as_view(), name="login"),
    path("login/link/<str:token>/", views.SignInByLink.as_view(), name="login-link"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("", include("workspaces.urls")),
    path("", include("sessions_app.urls")),
    path("", include("tasks.urls")),
]

handler500 = "studio.api.document.failed"
