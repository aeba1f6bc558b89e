"""Bounded work on a claimed run: what fails for a passing reason is tried again, what keeps failing fails the run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from django.db.models import F

from studio.kernel.claim import fenced
from studio.kernel.clock import later
from studio.kernel.errors import StudioError, Upstream
from tasks.models import PhaseRun
from tasks.services.runs import fail_run

log = structlog.get_logger(__name__)

MAX_FAILURES = 4
BACKOFF = 2.0  # seconds, doubled with each failure


class StepError(Exception):
    """A step of a run that failed, with the code that its card will show."""

    def __init__(self, code: str, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.transient = transient


@contextmanager
def failing_as(code: str) -> Iterator[None]:
    """Give the failures of what is done inside a code of the closed list."""
    try:
        yield
    except StudioError as error:
        transient = isinstance(error, Upstream) and error.transient
        raise StepError(code, error.message, transient=transient) from error
    except OSError as error:
        raise StepError(code, str(error), transient=True) from error


def work_on(run: PhaseRun, epoch: int, work: Callable[[], None]) -> None:
    """Do `work` on a run claimed with `epoch`, at most MAX_FAILURES times without success.

    The try is counted before it begins: work that kills its worker is bounded like work that raises.
    """
    if not fenced(PhaseRun, run.pk, epoch).update(failures=F("failures") + 1):
        return
    tries = run.failures + 1
    if tries > MAX_FAILURES:
        fail_run(run.pk, "internal_error", f"This step was begun {MAX_FAILURES} times and never ended.", epoch=epoch)
        return
    try:
        work()
    except StepError as error:
        log.info("step_failed", run=str(run.pk), code=error.code, message=error.message, tries=tries)
        if error.transient and tries < MAX_FAILURES:
            postpone(run, epoch, BACKOFF * 2**tries)
        else:
            fail_run(run.pk, error.code, error.message, epoch=epoch)
    except Exception as error:
        log.exception("step_crashed", run=str(run.pk), tries=tries)
        if tries < MAX_FAILURES:
            postpone(run, epoch, BACKOFF * 2**tries)
        else:
            fail_run(run.pk, "internal_error", f"{type(error).__name__}: {error}", epoch=epoch)


def postpone(run: PhaseRun, epoch: int, seconds: float) -> None:
    """Give the run back, to be tried again after about `seconds`."""
    delay = seconds * random.uniform(0.75, 1.25)  # noqa: S311 -- jitter
    fenced(PhaseRun, run.pk, epoch).update(next_try_at=later(delay), lease_owner="", lease_until=None)


def wait(run: PhaseRun, epoch: int, seconds: float, note: str) -> None:
    """Give the run back because what it needs is not free yet; waiting is no failure."""
    fenced(PhaseRun, run.pk, epoch).update(
        failures=0, note=note, next_try_at=later(seconds), lease_owner="", lease_until=None
    )
