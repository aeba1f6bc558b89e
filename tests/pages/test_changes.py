"""The changes of a checkout, as a page and as the task's tab fetches them."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

from tests import factories
from tests.pages.conftest import FRAGMENT, body
from tests.pages.test_safety import assert_inert
from tests.repositories import git
from workspaces.diff_looks import round_token
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


def printed(word):
    """The line `print('word')` in colours, in which only the word is new."""
    quote = """<span class="p-s1">'</span>"""
    return f'<span class="p-nb">print</span>({quote}<mark><span class="p-s1">{word}</span></mark>{quote})'


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
    assert f'<tr class="removed"><td data-n="1"></td><td></td><td>{printed("hello")}</td></tr>' in page
    assert f'<tr class="added"><td></td><td data-n="1"></td><td>{printed("goodbye")}</td></tr>' in page
    assert "<html" not in page
    assert "<html" in body(as_owner.get(url(workspace)))


@pytest.mark.parametrize("view", ["", "split"])
def test_what_cannot_be_seen_is_shown_in_lines_and_names(as_owner, workspace, view):
    write(workspace, "a\u202ebn.py", "if access:\u2066\u202e # x\n")
    as_owner.cookies["diff_view"] = view
    for address in (url(workspace), f"/workspaces/{workspace.pk}/files/?path=a%E2%80%AEbn.py"):
        page = body(as_owner.get(address))
        assert "a\\u202ebn.py" in page
        assert page.count("\u202e") == page.count("<bdi>\u2066\u202e</bdi>") == 1
        assert "cannot be seen or change the direction of text: U+202E, U+2066." in page


def test_a_round_and_a_file_asked_for_by_name_have_colours_too(as_owner, workspace):
    long = "".join(f"x{n} = {n}\n" for n in range(OPEN_FILE_LINES + 1))
    write(workspace, "first.py", long)
    write(workspace, "second.py", "def f(): pass\n")
    page = body(as_owner.get(url(workspace), headers=FRAGMENT))
    assert '<span class="p-k">def</span>' in page
    assert "p-mi" not in page
    wanted = re.search(r'hx-get="[^"]+(\?file=[0-9a-f]+)"', page)[1]
    assert "p-mi" in body(as_owner.get(url(workspace, wanted), headers=FRAGMENT))


def test_binary_renamed_and_odd_names_are_shown(as_owner, workspace):
    write(workspace, "image.png", bytes(range(256)) * 8)
    write(workspace, "Ünï cödé <b>\n.txt", "hej\n")
    Path(workspace.path, "README.md").rename(Path(workspace.path, "LIESMICH.md"))
    page = body(as_owner.get(url(workspace)))
    assert "A binary or very large file" in page
    assert "<bdi>README.md</bdi> → <bdi>LIESMICH.md</bdi>" in page
    assert "Renamed without a change." in page
    assert "Ünï cödé &lt;b&gt;" in page


@pytest.mark.parametrize("view", ["", "split"])
def test_hostile_content_is_inert(as_owner, workspace, view):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\n"
    for name in ("evil.html", "evil.js", "evil.py", "evil.php", "evil.txt"):
        write(workspace, name, evil)
    write(workspace, 'x"><img src=x onerror=alert(1)>.html', evil)
    git(workspace.path, "add", "-A")
    git(workspace.path, "commit", "-q", "-m", "hostile")
    change = [git(workspace.path, "rev-parse", "HEAD").strip()]
    for path in Path(workspace.path).glob("*<img*"):
        path.write_text(evil.replace("(1)", "(2)") + evil)
    for name in ("evil.html", "evil.js", "evil.py", "evil.php", "evil.txt"):
        write(workspace, name, evil.replace("(1)", "(2)"))
    git(workspace.path, "commit", "-q", "-a", "-m", "hostile again")
    change.append(git(workspace.path, "rev-parse", "HEAD").strip())
    as_owner.cookies["diff_view"] = view
    for page in (
        body(as_owner.get(url(workspace))),
        body(as_owner.get(url(workspace, f"?round={round_token(workspace, *change)}"))),
    ):
        assert_inert(page)
        assert "alert(" in unescape(re.sub("<[^>]*>", "", page))
    assert "<mark>" in page


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


def test_side_by_side_puts_what_came_beside_what_went(as_owner, workspace):
    write(workspace, "app.py", "print('goodbye')\nmore\n")
    as_owner.cookies["diff_view"] = "split"
    page = body(as_owner.get(url(workspace), headers=FRAGMENT))
    assert (
        f'<tr><td class="no removed" data-n="1"></td><td class="removed">{printed("hello")}</td>'
        f'<td class="no added" data-n="1"></td><td class="added">{printed("goodbye")}</td></tr>'
        '<tr><td class="no none"></td><td class="none"></td><td class="no added" data-n="2"></td><td class="added">more</td></tr>'
    ) in page


def test_white_space_is_hidden_when_asked_for(as_owner, workspace):
    write(workspace, "app.py", "print( 'hello' )\nmore\n")
    write(workspace, "README.md", "#  A  repository\n")
    as_owner.cookies["diff_space"] = "hide"
    page = body(as_owner.get(url(workspace), headers=FRAGMENT))
    same = """<span class="p-nb">print</span>( <span class="p-s1">'hello'</span> )"""
    assert f'<tr class="context"><td data-n="1"></td><td data-n="1"></td><td>{same}</td></tr>' in page
    assert '<tr class="added"><td></td><td data-n="2"></td><td>more</td></tr>' in page
    assert "Only white space has changed." in page
    assert page.count('<tr class="removed">') == 0


def test_a_files_mark_changes_with_what_is_shown_of_it(as_owner, workspace):
    def marks():
        return re.findall(r'data-path="([^"]+)" data-digest="([0-9a-f]{16})"', body(as_owner.get(url(workspace))))

    write(workspace, "app.py", "one\n")
    write(workspace, "new.py", "new\n")
    before = dict(marks())
    write(workspace, "app.py", "two\n")
    after = dict(marks())
    assert before.keys() == after.keys() == {"app.py", "new.py"}
    assert before["new.py"] == after["new.py"]
    assert before["app.py"] != after["app.py"]


def test_one_round_is_shown_alone(as_owner, workspace, project):
    commits = [git(workspace.path, "rev-parse", "HEAD").strip()]
    for name in ("first.txt", "second.txt"):
        write(workspace, name, f"{name}\n")
        git(workspace.path, "add", "-A")
        git(workspace.path, "commit", "-q", "-m", name)
        commits.append(git(workspace.path, "rev-parse", "HEAD").strip())
    task = factories.make_task(project, status="review", workspace=workspace)
    runs = [
        factories.make_run(
            task,
            phase=phase,
            state="succeeded",
            session=factories.make_session(workspace),
            base_commit=base,
            head_commit=head,
        )
        for phase, base, head in zip(("implementation", "fix"), commits, commits[1:], strict=False)
    ]
    whole = body(as_owner.get(f"/tasks/{task.key}/?tab=changes"))
    assert f"round={runs[0].pk}" in whole
    assert "(the last round)" in whole
    page = body(as_owner.get(f"/tasks/{task.key}/?tab=changes&round={runs[1].pk}"))
    token = re.search(rf'hx-get="{url(workspace)}\?round=([^"]+)"', page)[1]
    shown = body(as_owner.get(url(workspace, f"?round={token}"), headers=FRAGMENT))
    assert "second.txt" in shown
    assert "first.txt" not in shown
    assert f"?round={token}" in shown  # "Read again" stays there
    other = factories.make_workspace(project)
    for bad in (url(other, f"?round={token}"), url(workspace, f"?round={token}x"), url(workspace, "?round=HEAD~1")):
        assert "There is no such part of the change" in body(as_owner.get(bad, headers=FRAGMENT))


def test_the_tasks_tab_fetches_it(as_owner, workspace, project):
    task = factories.make_task(project, status="review", workspace=workspace)
    assert f'hx-get="{url(workspace)}"' in body(as_owner.get(f"/tasks/{task.key}/"))
