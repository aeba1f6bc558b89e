"""Changes in templates."""

from __future__ import annotations

from django import template

from workspaces.diff_looks import digest, pairs

register = template.Library()
register.filter("pairs", pairs)
register.filter("digest", digest)
