"""The one place of this app that starts programs: no shell, a time-out, bounded output, a process group, few variables."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from studio.kernel.errors import Upstream
from studio.kernel.text import clean

DEFAULT_LIMIT = 32 * 1024 * 1024  # bytes kept of each stream
PIECE = 65_536
GRACE = 2.0  # seconds between asking a process to end and ending it
POLL = 0.05
SAID_LIMIT = 600  # bytes of a program's own words in an error

# What a program inherits. Everything else (keys, Django's settings, GIT_*) stays behind.
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "LD_LIBRARY_PATH")


class ProcessError(Upstream):
    """A program could not be started, or did not end in time. `transient` is true for the latter."""

    code = "process_failed"


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended. `truncated` says that it wrote more than was kept, and was ended for it if so asked."""

    code: int
    stdout: bytes
    stderr: bytes
    truncated: bool


def run(
    argv: Sequence[str | bytes],
    *,
    cwd: Path | str,
    timeout: float,
    input: bytes | None = None,  # noqa: A002 -- named as in subprocess
    env: Mapping[str, str] | None = None,
    max_output: int = DEFAULT_LIMIT,
    stop_at_limit: bool = False,
) -> Result:
    """Run `argv` in `cwd` for at most `timeout` seconds. Its whole process group is ended when this returns or raises.

    What goes beyond `max_output` bytes of a stream is thrown away; with `stop_at_limit` the program is ended there.
    Raises ProcessError.
    """
    name = os.fsdecode(argv[0])
    process = _start(argv, cwd, env, subprocess.DEVNULL if input is None else subprocess.PIPE, subprocess.PIPE)
    with process:
        try:
            kept, truncated = _exchange(process, input, time.monotonic() + timeout, max_output, stop_at_limit)
        except TimeoutError:
            raise ProcessError(f"{name} did not end within {timeout:g} seconds.", transient=True) from None
        finally:
            _end_group(process)
    return Result(process.returncode, *kept, truncated)


def _start(
    argv: Sequence[str | bytes],
    cwd: Path | str,
    env: Mapping[str, str] | None,
    stdin: int,
    stderr: int | IO[bytes],
) -> subprocess.Popen[bytes]:
    """The program in a process group of its own. Raises ProcessError."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | dict(env or {})
    name = os.fsdecode(argv[0])
    try:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        missing = cwd if not Path(cwd).is_dir() else name
        raise ProcessError(f"{missing} does not exist.") from error
    except OSError as error:
        raise ProcessError(f"{name} could not be started: {error.strerror}.") from error


@contextlib.contextmanager
def piped(
    argv: Sequence[str | bytes],
    *,
    cwd: Path | str,
    timeout: float,
    env: Mapping[str, str] | None = None,
    ok: Sequence[int] = (0,),
) -> Iterator[Iterator[bytes]]:
    """The output of `argv` piece by piece, for what is too large to be held or may be left early. What it says is kept short.

    The process group is ended when the block is left. Raises ProcessError when the program cannot be started, is not
    finished after `timeout` seconds, or was read to its end and ended with a code that is not in `ok`.
    """
    with tempfile.TemporaryFile() as said:
        process = _start(argv, cwd, env, subprocess.DEVNULL, said)
        with process:
            try:
                yield _pieces(process, os.fsdecode(argv[0]), timeout, ok, said)
            finally:
                _end_group(process)


def _pieces(
    process: subprocess.Popen[bytes], name: str, timeout: float, ok: Sequence[int], said: IO[bytes]
) -> Iterator[bytes]:
    assert process.stdout is not None  # noqa: S101 -- a pipe was asked for
    deadline = time.monotonic() + timeout
    late = ProcessError(f"{name} did not end within {timeout:g} seconds.", transient=True)
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not ready.select(left):
                raise late
            piece = os.read(process.stdout.fileno(), PIECE)
            if not piece:
                break
            yield piece
    try:
        _await_end(process, deadline)
    except TimeoutError:
        raise late from None
    if process.returncode not in ok:
        said.seek(0)
        words = clean(said.read(SAID_LIMIT).decode("utf-8", "replace")).strip()
        raise ProcessError(f"{name} failed: {words or f'exit status {process.returncode}'}")


def _exchange(
    process: subprocess.Popen[bytes], given: bytes | None, deadline: float, limit: int, stop: bool
) -> tuple[tuple[bytes, bytes], bool]:
    """Feed and read the program until it has closed its output, or has ended. Raises TimeoutError."""
    assert process.stdout is not None  # noqa: S101 -- pipes were asked for
    assert process.stderr is not None  # noqa: S101
    kept = {process.stdout: bytearray(), process.stderr: bytearray()}
    truncated = False
    rest = memoryview(given or b"")
    with selectors.DefaultSelector() as ready:
        for stream in kept:
            os.set_blocking(stream.fileno(), False)
            ready.register(stream, selectors.EVENT_READ, stream)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            ready.register(process.stdin, selectors.EVENT_WRITE)
        reading = set(kept)
        while reading and not (truncated and stop):
            # Asked before looking: what it wrote before it ended is then found, however late this process gets its turn.
            ended = process.poll() is not None
            events = ready.select(0 if ended else POLL)
            for key, _ in events:
                if key.data is None:
                    rest = _feed(process, ready, rest)
                elif (piece := key.data.read(PIECE)) == b"":
                    ready.unregister(key.data)
                    reading.discard(key.data)
                elif piece is not None:
                    room = limit - len(kept[key.data])
                    kept[key.data] += piece[:room]
                    truncated = truncated or len(piece) > room
            if ended and not events:
                break  # it has ended, but something that it started holds its pipes
            if time.monotonic() > deadline:
                raise TimeoutError
    if not (truncated and stop):
        _await_end(process, deadline)
    return (bytes(kept[process.stdout]), bytes(kept[process.stderr])), truncated


def _feed(process: subprocess.Popen[bytes], ready: selectors.BaseSelector, rest: memoryview) -> memoryview:
    """Write the next piece of the input; close it after the last, or when the program no longer reads."""
    assert process.stdin is not None  # noqa: S101 -- it was asked for
    try:
        rest = rest[os.write(process.stdin.fileno(), rest[:PIECE]) :] if rest else rest
    except BlockingIOError:
        return rest
    except BrokenPipeError:
        rest = memoryview(b"")
    if not rest:
        ready.unregister(process.stdin)
        process.stdin.close()
    return rest


def _await_end(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the group, so that nothing is left behind; asked first, because git then removes its lock files."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
