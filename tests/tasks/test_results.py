from __future__ import annotations

import pytest

from studio.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from studio.models import FeedEvent
from tasks.choices import FindingState, Phase, RunPhaseState
from tasks.models import Finding, PhaseRun, Review
from tasks.services import results
from tasks.verdicts import FINDINGS_LIMIT, FoundFinding
from tests.factories import make_finding
from tests.tasks.pipeline import ERROR, WARNING

pytestmark = pytest.mark.django_db

CALLS = {
    "submit_plan": (lambda run: results.submit_plan(run, "# Plan"), {Phase.PLANNING}),
    "report_finding": (lambda run: results.report_finding(run, ERROR), {Phase.REVIEW}),
    "submit_verdict": (lambda run: results.submit_verdict(run, "approved", ""), {Phase.REVIEW}),
    "phase_summary": (lambda run: results.phase_summary(run, "Done."), set(Phase)),
}


@pytest.mark.parametrize("phase", Phase.values)
@pytest.mark.parametrize("name", CALLS)
def test_each_tool__fits_its_phases(pipeline, name, phase):
    run = pipeline.to(phase)
    call, phases = CALLS[name]
    if phase in phases:
        call(str(run.pk))
    else:
        with pytest.raises(Forbidden) as refusal:
            call(str(run.pk))
        assert name in refusal.value.message
        assert phase in refusal.value.message


@pytest.mark.parametrize("state", [state for state in RunPhaseState if state != RunPhaseState.RUNNING])
@pytest.mark.parametrize("name", CALLS)
def test_no_tool__after_or_before_the_run(pipeline, name, state):
    call, phases = CALLS[name]
    run = pipeline.to(sorted(phases)[0])
    PhaseRun.objects.filter(pk=run.pk).update(state=state)
    with pytest.raises(Conflict):
        call(str(run.pk))


def test_no_tool__once_a_stop_was_asked_for(pipeline):
    run = pipeline.to(Phase.PLANNING)
    pipeline.act("stop")
    with pytest.raises(Conflict):
        results.submit_plan(str(run.pk), "# Plan")


@pytest.mark.parametrize("run_id", ["", "not an id", "00000000-0000-0000-0000-000000000000", "' OR 1=1"])
def test_no_tool__for_a_run_that_is_none(pipeline, run_id):
    with pytest.raises(Forbidden):
        results.submit_plan(run_id, "# Plan")


@pytest.mark.parametrize("text", ["", " \n", "\x00", "p" * (results.PLAN_LIMIT + 1)])
def test_submit_plan__refuses_what_is_none(pipeline, text):
    run = pipeline.to(Phase.PLANNING)
    with pytest.raises(Invalid):
        results.submit_plan(str(run.pk), text)
    assert pipeline.task.plans.count() == 0


def test_submit_plan__is_cleaned_and_told(pipeline):
    run = pipeline.to(Phase.PLANNING)
    plan = results.submit_plan(str(run.pk), "\r\n# Plan\x00\r\n\x1b[31mred\ud800 ")
    plan.refresh_from_db()
    assert plan.text == "# Plan\nred���"
    event = FeedEvent.objects.order_by("-seq").first()
    assert (event.kind, event.payload["version"]) == ("plan.ready", 1)


def test_report_finding__numbers_by_task_and_repeats_are_one(pipeline):
    run = pipeline.to(Phase.REVIEW)
    first = results.report_finding(str(run.pk), ERROR)
    again = results.report_finding(str(run.pk), FoundFinding("warning", ERROR.title, "Milder.", ERROR.file, ERROR.line))
    second = results.report_finding(str(run.pk), WARNING)
    assert (first.number, again.number, second.number) == (1, 1, 2)
    assert Finding.objects.get(number=1).severity == "warning"
    assert Review.objects.count() == 1


def test_report_finding__is_bounded(pipeline):
    run = pipeline.to(Phase.REVIEW)
    found = results.report_finding(str(run.pk), FoundFinding("info", "t\n" * 500, "b" * 30_000, "f" * 2_000, None))
    assert (len(found.title), len(found.body), len(found.file)) == (300, results.TEXT_LIMIT, results.FILE_LIMIT)
    for number in range(FINDINGS_LIMIT - 1):
        results.report_finding(str(run.pk), FoundFinding("info", f"t{number}", "", "", None))
    with pytest.raises(Invalid):
        results.report_finding(str(run.pk), FoundFinding("info", "one too many", "", "", None))


@pytest.mark.parametrize(
    "found", [FoundFinding("critical", "t", "", "", None), FoundFinding("error", " ", "", "", None)]
)
def test_report_finding__refuses(pipeline, found):
    run = pipeline.to(Phase.REVIEW)
    with pytest.raises(Invalid):
        results.report_finding(str(run.pk), found)


@pytest.mark.parametrize("verdict", ["", "Approved", "not approved", "approved\n", "rejected"])
def test_submit_verdict__two_exact_values(pipeline, verdict):
    run = pipeline.to(Phase.REVIEW)
    with pytest.raises(Invalid):
        results.submit_verdict(str(run.pk), verdict, "")


def test_submit_verdict__the_last_one_counts(pipeline):
    run = pipeline.to(Phase.REVIEW)
    results.submit_verdict(str(run.pk), "changes_requested", "No.")
    review, contradicting = results.submit_verdict(str(run.pk), "approved", "Yes after all.")
    assert (review.verdict, review.summary, contradicting) == ("approved", "Yes after all.", [])
    assert review.decided_at


def test_mark_finding__who_may_say_what(pipeline):
    run = pipeline.to(Phase.FIX)
    with pytest.raises(Invalid):
        results.mark_finding(str(run.pk), 1, "verified")
    assert results.mark_finding(str(run.pk), 1, "fixed", "Line 1.").note == "Line 1."
    with pytest.raises(NotFound):
        results.mark_finding(str(run.pk), 99, "fixed")
    pipeline.write("goodbye.py", "2\n")
    pipeline.settle()
    run = pipeline.begin()
    with pytest.raises(Invalid):
        results.mark_finding(str(run.pk), 1, "fixed")
    assert results.mark_finding(str(run.pk), 1, "verified").state == FindingState.VERIFIED


def test_mark_finding__not_what_a_person_dismissed(pipeline):
    run = pipeline.to(Phase.FIX)
    Finding.objects.update(state=FindingState.DISMISSED)
    with pytest.raises(NotFound):
        results.mark_finding(str(run.pk), 1, "open")


def test_mark_finding__not_of_an_earlier_attempt(pipeline):
    pipeline.to(Phase.FIX)
    pipeline.act("cancel")
    pipeline.act("reopen")
    run = pipeline.to(Phase.REVIEW)
    with pytest.raises(NotFound):
        results.mark_finding(str(run.pk), 1, "verified")
    assert results.report_finding(str(run.pk), WARNING).number == 2


def test_phase_summary__is_kept(pipeline):
    run = pipeline.to(Phase.IMPLEMENTATION)
    results.phase_summary(str(run.pk), " Said by tool. ")
    pipeline.write("x.py", "x\n")
    run = pipeline.settle(result_text="Said at the end.")
    assert run.summary == "Said by tool."


def test_dismissed_findings__block_nothing(pipeline):
    pipeline.to(Phase.REVIEW)
    make_finding(pipeline.task, review=Review.objects.get(), state=FindingState.DISMISSED)
    results.submit_verdict(str(pipeline.run().pk), "approved", "")
    pipeline.settle()
    assert pipeline.shown[0] == "review"
