"""The files of a checkout as pages: tree, file, search and downloads; names and contents of repositories stay text."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from django.test import AsyncClient

from tests import factories
from tests.pages.conftest import FRAGMENT, body
from tests.pages.test_safety import EVIL, assert_inert

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
ODD = b"caf\xe9 \n\"'<b>.py"


@pytest.fixture
def workspace(project):
    return factories.make_workspace(project)


def write(workspace, name, data):
    path = Path(workspace.path, os.fsdecode(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def url(workspace, part="", query=""):
    return f"/workspaces/{workspace.pk}/files/{part}{query}"


@pytest.mark.parametrize("part", ["", "side/", "folder/", "view/", "raw/?path=app.py", "image/?path=a.png"])
def test_members_see_them_and_strangers_learn_nothing(as_viewer, as_stranger, workspace, part):
    write(workspace, "a.png", PNG)
    assert as_viewer.get(url(workspace, part), headers=FRAGMENT).status_code == 200
    assert as_stranger.get(url(workspace, part), headers=FRAGMENT).status_code == 404
    assert as_stranger.get(f"/workspaces/{workspace.pk}/patch/").status_code == 404


def test_the_page_has_the_tree_and_the_file_with_numbered_lines(as_owner, workspace):
    write(workspace, "lib/deep/one.py", b"def f():\n    return 1\n")
    page = body(as_owner.get(url(workspace, query="?path=lib/deep/one.py")))
    assert page.count("<details open>") == 2
    assert '<tr id="L2"><td><a href="#L2" data-n="2" aria-label="Line 2"></a></td>' in page
    assert '<span class="p-k">return</span>' in page
    assert f'data-root="{quote(workspace.path)}"' in page


def test_a_folder_is_fetched_when_it_is_opened(as_owner, workspace):
    write(workspace, "lib/deep/one.py", b"")
    page = body(as_owner.get(url(workspace), headers=FRAGMENT))
    assert "one.py" not in page
    assert "<html" not in page
    wanted = re.search(r'class="lazy" hx-get="([^"]+path=lib)"', page)[1]
    assert "deep" in body(as_owner.get(wanted, headers=FRAGMENT))


def test_without_the_pages_script_every_address_is_a_page(as_owner, workspace):
    for part in ("side/", "folder/", "view/"):
        answer = as_owner.get(url(workspace, part, "?path=app.py&q=x"))
        assert (answer.status_code, answer["Location"]) == (302, url(workspace, query="?path=app.py&q=x"))


def test_names_of_any_bytes_survive_in_links(as_owner, workspace):
    write(workspace, b"f\xff/" + ODD, b"oddity\n")
    page = body(as_owner.get(url(workspace, "folder/", "?path=f%FF"), headers=FRAGMENT))
    assert_inert(page)
    assert "caf�" in page
    link = re.search(r'hx-get="([^"]+view/[^"]+)"', page)[1]
    assert link.endswith(quote(b"f\xff/" + ODD))
    assert "oddity" in body(as_owner.get(link, headers=FRAGMENT))
    raw = as_owner.get(link.replace("/view/", "/raw/"))
    assert b"".join(raw.streaming_content) == b"oddity\n"
    assert raw["Content-Disposition"].startswith("attachment; filename")


def test_a_name_with_a_new_line_can_be_saved(as_owner, workspace):
    write(workspace, b"a\nb.txt", b"x")
    saved = as_owner.get(url(workspace, "raw/", "?path=a%0Ab.txt"))
    assert saved["Content-Disposition"] == 'attachment; filename="a_b.txt"'
    saved.close()


def test_hostile_names_and_contents_stay_text(as_owner, workspace):
    write(workspace, 'x"><img src=x onerror=alert(1)>.html', EVIL.encode())
    Path(workspace.path, "link").symlink_to('"><script>alert(1)</script>')
    name = quote('x"><img src=x onerror=alert(1)>.html')
    for query in (
        f"?path={name}",
        "?path=link",
        f"?q={quote('<script>')}&in=lines",
        f"?q={quote(EVIL[:40])}",
        "?show=changed",
    ):
        page = body(as_owner.get(url(workspace, query=query)))
        assert_inert(page)
    assert "alert(1)" in body(as_owner.get(url(workspace, query=f"?path={name}")))


def test_very_deep_folders_are_no_trouble(as_owner, workspace):
    deep = "/".join(["d"] * 400)
    write(workspace, f"{deep}/x.txt", b"at the bottom\n")
    assert "at the bottom" in body(as_owner.get(url(workspace, query=f"?path={deep}/x.txt")))
    assert "x.txt" in body(as_owner.get(url(workspace, query="?show=changed")))


@pytest.mark.parametrize("path", ["../../x", ".git", "nothing", "link/secret", "%00", "a" * 5000])
def test_what_is_not_there_is_said_in_the_files_place(as_owner, workspace, tmp_path, path):
    (tmp_path / "secret").write_text("secret")
    Path(workspace.path, "link").symlink_to(tmp_path)
    page = as_owner.get(url(workspace, query=f"?path={path}"))
    assert page.status_code == 200
    assert "There is no “" in body(page)
    assert "app.py" in body(page)  # the tree is there all the same
    assert as_owner.get(url(workspace, "raw/", f"?path={path}")).status_code == 404


def test_images_are_shown_and_nothing_else_is(as_owner, workspace):
    write(workspace, "a.png", PNG)
    write(workspace, "b.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    write(workspace, "c.png", b"<html><script>alert(1)</script>")
    image = as_owner.get(url(workspace, "image/", "?path=a.png"))
    assert (image["Content-Type"], image["X-Content-Type-Options"]) == ("image/png", "nosniff")
    assert image["Content-Security-Policy"] == "default-src 'none'; sandbox"
    for name in ("b.svg", "c.png"):
        assert as_owner.get(url(workspace, "image/", f"?path={name}")).status_code == 404
        assert "<img" not in body(as_owner.get(url(workspace, "view/", f"?path={name}"), headers=FRAGMENT))
    saved = as_owner.get(url(workspace, "raw/", "?path=b.svg"))
    assert (saved["Content-Type"], saved["Content-Security-Policy"]) == (
        "application/octet-stream", "default-src 'none'; sandbox",
    )  # fmt: skip
    assert saved["Content-Disposition"] == 'attachment; filename="b.svg"'
    saved.close()


def test_binary_and_huge_files_are_named(as_owner, workspace):
    write(workspace, "binary", b"\0\1")
    with Path(workspace.path, "huge").open("wb") as file:
        file.write(b"x\n" * 9000)
        file.truncate(1024**3)
    assert "A binary file" in body(as_owner.get(url(workspace, "view/", "?path=binary"), headers=FRAGMENT))
    page = body(as_owner.get(url(workspace, "view/", "?path=huge"), headers=FRAGMENT))
    assert "too large to be shown" in page
    assert "1.0\xa0GB" in page


def test_search_links_to_the_lines(as_owner, workspace):
    write(workspace, b"f\xff.txt", b"one\nthe needle\n")
    page = body(as_owner.get(url(workspace, "side/", "?q=needle&in=lines"), headers=FRAGMENT))
    assert "1 line in 1 file" in page
    assert 'path=f%FF.txt#L2"' in page
    assert 'href="/workspaces' in body(as_owner.get(url(workspace, "side/", "?q=app"), headers=FRAGMENT))
    assert "Nothing was found" in body(as_owner.get(url(workspace, "side/", "?q=unheard-of"), headers=FRAGMENT))


def test_the_changed_files_have_their_letters(as_owner, workspace):
    assert "Nothing has changed" in body(as_owner.get(url(workspace, "side/", "?show=changed"), headers=FRAGMENT))
    write(workspace, "lib/new.py", b"x\n")
    Path(workspace.path, "app.py").unlink()
    page = body(as_owner.get(url(workspace, "side/", "?show=changed"), headers=FRAGMENT))
    assert 'class="st st-added"' in page
    assert 'class="st st-deleted"' in page
    assert "README.md" not in page


def test_a_checkout_that_is_gone_is_said(as_owner, workspace):
    Path(workspace.path).rename(f"{workspace.path}-gone")
    for fragment in ({}, FRAGMENT):
        page = as_owner.get(url(workspace), headers=fragment)
        assert page.status_code == 200
        assert "is gone" in body(page)
    assert as_owner.get(f"/workspaces/{workspace.pk}/patch/").status_code == 502


def test_the_tasks_tab_fetches_them(as_owner, workspace, project):
    task = factories.make_task(project, status="review", workspace=workspace)
    assert f'hx-get="{url(workspace)}"' in body(as_owner.get(f"/tasks/{task.key}/?tab=files"))
    assert "There is no checkout yet" in body(as_owner.get(f"/tasks/{factories.make_task(project).key}/?tab=files"))


@pytest.mark.django_db(transaction=True)
def test_downloads_stream_from_an_asynchronous_server(owner, workspace):
    write(workspace, "big", b"0123456789" * 100_000)

    async def fetch(address):
        client = AsyncClient()
        await client.aforce_login(owner)
        response = await client.get(address)
        return b"".join([piece async for piece in response.streaming_content])

    assert asyncio.run(fetch(url(workspace, "raw/", "?path=big"))) == b"0123456789" * 100_000
    assert b"diff --git a/big b/big" in asyncio.run(fetch(f"/workspaces/{workspace.pk}/patch/"))
