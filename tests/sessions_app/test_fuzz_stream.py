"""Recorded streams, damaged in every way a network or a server can: nothing raises, nothing doubles, a replay repairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.opencode.stream import _whole
from agents.opencode.translate import Translator
from sessions_app import selectors
from sessions_app.bridge import places as places_module
from sessions_app.bridge.ingest import Ingest
from sessions_app.models import AgentSession, SessionEvent, SubSession

CAPTURES = Path(__file__).parents[1] / "fixtures" / "opencode"
NAMES = ["full-turn.global", "subagent", "abort", "error-401", "error-midstream", "permission-once", "retry-429"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def events(name: str) -> list[dict]:
    """The events of a capture, in the envelope of the global stream."""
    lines = (CAPTURES / f"{name}.sse").read_text().splitlines()
    values = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return [value if "payload" in value else {"directory": "/srv/tree", "payload": value} for value in values]


RECORDED = {name: events(name) for name in NAMES}


def root_of(name: str) -> str:
    """The session of a capture that no other opened."""
    for event in RECORDED[name]:
        info = event["payload"].get("properties", {}).get("info", {})
        if str(info.get("id", "")).startswith("ses_") and not info.get("parentID"):
            return info["id"]
    raise AssertionError(f"{name} names no session")


@pytest.fixture
def fresh(session, monkeypatch):
    """Empties the log of the one session and gives it the capture's id; a new ingest."""
    monkeypatch.setattr(places_module, "UNKNOWN_SECONDS", 0.0)

    def make(name: str) -> Ingest:
        SessionEvent.objects.all().delete()
        SubSession.objects.all().delete()
        AgentSession.objects.filter(pk=session.pk).update(last_seq=0, external_id=root_of(name), upstream_seq=-1)
        return Ingest(session.server_id)

    return make


def feed(ingest: Ingest, damaged: list, sizes: list[int] | None = None) -> None:
    """Give events of one connection to `ingest`, in batches."""
    translator = Translator()
    items = [item for event in damaged for item in translator.translate(event)]
    start = 0
    for size in [*(sizes or []), len(items)]:
        ingest.take(items[start : start + size])
        start += size
    ingest.flush()


def content(session) -> dict[str, tuple[str, dict]]:
    """The log as key -> (kind, data); checks that its numbers have no gap."""
    rows = list(SessionEvent.objects.filter(session=session).order_by("seq"))
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert AgentSession.objects.get(pk=session.pk).last_seq == len(rows)
    assert len({row.upstream_key for row in rows}) == len(rows)
    return {row.upstream_key: (row.kind, row.data) for row in rows}


@st.composite
def disordered(draw, name: str) -> list[dict]:
    """Some of the events, some of them more than once, some out of order; each as it was sent."""
    chosen = draw(st.lists(st.sampled_from(RECORDED[name]), max_size=60))
    start = draw(st.integers(0, len(RECORDED[name])))
    end = draw(st.integers(start, len(RECORDED[name])))
    return [*chosen, *RECORDED[name][start:end], *draw(st.permutations(chosen))]


def damage(draw, event: dict) -> object:
    """The event with anything in any place of it."""
    copy = json.loads(json.dumps(event))
    place = copy
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and draw(st.booleans()):
            place = inner
            continue
        if isinstance(place, dict) and draw(st.booleans()):
            del place[key]
        else:
            place[key] = draw(JSON)
        return copy


@st.composite
def damaged(draw, name: str) -> list:
    """Events of which some are damaged."""
    chosen = draw(st.lists(st.sampled_from(RECORDED[name]), min_size=1, max_size=12))
    return [damage(draw, event) if draw(st.booleans()) else event for event in chosen]


@pytest.mark.parametrize("name", NAMES)
def test_disordered_prefix__a_full_replay_gives_the_whole_log(fresh, session, name):
    feed(fresh(name), RECORDED[name])
    whole = content(session)
    assert whole

    @FUZZ
    @given(disordered(name), st.lists(st.integers(0, 20), max_size=6))
    def check(prefix, sizes):
        ingest = fresh(name)
        feed(ingest, prefix, sizes)
        content(session)
        feed(ingest, RECORDED[name])
        assert content(session) == whole

    check()


@pytest.mark.parametrize("name", ["full-turn.global", "subagent", "retry-429"])
def test_damaged_prefix__never_raises_and_a_full_replay_adds_what_is_missing(fresh, session, name):
    feed(fresh(name), RECORDED[name])
    keys = content(session).keys()

    @FUZZ
    @given(damaged(name), st.lists(st.integers(0, 20), max_size=4))
    def check(prefix, sizes):
        ingest = fresh(name)
        feed(ingest, prefix, sizes)
        content(session)
        feed(ingest, RECORDED[name])
        assert keys <= content(session).keys()

    check()


STREAM = (CAPTURES / "full-turn.global.sse").read_bytes().replace(b"\r\n", b"\n")
BYTES = {
    "cut": lambda raw, at, size: raw[:at] + raw[at + size :],
    "double": lambda raw, at, size: raw[: at + size] + raw[at:],
    "rubbish": lambda raw, at, size: raw[:at] + b"\xff\xfe\x00" * (size // 3) + raw[at + size :],
    "blank": lambda raw, at, size: raw[:at] + b"\n" * 3 + raw[at:],
}


@FUZZ
@given(
    st.lists(st.tuples(st.sampled_from(sorted(BYTES)), st.integers(0, len(STREAM)), st.integers(0, 3_000)), max_size=4),
    st.integers(1, 5_000),
)
def test_damaged_bytes__cost_only_the_events_they_hit(damages, piece):
    """Whole events come through the framing unharmed, however the bytes are cut into pieces."""
    raw = STREAM
    for name, at, size in damages:
        raw = BYTES[name](raw, at, size)
    refused: list[str] = []
    out = b"".join(_whole((raw[start : start + piece] for start in range(0, len(raw), piece)), refused))
    blocks = {block.strip(b"\n") for block in out.split(b"\n\n")}
    intact = {block.strip(b"\n") for block in STREAM.split(b"\n\n") if b"\n\n" + block + b"\n\n" in raw}
    assert blocks.issuperset(intact)
    for block in blocks:
        block.decode()
    assert bool(refused) <= (b"\xff" in raw)


@pytest.mark.parametrize("name", NAMES)
def test_captures__hold_no_event_of_an_unknown_type(fresh, session, name):
    ingest = fresh(name)
    feed(ingest, RECORDED[name])
    assert set(ingest.tally.total) <= {"taken", "heartbeat"}


def test_hostile_items__are_counted_by_reason_and_the_rest_goes_on(fresh, session):
    name = "full-turn.global"
    feed(fresh(name), RECORDED[name])
    whole = content(session)
    ingest = fresh(name)
    rubbish = [None, 7, [], {"payload": {"type": "brand.new", "properties": {}}}, {"payload": {"type": "session.idle"}}]
    heartbeat = {"payload": {"type": "server.heartbeat", "properties": {}}}
    mixed = [one for event in RECORDED[name] for one in (heartbeat, event, *rubbish)]
    feed(ingest, mixed)
    assert content(session) == whole
    count = len(RECORDED[name])
    assert ingest.tally.total == {
        "taken": len(whole),
        "heartbeat": count,
        "malformed": 4 * count,
        "unknown_type": count,
    }


def test_entry_of_ten_megabytes__is_stored_cut(fresh, session):
    ingest = fresh("full-turn.global")
    root = root_of("full-turn.global")
    part = {"id": "prt_big", "sessionID": root, "messageID": "msg_big", "type": "text", "text": "ä" * 10_000_000}
    event = {"payload": {"type": "message.part.updated", "properties": {"part": {**part, "time": {"end": 5}}}}}
    feed(ingest, [event, *RECORDED["full-turn.global"]])
    first = selectors.read_session(str(session.pk), 0)[0]
    assert (len(first.data["text"]), first.data["cut"]) == (200_000, True)
    assert len(content(session)) > 10
