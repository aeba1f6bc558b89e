"""The page of a project's permissions."""

from __future__ import annotations

import pytest

from sessions_app.models import AskPolicy, PermissionRule
from studio.kernel.permissions import Role
from tests.factories import make_member, make_profiles
from tests.pages.conftest import body, signed_in

PAGE = "/projects/DEMO/settings/permissions/"


@pytest.fixture
def rule(project):
    return PermissionRule.objects.create(project=project, permission="bash", pattern="npm *", action="ask", position=1)


def test_page__lists_the_rules_for_all_members_and_the_forms_for_owners(
    project, rule, as_owner, as_viewer, as_stranger
):
    PermissionRule.objects.create(permission="webfetch", pattern="*", action="deny")
    shown = body(as_owner.get(PAGE))
    for words in (
        "npm *",
        "Ask a person",
        "Add a rule",
        "webfetch",
        "When nobody answers",
        'aria-current="page">Permissions',
    ):
        assert words in shown, words
    seen = body(as_viewer.get(PAGE))
    assert "npm *" in seen
    assert "Add a rule" not in seen
    assert as_stranger.get(PAGE).status_code == 404


def test_page__without_a_rule_says_what_holds(project, as_owner):
    assert "they never push" in body(as_owner.get(PAGE))


def test_rule__is_added_for_one_kind_of_agent(project, as_owner):
    profile = make_profiles()["planner"]
    given = {"permission": "bash", "pattern": "make *", "action": "allow", "profile": str(profile.pk)}
    assert as_owner.post(PAGE, given).status_code == 302
    row = PermissionRule.objects.get()
    assert (row.permission, row.pattern, row.action, row.profile) == ("bash", "make *", "allow", profile)
    twice = as_owner.post(PAGE, given)
    assert twice.status_code == 409
    assert "a rule for this already" in body(twice)
    assert 'value="make *"' in body(twice)  # what was written stays


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"permission": "bash", "action": "perhaps"},
        {"permission": "two words", "action": "allow"},
        {"permission": "bash", "action": "allow", "profile": "x"},
        {"permission": "bash", "action": "allow", "pattern": "x" * 501},
    ],
)
def test_rule__that_is_wrong_is_refused_in_words(project, as_owner, given):
    answer = as_owner.post(PAGE, given)
    assert answer.status_code == 400
    assert 'role="alert"' in body(answer)
    assert not PermissionRule.objects.exists()


def test_rules__are_moved_and_removed(project, rule, as_owner, as_viewer):
    other = PermissionRule.objects.create(project=project, permission="edit", action="deny", position=2)
    assert as_viewer.post(f"{PAGE}{rule.pk}/", {"do": "remove"}).status_code == 403
    assert as_owner.post(f"{PAGE}{rule.pk}/", {"do": "down"}).status_code == 302
    assert list(PermissionRule.objects.all()) == [other, rule]
    assert as_owner.post(f"{PAGE}{rule.pk}/", {"do": "sideways"}).status_code == 400
    as_owner.post(f"{PAGE}{rule.pk}/", {"do": "remove"})
    assert list(PermissionRule.objects.all()) == [other]
    assert as_owner.post(f"{PAGE}{rule.pk}/", {"do": "remove"}).status_code == 404


def test_time_out__is_set(project, as_owner, as_viewer):
    given = {"timeout_minutes": "5", "action": "reject"}
    assert as_viewer.post(f"{PAGE}time-out/", given).status_code == 403
    assert as_owner.post(f"{PAGE}time-out/", given).status_code == 302
    policy = AskPolicy.objects.get(project=project)
    assert (policy.timeout_minutes, policy.action) == (5, "reject")
    for minutes in ("", "0", "x", "9" * 30, "-1"):
        answer = as_owner.post(f"{PAGE}time-out/", {**given, "timeout_minutes": minutes})
        assert answer.status_code == 400, minutes
        assert 'role="alert"' in body(answer)


def test_pattern__of_an_agent_is_escaped(project, as_owner):
    PermissionRule.objects.create(project=project, permission="bash", pattern="<script>x</script>", action="allow")
    assert "<script>x" not in body(as_owner.get(PAGE))


def test_maintainer__sees_no_form(project, rule):
    client = signed_in(make_member(project, Role.MAINTAINER))
    assert "Add a rule" not in body(client.get(PAGE))
    assert client.post(PAGE, {"permission": "bash", "action": "allow"}).status_code == 403


def test_the_page_lists_what_rules_may_be_about(as_owner, project):
    page = body(as_owner.get(PAGE))
    for name in ("bash", "edit", "read", "external_directory", "webfetch", "task", "doom_loop", "*"):
        assert f"<td><code>{name}</code></td>" in page
    assert "a folder outside the checkout" in page
