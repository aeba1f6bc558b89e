"""Makes the virtual environment and installs the hash-locked requirements. Standard library only: nothing is there yet.

    python3 studio/launcher/bootstrap.py [--dev] [VENV]

Run again it does nothing unless a requirements file has changed, the environment is broken, or Python was replaced.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 11)


class SetupError(Exception):
    """A sentence for the person."""


def main() -> int:
    """Bring the environment up to date; 0 when it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("venv", nargs="?", type=Path, default=ROOT / ".venv")
    parser.add_argument("--dev", action="store_true", help="install what tests and linters need too")
    options = parser.parse_args()
    try:
        if sys.version_info < OLDEST:
            raise SetupError("OpenCode Studio needs Python 3.11 or newer.")
        python = ensure_environment(options.venv)
        for name in ["requirements.txt", *(["requirements-dev.txt"] if options.dev else [])]:
            ensure_installed(python, options.venv, ROOT / name)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def ensure_environment(venv: Path) -> Path:
    """The environment's Python; the environment is made anew when it is missing or does not work."""
    python = venv / "bin" / "python"
    if works(python):
        return python
    print(f"Making a virtual environment in {venv} …", flush=True)
    if venv.exists() and not (venv / "pyvenv.cfg").exists() and any(venv.iterdir()):
        raise SetupError(f"{venv} is not a virtual environment; move it away and try again.")
    shutil.rmtree(venv, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], check=False, capture_output=True, text=True)
    if made.returncode != 0 or not works(python):
        shutil.rmtree(venv, ignore_errors=True)
        raise SetupError(
            "Python could not make a virtual environment. On Debian and Ubuntu it needs the package python3-venv.\n"
            + (made.stderr or made.stdout).strip()[-1000:]
        )
    return python


def works(python: Path) -> bool:
    """Whether this is the Python of an environment with pip, and new enough."""
    check = f"import sys, pip; sys.exit(sys.version_info < {OLDEST!r})"
    try:
        return subprocess.run([str(python), "-c", check], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def ensure_installed(python: Path, venv: Path, requirements: Path) -> None:
    """Install a requirements file unless this very content was installed here before."""
    stamp = venv / f".{requirements.stem}.installed"
    wanted = sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"Installing {requirements.name} …", flush=True)
    # The lock is the whole resolution. pip must not resolve again: it takes the newest release for a requirement with an
    # extra (`coverage[toml]`) before it looks at the pin, and refuses that one for having no hash.
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    command.append("--no-deps")
    done = subprocess.run([*command, "-r", str(requirements)], check=False)
    if done.returncode != 0:
        raise SetupError(f"pip could not install {requirements.name}; its own words are above. Run the command again.")
    stamp.write_text(wanted)


if __name__ == "__main__":
    sys.exit(main())
