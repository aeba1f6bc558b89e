"""The project package as an installed app: feed, health, launcher; and the admin in the studio's own frame."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class StudioConfig(AppConfig):
    name = "studio"
    verbose_name = "Studio"
    default = True

    def ready(self) -> None:
        # Every process requests jobs, so every process needs our Celery application to be the current one.
        from studio import celery, signs

        celery.app.set_default()
        signs.connect()


class StudioAdminConfig(admin_apps.SimpleAdminConfig):
    """The default admin, with the studio's site in place of Django's.

    The simple one: the routing table finds the apps' admin modules, so only web processes load them (17 MB each).
    """

    default = False
    default_site = "studio.admin_site.StudioAdminSite"
