"""What of Gitea's published description the studio uses, with answers of a real Gitea: tests/fixtures/forge/gitea.json.

    .venv/bin/python -m tests.forges.description      makes the file anew

The description is taken from the module that tests/real/gitea.py builds, the answers from the Gitea that it starts.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema

FILE = Path(__file__).resolve().parents[1] / "fixtures" / "forge" / "gitea.json"
TEMPLATE = "templates/swagger/v1_json.tmpl"
HERE = "/repos/{owner}/{repo}"
USED = {
    "": ["get"],
    "/pulls": ["get", "post"],
    "/pulls/{index}": ["get"],
    "/pulls/{index}/commits": ["get"],
    "/pulls/{index}/requested_reviewers": ["post"],
    "/pulls/{index}/reviews": ["get"],
    "/pulls/{index}/reviews/{id}/comments": ["get"],
    "/commits/{ref}/status": ["get"],
    "/labels": ["get"],
    "/issues": ["get"],
    "/issues/{index}": ["get"],
    "/issues/{index}/comments": ["post"],
    "/issues/{index}/labels": ["post"],
}
PROSE = {"description", "title", "summary", "x-go-name", "x-go-package", "x-go-enum-desc", "example"}
OF_A_REPOSITORY = ("id", "name", "full_name", "html_url", "default_branch")
Ask = Callable[[str, str], Any]


def read() -> dict[str, Any]:
    """The file."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def reduced(root: Path, version: str) -> dict[str, Any]:
    """The description in the module at `root`: operations that are used, with all types that their answers have, no prose."""
    whole = json.loads(re.sub(r"\{\{.*?\}\}", "", (root / TEMPLATE).read_text()))
    paths = {
        HERE + path: {method: _operation(whole, whole["paths"][HERE + path][method]) for method in methods}
        for path, methods in USED.items()
    }
    return {
        "info": {
            "title": "Gitea API, the operations that the studio uses",
            "version": version.removeprefix("v"),
            "license": {"name": "MIT", "url": "https://spdx.org/licenses/MIT"},
            "description": "Reduced from the description that Gitea publishes (templates/swagger/v1_json.tmpl; MIT, Copyright "
            "The Gitea Authors), with answers of a running Gitea as examples, these shortened. Made by "
            "tests/forges/description.py.",
        },
        "paths": paths,
        "definitions": _definitions(whole, json.dumps(paths)),
    }


def _operation(whole: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"operationId": operation["operationId"], "parameters": [], "responses": {}}
    for one in operation["parameters"]:
        if one["in"] == "body":
            name = one["schema"]["$ref"].rpartition("/")[2]
            found["requestBody"] = {"content": {"application/json": {"schema": _bare(whole["definitions"][name])}}}
            continue
        about = {key: one[key] for key in ("in", "name", "required") if key in one}
        schema = {key: one[key] for key in ("type", "format", "enum", "items", "minimum") if key in one}
        found["parameters"].append({**about, "schema": schema})
    for status, one in operation["responses"].items():
        answer = whole["responses"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        found["responses"][status] = {"schema": _bare(answer["schema"])} if "schema" in answer else {}
    return found


def _definitions(whole: dict[str, Any], text: str) -> dict[str, Any]:
    """The types that `text` names, and those that they name."""
    found: dict[str, Any] = {}
    wanted = _named(text)
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = _bare(whole["definitions"][name])
            wanted += _named(json.dumps(found[name]))
    return dict(sorted(found.items()))


def _named(text: str) -> list[str]:
    return re.findall(r'"#/definitions/(\w+)"', text)


def _bare(value: Any) -> Any:
    """Without prose. A property may be called like prose; its value is then no text."""
    if isinstance(value, dict):
        return {key: _bare(one) for key, one in value.items() if not (key in PROSE and isinstance(one, str))}
    return [_bare(one) for one in value] if isinstance(value, list) else value


def misfits(description: dict[str, Any], responses: dict[str, Any], status: int, answer: Any) -> str:
    """What of an answer is not as it is described; empty when all is. A null stands for what is not there.

    Fields that are not described are no misfit: a real Gitea gives some (a person's `username`).
    """
    if str(status) not in responses:
        return f"{status} is no answer"
    schema = responses[str(status)].get("schema")
    if schema is None:
        return ""
    validator = jsonschema.Draft7Validator({**schema, "definitions": description["definitions"]})
    found = next(iter(validator.iter_errors(_without_nulls(answer))), None)
    return f"{'/'.join(map(str, found.absolute_path))}: {found.message[:300]}" if found else ""


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def answers(ask: Ask, commit: str) -> dict[str, Any]:
    """An answer for each path that is read, of a repository with one of everything."""
    [review] = [one for one in ask("GET", "/pulls/1/reviews") if one["comments_count"]]
    asked = {
        "": "",
        "/pulls": "/pulls?state=all",
        "/pulls/{index}": "/pulls/1",
        "/pulls/{index}/commits": "/pulls/1/commits?limit=1&verification=false&files=false",
        "/pulls/{index}/reviews": "/pulls/1/reviews",
        "/pulls/{index}/reviews/{id}/comments": f"/pulls/1/reviews/{review['id']}/comments",
        "/commits/{ref}/status": f"/commits/{commit}/status",
        "/labels": "/labels",
        "/issues": "/issues?state=open&type=issues",
        "/issues/{index}": "/issues/2",
    }
    return {HERE + path: ask("GET", place) for path, place in asked.items()}


def shortened(value: Any, url: str) -> Any:
    """An answer as the file has it: of an address of its own, and with little of what repositories and people are."""
    if isinstance(value, dict):
        if "full_name" in value and "default_branch" in value:
            value = {key: value[key] for key in OF_A_REPOSITORY}
        return {key: shortened(one, url) for key, one in value.items()}
    if isinstance(value, list):
        return [shortened(one, url) for one in value]
    return value.replace(url, "https://gitea.example") if isinstance(value, str) else value


def main() -> None:
    """Write the file."""
    from tests.forges.scene import Place
    from tests.real.gitea import VERSION, gitea, source

    with tempfile.TemporaryDirectory() as folder, gitea(Path(folder)) as server:
        place = Place(server)
        place.one_of_everything()
        made = reduced(source(), VERSION)
        for path, answer in answers(place.ask, place.first).items():
            made["paths"][path]["get"]["responses"]["200"]["example"] = shortened(answer, server.url)
    FILE.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
