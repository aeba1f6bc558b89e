"""Which rules hold in a session, and how a project changes its own."""

from __future__ import annotations

import pytest

from agents.asks import PermissionAsked
from agents.rules import evaluate
from sessions_app.models import AgentSession, PermissionRule
from sessions_app.services import dispatch, policy, rules
from sessions_app.services.rules import NewRule
from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from studio.kernel.permissions import Role
from studio.queue import Names
from tests.factories import make_member, make_profiles, make_project


@pytest.fixture
def profiles(db):
    return make_profiles()


@pytest.fixture
def project(session, profiles):
    return session.project


def as_role(session, role):
    AgentSession.objects.filter(pk=session.pk).update(role=role, agent=f"studio-{role}", external_id="ses_a")
    session.refresh_from_db()
    return session


def store(project, permission, pattern, action, profile=None, position=1):
    return PermissionRule.objects.create(
        project=project, permission=permission, pattern=pattern, action=action, profile=profile, position=position
    )


def said(session, permission, pattern):
    return evaluate(policy.rules_for(session), permission, pattern)


def test_rules__of_the_project_outrank_the_roles_and_later_ones_earlier_ones(session, project):
    as_role(session, "implementer")
    assert said(session, "bash", "git push") == "deny"
    store(project, "bash", "git push*", "allow", position=2)
    store(project, "bash", "git push --force*", "deny", position=3)
    store(project, "bash", "*", "ask", position=1)
    assert [said(session, "bash", command) for command in ("make", "git push", "git push --force")] == [
        "ask",
        "allow",
        "deny",
    ]


def test_rules__of_all_projects_come_before_the_projects_own(session, project):
    as_role(session, "implementer")
    store(None, "webfetch", "*", "deny", position=9)
    assert said(session, "webfetch", "https://x") == "deny"
    store(project, "webfetch", "https://docs.*", "allow")
    assert said(session, "webfetch", "https://docs.x") == "allow"
    store(make_project(), "webfetch", "*", "allow")
    assert said(session, "webfetch", "https://x") == "deny"


def test_rules__of_a_profile_are_for_its_role(session, project, profiles):
    store(project, "webfetch", "*", "deny", profile=profiles["reviewer"])
    assert said(as_role(session, "implementer"), "webfetch", "https://x") == "allow"
    assert said(as_role(session, "reviewer"), "webfetch", "https://x") == "deny"


def test_reading_roles__stay_so_whatever_a_project_allows(session, project, profiles):
    as_role(session, "planner")
    store(project, "*", "*", "allow", position=1)
    assert said(session, "bash", "make") == "deny"  # a rule for everybody does not widen what a reading role runs
    store(project, "*", "*", "allow", profile=profiles["planner"], position=2)
    assert said(session, "bash", "make") == "allow"
    for permission, pattern in (("edit", "a.py"), ("task", "general"), ("bash", "ls > a"), ("bash", "cat .env")):
        assert said(session, permission, pattern) == "deny"
    asked = PermissionAsked("ses_a", "per_1", "/srv", "bash", ("ls", "cat a"), command="ls && cat a > b")
    assert policy.decide(session, asked).action == "deny"


def test_decision__says_whether_a_stored_rule_made_it(session, project):
    as_role(session, "implementer")
    asked = PermissionAsked("ses_a", "per_1", "/srv", "external_directory", ("/etc/*",))
    assert policy.decide(session, asked) == policy.Decision("ask", by_rule=False)
    store(project, "external_directory", "/etc/*", "allow")
    assert policy.decide(session, asked) == policy.Decision("allow", by_rule=True)


def test_decision__about_several_things_at_once(session, project):
    as_role(session, "implementer")
    store(project, "bash", "npm *", "ask", position=1)
    store(project, "bash", "rm *", "deny", position=2)

    def decided(*commands):
        asked = PermissionAsked("ses_a", "per_1", "/srv", "bash", commands, command="; ".join(commands))
        return policy.decide(session, asked).action

    assert [decided("ls"), decided("ls", "npm test"), decided("npm test", "rm a"), decided()] == [
        "allow",
        "ask",
        "deny",
        "allow",
    ]


def test_dispatch__gives_the_server_the_rules_as_they_are_then(backend, turn, session, project):
    as_role(session, "implementer")
    store(project, "bash", "npm *", "ask")
    AgentSession.objects.filter(pk=session.pk).update(external_id="")
    dispatch.dispatch(turn.pk)
    session.refresh_from_db()
    assert backend.rules[session.external_id] == policy.rules_for_server(session)
    assert evaluate(backend.rules[session.external_id], "bash", "npm test") == "ask"


def test_dispatch__brings_an_open_session_up_to_date(backend, turn, session, project):
    as_role(session, "implementer")
    store(project, "bash", "npm *", "deny")
    dispatch.dispatch(turn.pk)
    assert evaluate(backend.rules["ses_a"], "bash", "npm test") == "deny"


def test_sub_agents__inherit_no_denial_that_was_taken_back(session, project):
    as_role(session, "implementer")
    store(project, "bash", "*", "deny", position=1)
    store(project, "*", "*", "allow", position=2)
    assert not [rule for rule in policy.rules_for_server(session) if rule["action"] == "deny"]


@pytest.fixture
def keeper(project):
    return make_member(project, Role.OWNER)


def listed(project):
    return [(row.permission, row.pattern, row.action) for row in rules.rules_of(project)]


def test_rules__are_added_moved_and_removed_in_order(
    project, keeper, requested_jobs, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        first = rules.add_rule(actor=keeper, project=project, new=NewRule("bash", "npm *", "ask"))
    assert (Names.RECONSIDER_ASKS, (str(project.pk),)) in requested_jobs
    second = rules.add_rule(actor=keeper, project=project, new=NewRule("edit", " ", "deny"))
    assert listed(project) == [("bash", "npm *", "ask"), ("edit", "*", "deny")]
    rules.move_rule(actor=keeper, project=project, rule_id=second.pk, up=True)
    assert listed(project) == [("edit", "*", "deny"), ("bash", "npm *", "ask")]
    rules.move_rule(actor=keeper, project=project, rule_id=second.pk, up=True)
    rules.move_rule(actor=keeper, project=project, rule_id=second.pk, up=False)
    assert listed(project) == [("bash", "npm *", "ask"), ("edit", "*", "deny")]
    rules.remove_rule(actor=keeper, project=project, rule_id=first.pk)
    assert listed(project) == [("edit", "*", "deny")]
    with pytest.raises(NotFound):
        rules.remove_rule(actor=keeper, project=project, rule_id=first.pk)
    with pytest.raises(NotFound):
        rules.move_rule(actor=keeper, project=project, rule_id=first.pk, up=True)


def test_rules__of_another_project_are_out_of_reach(project, keeper):
    foreign = store(make_project(), "bash", "*", "deny")
    with pytest.raises(NotFound):
        rules.remove_rule(actor=keeper, project=project, rule_id=foreign.pk)
    with pytest.raises(NotFound):
        rules.add_rule(actor=keeper, project=foreign.project, new=NewRule("bash", "*", "allow"))


def test_rules__are_replaced_as_a_whole(project, keeper, profiles):
    kept = rules.add_rule(actor=keeper, project=project, new=NewRule("bash", "npm *", "ask"))
    rules.add_rule(actor=keeper, project=project, new=NewRule("edit", "*", "deny"))
    rows = rules.replace_rules(
        actor=keeper,
        project=project,
        rules=[NewRule("webfetch", "*", "deny", profiles["planner"]), NewRule("bash", "npm *", "allow")],
    )
    assert listed(project) == [("webfetch", "*", "deny"), ("bash", "npm *", "allow")]
    assert rows[1].pk == kept.pk


def test_rules__that_are_there_already(project, keeper, profiles):
    rules.add_rule(actor=keeper, project=project, new=NewRule("bash", "npm *", "ask"))
    with pytest.raises(Conflict):
        rules.add_rule(actor=keeper, project=project, new=NewRule("bash", "npm *", "deny"))
    rules.add_rule(actor=keeper, project=project, new=NewRule("bash", "npm *", "deny", profiles["planner"]))
    with pytest.raises(Invalid):
        twice = [NewRule("edit", "*", "deny"), NewRule("edit", "*", "allow")]
        rules.replace_rules(actor=keeper, project=project, rules=twice)


@pytest.mark.parametrize(
    "new",
    [
        NewRule("", "*", "allow"),
        NewRule("two words", "*", "allow"),
        NewRule("ba\x00sh", "*", "allow"),
        NewRule("x" * 101, "*", "allow"),
        NewRule("bash", "x" * 501, "allow"),
        NewRule("bash", "a\x1b[0mb", "allow"),
        NewRule("bash", "\ud800", "allow"),
        NewRule("bash", "*", "perhaps"),
    ],
)
def test_rules__are_checked(project, keeper, new):
    with pytest.raises(Invalid):
        rules.add_rule(actor=keeper, project=project, new=new)


def test_rules__take_an_owner(project):
    maintainer = make_member(project, Role.MAINTAINER)
    with pytest.raises(Forbidden):
        rules.add_rule(actor=maintainer, project=project, new=NewRule("bash", "*", "allow"))
