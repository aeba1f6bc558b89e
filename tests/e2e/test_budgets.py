"""Budgets on a whole studio: the agent waits for a person and goes on, is ended, or is not even begun."""

from __future__ import annotations

import pytest

from tests.e2e.scripts import PLAN, bash, gate, script, write

pytestmark = pytest.mark.real

# The practice model costs a dollar for a million tokens in.
DEAR = {"usage": {"input": 300_000, "output": 10}}


def work(studio, project, *steps):
    """A task whose implementation follows the steps, with its plan approved; its key."""
    key = studio.task(project, "Write the result", script(implementation=[list(steps)]))["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    return key


def limit(studio, project, **fields):
    return studio.post(f"/projects/{project['id']}/budgets", {"metric": "cost", **fields})


def pending(studio, project):
    return studio.get(f"/asks?state=pending&project={project['id']}")["results"]


def asked(studio, key):
    """(phase, step) of what the practice model was asked for the task, however it ended."""
    return [(line["phase"], line["step"]) for line in studio.practice_log() if line["task"] == key]


def test_ask__a_person_lets_it_go_on_where_it_was(studio, project):
    limit(studio, project, scope="task", amount=0.25, action="ask")
    key = work(studio, project, bash("echo one >> count.txt", **DEAR), gate(), write("done\n"))
    task = studio.wait(key, lambda task: task["run_state"] == "waiting" and task["status"] == "in_progress")
    assert task["needs"] == "answer"
    assert "This task has used $0.31 of $0.25: go on?" in task["reason"]
    (ask,) = pending(studio, project)
    assert ask["kind"] == "budget"
    studio.open_gate(key)
    studio.post(f"/asks/{ask['id']}/answer", {"reply": "once"})
    studio.wait_status(key, "review")
    assert pending(studio, project) == []
    assert asked(studio, key).count(("implementation", 0)) == 1  # the finished step was not asked again
    diff = studio.get(f"/tasks/{key}/diff")
    assert sorted(file["new_path"] for file in diff["files"]) == ["count.txt", "go", "result.txt"]
    (used,) = studio.get(f"/usage?task={key}&group=task")["results"]
    assert used["task"] == key
    assert 0.3 < used["cost"] < 0.5
    sessions = studio.get(f"/tasks/{key}/sessions")["results"]
    assert used["cost"] == pytest.approx(sum(one["cost"] for one in sessions))
    kinds = [one["kind"] for one in studio.get(f"/feed?project={project['id']}&limit=200")["results"]]
    assert kinds.count("budget.reached") == 1


def test_stop__ends_the_turn_and_says_why_on_the_card(studio, project):
    budget = limit(studio, project, scope="run", amount=0.25, action="stop")
    key = work(studio, project, bash("touch begun.txt", **DEAR), gate(), write("done\n"))
    task = studio.wait(key, lambda task: task["run_state"] == "failed")
    assert (task["status"], task["error_code"], task["needs"]) == ("in_progress", "budget_exceeded", "failure")
    assert "This run has used $0.30 of $0.25." in task["reason"]
    (run,) = [one for one in studio.get(f"/tasks/{key}/runs")["results"] if one["phase"] == "implementation"]
    assert run["error_code"] == "budget_exceeded"
    studio.call("PATCH", f"/projects/{project['id']}/budgets/{budget['id']}", {"amount": 5})
    studio.open_gate(key)
    studio.post(f"/tasks/{key}/retry")
    studio.wait_status(key, "review")


def test_run__a_last_step_over_the_budget_keeps_the_next_run_waiting_until_a_person_has_decided(studio, project):
    limit(studio, project, scope="run", amount=0.25, action="ask")
    steps = [write("done\n"), {"text": "Done.", **DEAR}]
    key = studio.task(project, "Write the result", script(implementation=[steps]))["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    task = studio.wait(key, lambda task: task["run_state"] == "waiting" and task["status"] == "ai_review")
    assert task["needs"] == "answer"
    assert "The run before this one has used $0.30 of $0.25: go on?" in task["reason"]
    assert [phase for phase, _ in asked(studio, key)].count("review") == 0
    (budget,) = studio.get(f"/projects/{project['id']}/budgets")["results"]
    assert budget["reached"] is True
    (ask,) = pending(studio, project)
    studio.post(f"/asks/{ask['id']}/answer", {"reply": "once"})
    studio.wait_status(key, "review")


def test_day__a_used_up_budget_begins_nothing(studio, project):
    first = studio.task(project, "Dear", script(planning=[[{**PLAN, **DEAR}]]))["key"]
    studio.wait_status(first, "planning_review")
    limit(studio, project, scope="day", amount=0.25, action="ask")
    second = studio.task(project, "Too late for today", script())["key"]
    task = studio.wait(second, lambda task: task["run_state"] == "waiting")
    assert "This project has used $0.30 of $0.25 today: go on?" in task["reason"]
    (ask,) = pending(studio, project)
    studio.post(f"/asks/{ask['id']}/answer", {"reply": "reject", "message": "Tomorrow."})
    task = studio.wait(second, lambda task: task["run_state"] == "failed")
    assert task["error_code"] == "budget_exceeded"
    assert "said no: Tomorrow." in task["reason"]
    assert asked(studio, second) == []


def test_warn__is_told_and_changes_nothing(studio, project):
    limit(studio, project, scope="turn", metric="tokens", amount=1000, action="warn")
    key = work(studio, project, write("done\n", **DEAR))
    studio.wait_status(key, "review")
    events = studio.get(f"/feed?project={project['id']}&limit=200")["results"]
    told = [one["data"] for one in events if one["kind"] == "budget.reached"]
    assert "This turn has used" in told[0]["message"]
