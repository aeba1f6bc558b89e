"""What a pull request says: its title and body, made from the task, its plan and what the agent said it did."""

from __future__ import annotations

from studio.kernel.redact import redact
from studio.kernel.text import clean, cut
from tasks import selectors
from tasks.models import ImportedIssue, Task
from workspaces.services import find_text

TEMPLATES = (
    ".github/PULL_REQUEST_TEMPLATE.md", ".github/pull_request_template.md", ".gitea/PULL_REQUEST_TEMPLATE.md",
    ".gitea/pull_request_template.md", ".forgejo/PULL_REQUEST_TEMPLATE.md", ".forgejo/pull_request_template.md",
    "PULL_REQUEST_TEMPLATE.md", "pull_request_template.md", "docs/PULL_REQUEST_TEMPLATE.md",
    "docs/pull_request_template.md",
)  # fmt: skip
TEMPLATE_LIMIT = 20_000  # bytes
SUMMARY_LIMIT = 8_000  # characters
PLAN_LIMIT = 20_000


def made_title(task: Task) -> str:
    """The task's title."""
    return " ".join(task.title.split())


def made_body(task: Task) -> str:
    """Markdown: what was done, the plan folded away, where it came from, and the repository's own template."""
    work, plan = selectors.last_work(task), selectors.current_plan(task)
    issue = ImportedIssue.objects.filter(task=task).first()
    parts = [cut(clean(work.summary).strip(), SUMMARY_LIMIT) if work is not None else ""]
    if plan is not None:
        text = cut(clean(plan.text).strip(), PLAN_LIMIT)
        parts.append(f"<details><summary>The plan</summary>\n\n{text}\n\n</details>")
    if issue is not None:
        parts.append(f"Closes #{issue.number}" if _same_forge(task, issue) else f"For {issue.url}")
    parts.append(f"Task: {task.key}")
    template = find_text(task.workspace, TEMPLATES, limit=TEMPLATE_LIMIT).strip() if task.workspace is not None else ""
    if template:
        parts.append(f"---\n\n{template}")
    # An agent may have quoted a secret that it came across; what is pushed out is read by others.
    return redact("\n\n".join(part for part in parts if part))


def _same_forge(task: Task, issue: ImportedIssue) -> bool:
    connection = getattr(task.project, "forge", None)
    return connection is not None and connection.repository == issue.repository
