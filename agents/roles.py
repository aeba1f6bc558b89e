"""What each role may do and what it is told. Pure; the same rules stand in the managed server's configuration.

Roles are the values of `agents.models.AgentRole`, written out: the process that runs the managed server has no Django.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agents.asks import PermissionAsked, Rule
from agents.rules import ALLOW, ASK, DENY, compact, decide, matches, rule

PLANNER, IMPLEMENTER, REVIEWER = ROLES = ("planner", "implementer", "reviewer")
# A reviewer judges what is there: what it cannot know is a finding, not a question.
MAY_QUESTION = (PLANNER, IMPLEMENTER)

# Commands that only read. The denials below close what a reading command could be made to write or to run; they are held
# against each command by the server and against the whole line by `decision`.
FILE_READING = ("ls", "cat", "head", "tail", "wc", "pwd", "rg")
# By version control system: one never runs where the other works. A repository that git keeps may bring a folder `.jj` along,
# whose configuration would have jj run programs. Of jj only what an alias cannot replace.
READING_COMMANDS = {
    "git": (
        "git log", "git diff", "git show", "git status", "git blame", "git ls-files", "git rev-parse", "git shortlog",
        "git merge-base", *FILE_READING,
    ),
    "jj": (
        "jj log", "jj diff", "jj show", "jj status", "jj evolog", "jj interdiff", "jj file list", "jj file show",
        "jj file annotate", "jj bookmark list", "jj operation log", *FILE_READING,
    ),
}  # fmt: skip
# For jj: no other configuration, diff tool or repository, however the shell would put such an option together.
JJ_NEVER_READING = (
    "jj *--config*", "jj *--tool*", "jj *--repository*", "jj *-R*", "jj *-?R*", "jj *-??R*", "jj *-???R*", "jj *$*",
    "jj *--*'*", 'jj *--*"*',
)  # fmt: skip
NEVER_READING = (
    "*>*", "*--output*", "*--no-index*", "*--ext-diff*", "*--pre *", "*--pre=*", "*.env*", *JJ_NEVER_READING,
)  # fmt: skip
# A shell joins `--out"put"`, and puts anything in the place of `$x`, so that a denied option is not seen as one: an option whose
# name is quoted or expanded, a word that begins with braces, and every expansion. The end of a pattern in quotes is none.
HIDDEN_OPTION = re.compile(
    r"""(?:^|\s)["'\\]*(?:-[^\s=]*["'\\{`$]|\{)|\$[\w{(@*#?!$-]|\$["'][^\s"']|`""",
)
PUSHES = ("git push*", "git -C * push*", "jj git push*", "jj * git push*")
TOOL_OUTPUT = "*/opencode/tool-output/*"  # where the server keeps what was too long to show
SECRET_FILES = ("*.env", "*.env.*")
PLAIN_FILES = ("*.env.example",)

# What a permission is about, in words; any other is named as the server names it.
PERMISSION_NAMES = {
    "bash": "a command",
    "edit": "changing a file",
    "read": "reading a file",
    "external_directory": "a folder outside the checkout",
    "webfetch": "an address on the web",
    "websearch": "a search of the web",
    "task": "a sub-agent",
    "question": "a question to people",
    "doom_loop": "going on although it repeats itself",
}
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
- Where the task leaves something open, decide and say so in the plan. Ask a question only where a wrong guess would make
  the plan worthless: people answer late, and the work waits meanwhile.""",
    IMPLEMENTER: """You are the implementer of OpenCode Studio. You carry out the approved plan in this checkout, which is yours alone.
- Work in the working directory only. Run the project's own checks before you finish.
- The studio commits what you leave and merges it when people agree: do not push, do not switch branches.
- Where something is open, decide and say so at the end. Ask a question only where a wrong guess would make the work
  worthless: people answer late, and the work waits meanwhile. The same holds for what needs a permission.
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


def permission_rules(role: str, vcs: str = "git") -> list[Rule]:
    """The rules of a session of the role in a checkout of `vcs`, over which a project may lay its own. The last match wins.

    A person is asked where an agent leaves its checkout, reads what looks like a secret, or goes round in circles. Pushing
    is not asked but denied: the studio merges.
    """
    rules = [
        rule("*", "*", ALLOW),
        rule("question", "*", ALLOW if role in MAY_QUESTION else DENY),
        rule("doom_loop", "*", ASK),
        rule("external_directory", "*", ASK),
        rule("external_directory", TOOL_OUTPUT, ALLOW),
        *(rule("read", pattern, ASK) for pattern in SECRET_FILES),
        *(rule("read", pattern, ALLOW) for pattern in PLAIN_FILES),
    ]
    if may_edit(role):
        return [*rules, *(rule("bash", pattern, DENY) for pattern in PUSHES)]
    return [
        *rules,
        rule("edit", "*", DENY),
        rule("task", "*", DENY),
        rule("bash", "*", DENY),
        *(rule("bash", pattern, ALLOW) for command in READING_COMMANDS[vcs] for pattern in (command, f"{command} *")),
        *(rule("bash", pattern, DENY) for pattern in NEVER_READING),
    ]


def locked_rules(role: str) -> list[Rule]:
    """What no rule of a project changes: a role that only reads stays one."""
    if may_edit(role):
        return []
    return [
        rule("edit", "*", DENY),
        rule("task", "*", DENY),
        *(rule("bash", pattern, DENY) for pattern in NEVER_READING),
    ]


def server_rules(role: str, rules: Sequence[Rule]) -> list[Rule]:
    """`rules` as the server is given them for a session of the role.

    The server shows a rule each command of a line, but not where the line writes its output: `ls && cat a > b` is to it `ls`
    and `cat a`. So what a reading role may run is asked, and `decision` looks at the whole line.
    """
    given: list[Rule] = []
    for one in rules:
        asked = not may_edit(role) and one["action"] == ALLOW and matches("bash", one["permission"])
        if not asked or one["permission"] != "bash":
            given.append(one)
        if asked:
            given.append(rule("bash", one["pattern"], ASK))
    return compact(given)


def decision(role: str, rules: Sequence[Rule], asked: PermissionAsked) -> str:
    """What `rules` say of something that an agent of the role (or a sub-agent of it) asks: allow, ask or deny."""
    action = decide(rules, asked)
    if action == ALLOW and asked.permission == "bash" and not may_edit(role):
        plain = bool(asked.command) and not HIDDEN_OPTION.search(asked.command)
        reads = plain and not any(matches(asked.command, pattern) for pattern in NEVER_READING)
        return ALLOW if reads else DENY
    return action


def sub_agent_rules() -> list[Rule]:
    """The rules of sub-agents on a managed server, beside the denials that they inherit from the session.

    What a project's rules may be about is asked of the studio, which answers at once by the rules of the session.
    """
    return [
        rule("*", "*", ALLOW),
        rule("question", "*", DENY),
        rule("doom_loop", "*", ASK),
        rule("external_directory", "*", ASK),
        rule("external_directory", TOOL_OUTPUT, ALLOW),
        *(rule("read", pattern, ASK) for pattern in SECRET_FILES),
        *(rule("read", pattern, ALLOW) for pattern in PLAIN_FILES),
        rule("edit", "*", ASK),
        rule("webfetch", "*", ASK),
        rule("bash", "*", ASK),
        *(rule("bash", pattern, DENY) for pattern in PUSHES),
    ]


def permission_config(rules: list[Rule]) -> dict[str, str | dict[str, str]]:
    """Rules in the form of the server's configuration: permission -> action, or pattern -> action."""
    config: dict[str, dict[str, str]] = {}
    for one in rules:
        config.setdefault(one["permission"], {})[one["pattern"]] = one["action"]
    return {name: value["*"] if list(value) == ["*"] else value for name, value in config.items()}
