"""Syntax highlighting with a hard end. A lexer is a set of regular expressions, and a hostile text can keep one busy for ever:
in this process that would stop every page, so it runs in one of its own, which is ended when its time is over.
"""

from __future__ import annotations

import sys
from pathlib import Path

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from workspaces.process import ProcessError, run

PROGRAM = Path(__file__).with_name("highlighter.py")
SECONDS = 10.0  # a busy machine may take long to begin; the program itself ends after two seconds of work
TEXT_BYTES = 256 * 1024  # a longer text is shown without colours
HTML_BYTES = 8 * 1024 * 1024


def coloured(name: str, lines: list[str]) -> tuple[list[SafeString], str]:
    """The lines as HTML, and the language. Where there is no language for the name, or no time, they are only escaped."""
    text = "\n".join(lines)
    given = text.encode("utf-8", "replace")
    if len(given) <= TEXT_BYTES:
        html, language = _asked(name.encode("utf-8", "replace").decode(), given)
        if len(html) == len(lines):
            return [mark_safe(line) for line in html], language  # noqa: S308 -- Pygments has escaped it
    return [SafeString(escape(line)) for line in lines], ""


def _asked(name: str, text: bytes) -> tuple[list[str], str]:
    argv = [sys.executable, "-I", str(PROGRAM), name]
    try:
        done = run(argv, cwd=PROGRAM.parent, timeout=SECONDS, input=text, max_output=HTML_BYTES, stop_at_limit=True)
    except ProcessError:
        return [], ""
    if done.code or done.truncated:
        return [], ""
    language, _, html = done.stdout.decode("utf-8", "replace").partition("\n")
    return (html if text.endswith(b"\n") else html.removesuffix("\n")).split("\n"), language
