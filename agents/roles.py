"""What each role may do and what it is told. Pure; the same rules stand in the managed server's configuration.

Roles are the values of `agents.models.AgentRole`, written out: the process that runs the managed server has no Django.
"""

from __future__ import annotations

PLANNER, IMPLEMENTER, REVIEWER = ROLES = ("planner", "implementer", "reviewer")

Rule = dict[str, str]

# Commands that only read. A pattern is matched against the whole command, redirections included, so the denials below
# close what a reading command could be made to write or to run.
READING_COMMANDS = (
    "git log", "git diff", "git show", "git status", "git blame", "git ls-files", "git rev-parse", "git shortlog",
    "git merge-base", "ls", "cat", "head", "tail", "wc", "pwd", "rg",
)  # fmt: skip
NEVER_READING = ("*>*", "*--output*", "*--no-index*", "*--ext-diff*", "*--pre *", "*--pre=*", "*.env*")
PUSHES = ("git push*", "git -C * push*")
TOOL_OUTPUT = "*/opencode/tool-output/*"  # where the server keeps what was too long to show
SECRET_FILES = ("*.env", "*.env.*")
PLAIN_FILES = ("*.env.example",)

AGENT_NAMES = {
    PLANNER: "studio-planner",
    IMPLEMENTER: "studio-implementer",
    REVIEWER: "studio-reviewer",
}
DESCRIPTIONS = {
    PLANNER: "Plans a task of the studio. Reads, never edits.",
    IMPLEMENTER: "Carries out a task of the studio in its own checkout.",
    REVIEWER: "Reviews a change of the studio. Reads, never edits.",
}
TELLINGS = {
    PLANNER: """You are the planner of OpenCode Studio. You read the repository and write a plan; you change nothing.
- You cannot edit files, and your shell runs reading commands only.
- A plan names the files, the steps in order, how to check each, and what stays as it is. Keep it as short as it can be.
- Nobody answers questions: where the task leaves something open, decide and say so in the plan.""",
    IMPLEMENTER: """You are the implementer of OpenCode Studio. You carry out the approved plan in this checkout, which is yours alone.
- Work in the working directory only. Run the project's own checks before you finish.
- The studio commits what you leave and merges it when people agree: do not push, do not switch branches.
- Nobody answers questions: where something is open, decide and say so at the end.
- Finish with a short summary of what you changed and how you checked it.""",
    REVIEWER: """You are the reviewer of OpenCode Studio. You judge a change against its task and plan; you change nothing.
- You cannot edit files, and your shell runs reading commands only.
- Report what is wrong, with file and line. `error` is for what must not be merged, `warning` and `info` for the rest.
- End with a clear verdict: approved, or changes_requested. Doubt about an error is a finding, not an approval.
- Nobody answers questions.""",
}


def may_edit(role: str) -> bool:
    """Whether the role may change files."""
    return role == IMPLEMENTER


def agent_name(role: str) -> str:
    """The name of the role's agent on a managed server."""
    return AGENT_NAMES[role]


def system_text(role: str, instructions: str = "") -> str:
    """What an agent of the role is told with each prompt, with a profile's `instructions` after it."""
    return "\n\n".join(text for text in (TELLINGS[role], instructions.strip()) if text)


def permission_rules(role: str) -> list[Rule]:
    """The rules of a session of the role. The last match wins, and every question is decided: nobody would answer an ask."""
    rules = [
        _rule("*", "*", "allow"),
        _rule("question", "*", "deny"),
        _rule("doom_loop", "*", "deny"),
        _rule("external_directory", "*", "deny"),
        _rule("external_directory", TOOL_OUTPUT, "allow"),
        *(_rule("read", pattern, "deny") for pattern in SECRET_FILES),
        *(_rule("read", pattern, "allow") for pattern in PLAIN_FILES),
    ]
    if may_edit(role):
        return [*rules, *(_rule("bash", pattern, "deny") for pattern in PUSHES)]
    return [
        *rules,
        _rule("edit", "*", "deny"),
        _rule("task", "*", "deny"),
        _rule("bash", "*", "deny"),
        *(_rule("bash", pattern, "allow") for command in READING_COMMANDS for pattern in (command, f"{command} *")),
        *(_rule("bash", pattern, "deny") for pattern in NEVER_READING),
    ]


def permission_config(role: str) -> dict[str, str | dict[str, str]]:
    """The same rules in the form of the server's configuration: permission -> action, or pattern -> action."""
    config: dict[str, str | dict[str, str]] = {}
    for rule in permission_rules(role):
        patterns = config.setdefault(rule["permission"], {})
        assert isinstance(patterns, dict)  # noqa: S101 -- for the type checker: nothing else is put in above
        patterns[rule["pattern"]] = rule["action"]
    return {
        name: value["*"] if isinstance(value, dict) and list(value) == ["*"] else value
        for name, value in config.items()
    }


def _rule(permission: str, pattern: str, action: str) -> Rule:
    return {"permission": permission, "pattern": pattern, "action": action}
