"""`manage.py up`: start everything, stay in the foreground, stop everything in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from agents.discovery import BinaryMissingError, find_binary
from studio.env import BASE_DIR
from studio.launcher import leftovers
from studio.launcher.child import MARK
from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder
from studio.launcher.options import Options, free_port, is_loopback
from studio.launcher.parts import inherited, plan, write_plan
from studio.launcher.readiness import READY_SECONDS, wait_ready
from studio.launcher.record import Record, own_record, read_record, write_record
from studio.launcher.supervision import Supervision, last_lines

LOOK_SECONDS = 0.5
Say = Callable[[str], None]


def up(options: Options, environ: Mapping[str, str]) -> int:
    """Run a studio until SIGINT, SIGTERM or SIGHUP; if this data folder's studio runs already, print where.

    The exit code: 0 when it was asked to stop or ran already, 1 when it ended for another reason. Raises LauncherError
    when it cannot start; then it has stopped whatever it had started.
    """
    say = speaker(to_stderr=options.json)
    folder = DataFolder(options.data)
    folder.prepare()
    with caught_signals() as stop:
        while not stop.is_set():
            with folder.held() as held:
                if held:
                    return Launch(options, folder, environ, stop, say).run()
            record = _wait_for_other(folder, stop)
            if record:
                print_running(options, folder, environ, record)
                return 0
    return 0


@dataclass
class Launch:
    """One start, while the lock of the data folder is held."""

    options: Options
    folder: DataFolder
    environ: Mapping[str, str]
    stop: threading.Event
    say: Say
    warnings: list[str] = field(default_factory=list)

    def run(self) -> int:
        """Start, stay, stop."""
        count = leftovers.end(self.folder.root)
        if count:
            self.say(f"Ended {count} processes that a killed start had left behind.")
        self.folder.clear()
        self.options = replace(self.options, port=free_port(self.options))
        given = {**self.environ, **self.options.environment(self.environ), MARK: str(self.folder.root)}
        environment = inherited(given)
        try:
            self.folder.prepare_run()
            supervision = self._supervision(environment)
            try:
                return self._stay(supervision, environment)
            finally:
                self.say("Stopping …")
                supervision.stop()
                leftovers.end(self.folder.root)
                leftovers.end_commands(self.folder.root)
        finally:
            self.folder.clear()

    def _supervision(self, environment: Mapping[str, str]) -> Supervision:
        if self.options.agent and not environment.get("OPENCODE_URL"):
            try:
                find_binary(environment.get("OPENCODE_BIN", ""))
            except BinaryMissingError as error:
                # No reason to refuse: every page says so, and agents begin as soon as it is there.
                self.warnings.append(error.message)
                self.say(f"No agent can run. {error.message}")
        parts = plan(self.options, self.folder, environment)
        write_plan(parts, self.folder.parts)
        return Supervision(self.folder, parts)

    def _stay(self, supervision: Supervision, environment: Mapping[str, str]) -> int:
        """Start the parts, wait until they are ready, and then until this is to end."""
        options, folder = self.options, self.folder
        url = environment["STUDIO_URL"].rstrip("/")
        record = own_record(url, options)
        write_record(folder.record, record)
        self.say(f"Starting OpenCode Studio in {folder.root} …")
        supervision.open(environment)
        supervision.start(part.name for part in supervision.parts if part.stage == 0)
        setup = self._set_up(environment)
        if setup is None:
            return 0
        supervision.start(part.name for part in supervision.parts if part.stage > 0)
        spared = {"agent_servers"} if self.warnings else set()
        if not wait_ready(options, self.stop, supervision.check_starting, self.say, spared):
            return 0
        write_record(folder.record, replace(record, ready=True))
        more = {"pid": record.pid, "pids": supervision.pids(), "warnings": self.warnings}
        print_ready(options, folder, url, url + setup["login_path"], more)
        while not self.stop.wait(LOOK_SECONDS):
            if not supervision.alive():
                self.say("The supervisor has ended; nothing would restart what fails.")
                return 1
        return 0

    def _set_up(self, environment: Mapping[str, str]) -> dict[str, Any] | None:
        """Migrate, collect the static files, make owner and sample; None when it is to stop meanwhile."""
        self.say("  setting up the data folder")
        arguments = [] if self.options.sample else ["--no-sample"]
        process = subprocess.Popen(
            [sys.executable, "manage.py", "firstrun", "--json", *arguments],
            cwd=BASE_DIR,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # not a file: a full disk is one of the things it may have to report
            text=True,
            start_new_session=True,  # a Ctrl-C does not tear it in the middle of a migration
        )
        output, errors = process.communicate()
        with suppress(OSError):
            (self.folder.log / "setup.log").write_text(errors)
        if self.stop.is_set():
            return None
        if process.returncode != 0:
            raise LauncherError(f"The data folder could not be set up:\n{last_lines(errors)}")
        answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        return answer


def _wait_for_other(folder: DataFolder, stop: threading.Event) -> Record | None:
    """The studio that holds the folder, once it is ready; None when it has ended meanwhile, or did not get ready."""
    for _ in range(int(READY_SECONDS / LOOK_SECONDS)):
        record = read_record(folder.record)
        if record and record.ready and record.process():
            return record
        with folder.held() as held:
            if held:
                return None
        if stop.wait(LOOK_SECONDS):
            return None
    raise LauncherError(f"Another start holds {folder.root} and does not get ready. End it: manage.py down")


def print_running(options: Options, folder: DataFolder, environ: Mapping[str, str], record: Record) -> None:
    """Say where the studio is that runs already, with a fresh login link."""
    running = replace(options, host=record.host, port=record.port)
    environment = {**environ, **running.environment(environ)}
    done = subprocess.run(
        [sys.executable, "manage.py", "loginlink", "--path"],
        cwd=BASE_DIR,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LauncherError(f"The studio runs at {record.url}, but made no login link:\n{done.stderr.strip()[-500:]}")
    pids: dict[str, int] = {}
    with suppress(LauncherError):
        pids = Supervision(folder, []).pids()
    more = {"pid": record.pid, "pids": pids, "already_running": True, "warnings": []}
    print_ready(running, folder, record.url, record.url + done.stdout.splitlines()[-1], more)


def print_ready(options: Options, folder: DataFolder, url: str, link: str, more: dict[str, Any]) -> None:
    """The one line of JSON, or the same for people."""
    if options.json:
        about = {"url": f"{url}/", "login_link": link, "data": str(folder.root), "host": options.host}
        print(json.dumps({**about, "port": options.port, "already_running": False, **more}), flush=True)
        return
    running = more.get("already_running")
    lines = [
        "",
        "OpenCode Studio runs already." if running else "OpenCode Studio is ready.",
        "",
        f"  Open     {link}",
        "           (signs you in once, within 24 hours)",
        f"  Address  {url}/",
        f"  Data     {folder.root}",
        f"  Logs     {folder.log}",
        f"  Stop     {'Ctrl-C where it runs, or: manage.py down' if running else 'Ctrl-C'}",
        "",
    ]
    lines[-1:-1] = [f"  Agents   none yet: {warning}" for warning in more.get("warnings", [])]
    if not is_loopback(options.host):
        lines.insert(-1, "  Others can reach it. The names they use must stand in STUDIO_ALLOWED_HOSTS.")
    print("\n".join(lines), flush=True)


def speaker(*, to_stderr: bool) -> Say:
    """Prints a line at once; a terminal that has gone away is no reason to fail."""

    def say(line: str) -> None:
        with suppress(OSError):
            print(line, file=sys.stderr if to_stderr else sys.stdout, flush=True)

    return say


@contextmanager
def caught_signals() -> Iterator[threading.Event]:
    """An event that SIGINT, SIGTERM and SIGHUP set (a SIGHUP that is ignored, as under nohup, stays ignored)."""
    stop = threading.Event()
    former = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue
        former[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
