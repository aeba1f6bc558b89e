"""What agents ask of people, and the rules by which they need not."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from sessions_app.models.session import AgentSession
from sessions_app.models.turn import Turn
from studio.kernel.ids import new_id
from workspaces.models import Project


class AskKind(models.TextChoices):
    """Who asks for what."""

    PERMISSION = "permission"  # the agent wants to do something that the rules leave to a person
    QUESTION = "question"  # the agent wants to know something
    BUDGET = "budget"  # the studio asks whether a turn may go on past a budget


class AskState(models.TextChoices):
    """pending -> answered | expired | withdrawn | lost. Only `pending` can be answered, once.

    `withdrawn`: the turn ended first. `lost`: the server forgot it (a restart); the resumed turn asks anew.
    """

    PENDING = "pending"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    LOST = "lost"


class AskReply(models.TextChoices):
    """What a person answered."""

    ONCE = "once"
    ALWAYS = "always"
    REJECT = "reject"
    ANSWERS = "answers"


class Ask(models.Model):
    """Something that an agent (or a sub-agent of it) waits for from a person. The first answer wins."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    session = models.ForeignKey(AgentSession, on_delete=models.CASCADE, related_name="asks")
    turn = models.ForeignKey(Turn, null=True, blank=True, on_delete=models.CASCADE, related_name="asks")
    kind = models.CharField(max_length=12, choices=AskKind)
    external_id = models.CharField(max_length=80)
    external_session = models.CharField(max_length=80, blank=True)  # the sub-agent's, when one asks
    directory = models.CharField(max_length=1000)
    asker = models.CharField(max_length=200)  # the agent, or the sub-agent's title
    title = models.CharField(max_length=300)
    permission = models.CharField(max_length=100, blank=True)
    patterns = models.JSONField(default=list)
    always = models.JSONField(default=list)  # the patterns that "always" would allow
    detail = models.JSONField(default=dict)  # {command?, patch?, paths?: [..]}, bounded
    questions = models.JSONField(default=list)  # [{question, header, options: [{label, description}], multiple}]
    state = models.CharField(max_length=12, choices=AskState, default=AskState.PENDING)
    reply = models.CharField(max_length=12, choices=AskReply, blank=True)
    message = models.TextField(blank=True)
    answers = models.JSONField(default=list)  # a list per question
    answered_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    answered_name = models.CharField(max_length=150, blank=True)  # "policy" when a rule or a time-out decided
    answered_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    reminded_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)  # when its time-out policy acts
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at"]
        constraints = [models.UniqueConstraint(fields=["session", "external_id"], name="ask_external_id_once")]
        indexes = [models.Index(fields=["state", "due_at"], name="ask_due")]

    def __str__(self) -> str:
        return self.title


class RuleAction(models.TextChoices):
    """What happens when an agent wants to do something."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class PermissionRule(models.Model):
    """What agents may do, by permission and pattern; the last match in `position` wins, over the role's own rules.

    Without a project it is for all of them; without a profile for every profile. `always` answers are rules too.
    """

    project = models.ForeignKey(
        Project, null=True, blank=True, on_delete=models.CASCADE, related_name="permission_rules"
    )
    profile = models.ForeignKey(
        "agents.AgentProfile", null=True, blank=True, on_delete=models.CASCADE, related_name="permission_rules"
    )
    permission = models.CharField(max_length=100)
    pattern = models.CharField(max_length=500, default="*")
    action = models.CharField(max_length=8, choices=RuleAction)
    position = models.PositiveIntegerField(default=0)
    from_ask = models.ForeignKey(Ask, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["position", "id"]
        constraints = [
            # Null is distinct from null in a unique constraint, so each combination has its own.
            models.UniqueConstraint(
                fields=["project", "profile", "permission", "pattern"],
                condition=models.Q(project__isnull=False, profile__isnull=False),
                name="permission_rule_once",
            ),
            models.UniqueConstraint(
                fields=["project", "permission", "pattern"],
                condition=models.Q(project__isnull=False, profile__isnull=True),
                name="permission_rule_once_project",
            ),
            models.UniqueConstraint(
                fields=["profile", "permission", "pattern"],
                condition=models.Q(project__isnull=True, profile__isnull=False),
                name="permission_rule_once_profile",
            ),
            models.UniqueConstraint(
                fields=["permission", "pattern"],
                condition=models.Q(project__isnull=True, profile__isnull=True),
                name="permission_rule_once_everywhere",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.permission} {self.pattern}"


class AskTimeout(models.TextChoices):
    """What happens when nobody answers in time."""

    REMIND = "remind"
    REJECT = "reject"
    STOP = "stop"


class AskPolicy(models.Model):
    """How long a project's asks wait, and what happens then. A project without a row reminds every hour."""

    project = models.OneToOneField(Project, on_delete=models.CASCADE, related_name="ask_policy")
    timeout_minutes = models.PositiveIntegerField(default=60)
    action = models.CharField(max_length=8, choices=AskTimeout, default=AskTimeout.REMIND)

    def __str__(self) -> str:
        return f"{self.action} after {self.timeout_minutes} min"
