"""The board's rows."""

from tasks.models.issue import ImportedIssue
from tasks.models.review import Finding, Plan, Review
from tasks.models.run import PhaseRun
from tasks.models.task import Task, TaskHistory

__all__ = ["Finding", "ImportedIssue", "PhaseRun", "Plan", "Review", "Task", "TaskHistory"]
