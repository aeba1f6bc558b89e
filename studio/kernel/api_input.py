"""What the REST API takes in: bounded JSON, and serializers that refuse what they do not know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any, TypeVar

from django.conf import settings
from knox.auth import TokenAuthentication
from rest_framework import serializers
from rest_framework.exceptions import AuthenticationFailed, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from studio.kernel.api_errors import TooLarge
from studio.kernel.text import clean, cut

Instance = TypeVar("Instance")

# The largest number that every database takes as a cursor or an offset.
LARGEST = 2**63 - 1
TOKEN = re.compile(rb"[0-9A-Za-z_-]{8,200}")


class BearerAuthentication(TokenAuthentication):
    """`Authorization: Bearer TOKEN`. What cannot be a token is refused before anything decodes or looks it up."""

    def authenticate_credentials(self, token: bytes) -> tuple[Any, Any]:
        """The account and the token's row."""
        if not TOKEN.fullmatch(token):
            raise AuthenticationFailed("It is not a token of this studio.")
        account, row = super().authenticate_credentials(token)  # type: ignore[no-untyped-call]  # knox has no types
        return account, row


class BoundedJSONParser(JSONParser):
    """JSON up to the size limit of Django's own forms, however deep it is nested."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The parsed body. Raises TooLarge or ParseError."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE or LARGEST
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise TooLarge
        try:
            return super().parse(BytesIO(raw), media_type, parser_context)
        except RecursionError:
            raise ParseError("it is nested too deeply.") from None


class StrictSerializer(serializers.Serializer[Instance]):
    """A request's body. A field that it does not know is an error, so that a misspelt one is not silently lost.

    `refused` gives a sentence for fields that people try with reason and that are set elsewhere.
    """

    refused: Mapping[str, str] = {}

    def to_internal_value(self, data: Any) -> Any:
        """The validated fields; raises ValidationError that names every unknown one."""
        if isinstance(data, Mapping):
            unknown = [str(name) for name in data if name not in self.fields]
            if unknown:
                known = ", ".join(self.fields)
                raise serializers.ValidationError(
                    {
                        cut(clean(name), 80): [self.refused.get(name, f"There is no such field; there are {known}.")]
                        for name in unknown
                    }
                )
        return super().to_internal_value(data)


class CursorQuery(serializers.Serializer[Any]):
    """The query of a list that is read by a cursor."""

    after = serializers.IntegerField(
        min_value=0, max_value=LARGEST, default=0, help_text="Only what comes after this number."
    )
    limit = serializers.IntegerField(min_value=1, max_value=500, default=100, help_text="At most this many.")


def checked_query(serializer: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """The request's query through a serializer; parameters that it does not know are ignored."""
    checked = serializer(data=request.query_params.dict())
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)


def checked_body(serializer: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """The request's body through a serializer."""
    checked = serializer(data=request.data)
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)
