"""Readers whose access is withdrawn while they read: the topic, the stream or the connection ends."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from knox.models import AuthToken

from sessions_app.models import AgentSession
from studio import access, event_stream, hub
from studio.access import Identity
from studio.consumers import FeedConsumer
from studio.kernel.clock import now
from studio.kernel.permissions import Role
from studio.websocket_auth import TokenOr, account_of
from tests.factories import make_member, make_project, make_session, make_user, make_workspace
from tests.studio.event_streams import EventStream, until
from tests.studio.feed import PATIENCE, apublish, connect, end, frames, seqs
from workspaces.models import ProjectMembership

pytestmark = [pytest.mark.real, pytest.mark.django_db(transaction=True)]


class Member:
    """A viewer of a project, signed in by a token and in a browser."""

    def __init__(self, project) -> None:
        self.user = make_member(project, Role.VIEWER)
        self.project = project
        self.row, self.token = AuthToken.objects.create(self.user)
        browser = Client()
        browser.force_login(self.user)
        name, cookie = next(iter(browser.cookies.items()))
        self.cookie, self.session = f"{name}={cookie.value}", browser.session


def lose_role(member):
    ProjectMembership.objects.filter(user=member.user).delete()


def be_disabled(member):
    get_user_model().objects.filter(pk=member.user.pk).update(is_active=False)


def be_deleted(member):
    get_user_model().objects.filter(pk=member.user.pk).delete()


def revoke_token(member):
    AuthToken.objects.all().delete()


def expire_token(member):
    AuthToken.objects.update(expiry=now() - timedelta(seconds=1))


def sign_out(member):
    member.session.flush()


def expire_session(member):
    Session.objects.update(expire_date=now() - timedelta(seconds=1))


def change_password(member):
    member.user.set_password("another one")
    member.user.save()


def lose_project(member):
    AgentSession.objects.all().delete()
    ProjectMembership.objects.all().delete()
    member.project.workspaces.all().delete()
    member.project.delete()


OF_TOPIC = [lose_role, lose_project]
OF_TOKEN = [be_disabled, be_deleted, revoke_token, expire_token]
OF_SESSION = [be_disabled, sign_out, expire_session, change_password]
EACH = [
    *(("token", change) for change in OF_TOPIC + OF_TOKEN),
    *(("session", change) for change in OF_TOPIC + OF_SESSION),
]


@pytest.fixture
def member(world, monkeypatch):
    monkeypatch.setattr(access, "RECHECK_SECONDS", 0.1)
    return Member(world[1])


async def open_socket(member, by):
    if by == "session":
        return await connect(member.user, session=member.session)
    user, digest = await account_of(f"Bearer {member.token}".encode())
    return await connect(user, token=digest)


@pytest.mark.parametrize(("by", "change"), EACH, ids=[f"{by}-{change.__name__}" for by, change in EACH])
async def test_websocket__ends_what_is_withdrawn(member, by, change):
    topic = f"project:{member.project.pk}"
    reader = await open_socket(member, by)
    await reader.send_json_to({"type": "subscribe", "topics": [topic], "after": {topic: 0}})
    await apublish(member.project, "a")
    assert await seqs(reader, 1) == [1]
    await sync_to_async(change)(member)
    told = (await frames(reader, 1, "error"))[0]
    assert (told["code"], told["topic"]) == ("access_ended", topic)
    assert not hub.hub()._readers
    if change in OF_TOPIC:
        await reader.send_json_to({"type": "ping"})
        assert await frames(reader, 1, "pong")
        await end(reader)
    else:
        assert (await reader.receive_output(PATIENCE)) == {"type": "websocket.close", "code": 4401}


@pytest.mark.parametrize(("by", "change"), EACH, ids=[f"{by}-{change.__name__}" for by, change in EACH])
async def test_event_stream__ends_when_access_is_withdrawn(member, by, change):
    headers = {"cookie": member.cookie} if by == "session" else {"authorization": f"Bearer {member.token}"}
    stream = await EventStream("/api/v1/feed", f"project={member.project.pk}", **headers).open()
    await apublish(member.project, "a")
    assert [event["id"] for event in await stream.events(1)] == ["1"]
    await sync_to_async(change)(member)
    told = await stream.event()
    assert (told["event"], told["data"]["code"]) == ("ended", "access_ended")
    await stream.ended()
    await until(lambda: not event_stream._open)


async def test_others__go_on(member, world):
    topic = f"project:{member.project.pk}"
    loser, owner = await open_socket(member, "token"), await connect(world[0])
    for reader in (loser, owner):
        await reader.send_json_to({"type": "subscribe", "topics": [topic]})
        await frames(reader, 1, "subscribed")
    await sync_to_async(lose_role)(member)
    await frames(loser, 1, "error")
    await apublish(member.project, "a")
    assert await seqs(owner, 1) == [1]
    await end(loser, owner)


async def test_database_away__cuts_nobody_off(member, monkeypatch):
    def away(wanted):
        raise OSError("the database is away")

    topic = f"project:{member.project.pk}"
    reader = await open_socket(member, "token")
    await reader.send_json_to({"type": "subscribe", "topics": [topic]})
    await frames(reader, 1, "subscribed")
    right = access._visible
    monkeypatch.setattr(access, "_visible", away)
    with pytest.raises(OSError):
        await hub.hub().guard.check()
    monkeypatch.setattr(access, "_visible", right)
    await apublish(member.project, "a")
    assert await seqs(reader, 1) == [1]
    await end(reader)


def test_round__costs_a_few_queries_however_many_read(transactional_db):
    project = make_project()
    people = [make_member(project, Role.VIEWER) for _ in range(3)]
    sessions = [make_session(make_workspace(project, label=f"W{n}"), external_id=f"ses_{n}") for n in range(20)]
    names = {f"project:{project.pk}", *(f"session:{one.pk}" for one in sessions)}
    digests = [AuthToken.objects.create(one)[0].digest for one in people]
    wanted = {Identity(one.pk, token=digest): names for one, digest in zip(people, digests, strict=True)}
    wanted |= {Identity(one.pk): set(list(names)[:5]) for one in people}
    with CaptureQueriesContext(
        connection,
    ) as queries:
        seen = access._visible(wanted)
    assert seen == wanted
    assert len(queries) == 2 + 2 * len(people)  # accounts, tokens, and for each account its projects and its sessions


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8",
        b"Bearer a b",
        b"Basic abc",
        b"\xff",
        b"Bearer " + b"x" * 9000,
    ],
    ids=range(8),
)
async def test_token__that_is_none_is_turned_away(transactional_db, header):
    user, digest = await account_of(header)
    assert (user.is_authenticated, digest) == (False, "")
    application = TokenOr(FeedConsumer.as_asgi(), None)
    reader = WebsocketCommunicator(application, "/ws/feed/", headers=[(b"authorization", header)])
    await reader.connect(timeout=PATIENCE)
    assert (await reader.receive_output(PATIENCE))["code"] == 4401


async def test_token__of_an_account_is_let_in(world):
    token = (await sync_to_async(AuthToken.objects.create)(world[0]))[1]
    header = (b"authorization", f"bearer {token}".encode())
    reader = WebsocketCommunicator(TokenOr(FeedConsumer.as_asgi(), None), "/ws/feed/", headers=[header])
    assert (await reader.connect(timeout=PATIENCE))[0]
    await reader.send_json_to({"type": "ping"})
    assert json.loads(await reader.receive_from(PATIENCE)) == {"type": "pong"}
    await end(reader)


async def test_anonymous__is_turned_away(broker):
    reader = WebsocketCommunicator(FeedConsumer.as_asgi(), "/ws/feed/")
    vars(reader)["scope"]["user"] = AnonymousUser()
    await reader.connect(timeout=PATIENCE)
    assert (await reader.receive_output(PATIENCE))["code"] == 4401


async def test_stranger__sees_no_topic(world):
    reader = await connect(await sync_to_async(make_user)())
    await reader.send_json_to({"type": "subscribe", "topics": [f"project:{world[1].pk}"]})
    assert (await frames(reader, 1, "error"))[0]["code"] == "not_found"
    await end(reader)
