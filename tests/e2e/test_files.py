"""The files of a task in a browser: the tree, a file with a line to link to, search, the editor's link, the patch."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.browser import LONG, Person, chromium
from tests.e2e.scripts import bash, script
from tests.repositories import GIT_ENV, git

pytestmark = pytest.mark.real

WORK = (
    "mkdir -p src/deep && printf 'def greet(name):\\n    return name\\n\\n\\nprint(greet(1))\\n' > src/deep/greet.py"
    " && printf 'zwei\\n' >> README.md && ln -s /etc/passwd way-out"
)


def test_files__are_read_searched_and_saved_on_the_tasks_page(studio, project):
    plan = script(implementation=[[bash(WORK), {"text": "Done."}]])
    key = studio.task(project, "Greet", plan)["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    task = studio.wait_status(key, "review", seconds=120)
    workspace = studio.get(f"/workspaces/{task['workspace']}")
    with chromium() as browser:
        person = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
        page = person.task(key, tab="files").page
        tree, view = page.locator(".fside"), page.locator(".fview")
        expect(tree).to_contain_text("README.md", timeout=LONG)
        tree.get_by_text("src").click()
        tree.get_by_text("deep").click()
        tree.get_by_text("greet.py").click()
        expect(view.locator("tr#L1 .p-nf")).to_have_text("greet")
        expect(tree.locator("a[aria-current]")).to_have_text("greet.py")
        view.locator("a[data-n='2']").click()
        view.locator("a[data-n='4']").click(modifiers=["Shift"])
        expect(page).to_have_url(f"{studio.url}/tasks/{key}/?tab=files#L2-L4")
        expect(view.locator("tr.is-on")).to_have_count(3)

        page.locator(".fhead .menu summary").click()
        page.get_by_label("Open files in").select_option("vscode")
        link = view.locator("a[data-editor]")
        expect(link).to_have_attribute("href", f"vscode://file{workspace['path']}/src/deep/greet.py:2")
        page.get_by_label("over SSH").fill("me@build.example")
        remote = f"vscode://vscode-remote/ssh-remote+me@build.example{workspace['path']}/src/deep/greet.py:2"
        expect(link).to_have_attribute("href", remote)
        page.get_by_label("over SSH").fill("x/y?z")  # no host: what was kept last stays
        expect(link).to_have_attribute("href", remote)
        expect(page.locator("[data-editor-note]")).to_contain_text("letters, digits")
        page.keyboard.press("Escape")

        tree.get_by_text("way-out").first.click()
        expect(view).to_contain_text("The studio does not follow it")
        page.get_by_label("Where", exact=True).select_option("lines")
        page.keyboard.press("Escape")
        page.keyboard.press("t")
        page.keyboard.type("print(greet")
        page.keyboard.press("Enter")
        expect(tree).to_contain_text("1 line in 1 file")
        tree.locator(".fline").click()
        expect(view.locator("tr.is-on")).to_have_attribute("id", "L5")
        page.get_by_role("link", name="Changed", exact=True).click()
        expect(tree.locator(".st-added")).to_have_count(2)
        with page.expect_download() as download:
            page.get_by_role("link", name="Patch").click()
        patch = download.value
        assert patch.suggested_filename == f"{key}-onto-{workspace['base_commit'][:10]}.patch"
        plain = studio.folder / f"applied {key}"
        git(project["folder"], "worktree", "add", "-q", "--detach", str(plain), workspace["base_commit"])
        subprocess.run(["git", "apply", "--index", str(patch.path())], cwd=plain, env=GIT_ENV, check=True)
        assert git(plain, "write-tree") == git(workspace["path"], "rev-parse", "HEAD^{tree}")

        page.goto(f"{studio.url}/workspaces/{workspace['id']}/files/?path=src/deep/greet.py#L5")
        expect(page.locator("tr.is-on")).to_have_attribute("id", "L5")
        expect(page.locator("a[data-editor]")).to_have_attribute("href", remote.removesuffix("2") + "5")
        page.locator(".fside").get_by_text("README.md").click()
        expect(page.locator(".fview")).to_contain_text("zwei")
        page.go_back()
        expect(page.locator(".fview .p-nf")).to_have_text("greet")
        assert person.errors == []


def test_changes__are_seen_side_by_side_filtered_and_marked(studio, project):
    plan = script(implementation=[[bash(WORK), {"text": "Done."}]])
    key = studio.task(project, "Look at it", plan)["key"]
    studio.wait_status(key, "planning_review")
    studio.post(f"/tasks/{key}/approve_plan")
    task = studio.wait_status(key, "review", seconds=120)
    with chromium() as browser:
        person = Person(browser, studio.url, studio.manage("loginlink").split()[-1])
        page = person.task(key, tab="changes").page
        readme = page.locator(".dfile[data-path='README.md']")
        expect(readme.locator("tr.added")).to_have_count(1, timeout=LONG)
        page.get_by_label("Side by side").check()
        expect(readme.locator("table.split td.added").last).to_have_text("zwei")
        page.keyboard.press("f")
        page.keyboard.type("readme")
        expect(page.locator(".dfile:visible")).to_have_count(1)
        page.get_by_label("Filter the files").fill("")
        page.keyboard.press("Escape")
        page.keyboard.press("n")
        page.keyboard.press("n")
        assert page.evaluate("document.activeElement.closest('.dfile').dataset.path") == "src/deep/greet.py"
        page.keyboard.press("p")
        assert page.evaluate("document.activeElement.closest('.dfile').dataset.path") == "README.md"
        readme.get_by_label("Viewed").check()
        expect(readme).not_to_have_attribute("open", "")
        expect(page.locator(".dseen")).to_have_text("1 of 3 viewed")
        page.reload()
        expect(page.locator(".dseen")).to_have_text("1 of 3 viewed", timeout=LONG)
        expect(page.locator(".dfile[data-path='src/deep/greet.py'] table.split")).to_be_visible()
        workspace = studio.get(f"/workspaces/{task['workspace']}")
        with (Path(workspace["path"]) / "README.md").open("a") as file:
            file.write("drei\n")
        page.get_by_role("link", name="Read again").click()
        expect(readme).to_contain_text("drei")
        expect(page.locator(".dseen")).to_have_text("")
        assert person.errors == []
