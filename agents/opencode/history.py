"""What happened while nobody listened: the durable events of sessions after a number (opencode.md, section 4).

The server answers without pages, and in full for each session that the question does not name. So sessions are asked for
in groups, and every other session of the server is named with a number that none reaches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog

from agents.backend import ChildOpened, Replayed, Skipped, StreamItem
from agents.opencode.client import OpenCodeClient, unreachable
from agents.opencode.entries import MALFORMED, identity
from agents.opencode.translate import MALFORMED_EVENT, Translator, child_opened
from studio.kernel.errors import StudioError

log = structlog.get_logger(__name__)

GROUP = 100  # sessions of one question
PAGE_EVENTS = 500
NEVER = 2**53 - 1
LIST_LIMIT = 50_000  # sessions of one server
CHILD_CALLS = 500  # questions for children, where the server has no list of all sessions


def replay(client: OpenCodeClient, cursors: Mapping[str, int]) -> Iterator[Replayed]:
    """See AgentBackend.history. New sub-agents come first, so that they are known even when the history cannot be read."""
    others, directories = {}, {}
    try:
        sessions = _all_sessions(client)
    except StudioError as error:
        log.info("session_list_unread", server=client.url, error=error.message)
        children = _children_by_calls(client, cursors)
    else:
        children = [child for info in sessions if (child := child_opened(info))]
        others = {info["id"]: NEVER for info in sessions}
        directories = {info["id"]: info.get("directory") or "" for info in sessions}
    wanted = dict(cursors)
    for child in _below(cursors, children):
        if child.session not in wanted:
            wanted[child.session] = -1
            yield Replayed(child.session, -1, [child])
    names = list(wanted)
    others |= dict.fromkeys(names, NEVER)
    for start in range(0, len(names), GROUP):
        # 0 is the event that made the session: the smallest number that the server accepts.
        asked = {name: max(0, wanted[name]) for name in names[start : start + GROUP]}
        answer = client.post("/sync/history", {**others, **asked})
        yield from _pages(answer, asked, directories)


def _pages(answer: Any, asked: Mapping[str, int], directories: Mapping[str, str]) -> Iterator[Replayed]:
    """The events that were asked for, by session and in order."""
    if not isinstance(answer, list):
        raise unreachable("The agent server's history cannot be read.")
    by_session: dict[str, list[dict[str, Any]]] = defaultdict(list)
    unreadable: list[StreamItem] = []
    for event in answer:
        try:
            if event["seq"] > asked.get(identity(event["aggregate_id"]), NEVER):
                by_session[event["aggregate_id"]].append(event)
        except MALFORMED:
            unreadable.append(Skipped(MALFORMED_EVENT))
    if unreadable:
        yield Replayed("", -1, unreadable)
    for session, events in by_session.items():
        translator, directory = Translator(), directories.get(session, "")
        events.sort(key=lambda event: int(event["seq"]))
        for start in range(0, len(events), PAGE_EVENTS):
            page = events[start : start + PAGE_EVENTS]
            items = [item for event in page for item in translator.durable(event, directory)]
            yield Replayed(session, int(page[-1]["seq"]), items)


def _all_sessions(client: OpenCodeClient) -> list[dict[str, Any]]:
    """Every session of the server."""
    answer = client.get("/experimental/session", limit=LIST_LIMIT)
    if not isinstance(answer, list) or not all(isinstance(one, dict) and _named(one) for one in answer):
        raise unreachable("The agent server's list of sessions cannot be read.")
    return answer


def _named(info: dict[str, Any]) -> bool:
    return isinstance(info.get("id"), str) and isinstance(info.get("parentID") or "", str)


def _children_by_calls(client: OpenCodeClient, roots: Iterable[str]) -> list[ChildOpened]:
    """The sub-agents' sessions below `roots`, asked for one by one."""
    found: dict[str, ChildOpened] = {}
    waiting = list(roots)
    for _ in range(CHILD_CALLS):
        if not waiting:
            break
        answer = client.get(f"/session/{waiting.pop()}/children")
        if not isinstance(answer, list) or not all(isinstance(one, dict) and _named(one) for one in answer):
            raise unreachable("The agent server's list of sub-agents cannot be read.")
        new = [child for info in answer if (child := child_opened(info)) and child.session not in found]
        found |= {child.session: child for child in new}
        waiting += [child.session for child in new]
    return list(found.values())


def _below(roots: Iterable[str], children: list[ChildOpened]) -> Iterator[ChildOpened]:
    """The children that hang below `roots`, each after its parent."""
    by_parent: dict[str, list[ChildOpened]] = defaultdict(list)
    for child in children:
        by_parent[child.parent].append(child)
    waiting = list(dict.fromkeys(roots))
    seen: set[str] = set()
    while waiting:
        parent = waiting.pop(0)
        if parent in seen:
            continue  # a parent of itself would go round for ever
        seen.add(parent)
        for child in by_parent[parent]:
            yield child
            waiting.append(child.session)
