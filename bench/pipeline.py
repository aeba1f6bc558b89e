"""What the studio costs on top of the agent: the same three turns by hand and through the studio, alternating.

    .venv/bin/python -m bench.pipeline --pairs 10

By hand: a worktree, one session per turn, the server's own blocking prompt call, nothing else. Through the studio: create a
task, approve its plan, follow the feed until it rests in review. Both use the same OpenCode server, the same agents, the same
practice scripts (which answer at once) and a fresh worktree per pair, so both pay what a directory that is new to the server
costs. The difference is the studio's own time: jobs, rows, commits, diff, feed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

from tests.e2e.scripts import script, write
from tests.e2e.studio_process import Studio

PHASES = ("planning", "implementation", "review")
AGENTS = {"planning": "studio-planner", "implementation": "studio-implementer", "review": "studio-reviewer"}
# In prose, because a turn by hand has no studio to hand its results in to.
DESCRIPTION = script(
    planning=[[{"text": "## Plan\n\n1. Write `result.txt`."}]],
    implementation=[[write("done\n")]],
    review=[[{"text": '```json\n{"verdict": "approved", "summary": "Fine.", "findings": []}\n```'}]],
)


def by_hand(endpoint: dict[str, Any], repository: Path, number: int) -> dict[str, float]:
    """Seconds per phase, with plain HTTP."""
    tree = repository.parent / f"hand-{number}"
    started = time.perf_counter()
    subprocess.run(["git", "worktree", "add", "-q", "-b", f"hand-{number}", str(tree)], cwd=repository, check=True)
    added = time.perf_counter() - started
    http = requests.Session()
    http.auth = (endpoint.get("username", "opencode"), endpoint["password"])
    took = {}
    for phase in PHASES:
        prompt = (
            f"Phase: {phase}\nRound: 1\nTask: HAND-{number}\nTitle: By hand\n\n"
            f"<task-description>\n{DESCRIPTION}\n</task-description>\n"
        )
        body = {
            "agent": AGENTS[phase],
            "model": {"providerID": "practice", "modelID": "practice"},
            "parts": [{"type": "text", "text": prompt}],
        }
        where = {"directory": str(tree)}
        started = time.perf_counter()
        session = http.post(f"{endpoint['url']}/session", params=where, json={"title": phase}, timeout=60).json()
        answer = http.post(f"{endpoint['url']}/session/{session['id']}/message", params=where, json=body, timeout=120)
        answer.raise_for_status()
        took[phase] = time.perf_counter() - started
    took["planning"] += added
    return took


def follow(feed: ClientConnection, key: str, target: str) -> float:
    """The moment at which the feed says that the task reached `target`."""
    while True:
        frame = json.loads(feed.recv(timeout=120))
        if frame["type"] == "ping":
            feed.send(json.dumps({"type": "pong", "id": frame["id"]}))
        data = frame.get("data", {})
        if frame.get("kind") == "task.moved" and data.get("key") == key and data.get("to") == target:
            return time.perf_counter()


def by_studio(studio: Studio, project: dict[str, Any], feed: ClientConnection, number: int) -> dict[str, float]:
    """Seconds per phase, through the studio."""
    started = time.perf_counter()
    key = studio.task(project, f"By the studio {number}", DESCRIPTION)["key"]
    planned = follow(feed, key, "planning_review")
    approved = time.perf_counter()
    studio.post(f"/tasks/{key}/approve_plan")
    implemented = follow(feed, key, "ai_review")
    reviewed = follow(feed, key, "review")
    return {"planning": planned - started, "implementation": implemented - approved, "review": reviewed - implemented}


def line(name: str, values: list[float]) -> str:
    """A row of the table: minimum, median, maximum, in milliseconds."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"| {name} | {low * 1000:.0f} | {middle * 1000:.0f} | {high * 1000:.0f} |"


def report(hand: list[dict[str, float]], ours: list[dict[str, float]]) -> str:
    """The table of all figures."""
    rows = ["| milliseconds | minimum | median | maximum |", "|---|---:|---:|---:|"]
    for phase in PHASES:
        rows.append(line(f"{phase}, by hand", [one[phase] for one in hand]))
        rows.append(line(f"{phase}, studio", [one[phase] for one in ours]))
        rows.append(
            line(f"{phase}, the studio's own time", [b[phase] - a[phase] for a, b in zip(hand, ours, strict=True)])
        )
    totals = [(sum(a.values()), sum(b.values())) for a, b in zip(hand, ours, strict=True)]
    rows.append(line("all three, by hand", [a for a, _ in totals]))
    rows.append(line("all three, studio", [b for _, b in totals]))
    rows.append(line("own time per phase, mean of three", [(b - a) / 3 for a, b in totals]))
    return "\n".join(rows)


def main() -> None:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10)
    pairs = parser.parse_args().pairs
    studio = Studio("--no-sample")
    try:
        studio.start()
        endpoint = json.loads((studio.data / "run" / "agentserver.json").read_text())
        repository = studio.repository("bench", files={f"src/module_{n}.py": f"x = {n}\n" for n in range(200)})
        project = studio.project(repository)
        address = f"{studio.url.replace('http', 'ws', 1)}/ws/feed/"
        with connect(address, additional_headers={"Authorization": str(studio.http.headers["Authorization"])}) as feed:
            feed.send(json.dumps({"type": "subscribe", "topics": [f"project:{project['id']}"]}))
            by_hand(endpoint, repository, 0)  # both ways once, not counted
            by_studio(studio, project, feed, 0)
            hand, ours = [], []
            for number in range(1, pairs + 1):
                hand.append(by_hand(endpoint, repository, number))
                ours.append(by_studio(studio, project, feed, number))
                print(
                    f"pair {number}: {sum(hand[-1].values()):.2f} s by hand, {sum(ours[-1].values()):.2f} s studio",
                    flush=True,
                )
        print(f"\n{pairs} pairs, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}\n")
        print(report(hand, ours))
    finally:
        studio.close()


if __name__ == "__main__":
    main()
