"""How a managed server is set up: roles, configuration, environment, shell, login, endpoint, binary."""

from __future__ import annotations

import json
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agents import discovery
from agents.asks import PermissionAsked
from agents.discovery import BinaryMissingError, find_binary
from agents.endpoint import Endpoint, endpoint_path, read_endpoint, remove_endpoint, write_endpoint
from agents.environment import COMMAND, MARK
from agents.identity import mark_process
from agents.models import AgentRole
from agents.opencode.config import (
    ServerFolder,
    UserSetup,
    build_config,
    build_environment,
    copy_login,
    find_user_setup,
    without_comments,
    write_shell,
)
from agents.roles import (
    PUSHES,
    agent_name,
    decision,
    locked_rules,
    permission_config,
    permission_rules,
    server_rules,
    sub_agent_rules,
    system_text,
)
from agents.rules import compact, evaluate, matches, rule


def decide(role, permission, pattern):
    """What the role's rules say."""
    return evaluate(permission_rules(role), permission, pattern)


@pytest.mark.parametrize("role", AgentRole)
def test_rules__ask_a_person_where_an_agent_leaves_its_bounds(role):
    assert decide(role, "studio_submit_plan", "*") == "allow"
    assert decide(role, "question", "*") == ("deny" if role == AgentRole.REVIEWER else "allow")
    assert decide(role, "doom_loop", "*") == "ask"
    assert decide(role, "external_directory", "/etc/*") == "ask"
    assert decide(role, "external_directory", "/x/opencode/tool-output/tool_1") == "allow"
    assert decide(role, "read", "/srv/tree/.env") == "ask"
    assert decide(role, "read", "/srv/tree/.env.local") == "ask"
    assert decide(role, "read", "/srv/tree/.env.example") == "allow"
    assert decide(role, "bash", "git push origin main") == "deny"


@pytest.mark.parametrize("role", [AgentRole.PLANNER, AgentRole.REVIEWER])
def test_reading_roles__cannot_change_anything(role):
    assert decide(role, "edit", "a.py") == "deny"
    assert decide(role, "task", "general") == "deny"
    for command in ("rm a", "git commit -m x", "git log > x", "ls >> x", "python3 -c 1", "rg --pre sh x", "cat .env"):
        assert decide(role, "bash", command) == "deny", command
    for command in ("git log --oneline", "git diff", "git show HEAD", "ls -la", "rg -n word", "cat README.md"):
        assert decide(role, "bash", command) == "allow", command
    assert decide(role, "bash", "lsof -i") == "deny"


@pytest.mark.parametrize("role", [AgentRole.PLANNER, AgentRole.REVIEWER])
def test_reading_roles__of_a_jj_checkout_read_with_jj_and_nothing_else(role):
    def decided(command: str, vcs: str = "jj") -> str:
        return evaluate(permission_rules(role, vcs), "bash", command)

    for command in (
        "jj log -r 'main..@' --no-graph",
        "jj diff --git --from abc --to def -- src/a.py",
        "jj show --stat --git @-",
        "jj status",
        "jj file show -r @- a.py",
        "ls -la",
    ):
        assert decided(command) == "allow", command
        if command.startswith("jj"):
            assert decided(command, "git") == "deny"
    for command in (
        "jj new", "jj edit main", "jj undo", "jj util exec -- sh", "jj st", "jj bookmark set main -r @", "jj op restore x",
        "jj log --config ui.pager=x", "jj log --config-file=x", "jj diff --tool meld", "jj log -R elsewhere", "jj log -pRelsewhere",
        "jj log '-R' elsewhere", "jj log --con'fig' x", 'jj log --"config" x', "jj log -\"R\" x", "jj log $X", "jj diff > x",
        "jj -R x log", "git log", "git push",
    ):  # fmt: skip
        assert decided(command) == "deny", command
    assert evaluate(permission_rules(AgentRole.IMPLEMENTER, "jj"), "bash", "jj git push --all") == "deny"
    assert evaluate(permission_rules(AgentRole.IMPLEMENTER, "jj"), "bash", "jj new") == "allow"


def test_implementer__may_edit_and_run():
    assert decide(AgentRole.IMPLEMENTER, "edit", "a.py") == "allow"
    assert decide(AgentRole.IMPLEMENTER, "bash", "make test") == "allow"


@pytest.mark.parametrize("role", AgentRole)
def test_configuration__says_the_same_as_the_rules(role):
    config = permission_config(permission_rules(role))
    flat = []
    for permission, value in config.items():
        patterns = {"*": value} if isinstance(value, str) else value
        flat += [
            {"permission": permission, "pattern": pattern, "action": action} for pattern, action in patterns.items()
        ]
    key = lambda rule: (rule["permission"], rule["pattern"])  # noqa: E731
    assert sorted(flat, key=key) == sorted(permission_rules(role), key=key)


def test_system_text__ends_with_the_profiles_instructions():
    text = system_text(AgentRole.PLANNER, "  Be brief.\n")
    assert text.startswith("You are the planner")
    assert text.endswith("\n\nBe brief.")
    assert system_text(AgentRole.REVIEWER).endswith("Nobody answers questions.")


def test_sub_agents__are_asked_what_rules_may_be_about():
    for permission, pattern in (("bash", "ls"), ("edit", "a.py"), ("webfetch", "https://x"), ("read", ".env")):
        assert evaluate(sub_agent_rules(), permission, pattern) == "ask"
    assert evaluate(sub_agent_rules(), "bash", "git push") == "deny"
    assert evaluate(sub_agent_rules(), "question", "*") == "deny"
    assert evaluate(sub_agent_rules(), "read", "a.py") == "allow"


@pytest.mark.parametrize("role", [AgentRole.PLANNER, AgentRole.REVIEWER])
def test_locked_rules__outrank_an_allowance_for_everything(role):
    rules = [*permission_rules(role), rule("*", "*", "allow"), *locked_rules(role)]
    for permission, pattern in (("edit", "a.py"), ("task", "general"), ("bash", "ls > x"), ("bash", "cat .env")):
        assert evaluate(rules, permission, pattern) == "deny", pattern
    assert locked_rules(AgentRole.IMPLEMENTER) == []


@pytest.mark.parametrize("role", [AgentRole.PLANNER, AgentRole.REVIEWER])
@pytest.mark.parametrize(
    ("command", "parts", "action"),
    [
        ("ls && cat a > b", ["ls", "cat a"], "deny"),
        ("ls && cat a", ["ls", "cat a"], "allow"),
        ("ls && rm a", ["ls", "rm a"], "deny"),
        ("", ["ls"], "deny"),
        *(
            (hidden, [hidden], "deny")
            for hidden in (
                'git diff --out"put"=x',
                "git diff '-'-output=x",
                "git diff -\\-output=x",
                "git diff $'\\x2d-output=x'",
                "git diff {--o,}utput=x",
                "git diff ${x:---o}utput=x",
                'git diff "$x"-"-output=x"',
                "git diff `echo x`",
            )
        ),
        *(
            (plain, [plain], "allow")
            for plain in (
                "git log --format='%h %s' -n 5",
                "rg 'foo$' src",
                'git log --grep="a b"',
                "git diff HEAD~1 -- 'a b'",
                'rg "x{2}"',
            )
        ),
    ],
)
def test_reading_roles__are_judged_by_the_whole_line(role, command, parts, action):
    asked = PermissionAsked("ses_1", "per_1", "/srv", "bash", tuple(parts), command=command)
    assert decision(role, permission_rules(role), asked) == action
    assert decision(role, permission_rules(role), replace(asked, exact=False)) != "allow"


@pytest.mark.parametrize("role", [AgentRole.PLANNER, AgentRole.REVIEWER])
def test_reading_roles__never_run_a_command_that_the_studio_has_not_seen(role):
    rules = [*permission_rules(role), rule("*", "*", "allow"), *locked_rules(role)]
    for command in ("ls", "cat a", "make"):
        assert evaluate(server_rules(role, rules), "bash", command) == "ask"
        assert evaluate(server_rules(role, permission_rules(role)), "bash", command) != "allow"
    assert evaluate(server_rules(role, rules), "read", "a.py") == "allow"
    plain = permission_rules(AgentRole.IMPLEMENTER)
    assert server_rules(AgentRole.IMPLEMENTER, plain) == plain


def test_compact__forgets_what_a_later_rule_overrides_in_full():
    taken_back = [rule("bash", "rm *", "deny"), rule("bash", "*", "deny"), rule("bash", "*", "allow")]
    assert compact(taken_back) == [rule("bash", "*", "allow")]
    narrower = [rule("bash", "*", "deny"), rule("bash", "ls *", "allow")]
    assert compact(narrower) == narrower
    assert compact([*narrower, rule("*", "*", "ask")]) == [rule("*", "*", "ask")]


def test_matches__takes_the_whole_text():
    assert matches("ls", "ls *")
    assert matches("ls -la", "ls *")
    assert not matches("lsof", "ls *")
    assert not matches("ls -la", "ls")
    assert matches("cat a\nb", "cat *")
    assert not matches("cat", "CAT")
    assert matches("a.b", "a.b")
    assert not matches("axb", "a.b")


@pytest.fixture
def folder(tmp_path):
    found = ServerFolder(tmp_path / "opencode")
    found.prepare()
    return found


@pytest.fixture
def home(tmp_path):
    """A person's home with an OpenCode configuration and a login."""
    config, login = tmp_path / "home/.config/opencode", tmp_path / "home/.local/share/opencode"
    config.mkdir(parents=True)
    login.mkdir(parents=True)
    (config / "opencode.jsonc").write_text(
        '{ // mine\n "model": "a/b", "url": "http://x//y", /* z */\n "enabled_providers": ["anthropic",], "disabled_providers": ["openai"],\n}'
    )
    (login / "auth.json").write_text('{"anthropic": {"type": "api", "key": "k"}}')
    return {"HOME": str(tmp_path / "home")}


def config_for(user, folder, **options):
    return build_config(user=user, shell=folder.shell / "bash", practice_url="http://127.0.0.1:1/v1", **options)


def test_user_setup__is_found_where_opencode_looks(home, tmp_path):
    user = find_user_setup(home)
    assert user.config.name == "opencode.jsonc"
    assert user.settings()["model"] == "a/b"
    assert user.settings()["url"] == "http://x//y"
    assert user.signed_in("anthropic")
    assert not user.signed_in("opencode")
    assert find_user_setup({"HOME": str(tmp_path / "nobody")}) == UserSetup(None, None)
    named = tmp_path / "named.json"
    named.write_text("[]")
    assert find_user_setup({**home, "OPENCODE_CONFIG": str(named)}).settings() == {}


def test_without_comments__leaves_strings_alone():
    text = '{"a": "// no", /* x, */ "b": ["/* no */", ",]",], // y\n "c\\"": 1,}'
    assert json.loads(without_comments(text)) == {"a": "// no", "b": ["/* no */", ",]"], 'c"': 1}


def test_config__decides_everything_and_keeps_the_persons_providers(home, folder):
    config = config_for(find_user_setup(home), folder)
    assert (config["autoupdate"], config["share"], config["snapshot"]) == (False, "disabled", False)
    assert config["enabled_providers"] == ["anthropic", "practice"]
    assert config["disabled_providers"] == ["openai", "opencode"]
    assert "model" not in config
    assert set(config["agent"]) == {agent_name(role) for role in AgentRole}
    assert config["permission"]["bash"] == {"*": "ask", **dict.fromkeys(PUSHES, "deny")}
    assert config["provider"]["practice"]["models"]["practice"]["limit"]["context"] > 0


def test_config__of_somebody_without_anything(folder):
    config = config_for(UserSetup(None, None), folder, practice_only=True)
    assert "enabled_providers" not in config
    assert config["disabled_providers"] == ["opencode"]
    assert config["model"] == config["small_model"] == "practice/practice"


def test_zen__stays_for_those_who_signed_in(folder, tmp_path):
    login = tmp_path / "auth.json"
    login.write_text('{"opencode": {"type": "api"}}')
    assert config_for(UserSetup(None, login), folder)["disabled_providers"] == []


def test_environment__is_an_allow_list(home, folder):
    environ = {
        **home,
        "PATH": "/bin",
        "SECRET_KEY": "s",
        "DATABASE_URL": "d",
        "REDIS_URL": "r",
        "ANTHROPIC_API_KEY": "k",
        "MINE": "m",
        "XDG_DATA_HOME": "/elsewhere",
        "no_proxy": "corp",
    }
    environment = build_environment(
        environ=environ,
        pass_env=["MINE"],
        user=find_user_setup(home),
        folder=folder,
        config={"a": 1},
        username="opencode",
        password="pw",
    )
    assert not set(environment) & {"SECRET_KEY", "DATABASE_URL", "REDIS_URL"}
    assert (environment["ANTHROPIC_API_KEY"], environment["MINE"]) == ("k", "m")
    assert environment["XDG_DATA_HOME"] == str(folder.root / "data")
    assert environment["OPENCODE_DISABLE_PROJECT_CONFIG"] == "1"
    assert environment["OPENCODE_CONFIG"].endswith("opencode.jsonc")
    assert environment["no_proxy"] == "corp,127.0.0.1,localhost"
    assert environment[MARK] == str(folder.root)


def test_shell__hides_and_restores(folder):
    environ = {"XDG_CACHE_HOME": "/my cache"}
    shell = write_shell(folder, environ, ["MINE"])
    inside = {
        "PATH": "/usr/bin:/bin",
        "OPENCODE_SERVER_PASSWORD": "pw",
        "OPENCODE_CONFIG_CONTENT": "{}",
        "OPENAI_API_KEY": "k",
        "MINE": "m",
        "XDG_DATA_HOME": "/studio/data",
        "XDG_CACHE_HOME": "/studio/cache",
        MARK: "here",
    }
    done = subprocess.run(
        [str(shell), "-c", "cd /; env; exit 3"],
        env=inside,
        cwd=folder.working_directory,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 3
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert not set(seen) & {
        "OPENCODE_SERVER_PASSWORD",
        "OPENCODE_CONFIG_CONTENT",
        "OPENAI_API_KEY",
        "MINE",
        "XDG_DATA_HOME",
    }
    assert (seen["XDG_CACHE_HOME"], seen[MARK]) == ("/my cache", "here")
    assert seen[COMMAND] == str(folder.working_directory)
    assert shell.name in ("bash", "sh")


def test_login__is_copied_privately_and_only_when_the_persons_own_changed(home, folder):
    user = find_user_setup(home)
    copy_login(user, folder)
    assert json.loads(folder.login.read_text()) == {"anthropic": {"type": "api", "key": "k"}}
    assert stat.S_IMODE(folder.login.stat().st_mode) == 0o600
    folder.login.write_text('{"anthropic": "renewed"}')
    copy_login(user, folder)
    assert "renewed" in folder.login.read_text()
    user.login.write_text('{"anthropic": "signed in again"}')
    copy_login(user, folder)
    assert "again" in folder.login.read_text()
    copy_login(UserSetup(None, None), folder)
    assert not folder.login.exists()
    assert "again" in user.login.read_text()


def test_endpoint__is_private_and_read_back(tmp_path):
    endpoint = Endpoint("http://127.0.0.1:1", "opencode", "pw", "boot", mark_process())
    assert read_endpoint(tmp_path) is None
    write_endpoint(tmp_path, endpoint)
    assert read_endpoint(tmp_path) == endpoint
    assert stat.S_IMODE(endpoint_path(tmp_path).stat().st_mode) == 0o600
    for broken in ("", "{", "[]", '{"url": 1}'):
        endpoint_path(tmp_path).write_text(broken)
        assert read_endpoint(tmp_path) is None
    remove_endpoint(tmp_path)
    remove_endpoint(tmp_path)
    assert read_endpoint(tmp_path) is None


def program(path: Path, version: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def elsewhere(monkeypatch, tmp_path, settings):
    """A machine on which nothing is installed."""
    settings.OPENCODE_BIN = ""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(discovery, "BASE_DIR", tmp_path / "studio")
    return tmp_path


def test_binary__on_path_comes_first_then_the_studios_own(elsewhere):
    own = program(elsewhere / "studio/node_modules/.bin/opencode", "1.18.33")
    assert find_binary().path == own
    on_path = program(elsewhere / "bin/opencode", "1.18.40")
    assert (find_binary().path, find_binary().version) == (on_path, "1.18.40")
    program(on_path, "1.19.0")
    assert find_binary().path == own
    program(on_path, "1.18.32")
    assert find_binary().path == own


def test_binary__that_is_named_is_the_one_that_counts(elsewhere, settings):
    program(elsewhere / "bin/opencode", "1.18.33")
    settings.OPENCODE_BIN = str(program(elsewhere / "mine", "1.18.35"))
    assert find_binary().version == "1.18.35"
    program(elsewhere / "mine", "2.0.0")
    with pytest.raises(BinaryMissingError, match=r"2\.0\.0"):
        find_binary()
    settings.OPENCODE_BIN = str(elsewhere / "nothing")
    with pytest.raises(BinaryMissingError, match="npm ci"):
        find_binary()


def test_binary__missing_says_how_to_get_it(elsewhere):
    with pytest.raises(BinaryMissingError, match="npm ci"):
        find_binary()
    program(elsewhere / "bin/opencode", "hello")
    with pytest.raises(BinaryMissingError, match="does not tell its version"):
        find_binary()
