#!/usr/bin/env python
"""The command line of OpenCode Studio: `manage.py up` starts everything."""

from __future__ import annotations

import os
import sys

# These need no Django (up, down), or must know the data folder before the settings are read.
LAUNCHER_COMMANDS = {"up", "down", "doctor", "firstrun", "token", "createowner", "loginlink"}


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in LAUNCHER_COMMANDS:
        from studio.launcher.entry import before_django

        code = before_django(sys.argv)
        if code is not None:
            sys.exit(code)
    if sys.argv[1:] == ["agentserver"]:  # a third of the memory that a Django process takes
        from agents.agentserver import main as agentserver

        sys.exit(agentserver())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
