"""Colours one text: read from standard input, written as HTML to standard output. A program of its own, see highlight.py.

    python -I highlighter.py NAME <text

The first line is the language, the rest the text, escaped, each line with whole tags. Ends with 3 where NAME says nothing.
"""

from __future__ import annotations

import resource
import sys

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound

CPU_SECONDS = 2
MEMORY = 512 * 1024 * 1024
UNKNOWN = 3


def main() -> int:
    """Colour; the exit status."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    try:
        lexer = get_lexer_for_filename(sys.argv[1], text, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return UNKNOWN
    html = highlight(text, lexer, HtmlFormatter(nowrap=True, classprefix="p-"))
    sys.stdout.buffer.write(f"{lexer.name}\n{html}".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
