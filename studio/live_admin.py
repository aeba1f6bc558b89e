"""Admin lists that keep themselves up to date: news in their topics makes the browser read the list again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse

from studio import topics
from studio.models import FeedHead

PROJECTS = 100  # that a list follows besides its rows' own; a connection may have 200 topics

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = object


class LiveListMixin(Base):
    """For a ModelAdmin; say in `live_topics` what its rows depend on. Every list follows the projects as well, so that
    new rows appear."""

    change_list_template = "admin/live_change_list.html"

    def live_topics(self, rows: list[Any]) -> Iterable[str]:
        """The topics whose events may change what is shown for `rows`."""
        raise NotImplementedError

    def live_cursors(self, rows: list[Any]) -> dict[str, int]:
        """The newest numbers of topics that the rows themselves tell; the others are asked for."""
        return {}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Give the page its topics with their cursors; the page reads its rows once more when it follows them."""
        response = super().changelist_view(request, extra_context)
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            rows = list(response.context_data["cl"].result_list)
            response.context_data["live_topics"] = self._cursors(set(self.live_topics(rows)), rows)
        return response

    def _cursors(self, names: set[str], rows: list[Any]) -> dict[str, int]:
        """A cursor for each topic, with one query for all projects."""
        heads = FeedHead.objects.order_by("-last_seq").values_list("pk", "last_seq")[:PROJECTS]
        known = {f"project:{project}": seq for project, seq in heads}
        known |= {name: seq for name, seq in self.live_cursors(rows).items() if name in names}
        return known | {name: self._head(name) for name in sorted(names - known.keys())}

    def _head(self, topic: str) -> int:
        kind, subject = topics.resolve(topic)
        return kind.head(subject)
