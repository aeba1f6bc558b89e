"""What the process `agentserver` takes from its environment, what it says, and what it sets for the user's providers."""

from __future__ import annotations

import json
import logging

import pytest

from agents.agentserver import LineFormatter, read_setup
from agents.environment import PROVIDER_KEYS
from agents.opencode.config import KEY_PROVIDERS, PROVIDER_TIMEOUT_MS, UserSetup, build_config, timed_providers


def test_time_outs__are_given_to_the_providers_that_there_are_and_to_no_other(tmp_path):
    login, config = tmp_path / "auth.json", tmp_path / "opencode.json"
    login.write_text('{"openai": {"type": "oauth"}}')
    config.write_text('{"provider": {"mine": {"options": {"chunkTimeout": 5}}, "other": {"models": {}}, "odd": 3}}')
    user = UserSetup(config=config, login=login)
    environ = {"ANTHROPIC_API_KEY": "x", "GROQ_API_KEY": ""}
    assert timed_providers(user, environ, 0) == {}
    given = timed_providers(user, environ, 90_000)
    assert sorted(given) == ["anthropic", "odd", "openai", "other"]
    assert given["openai"] == {"options": {"headerTimeout": 90_000, "chunkTimeout": 90_000}}
    whole = build_config(user=user, shell=tmp_path / "sh", practice_url="http://x", providers=given)
    assert sorted(whole["provider"]) == ["anthropic", "odd", "openai", "other", "practice"]
    assert set(KEY_PROVIDERS) <= set(PROVIDER_KEYS)


@pytest.mark.parametrize(("text", "timeout"), [("", 0), ("45", 45_000), ("soon", 0), ("-3", 0), ("0", 0)])
def test_agentserver__reads_its_settings_without_django(text, timeout, monkeypatch, tmp_path):
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "data"))
    given = {"OPENCODE_PROVIDER_TIMEOUT": text, "OPENCODE_PASS_ENV": "A_KEY, B_KEY,", "OPENCODE_PRACTICE": "True"}
    setup = read_setup(given)
    assert (setup.data, setup.pass_env, setup.practice_only) == (tmp_path / "data", ["A_KEY", "B_KEY"], True)
    assert (setup.real_timeout_ms, setup.provider_timeout_ms) == (timeout, timeout or PROVIDER_TIMEOUT_MS)
    assert not read_setup({}).practice_only


def test_agentservers_log__is_lines_without_secrets():
    record = logging.LogRecord("agents.supervisor", logging.ERROR, "x", 1, "It said token=%s", ("abcdef123",), None)
    assert (
        LineFormatter(as_json=False)
        .format(record)
        .endswith("Z [error   ] It said token [redacted] [agents.supervisor]")
    )
    assert json.loads(LineFormatter(as_json=True).format(record))["event"] == "It said token [redacted]"
