"""Signing in by password and by a one-time link; nothing is shown without."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from studio.login_links import create_link, use_link
from studio.models import LoginLink
from tests import factories
from tests.pages.conftest import body

PAGES = [
    "/", "/projects/", "/projects/register/", "/projects/DEMO/", "/projects/DEMO/board/", "/projects/DEMO/board/cards/",
    "/projects/DEMO/board/todo/", "/projects/DEMO/tasks/new/", "/projects/DEMO/settings/", "/tasks/DEMO-1/", "/health/",
    "/sessions/7a3e1b1e-52b4-4d0c-9d2c-0d6a3f1c8f10/", "/sessions/7a3e1b1e-52b4-4d0c-9d2c-0d6a3f1c8f10/entries/",
    "/workspaces/7a3e1b1e-52b4-4d0c-9d2c-0d6a3f1c8f10/diff/",
]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize("path", PAGES)
def test_every_page_asks_for_a_login(client, path):
    response = client.get(path)
    assert response.status_code == 302
    assert response["Location"].startswith("/login/?next=")


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/tasks/DEMO-1/act/start/", "/tasks/DEMO-1/edit/", "/projects/DEMO/tasks/new/"])
def test_nothing_is_done_without_a_login(client, path):
    assert client.post(path)["Location"].startswith("/login/")


def test_the_password_form_signs_in_and_goes_where_one_wanted(client, owner):
    page = client.get("/login/?next=/health/")
    assert 'name="next" value="/health/"' in body(page)
    response = client.post("/login/", {"username": "owner", "password": "owner-password", "next": "/health/"})
    assert response["Location"] == "/health/"


def test_a_foreign_next_address_is_not_followed(client, owner):
    form = {"username": "owner", "password": "owner-password", "next": "https://evil.invalid/"}
    assert client.post("/login/", form)["Location"] == "/projects/"


def test_a_wrong_password_is_said_without_saying_which_half_is_wrong(client, owner):
    response = client.post("/login/", {"username": "owner", "password": "no"})
    assert response.status_code == 200
    assert "Please enter a correct username and password" in body(response)
    assert 'value="owner"' in body(response)


def test_signing_out_needs_a_post(as_owner):
    assert as_owner.get("/logout/").status_code == 405
    assert as_owner.post("/logout/")["Location"] == "/login/"
    assert as_owner.get("/projects/").status_code == 302


def test_opening_a_link_does_not_use_it_up(client, owner):
    token = create_link(owner)
    for _ in range(3):
        assert "signs you in as <b>owner</b>" in body(client.get(f"/login/link/{token}/"))
    assert LoginLink.objects.get().used_at is None


def test_a_link_signs_in_once(client, owner):
    token = create_link(owner)
    assert client.post(f"/login/link/{token}/")["Location"] == "/projects/"
    assert client.get("/projects/").status_code == 200
    other = Client()
    refused = other.post(f"/login/link/{token}/")
    assert refused.status_code == 410
    assert "does not work any more" in body(refused)
    assert other.get("/projects/").status_code == 302


def test_a_link_ends(client, owner):
    token = create_link(owner)
    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        assert client.get(f"/login/link/{token}/").status_code == 410
        assert client.post(f"/login/link/{token}/").status_code == 410


def test_a_link_of_a_closed_account_does_nothing(client, owner):
    token = create_link(owner)
    owner.is_active = False
    owner.save()
    assert client.post(f"/login/link/{token}/").status_code == 410


@pytest.mark.django_db
def test_an_invented_link_does_nothing(client):
    assert client.post("/login/link/invented/").status_code == 410


def test_the_token_itself_is_not_kept(owner):
    token = create_link(owner)
    assert token not in str(LoginLink.objects.values())


def test_making_a_link_forgets_those_that_have_ended(owner):
    create_link(owner, valid_seconds=-1)
    create_link(owner)
    assert LoginLink.objects.count() == 1


def test_a_link_needs_its_csrf_token(owner):
    token = create_link(owner)
    strict = Client(enforce_csrf_checks=True)
    assert strict.post(f"/login/link/{token}/").status_code == 403
    assert LoginLink.objects.get().used_at is None


@pytest.mark.django_db(transaction=True)
def test_of_two_at_the_same_moment_one_is_signed_in():
    user = factories.make_user()
    token = create_link(user)
    ready = threading.Barrier(4)
    won = []

    def race():
        try:
            ready.wait()
            won.append(use_link(token))
        finally:
            connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one for one in won if one is not None] == [user]
