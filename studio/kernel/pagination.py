"""Lists are pages: `{"results": [...], "next": url|null, "previous": url|null}`."""

from __future__ import annotations

from typing import Any, TypedDict

from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_OFFSET = 2**31 - 1


class StudioPagination(LimitOffsetPagination):
    """Pages by `limit` (default 50, at most 200) and `offset`; an empty page is an empty page, not an error.

    Nothing is counted: one row more than asked for says whether there is a next page, however long the list is.
    """

    default_limit = DEFAULT_LIMIT
    max_limit = MAX_LIMIT
    limit_query_description = f"How many a page holds: 1 to {MAX_LIMIT}, {DEFAULT_LIMIT} when not given."
    offset_query_description = "How many to pass over."

    def paginate_queryset(self, queryset: QuerySet[Any] | Any, request: Request, view: Any = None) -> list[Any]:
        """The rows of the asked page. Raises ValidationError for what is no number, or out of range."""
        self.size = _number(request, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        self.first = _number(request, "offset", 0, 0, MAX_OFFSET)
        self.url = replace_query_param(request.build_absolute_uri(), "limit", self.size)
        rows = list(queryset[self.first : self.first + self.size + 1])
        self.has_more = len(rows) > self.size
        return rows[: self.size]

    def get_next_link(self) -> str | None:
        """The address of the next page, if there is one."""
        return replace_query_param(self.url, "offset", self.first + self.size) if self.has_more else None

    def get_previous_link(self) -> str | None:
        """The address of the page before, if this is not the first."""
        if self.first == 0:
            return None
        before = self.first - self.size
        return replace_query_param(self.url, "offset", before) if before > 0 else remove_query_param(self.url, "offset")

    def get_paginated_response(self, data: Any) -> Response:
        """The page around its rows."""
        return Response({"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The page's shape for the OpenAPI document."""
        link = {"type": "string", "nullable": True, "format": "uri"}
        return {
            "type": "object",
            "required": ["results", "next", "previous"],
            "properties": {"results": schema, "next": link, "previous": link},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """`limit` and `offset` with their bounds."""
        return [
            _parameter("limit", self.limit_query_description, 1, MAX_LIMIT),
            _parameter("offset", self.offset_query_description, 0, MAX_OFFSET),
        ]


def _number(request: Request, name: str, default: int, lowest: int, highest: int) -> int:
    raw = request.query_params.get(name)
    if raw is None or raw == "":
        return default
    if not (raw.isascii() and raw.isdigit() and len(raw) <= 12 and lowest <= int(raw) <= highest):
        raise ValidationError({name: [f"Give a whole number from {lowest} to {highest}."]})
    return int(raw)


def _parameter(name: str, description: str, lowest: int, highest: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": lowest, "maximum": highest}
    return {"name": name, "required": False, "in": "query", "description": description, "schema": schema}


class CursorPage(TypedDict):
    """A stretch of something that only grows. `next` is there while more is written already."""

    results: list[Any]
    next: str | None
    previous: None
    head: int


def cursor_page(request: Request, rows: Any, *, head: int) -> CursorPage:
    """The page around rows with ascending `seq`; `head` is the newest number there is."""
    last = rows[-1]["seq"] if rows else head
    url = replace_query_param(request.build_absolute_uri(), "after", last) if last < head else None
    return {"results": rows, "next": url, "previous": None, "head": head}
