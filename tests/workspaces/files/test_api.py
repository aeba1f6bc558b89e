"""Trees, files and search over REST."""

from __future__ import annotations

import os

import pytest
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db
ODD = b"caf\xe9 \xff.txt"


@pytest.fixture
def get(owner, workspace):
    client = APIClient()
    client.force_authenticate(owner)

    def ask(part, status=200, **query):
        pairs = "&".join(f"{name}={value}" for name, value in query.items())
        answer = client.get(f"/api/v1/workspaces/{workspace.pk}/{part}?{pairs}")
        assert answer.status_code == status, answer.content
        return answer.json()

    return ask


def test_tree__pages_through_a_folder(get):
    first = get("tree", limit=2)
    assert [(entry["path"], entry["kind"]) for entry in first["entries"]] == [("lib", "folder"), ("app.py", "file")]
    assert (first["total"], first["next_offset"]) == (3, 2)
    assert [entry["path"] for entry in get("tree", offset=2)["entries"]] == ["README.md"]
    assert [entry["path"] for entry in get("tree", path="lib/deep")["entries"]] == ["lib/deep/one.txt"]
    assert get("tree", 404, path="lib/../lib")["error"]["code"] == "file_not_found"
    get("tree", 404, path=".git")


def test_file__by_its_reference_whatever_its_name(get, checkout):
    (checkout / os.fsdecode(ODD)).write_text("<odd>\n")
    [entry] = [entry for entry in get("tree")["entries"] if "caf" in entry["path"]]
    found = get("file", path=entry["ref"])
    assert (found["kind"], found["text"], found["entry"]) == ("text", "<odd>", entry)
    (checkout / "link").symlink_to("/etc/passwd")
    found = get("file", path="link")
    assert (found["kind"], found["text"], found["entry"]["target"]) == ("link", "", "/etc/passwd")
    get("file", 404, path="nothing")
    get("file", 400)


def test_changed_and_search(get, checkout):
    (checkout / os.fsdecode(ODD)).write_text("one needle\n")
    [entry] = get("tree", changed="true")["entries"]
    assert (entry["status"], entry["ref"]) == ("added", "caf%E9%20%FF.txt")
    [file] = get("search", q="needle", where="lines")["files"]
    assert (file["ref"], file["lines"]) == (entry["ref"], [{"number": 1, "text": "one needle"}])
    assert get("search", q="caf")["files"][0]["ref"] == entry["ref"]
    assert get("search", 400, q=" ")["error"]["code"] == "invalid"
