"""The OpenAPI document at /api/schema, a page that lists it at /api/docs, and the answers of addresses that do not exist."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET
from django.views.defaults import server_error
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from studio.kernel.api_errors import json_error
from studio.kernel.errors import NotFound

METHODS = ("get", "post", "patch", "put", "delete")


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document; it does not change while the process runs."""
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # drf-spectacular is typed in part
    return schema


class Schema(APIView):
    """The OpenAPI document."""

    @extend_schema(exclude=True)
    def get(self, request: Request) -> Response:
        """The document as JSON."""
        return Response(document())


@require_GET
def docs(request: HttpRequest) -> HttpResponse:
    """A page for people: every operation with its parameters, body and answers."""
    return render(request, "studio/api_docs.html", {"info": document()["info"], "groups": groups()})


@cache
def groups() -> list[dict[str, Any]]:
    """The operations by their first word, as the page lists them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                operation = item[method]
                found.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    return [{"name": name, "operations": operations} for name, operations in found.items()]


def _operation(path: str, method: str, operation: dict[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": _plain(operation.get("summary", "")),
        "description": _plain(operation.get("description", "").strip().partition("\n")[2].strip()),
        "parameters": [
            {**parameter, "type": type_of(parameter["schema"])} for parameter in operation.get("parameters", [])
        ],
        "body": fields_of(body) if body else [],
        "responses": [_response(status, response) for status, response in operation["responses"].items()],
    }


def _plain(text: str) -> str:
    """Without the marks of code, which the page does not render."""
    return text.replace("`", "")


def _response(status: str, response: dict[str, Any]) -> dict[str, Any]:
    schema = response.get("content", {}).get("application/json", {}).get("schema")
    failed = status >= "400"
    return {
        "status": status,
        "description": _plain(response.get("description", "")),
        "type": type_of(schema) if schema and not failed else "",
        "fields": fields_of(schema) if schema and not failed else [],
    }


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, behind a reference and a wrapper of one."""
    if "allOf" in schema and len(schema["allOf"]) == 1:
        return {**resolved(schema["allOf"][0]), **{key: schema[key] for key in schema if key != "allOf"}}
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def fields_of(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of an object, or of the rows of a page."""
    whole = resolved(schema)
    if "results" in whole.get("properties", {}):
        whole = resolved(resolved(whole["properties"]["results"])["items"])
    required = whole.get("required", [])
    return [
        {
            "name": name,
            "type": type_of(inner),
            "required": name in required,
            "description": _plain(inner.get("description") or resolved(inner).get("description", "")),
        }
        for name, inner in whole.get("properties", {}).items()
    ]


def type_of(schema: dict[str, Any]) -> str:
    """A schema's type in a few words."""
    whole = resolved(schema)
    if "results" in whole.get("properties", {}):
        return f"page of {type_of(resolved(whole['properties']['results'])['items'])}"
    if "enum" in whole:
        return " | ".join(str(value) or "“”" for value in whole["enum"] if value is not None)
    if "oneOf" in whole:
        return " | ".join(type_of(option) for option in whole["oneOf"])
    if whole.get("type") == "array":
        return f"list of {type_of(whole['items'])}"
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    return str(whole.get("format") or whole.get("type", "any"))


class Nothing(APIView):
    """Whatever else is asked for below /api/."""

    permission_classes = [AllowAny]

    @extend_schema(exclude=True)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """404 for every method."""
        return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refused before the method matters."""
        raise NotFound("There is nothing at this address. GET /api/docs lists what there is.")


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler500: JSON for the API, a page for everything else."""
    return json_error(request, 500) if request.path.startswith("/api/") else server_error(request)
