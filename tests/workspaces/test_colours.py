"""The colours of code in a change, and the marks of what changed within a line."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from studio.kernel.unseen import UNSEEN
from tests.workspaces.test_diff_looks import file, hunk
from workspaces import diff_colours
from workspaces.colours import badges, paint, painter
from workspaces.colours.paint import Block
from workspaces.diff_colours import coloured

TAG = re.compile(r'<span class="p-[a-z0-9]+">|</span>|</?mark>')
BADGE = re.compile(r'<span class="unseen" data-code="([U0-9A-F+ ]+)"><bdi>([^<]+)</bdi></span>')
LIMIT = 1024 * 1024


def lines(*rows, name="app.py"):
    """The HTML of one hunk's lines."""
    (found,) = coloured([replace(file(hunk(*rows)), new_path=name)])
    return [line.html for line in found.hunks[0].lines]


def _inside(badge):
    codes, _, more = badge[1].partition(" +")
    assert codes == " ".join(f"U+{ord(one):04X}" for one in badge[2][:6])
    assert more == (str(len(badge[2]) - 6) if len(badge[2]) > 6 else "")
    return badge[2]


def said(html):
    """What a browser shows of a line; fails for tags that are not the painter's, or do not stand within each other."""
    assert not UNSEEN.search(BADGE.sub("", html))
    html = BADGE.sub(_inside, html)
    depth = []
    for tag in TAG.findall(html):
        if tag.startswith("</"):
            assert depth.pop() == tag[2:-1]
        else:
            depth.append(tag[1:-1].split()[0])
    assert not depth
    rest = TAG.sub("", html)
    assert "<" not in rest
    assert ">" not in rest
    return unescape(rest)


def test_lines__have_the_colours_of_their_side():
    old, new, same = lines("-x = 'a'", "+def f():", " return 1")
    assert "p-s1" in old
    assert '<span class="p-k">def</span>' in new
    assert '<span class="p-k">return</span> <span class="p-mi">1</span>' in same


def test_lines__a_token_goes_on_over_the_lines_of_its_side():
    first, gone, came, last = lines(' """one', "-two def", "+three def", ' four"""')
    assert all('<span class="p-sd">' in line and "p-k" not in line for line in (first, gone, came, last))
    assert said(gone) == "two def"


def test_lines__what_opens_on_one_side_does_not_colour_the_other():
    _, came = lines("-'''", "+x = 1")
    assert "p-mi" in came


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("app.py", [" and the end of a text.", ' """', "+return 1"]),
        ("app.py", [" and", ' its end."""', "+return 1"]),
        ("app.js", [" if it is new", " */", "+return 1"]),
    ],
)
def test_lines__what_ends_here_began_above(name, rows):
    *inside, after = lines(*rows, name=name)
    assert all(re.search('^ *<span class="p-(sd|cm|s2)', line) for line in inside), inside
    assert '<span class="p-k">return</span>' in after


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("app.py", ["+def f():", '+    """', "+    What it does."]),
        ("app.py", ['+TEXT = """', "+one"]),
        ("app.js", ["+const all = '**/*.js';", "+return 1;"]),
    ],
)
def test_lines__what_begins_here_did_not_begin_above(name, rows):
    assert re.search('<span class="p-(k|kd)">|^TEXT', lines(*rows, name=name)[0])


def test_marks__are_what_changed_within_a_line():
    gone, came = lines("-total = price * count", "+total = price * amount", name="notes.unheard-of")
    assert gone == "total = price * <mark>count</mark>"
    assert came == "total = price * <mark>amount</mark>"


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (["-one two three", "+quite another line"], "they have too little in common"),
        (["-" + "a " * 400 + "b", "+" + "a " * 400 + "c"], "it is too long"),
        (["-same", " between", "+same but far"], "the second did not take the place of the first"),
        (["+only new"], "there is nothing beside it"),
    ],
)
def test_marks__there_are_none_where(rows, why):
    assert not any("mark" in line for line in lines(*rows)), why


def test_plain__what_no_person_wrote_or_is_very_long(monkeypatch):
    assert lines("+x = 1", "+" + "x" * (diff_colours.LINE_CHARACTERS + 1)) == ["", ""]
    monkeypatch.setattr(diff_colours, "FILE_LINES", 1)
    assert lines("+x = 1", "+y = 2") == ["", ""]
    monkeypatch.setattr(paint, "run", None)  # nothing is started where nothing is to be coloured
    assert lines("+x = 1", "+y = 2") == ["", ""]


def test_painted__what_is_beyond_the_limit_is_only_escaped():
    first, second = paint.painted([Block("a.py", [], ["x = 1"]), Block("a.py", [], ["y < 2"])], limit=7)
    assert (first.language, second.language) == ("Python", "")
    assert second.new == ["y &lt; 2"]


def test_painted__one_block_that_takes_for_ever_costs_only_its_own_colours():
    """What might be a type in Java is looked for anew from each word on."""
    evil = "a " * 20_000
    found = paint.painted([Block("a.java", [], [evil]), Block("a.py", [], ["x = 1"])], limit=LIMIT)
    assert [one.language for one in found] == ["", "Python"]
    assert said(found[0].new[0]) == evil


def test_badges__stand_in_the_lines_of_both_kinds():
    gone, came = lines("-if access == 'user':", "+if access == 'user\u202e \u2066# a\u2069':")
    assert '<span class="unseen" data-code="U+202E"><bdi>\u202e</bdi></span>' in came
    assert said(gone) == "if access == 'user':"
    assert said(came) == "if access == 'user\u202e \u2066# a\u2069':"
    (plain,) = coloured([file(hunk("+" + "x" * (diff_colours.LINE_CHARACTERS + 1) + "\u200b<"))])
    assert plain.hunks[0].lines[0].shown.endswith('data-code="U+200B"><bdi>\u200b</bdi></span>&lt;')


def test_badges__text_from_right_to_left_has_none():
    (html,) = lines("+# שלום, مرحبا", name="notes.unheard-of")
    assert html == "# שלום, مرحبا"


def test_badges__a_line_of_nothing_else_stays_bounded():
    assert str(badges.shown("<\n<")) == "&lt;\n&lt;"
    html = badges.shown("\u200ba" * 1_000 + "\u200b" * 1_000)
    assert len(html) < 10_000
    assert not UNSEEN.search(BADGE.sub("", html))


def test_within__ends_what_takes_too_long():
    assert painter.within(0.02, lambda: re.match(r"(a+)+$", "a" * 40 + "b")) is None
    assert painter.within(5, lambda: 7) == 7


TEXT = st.text(
    st.sampled_from("ab <>&'\"/*#{}()=\\\t\r\n%@:;$`\u2028é\ufeff0\u202e\u2069\x85\U000e0041")
    | st.characters(codec="utf-8"),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(
    old=TEXT,
    new=TEXT,
    name=st.sampled_from(["a.py", "a.js", "a.html", "a.php", "a.css", "a.md", "a.yaml", "Makefile", "x"]),
)
@example(old="</td><script>alert(1)</script>", new="</td><script>alert(2)</script>", name="a.html")
@example(old="<mark>", new="</mark><img src=x onerror=alert(1)>", name='"><img src=x onerror=alert(1)>.html')
def test_html__says_what_it_was_given_and_nothing_else(old, new, name):
    sides = old.split("\n"), new.split("\n")
    together = [(n, n) for n in range(min(len(sides[0]), len(sides[1])))]
    _, *html = painter.painted({}, name, *sides, together)
    html = [[badges.badged(line) for line in side] for side in html]
    assert [[said(line) for line in side] for side in html] == [*sides]
