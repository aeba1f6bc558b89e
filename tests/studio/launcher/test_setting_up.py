"""Making the environment, fetching OpenCode, and what the tracked lock files may hold."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agents import discovery
from studio.launcher import bootstrap, fetch
from studio.launcher.errors import LauncherError

ROOT = Path(__file__).parents[3]
GOOD = "#!/bin/sh\necho 1.18.33\n"


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty checkout with nothing but /bin on PATH besides its own `bin`."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(fetch, "BASE_DIR", tmp_path)
    monkeypatch.setattr(fetch, "PACKAGE", tmp_path / "node_modules" / "opencode-ai")
    monkeypatch.setattr(discovery, "BASE_DIR", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    monkeypatch.setattr("shutil.which", only_in(tmp_path / "bin"))
    return tmp_path


def only_in(folder: Path):
    """shutil.which for a machine that has nothing installed but what is in `folder`."""

    def which(name: str) -> str | None:
        path = Path(name) if "/" in name else folder / name
        return str(path) if os.access(path, os.X_OK) else None

    return which


def npm(checkout: Path, *lines: str) -> None:
    """An npm and a node that note how they were called; npm also does `lines`."""
    note = f'echo "$(basename $0) $*" >> {checkout}/calls'
    program(checkout / "bin" / "npm", "\n".join(["#!/bin/sh", note, *lines]))
    program(checkout / "bin" / "node", f"#!/bin/sh\n{note}\ncp {checkout}/real {checkout}/node_modules/.bin/opencode\n")
    program(checkout / "real", GOOD)


def put_binary(checkout: Path, text: str) -> list[str]:
    program(checkout / "source", text)
    target = f"{checkout}/node_modules/.bin"
    return [f"mkdir -p {target} {checkout}/node_modules/opencode-ai", f"cp {checkout}/source {target}/opencode"]


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [(["--no-agent"], {}), ([], {"OPENCODE_URL": "http://127.0.0.1:4096"})],
)
def test_fetch__is_not_needed(checkout, arguments, environ):
    fetch.ensure_opencode(arguments, environ)


def test_fetch__takes_a_supported_opencode_from_the_path(checkout):
    program(checkout / "bin" / "opencode", GOOD)
    fetch.ensure_opencode([], {})


def test_fetch__says_what_can_be_done_without_npm(checkout):
    with pytest.raises(LauncherError, match=r"neither is npm.*OPENCODE_BIN.*--no-agent"):
        fetch.ensure_opencode([], {})


def test_fetch__passes_over_another_version_and_runs_npm_ci(checkout):
    program(checkout / "bin" / "opencode", "#!/bin/sh\necho 0.9.1\n")
    npm(checkout, *put_binary(checkout, GOOD))
    fetch.ensure_opencode([], {})
    assert (checkout / "calls").read_text() == "npm ci --no-audit --no-fund --loglevel error\n"
    fetch.ensure_opencode([], {})
    assert (checkout / "calls").read_text().count("npm") == 1


def test_fetch__puts_the_binary_in_place_where_npm_runs_no_scripts(checkout):
    npm(checkout, *put_binary(checkout, "#!/bin/sh\necho postinstall was not run >&2\nexit 1\n"))
    fetch.ensure_opencode([], {})
    assert (checkout / "calls").read_text().splitlines()[1] == "node postinstall.mjs"


def test_fetch__reports_that_npm_failed(checkout):
    npm(checkout, "exit 1")
    with pytest.raises(LauncherError, match="npm could not fetch OpenCode"):
        fetch.ensure_opencode([], {})


def test_fetch__does_not_replace_a_binary_that_was_named(checkout):
    npm(checkout, *put_binary(checkout, GOOD))
    with pytest.raises(LauncherError, match="OPENCODE_BIN names"):
        fetch.ensure_opencode([], {"OPENCODE_BIN": str(checkout / "none")})
    assert not (checkout / "calls").exists()


def test_bootstrap__makes_an_environment_once_and_repairs_a_broken_one(tmp_path):
    venv = tmp_path / "my venv"
    python = bootstrap.ensure_environment(venv)
    assert bootstrap.works(python)
    before = (venv / "pyvenv.cfg").stat().st_mtime_ns
    bootstrap.ensure_environment(venv)
    assert (venv / "pyvenv.cfg").stat().st_mtime_ns == before
    python.unlink()
    assert bootstrap.works(bootstrap.ensure_environment(venv))


def test_bootstrap__spares_a_folder_that_is_no_environment(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(bootstrap.SetupError, match="not a virtual environment"):
        bootstrap.ensure_environment(tmp_path)
    assert (tmp_path / "mine").exists()


def test_bootstrap__installs_a_file_again_only_when_it_has_changed(tmp_path):
    python = program(tmp_path / "python", f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n')
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("one")
    for _ in range(2):
        bootstrap.ensure_installed(python, tmp_path, requirements)
    requirements.write_text("two")
    bootstrap.ensure_installed(python, tmp_path, requirements)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 2
    assert {"--require-hashes", "--no-deps"} <= set(calls[0].split())


def test_bootstrap__does_not_take_a_failed_installation_for_done(tmp_path):
    python = program(tmp_path / "python", "#!/bin/sh\nexit 1\n")
    (tmp_path / "requirements.txt").write_text("one")
    for _ in range(2):
        with pytest.raises(bootstrap.SetupError, match="could not install"):
            bootstrap.ensure_installed(python, tmp_path, tmp_path / "requirements.txt")


def test_bootstrap__needs_nothing_but_the_standard_library():
    done = subprocess.run([sys.executable, "-I", "-S", "studio/launcher/bootstrap.py", "--help"], cwd=ROOT, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert "--dev" in done.stdout


def test_lock_files__name_no_host():
    for name in ("requirements.txt", "requirements-dev.txt", "package.json", "package-lock.json"):
        text = (ROOT / name).read_text()
        assert not re.search(r"https?://|\bresolved\b|--index|--find-links|registry", text), name


def test_package_lock__has_the_pinned_opencode_for_every_platform():
    pinned = json.loads((ROOT / "package.json").read_text())["dependencies"]["opencode-ai"]
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    wrapper = packages["node_modules/opencode-ai"]
    assert wrapper["version"] == pinned
    for name, version in wrapper["optionalDependencies"].items():
        assert packages[f"node_modules/{name}"]["version"] == version == pinned
    lowest = ".".join(map(str, (*discovery.SERIES, discovery.OLDEST_PATCH)))
    assert pinned == lowest


def test_requirements__are_all_hash_locked():
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        entries = re.split(r"\n(?=\S)", text.strip())
        assert len(entries) > 20
        assert all("--hash=sha256:" in entry for entry in entries), name


def test_make__finds_no_python_and_says_so():
    done = subprocess.run(["make", "PYTHON=", "setup-python"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11" in done.stderr


def test_make_help__lists_the_commands():
    done = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert {"run", "down", "doctor", "test", "bench", "lock"} <= set(re.findall(r"make ([a-z-]+)", done.stdout))
