"""The OpenAPI document: every operation names the errors it can answer, all of them in the one envelope."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers

from studio.kernel.api_input import StrictSerializer

WRITES = ("POST", "PUT", "PATCH", "DELETE")
TAKES_BODY = ("POST", "PUT", "PATCH")
MEANING = {
    400: "The input cannot be accepted; `detail` names the field.",
    401: "Nobody is signed in, or the token was refused.",
    403: "The role in the project does not include this.",
    404: "It does not exist, or the account may not know that it does.",
    406: "The client does not accept JSON.",
    409: "The state does not allow it now; `allowed` lists the actions that it does allow.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many requests; `Retry-After` says how long to wait.",
    502: "Something outside the studio failed: the repository, the agent server or the broker.",
}


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular is typed in part
    """Describes our token authentication."""

    target_class = "studio.kernel.api_input.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """`Authorization: Bearer TOKEN`."""
        return {"type": "http", "scheme": "bearer", "description": "A token, made by `manage.py token NAME`."}


class ErrorBodySerializer(serializers.Serializer[Any]):
    """What went wrong."""

    code = serializers.CharField(help_text="A stable word for programs.")
    message = serializers.CharField(help_text="A sentence for people.")
    detail = serializers.DictField(help_text="More for programs; `field` names the field that cannot be accepted.")
    allowed = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="The actions that the state does allow."
    )


class ErrorSerializer(serializers.Serializer[Any]):
    """The envelope of every error."""

    error = ErrorBodySerializer()


class StudioSchema(AutoSchema):
    """Adds the envelope for each status that an operation can answer, and says which bodies take no unknown field.

    A view whose operation reaches outside (a repository, the agent server) lists the statuses in `extra_errors`.
    """

    always: ClassVar[tuple[int, ...]] = (401, 406, 429)

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """The operation with its errors, ordered by status."""
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        error = self.resolve_serializer(ErrorSerializer, "response").ref
        for status in self._errors(operation):
            content = {"application/json": {"schema": error}}
            operation["responses"].setdefault(str(status), {"description": MEANING[status], "content": content})
        operation["responses"] = dict(sorted(operation["responses"].items()))
        return operation

    def get_summary(self) -> str:
        """The first sentence of the operation's docstring."""
        return (self.get_description() or "").strip().partition("\n")[0].rstrip(".")

    def _errors(self, operation: dict[str, Any]) -> list[int]:
        parameters = operation.get("parameters", [])
        takes_body = self.method in TAKES_BODY and "requestBody" in operation
        statuses = {*self.always, *getattr(self.view, "extra_errors", ())}
        if takes_body:
            statuses |= {400, 413, 415}
        if any(parameter["in"] == "query" for parameter in parameters):
            statuses.add(400)
        if any(parameter["in"] == "path" or parameter["name"] == "project" for parameter in parameters):
            statuses.add(404)
        if self.method in WRITES:
            statuses |= {403, 409}
        return sorted(statuses)

    def _map_basic_serializer(self, serializer: Any, direction: str) -> dict[str, Any]:
        schema: dict[str, Any] = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]  # as above
        one = serializer() if isinstance(serializer, type) else serializer
        if direction == "request" and isinstance(one, StrictSerializer):
            schema["additionalProperties"] = False
        return schema
