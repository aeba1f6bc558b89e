"""The changes of a checkout, as a page and as the task's tab fetches them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import factories
from tests.pages.conftest import FRAGMENT, body
from tests.pages.test_safety import assert_inert
from workspaces.views import OPEN_FILE_LINES, OPEN_LINES


@pytest.fixture
def workspace(project):
    return factories.make_workspace(project)


def write(workspace, name, text):
    path = Path(workspace.path, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text)


def url(workspace, query=""):
    return f"/workspaces/{workspace.pk}/diff/{query}"


def test_members_see_it_and_strangers_learn_nothing(as_viewer, as_stranger, workspace):
    assert as_viewer.get(url(workspace)).status_code == 200
    assert as_stranger.get(url(workspace)).status_code == 404


def test_an_unchanged_checkout_says_so(as_owner, workspace):
    assert "Nothing has changed" in body(as_owner.get(url(workspace)))


def test_lines_are_numbered_and_marked(as_owner, workspace):
    write(workspace, "app.py", "print('goodbye')\n")
    page = body(as_owner.get(url(workspace), headers=FRAGMENT))
    assert '<tr class="removed"><td data-n="1"></td><td></td><td>print(&#x27;hello&#x27;)</td></tr>' in page
    assert '<tr class="added"><td></td><td data-n="1"></td><td>print(&#x27;goodbye&#x27;)</td></tr>' in page
    assert "<html" not in page
    assert "<html" in body(as_owner.get(url(workspace)))


def test_binary_renamed_and_odd_names_are_shown(as_owner, workspace):
    write(workspace, "image.png", bytes(range(256)) * 8)
    write(workspace, "Ünï cödé <b>\n.txt", "hej\n")
    Path(workspace.path, "README.md").rename(Path(workspace.path, "LIESMICH.md"))
    page = body(as_owner.get(url(workspace)))
    assert "A binary or very large file" in page
    assert "README.md → LIESMICH.md" in page
    assert "Renamed without a change." in page
    assert "Ünï cödé &lt;b&gt;" in page


def test_hostile_content_is_inert(as_owner, workspace):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\n"
    write(workspace, "evil.html", evil)
    write(workspace, 'x"><img src=x onerror=alert(1)>.txt', evil)
    page = body(as_owner.get(url(workspace)))
    assert_inert(page)
    assert "alert(1)" in page


def test_a_long_file_is_folded_until_it_is_asked_for(as_owner, workspace):
    write(workspace, "long.txt", "".join(f"line {n}\n" for n in range(OPEN_FILE_LINES + 1)))
    write(workspace, "short.txt", "short\n")
    page = body(as_owner.get(url(workspace), headers=FRAGMENT))
    assert "line 1<" not in page
    assert "short<" in page
    wanted = re.search(r'hx-get="[^"]+(\?file=[0-9a-f]+)"', page)[1]
    lines = body(as_owner.get(url(workspace, wanted), headers=FRAGMENT))
    assert f"line {OPEN_FILE_LINES}<" in lines
    assert "<details" not in lines
    whole = body(as_owner.get(url(workspace, wanted)))
    assert f"line {OPEN_FILE_LINES}<" in whole
    assert "<html" in whole


def test_many_files_do_not_make_a_large_page(as_owner, workspace):
    each = OPEN_FILE_LINES // 2
    for number in range(3 * OPEN_LINES // each):
        write(workspace, f"f{number:03}.txt", "a line of some length, as lines of code have it\n" * each)
    page = body(as_owner.get(url(workspace), headers=FRAGMENT))
    assert page.count("<tr") <= OPEN_LINES + 100
    assert page.count("<details") == 3 * OPEN_LINES // each


def test_a_file_that_is_not_part_of_the_change_is_said(as_owner, workspace):
    write(workspace, "app.py", "print('goodbye')\n")
    assert "is not part of this change" in body(as_owner.get(url(workspace, "?file=nothing"), headers=FRAGMENT))


def test_a_checkout_that_is_gone_is_said(as_owner, workspace):
    Path(workspace.path).rename(f"{workspace.path}-gone")
    response = as_owner.get(url(workspace), headers=FRAGMENT)
    assert response.status_code == 200
    assert "is gone" in body(response)


def test_the_tasks_tab_fetches_it(as_owner, workspace, project):
    task = factories.make_task(project, status="review", workspace=workspace)
    assert f'hx-get="{url(workspace)}"' in body(as_owner.get(f"/tasks/{task.key}/"))
