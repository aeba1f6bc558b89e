"""Names and texts of files in templates: as people read them, and as addresses carry them."""

from __future__ import annotations

from django import template

from workspaces.colours.badges import shown
from workspaces.files.paths import quoted
from workspaces.vcs.base import readable

register = template.Library()
register.filter("readable", readable)
register.filter("quoted", quoted)
register.filter("badged", shown)
