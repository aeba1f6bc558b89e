"""The main job through the API alone, on the real agent server with the practice model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.scripts import APPROVE, ERROR, PLAN, bash, script, write
from tests.e2e.studio_process import commits
from tests.repositories import git

pytestmark = pytest.mark.real


def reach_review(studio, key):
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    return studio.wait_status(key, "review")


def test_story__from_a_sentence_to_a_merged_commit(studio, project):
    key = studio.task(project, "Write the result", script())["key"]
    task = studio.wait_status(key, "planning_review")
    assert task["needs"] == "plan_approval"
    plans = studio.get(f"/tasks/{key}/plans")["results"]
    assert [plan["version"] for plan in plans] == [1]
    assert "result.txt" in plans[0]["text"]
    studio.post(f"/tasks/{key}/approve_plan")
    studio.wait_status(key, "review")
    assert [review["verdict"] for review in studio.get(f"/tasks/{key}/reviews")["results"]] == ["approved"]
    diff = studio.get(f"/tasks/{key}/diff")
    assert [file["new_path"] for file in diff["files"]] == ["result.txt"]
    studio.post(f"/tasks/{key}/complete", {"how": "squash"})
    studio.wait_status(key, "done")
    folder = project["folder"]
    assert (folder / "result.txt").read_text() == "done\n"  # the person's clean checkout shows it
    assert git(folder, "status", "--porcelain") == ""
    assert len(commits(folder, "trunk")) == 2
    workspace = studio.get(f"/tasks/{key}")["workspace"]
    assert git(folder, "worktree", "list").count("\n") == 2  # it stays for the project's days
    studio.post(f"/workspaces/{workspace}/remove", status=202)
    studio.wait(key, lambda _: git(folder, "worktree", "list").count("\n") == 1)
    phases = [run["phase"] for run in studio.get(f"/tasks/{key}/runs")["results"]]
    assert phases == ["planning", "implementation", "review"]


def test_reject_plan__plans_again_with_the_feedback(studio, project):
    second = {"plan": "## Plan\n\nA better one."}
    key = studio.task(project, "Plan twice", script(planning=[[PLAN], [second]]))["key"]
    studio.wait_status(key, "planning_review")
    refusal = studio.post(f"/tasks/{key}/reject_plan", status=400)
    assert refusal["error"]["code"] == "invalid"
    studio.post(f"/tasks/{key}/reject_plan", {"feedback": "Say more about the tests."})
    task = studio.wait(
        key,
        lambda task: (
            task["status"] == "planning_review"
            and task["run_state"] == "waiting"
            and len(studio.get(f"/tasks/{key}/plans")["results"]) == 2
        ),
    )
    assert task["needs"] == "plan_approval"
    session = studio.get(f"/tasks/{key}/sessions")["results"][-1]
    prompt = next(
        event["data"]["text"]
        for event in studio.get(f"/sessions/{session['id']}/events?limit=200")["results"]
        if event["kind"] == "user"
    )
    assert "Say more about the tests." in prompt
    assert "Write `result.txt`" in prompt


def test_fix_round__is_approved_in_the_second(studio, project):
    steps = script(implementation=[[write("wrong\n")]], fix=[[write("done\n")]], review=[[ERROR], [APPROVE]])
    key = studio.task(project, "Fix it", steps)["key"]
    reach_review(studio, key)
    assert [review["verdict"] for review in studio.get(f"/tasks/{key}/reviews")["results"]] == [
        "changes_requested",
        "approved",
    ]
    phases = [run["phase"] for run in studio.get(f"/tasks/{key}/runs")["results"]]
    assert phases == ["planning", "implementation", "review", "fix", "review"]
    findings = studio.get(f"/tasks/{key}/findings")["results"]
    assert [finding["state"] for finding in findings] == ["verified"]


def test_rounds__rejected_for_ever_stops_with_the_reason(studio, project):
    studio.call("PATCH", f"/projects/{project['id']}", {"max_review_rounds": 2})
    steps = script(fix=[[write(f"try {n}\n")] for n in range(9)], review=[[ERROR]])
    key = studio.task(project, "Never good enough", steps)["key"]
    task = reach_review(studio, key)
    assert task["needs"] == "decision"
    assert "2" in task["reason"]


def test_replies_in_prose__work_without_the_tools(studio, project):
    verdict = {"text": 'All good.\n\n```json\n{"verdict": "approved", "summary": "ok", "findings": []}\n```'}
    steps = script(planning=[[{"text": "## Plan\n\nIn prose."}]], review=[[verdict]])
    key = studio.task(project, "Prose only", steps)["key"]
    reach_review(studio, key)
    assert studio.get(f"/tasks/{key}/plans")["results"][0]["text"].startswith("## Plan")


@pytest.mark.parametrize(
    ("phases", "status", "code"),
    [
        ({"planning": [[{"text": ""}]]}, "planning", "plan_missing"),
        ({"implementation": [[{"text": "I did nothing."}]]}, "in_progress", "empty_change"),
        ({"review": [[{"text": "This is NOT APPROVED. I approved nothing."}]]}, "ai_review", "verdict_missing"),
        ({"planning": [[{"fault": {"kind": "status", "status": 401}}]]}, "planning", "provider_auth"),
    ],
    ids=["empty plan", "empty change", "no verdict", "401"],
)
def test_failed_runs__never_move_a_task(studio, project, phases, status, code):
    key = studio.task(project, f"Fails with {code}", script(**phases))["key"]
    if status != "planning":
        studio.wait_status(key, "planning_review")
        studio.post(f"/tasks/{key}/approve_plan")
    task = studio.wait(key, lambda task: task["run_state"] == "failed")
    assert (task["status"], task["error_code"], task["needs"]) == (status, code, "failure")
    assert task["reason"]


def test_provider_429__waits_and_goes_on_by_itself(studio, project):
    limited = {**PLAN, "fault": {"kind": "status", "status": 429, "retry_after": 1, "times": 2}}
    key = studio.task(project, "Limited", script(planning=[[limited]]))["key"]
    studio.wait_status(key, "planning_review")


def test_two_starts__one_wins(studio, project):
    key = studio.task(project, "Start me", script(), start=False)["key"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda _: studio.http.post(f"{studio.url}/api/v1/tasks/{key}/start", json={}, timeout=30), range(4)
            )
        )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert "cancel" in next(a for a in answers if a.status_code == 409).json()["error"]["allowed"]
    studio.wait_status(key, "planning_review")
    assert len(studio.get(f"/tasks/{key}/runs")["results"]) == 1


def test_stop_and_resume__in_the_middle_of_a_turn(studio, project):
    slow = [bash("sleep 60"), write("done\n")]
    key = studio.task(project, "Stop me", script(implementation=[slow]))["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    studio.wait(key, lambda task: task["run_state"] == "running")
    studio.post(f"/tasks/{key}/stop")
    task = studio.wait(key, lambda task: task["run_state"] == "stopped")
    assert (task["status"], task["needs"]) == ("in_progress", "resume")
    studio.post(f"/tasks/{key}/cancel", {"reason": "no longer wanted"})
    assert studio.get(f"/tasks/{key}")["status"] == "cancelled"


def test_conflict__leaves_the_task_in_review_with_the_files(studio, project):
    key = studio.task(project, "Conflict", script())["key"]
    reach_review(studio, key)
    folder = project["folder"]
    (folder / "result.txt").write_text("mine\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "Mine first")
    studio.post(f"/tasks/{key}/complete", {"how": "merge"})
    task = studio.wait(key, lambda task: task["needs"] == "conflict")
    assert task["status"] == "review"
    assert "result.txt" in task["reason"]
    assert (folder / "result.txt").read_text() == "mine\n"


def test_dirty_checkout__is_refused_and_left_alone(studio, project):
    key = studio.task(project, "Dirty", script())["key"]
    reach_review(studio, key)
    folder = project["folder"]
    (folder / "README.md").write_text("unsaved work\n")
    studio.post(f"/tasks/{key}/complete", {"how": "merge"})
    task = studio.wait(key, lambda task: task["error_code"] == "merge_refused")
    assert task["status"] == "review"
    assert "README.md" in task["reason"]
    assert (folder / "README.md").read_text() == "unsaved work\n"
    git(folder, "checkout", "-q", "--", "README.md")
    studio.post(f"/tasks/{key}/complete", {"how": "merge"})
    studio.wait_status(key, "done")
