"""The kept output: bounded, readable while it is written, and text however broken its bytes are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workspaces.commands import files, output
from workspaces.commands.files import OutputWriter, read_output


@pytest.fixture
def small(monkeypatch):
    """Bounds that a test can go around many times."""
    for name, value in {"HEAD_BYTES": 50, "TAIL_BYTES": 120, "PIECE_BYTES": 16}.items():
        monkeypatch.setattr(files, name, value)


def read_all(path, *, ended, step=1000):
    """(start, data) of every stretch."""
    found, after = [], 0
    while True:
        stretch = read_output(path, after, step, ended=ended)
        if not stretch.data:
            return found
        found.append((stretch.start, stretch.data))
        after = stretch.end


@pytest.mark.parametrize("size", [0, 1, 49, 50, 51, 169, 170, 171, 289, 290, 291, 1000, 12_345])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_ring__holds_the_beginning_and_the_end(tmp_path, small, size, step):
    data = bytes(random.Random(size).randrange(256) for _ in range(size))
    writer = OutputWriter(tmp_path / "o")
    position = 0
    while position < size:
        writer.append(data[position : position + 13])
        position += 13
    writer.close()
    for ended in (True, False):
        kept = bytearray(size)
        seen = [False] * size
        for start, piece in read_all(tmp_path / "o", ended=ended, step=step):
            kept[start : start + len(piece)] = piece
            for index in range(start, start + len(piece)):
                assert not seen[index]
                seen[index] = True
        assert all(kept[index] == data[index] for index in range(size) if seen[index])
        missing = [index for index in range(size) if not seen[index]]
        oldest = max(50, size - 120 + (0 if ended else 16))
        assert missing == list(range(50, min(size, oldest)) if size > 50 else [])
    assert (tmp_path / "o").stat().st_size <= files.COUNT_BYTES + 170


def test_full_disk__stops_storing_and_says_so(tmp_path, small, monkeypatch):
    writer = OutputWriter(tmp_path / "o")
    writer.append(b"kept")
    monkeypatch.setattr("os.pwrite", lambda *_: 0)
    writer.append(b"lost")
    monkeypatch.undo()
    writer.append(b"lost too")
    assert "space" in writer.broken
    assert read_output(tmp_path / "o", 0, 100, ended=True).data == b"kept"
    writer.close()


def write(path, data):
    writer = OutputWriter(path)
    writer.append(data)
    writer.close()


PIECES = st.lists(
    st.sampled_from(
        [
            b"a",
            b"\n",
            b"\r",
            b"\r\n",
            "ü".encode(),
            "✓".encode(),
            "😀".encode(),
            b"\x1b[31m",
            b"\x1b]0;title\x07",
            b"\xff",
            b"\0",
        ]
    ),
    max_size=60,
).map(b"".join)


@given(PIECES, st.integers(min_value=1, max_value=40))
def test_text__does_not_depend_on_where_it_is_cut(tmp_path_factory, data, step):
    path = tmp_path_factory.mktemp("output") / "o"
    write(path, data)
    text, after = "", 0
    while after < len(data):
        piece = output.read(path, after, limit=step, ended=True)
        assert piece.next > after
        text, after = text + piece.text, piece.next
    assert text == output.text_of(data)


def test_text__that_may_go_on_is_left_for_later(tmp_path):
    for data, shown in [
        (b"a\xc3", b"a"),
        (b"a\xf0\x9f\x98", b"a"),
        (b"a\x1b", b"a"),
        (b"a\x1b[3", b"a"),
        (b"a\r", b"a"),
        (b"a\x1b[3m", b"a\x1b[3m"),
        (b"a\xff", b"a\xff"),
        (b"a\n", b"a\n"),
    ]:
        path = tmp_path / data.hex()
        write(path, data)
        assert output.read(path, 0, ended=False).next == len(shown), data
        assert output.read(path, 0, ended=True).next == len(data)


def test_escape_without_end__does_not_stop_the_reading(tmp_path):
    write(tmp_path / "o", b"a\x1b]0;" + b"x" * 2_000)
    piece = output.read(tmp_path / "o", 0, ended=False)
    assert piece.next > 1_500


def test_folded__shows_a_progress_bar_as_a_terminal_does():
    assert output.folded("1%\r50%\r100%\nnext\r\nlast\rdone") == "100%\nnext\ndone"


def test_end__begins_with_a_whole_line(tmp_path):
    write(tmp_path / "o", b"".join(b"line %d\n" % n for n in range(2000)))
    piece = output.read_end(tmp_path / "o", 100, ended=True)
    assert piece.text.startswith("line 19")
    assert piece.text.endswith("line 1999\n")
    assert piece.next == piece.total
    assert output.read_end(tmp_path / "none", 100, ended=True) is None


def test_end__over_the_border_of_head_and_ring(tmp_path):
    writer = OutputWriter(tmp_path / "o")
    for n in range(files.HEAD_BYTES // 8 + 5):
        writer.append(b"%07d\n" % n)
    writer.close()
    piece = output.read_end(tmp_path / "o", 400, ended=True)
    numbers = [int(line) for line in piece.text.split()]
    last = files.HEAD_BYTES // 8 + 4
    assert numbers == list(range(last - len(numbers) + 1, last + 1))
    assert len(numbers) >= 49
