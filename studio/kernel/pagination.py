"""Lists are pages: `{"results": [...], "next": url|null, "previous": url|null}`."""

from __future__ import annotations

from typing import Any

from rest_framework.pagination import LimitOffsetPagination
from rest_framework.response import Response


class StudioPagination(LimitOffsetPagination):
    """Pages by `limit` (default 50, at most 200) and `offset`; an empty page is an empty page, not an error."""

    default_limit = 50
    max_limit = 200

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "nullable": True, "format": "uri"}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {"results": schema, "next": link, "previous": link},
        }
