"""Who follows the live feed, and whether that is still allowed: checked when a topic is subscribed to, and ever after.

A connection may stay open for days. In that time a role is withdrawn, an account disabled, a token revoked or expired, a
browser signed out, a project deleted. Looking at every frame would cost a query for each; instead one round every few
seconds looks at all readers of the process together: one query for the accounts, one for the tokens, one for each browser
session, and one for each account and kind of topic, however many connections, topics and frames there are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import structlog
from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.db.models import Q
from django.utils.crypto import constant_time_compare
from knox.models import AuthToken

from studio import topics
from studio.kernel.clock import now

log = structlog.get_logger(__name__)

RECHECK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """An account and what it signed in with; neither field set: somebody whom the caller vouches for."""

    user_id: int
    token: str = ""  # the digest of a bearer token
    session: str = ""  # the key of a browser's session


class Watched(Protocol):
    """A connection whose access is looked at again and again. The methods return at once."""

    identity: Identity

    def topics(self) -> Iterable[str]:
        """What it is subscribed to now."""

    def withdraw(self, topic: str) -> None:
        """The account may no longer read `topic`."""

    def sign_out(self) -> None:
        """The account, the token or the session is no longer good for anything."""


class Guard:
    """Looks after the access of one process's readers, on one event loop."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()

    def watch(self, reader: Watched) -> None:
        """Look after `reader` from now on."""
        self._watched.add(reader)

    def forget(self, reader: Watched) -> None:
        """Its connection has ended; harmless when it is not watched."""
        self._watched.discard(reader)

    async def run(self) -> None:
        """Check everybody every few seconds, for ever."""
        while True:
            await asyncio.sleep(RECHECK_SECONDS)
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001 -- a database that is away shows nobody anything either
                log.warning("access_not_checked", readers=len(self._watched), error=str(error))

    async def check(self) -> None:
        """One round: take from each reader what it may no longer see."""
        asked = {reader: frozenset(reader.topics()) for reader in self._watched}
        if not asked:
            return
        wanted: dict[Identity, set[str]] = defaultdict(set)
        for reader, names in asked.items():
            wanted[reader.identity] |= names
        seen = await visible_to_all(wanted)
        for reader, names in asked.items():
            if reader.identity not in seen:
                log.info("reader_signed_out", user=reader.identity.user_id)
                self.forget(reader)
                reader.sign_out()
                continue
            for name in names - seen[reader.identity]:
                log.info("reader_lost_topic", user=reader.identity.user_id, topic=name)
                reader.withdraw(name)


@database_sync_to_async
def heads_of(identity: Identity, names: list[str]) -> dict[str, int]:
    """The last seq of each of the topics that this reader may see now; the others, and names that are none, are absent."""
    seen = _visible({identity: set(names)}).get(identity, set())
    return {name: topics.head_of(name) for name in names if name in seen}


@database_sync_to_async
def visible_to_all(wanted: Mapping[Identity, set[str]]) -> dict[Identity, set[str]]:
    """What each reader may see of what it wants; readers whose sign-in is no longer good are absent."""
    return _visible(wanted)


def _visible(wanted: Mapping[Identity, set[str]]) -> dict[Identity, set[str]]:
    users = {user.pk: user for user in _active(identity.user_id for identity in wanted)}
    tokens = _live_tokens(identity.token for identity in wanted)
    standing = [
        identity
        for identity in wanted
        if identity.user_id in users
        and (not identity.token or identity.token in tokens)
        and (not identity.session or _session_stands(identity.session, users[identity.user_id]))
    ]
    by_user: dict[int, set[str]] = defaultdict(set)
    for identity in standing:
        by_user[identity.user_id] |= wanted[identity]
    seen = {user_id: _topics_of(users[user_id], names) for user_id, names in by_user.items()}
    return {identity: wanted[identity] & seen[identity.user_id] for identity in standing}


def _active(user_ids: Iterable[int]) -> Iterable[Any]:
    return get_user_model().objects.filter(pk__in=set(user_ids), is_active=True)


def _live_tokens(digests: Iterable[str]) -> set[str]:
    wanted = {digest for digest in digests if digest}
    if not wanted:
        return set()
    alive = Q(expiry__isnull=True) | Q(expiry__gt=now())
    return set(AuthToken.objects.filter(alive, digest__in=wanted).values_list("digest", flat=True))


def _session_stands(key: str, user: Any) -> bool:
    """Whether the browser is still signed in to the account: the session is there, and the password is the same."""
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    if session.get(SESSION_KEY) != str(user.pk):
        return False
    good = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(session.get(HASH_SESSION_KEY, ""), one) for one in good)


def _topics_of(user: Any, names: Iterable[str]) -> set[str]:
    by_kind: dict[str, set[str]] = defaultdict(set)
    for name in names:
        if topics.is_known(name):
            by_kind[name.partition(":")[0]].add(name)
    seen: set[str] = set()
    for kind, of_kind in by_kind.items():
        seen |= topics.visible(kind, user, of_kind)
    return seen
