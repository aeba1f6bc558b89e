"""What is shown of a file: bounded, escaped, and coloured only as long as that takes no time."""

from __future__ import annotations

import pytest

from workspaces.colours import paint
from workspaces.files import content
from workspaces.files.content import COLOURED_BYTES, LINE_CHARACTERS, LINES, VIEW_BYTES, plain_text, shown
from workspaces.files.source import source_of

pytestmark = pytest.mark.django_db
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


def look(workspace, checkout, data, name="file.py"):
    (checkout / name).write_bytes(data)
    return shown(source_of(workspace), name)


def test_text__is_escaped_and_coloured_line_by_line(workspace, checkout):
    found = look(workspace, checkout, b"def f():\n    '''<b>\n    '''\n\n")
    assert (found.kind, found.language) == ("text", "Python")
    assert len(found.lines) == 4
    assert '<span class="p-k">def</span>' in found.lines[0]
    assert found.lines[1].endswith("<span class=\"p-sd\">'''&lt;b&gt;</span>")
    assert found.lines[2].startswith('<span class="p-sd">')


def test_text__without_a_language_is_escaped(workspace, checkout):
    found = look(workspace, checkout, b"<script>\n", "file.unheard-of")
    assert (found.lines, found.language) == (["&lt;script&gt;"], "")


@pytest.mark.parametrize(
    ("data", "lines"), [(b"", 0), (b"\n", 1), (b"\n\n", 2), (b"a", 1), (b"a\n", 1), (b"\na\n\n", 3)]
)
def test_lines__are_as_many_as_an_editor_counts(workspace, checkout, data, lines):
    for name in ("x.py", "x.unheard-of"):
        assert len(look(workspace, checkout, data, name).lines) == lines


def test_lexer__that_takes_too_long_leaves_the_text_plain(workspace, checkout, monkeypatch):
    monkeypatch.setattr(paint, "SECONDS", 0.001)
    found = look(workspace, checkout, b"def f(): '<'\n")
    assert (found.lines, found.language) == (["def f(): &#x27;&lt;&#x27;"], "")


def test_long_text__is_cut_and_not_coloured(workspace, checkout):
    found = look(workspace, checkout, b"x = 1\n" * (LINES + 1))
    assert (len(found.lines), found.cut) == (LINES, True)
    found = look(workspace, checkout, b"x" * (LINE_CHARACTERS + 1))
    assert found.cut
    assert len(found.lines[0]) <= LINE_CHARACTERS + 100
    monster = look(workspace, checkout, (b"# comment" + b"!" * 90 + b"\n") * (COLOURED_BYTES // 100 + 1))
    assert monster.language == ""


def test_kinds__by_content_and_size(workspace, checkout):
    assert look(workspace, checkout, b"a\0b").kind == "binary"
    assert look(workspace, checkout, PNG, "x.txt").kind == "image"
    assert look(workspace, checkout, b"<svg onload='x'>", "x.svg").kind == "text"
    with (checkout / "huge").open("wb") as file:
        file.write(b"text\n" * 4)
        file.truncate(1024**3)
    assert shown(source_of(workspace), "huge").kind == "binary"
    assert look(workspace, checkout, b"a\n" * VIEW_BYTES, "long.txt").kind == "large"
    assert shown(source_of(workspace), "lib").kind == "folder"


def test_notes__on_line_ends_and_encoding(workspace, checkout):
    found = look(workspace, checkout, "\ufeffa\r\nb\r\n".encode(), "x.unheard-of")
    assert found.lines == ["a", "b"]
    assert "CRLF" in found.notes[0]
    found = look(workspace, checkout, b"caf\xe9 \x1b[31mred\n", "x.unheard-of")
    assert found.lines == ["caf� ␛[31mred"]
    assert "not UTF-8" in found.notes[0]


def test_text__says_what_cannot_be_seen(workspace, checkout):
    found = look(workspace, checkout, "\ufeffa\u202eb\nc\u200b \u2066\n".encode(), "x.unheard-of")
    assert found.lines[0] == 'a<span class="unseen" data-code="U+202E"><bdi>\u202e</bdi></span>b'
    assert found.warning.endswith("change the direction of text: U+200B, U+202E, U+2066.")
    assert plain_text(source_of(workspace), "x.unheard-of")[0].notes == [found.warning]
    assert look(workspace, checkout, "שלום\n".encode(), "x.unheard-of").warning == ""


def test_text__nothing_is_hidden_behind_control_codes(workspace, checkout):
    """Both would be run: what follows the end of a comment, and what follows a return."""
    found = look(workspace, checkout, b"/* \x1b] */ evil()\n# a\revil()\r\n", "x.unheard-of")
    assert found.lines == ["/* ␛] */ evil()", "# a␍evil()"]


def test_image_type__says_what_the_bytes_are():
    assert content.image_type(b"RIFF1234WEBPVP8 ") == "image/webp"
    assert content.image_type(b"\xff\xd8\xff\xe0") == "image/jpeg"
    assert content.image_type(b"GIF89a....") == "image/gif"
    assert content.image_type(b"<svg") == ""
