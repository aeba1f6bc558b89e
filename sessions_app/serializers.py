"""Sessions as the API shows them. No serializer reads the database: the views hand in complete rows."""

from __future__ import annotations

from typing import Any, TypedDict

from rest_framework import serializers

from sessions_app.models import AgentSession, Turn, TurnOutcome, TurnState


class Tokens(TypedDict):
    """What the models of a session read and wrote."""

    input: int
    output: int
    reasoning: int
    cached: int


class TokensSerializer(serializers.Serializer[Any]):
    """What the models of a session read and wrote, in tokens."""

    input = serializers.IntegerField()
    output = serializers.IntegerField()
    reasoning = serializers.IntegerField()
    cached = serializers.IntegerField()


class TurnSerializer(serializers.ModelSerializer[Turn]):
    """One prompt and the agent's work on it."""

    outcome = serializers.ChoiceField(choices=TurnOutcome.choices, allow_blank=True, read_only=True)

    class Meta:
        model = Turn
        fields = [
            "id", "number", "state", "outcome", "error_code", "error_message", "agent", "model", "steps", "attempts",
            "resumes", "retries", "retry_code", "next_try_at", "hold", "retry_note", "retry_at", "result_text", "created_at", "started_at", "last_event_at", "settled_at",
        ]  # fmt: skip
        read_only_fields = fields


class SessionSerializer(serializers.ModelSerializer[AgentSession]):
    """A conversation with an agent in one workspace. `busy`: a turn is admitted or at work."""

    server = serializers.CharField(source="server.name", read_only=True)
    cost = serializers.FloatField(read_only=True, help_text="US dollars, as far as the provider says.")
    tokens = serializers.SerializerMethodField()
    busy = serializers.SerializerMethodField()
    turns = TurnSerializer(many=True, read_only=True)

    class Meta:
        model = AgentSession
        fields = [
            "id", "project", "workspace", "server", "role", "title", "agent", "model", "external_id", "busy", "cost",
            "tokens", "last_seq", "created_at", "turns",
        ]  # fmt: skip
        read_only_fields = fields

    def get_tokens(self, session: AgentSession) -> Tokens:
        """The sums of all turns."""
        return {
            "input": session.tokens_input,
            "output": session.tokens_output,
            "reasoning": session.tokens_reasoning,
            "cached": session.tokens_cached,
        }

    def get_busy(self, session: AgentSession) -> bool:
        """The turns come with the row."""
        return any(turn.state != TurnState.SETTLED for turn in session.turns.all())


class SessionEventSerializer(serializers.Serializer[Any]):
    """One entry of a session's log."""

    seq = serializers.IntegerField()
    kind = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]  # the field's name, not the attribute of the class
    at = serializers.DateTimeField()


class TranscriptEntrySerializer(serializers.Serializer[Any]):
    """One entry of a session in words. `status` is there for tools and for the end of a turn."""

    seq = serializers.IntegerField()
    kind = serializers.CharField(help_text="user, text, reasoning, tool, step, todo, file, retry, error, turn, …")
    text = serializers.CharField()
    status = serializers.CharField(help_text="How a tool or a turn ended; empty for everything else.")
    at = serializers.DateTimeField()


class CursorPageSerializer(serializers.Serializer[Any]):
    """A stretch of a log. `next` is there while more is written already; later, go on from the last `seq`."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    head = serializers.IntegerField(help_text="The number of the newest entry.")


class SessionEventPageSerializer(CursorPageSerializer):
    """A stretch of a session's log."""

    results = SessionEventSerializer(many=True)


class TranscriptPageSerializer(CursorPageSerializer):
    """A stretch of a session's transcript."""

    results = TranscriptEntrySerializer(many=True)
