"""`python -m agents.practice`: run the practice model in the foreground."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from pathlib import Path

from agents.practice.server import PracticeServer


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m agents.practice", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--log", type=Path, help="append one JSON line per request here")
    parser.add_argument("--port-file", type=Path, help="write the port here once it is open")
    options = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with PracticeServer(options.port, options.log) as server:
        if options.port_file:
            scratch = options.port_file.with_name(f".{options.port_file.name}.{os.getpid()}")
            scratch.write_text(f"{server.port}\n")
            scratch.replace(options.port_file)
        stop.wait()


if __name__ == "__main__":
    main()
