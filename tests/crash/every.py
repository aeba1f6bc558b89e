"""Every point of `make crash`, in the order of its table."""

from __future__ import annotations

from tests.crash.points import Point, points_alone
from tests.crash.together import points_together


def all_points() -> list[Point]:
    """One fault at a time, then two things in the same moment."""
    return [*points_alone(), *points_together()]
