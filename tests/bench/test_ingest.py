"""The measurements run and lose nothing; what they measure is no test's business."""

from __future__ import annotations

import json

import pytest

from bench import ingest
from bench.readers import SLOTS, Reader, percentile
from bench.simulated_server import Talker, recording


@pytest.mark.real
@pytest.mark.parametrize("mix", ["entries", "recorded"])
def test_throughput__what_is_sent_is_stored_and_seen_by_every_reader(mix):
    options = ingest.arguments(["--seconds", "3", "--rate", "60", "--readers", "3", "--sessions", "4", "--mix", mix])
    found = ingest.throughput(options)
    studio = found["studio"]
    assert studio["sent"] == 180
    assert (studio["lost"], studio["gaps"], studio["faults"]) == (0, 0, {})
    assert studio["entries"] == studio["stored"] > 0
    assert studio["seen"] == [studio["entries"]] * 3
    assert (studio["deltas"] > 0) == (mix == "recorded")
    if mix == "entries":
        assert found["floor"]["seen"] == [180] * 3
    assert "| studio |" in ingest.report_throughput(options, found)


def test_talkers__say_what_the_real_server_says():
    events, counts, session = recording()
    talker = Talker("ses_000000000001", "/srv/one", "recorded")
    made = [talker.next() for _ in events]
    assert [count for _, count in made] == counts
    assert sum(counts) > 20
    text = b"".join(event for event, _ in made).decode()
    assert session not in text
    twins = [json.loads(event)["payload"] for event, _ in made if b'"type":"sync"' in event]
    assert [twin["syncEvent"]["seq"] for twin in twins] == list(range(1, len(twins) + 1))


def test_reader__counts_gaps_and_doubles():
    reader = Reader([0] * SLOTS)
    reader.take({"type": "subscribed", "topic": "t", "seq": 0}, 1.0)
    frames = [{"type": "event", "topic": "t", "seq": seq, "at": "1970-01-01T00:00:01+00:00"} for seq in (1, 1, 2, 4)]
    reader.take({"type": "batch", "frames": frames}, 1.25)
    assert reader.faults == {"double": 1, "gap": 1}
    assert (reader.seen, percentile(reader.slots, 0.99)) == (4, 250.5)
