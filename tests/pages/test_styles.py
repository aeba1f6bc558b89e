"""The style sheets: code can be read on every ground it stands on (WCAG 2.2, AA: 4.5 to 1), and no two of them mean each other."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

CSS = Path(__file__).parents[2] / "static" / "css"
COLOUR = re.compile(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);")
COLOURS = {
    name: pair for file in ("studio.css", "code.css") for name, *pair in COLOUR.findall((CSS / file).read_text())
}
INKS = ["text", "red", "green", *(name for name in COLOURS if name.startswith("c-"))]
GROUNDS = ["surface", "amber-soft", *(name for name in COLOURS if name.startswith("d-"))]


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("theme", "scheme"), [(0, "light"), (1, "dark")], ids=["light", "dark"])
def test_code__is_readable_on_every_ground(theme, scheme):
    assert len(INKS) == 9
    assert len(GROUNDS) == 6
    poor = {
        (ink, ground): round(ratio, 2)
        for ink in ["faint", *INKS]  # faint: the numbers of the lines
        for ground in GROUNDS
        if (ink != "faint" or not ground.endswith("-word"))
        and (ratio := contrast(COLOURS[ink][theme], COLOURS[ground][theme])) < 4.5
    }
    assert not poor, scheme


def test_sheets__have_one_subject_each():
    assert {sheet.name: lines for sheet in CSS.glob("*.css") if (lines := sheet.read_text().count("\n")) > 320} == {}


def test_sheets__do_not_style_each_others_things():
    """Pages load several of them: a bare class belongs to one."""
    plain = re.compile(r"/\*.*?\*/|@[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", re.DOTALL)
    owners = Counter(
        name
        for sheet in CSS.glob("*.css")
        for name in {
            one.strip()
            for selectors in re.findall(r"([^{}]+)\{", plain.sub("", sheet.read_text()))
            for one in selectors.split(",")
        }
        if re.fullmatch(r"\.[\w-]+", name)
    )
    assert [name for name, sheets in owners.items() if sheets > 1] == []
