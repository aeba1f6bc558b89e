"""What manage.py does before Django: `up` and `down` need none, and the launcher's other commands need to know where."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from studio.launcher.down import down
from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder
from studio.launcher.options import Options, add_data_argument, add_up_arguments, data_folder, read_options
from studio.launcher.record import read_record
from studio.launcher.up import speaker, up


def before_django(argv: Sequence[str]) -> int | None:
    """The exit code of `up` or `down`; None when Django is to go on with the command, one of the launcher's."""
    command = argv[1]
    try:
        if command == "up":
            return up(read_options(vars(up_parser().parse_args(argv[2:]))), os.environ)
        if command == "down":
            named = down_parser().parse_args(argv[2:]).data
            return down(DataFolder(data_folder(named, os.environ)), speaker(to_stderr=False))
        if "--help" not in argv and "-h" not in argv:
            # The doctor also looks at what a killed start has left.
            _point_at_studio(argv[2:], dead_too=command == "doctor")
    except LauncherError as error:
        print(error, file=sys.stderr)
        return 1
    return None


def up_parser() -> argparse.ArgumentParser:
    """The command line of `up`."""
    parser = argparse.ArgumentParser(prog="manage.py up", description="Start everything, until Ctrl-C.")
    add_up_arguments(parser)
    return parser


def down_parser() -> argparse.ArgumentParser:
    """The command line of `down`."""
    parser = argparse.ArgumentParser(
        prog="manage.py down", description="Stop the studio of a data folder, or what a killed one has left."
    )
    add_data_argument(parser)
    return parser


def _point_at_studio(arguments: Sequence[str], *, dead_too: bool = False) -> None:
    """Make the settings those of the data folder in question and, where its studio runs, of its address."""
    parser = argparse.ArgumentParser(add_help=False)
    add_data_argument(parser)
    folder = DataFolder(data_folder(parser.parse_known_args(arguments)[0].data, os.environ))
    folder.prepare()
    os.environ["STUDIO_HOME"] = str(folder.root)
    record = read_record(folder.record)
    if record and (dead_too or record.process()):
        running = Options(data=folder.root, host=record.host, port=record.port, agent=record.agent)
        os.environ.update(running.environment({"STUDIO_URL": record.url, **os.environ}))
