"""Built-in scripts: the sample project's three tasks, by exact title, and the default for every other task.

The sample repository has README.md, greetings.py with `hello(name)` and test_greetings.py. The scripts change different
places of it, so that all three tasks can be merged in any order.
"""

from __future__ import annotations

from typing import Any

Script = dict[str, list[list[dict[str, Any]]]]

PACE = 0.02  # seconds between pieces, so that people can watch the answer grow


def _tool(name: str, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args}


def _read(path: str) -> dict[str, Any]:
    return _tool("read", filePath=f"{{cwd}}/{path}" if path else "{cwd}")


def _bash(command: str, description: str) -> dict[str, Any]:
    return _tool("bash", command=command, description=description)


def _todos(*items: tuple[str, str]) -> dict[str, Any]:
    return _tool("todowrite", todos=[{"content": text, "status": state, "priority": "medium"} for text, state in items])


def _step(text: str = "", *tools: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"text": text, "tools": list(tools), "pace": PACE, **more}


# -B keeps compiled files out of the change.
RUN_TESTS = _bash("python3 -B -m unittest", "Run the tests")
SHOW_CHANGE = _bash("{show}", "Read the change")

FAREWELL_PLAN = """# Plan: a farewell

1. `greetings.py`: add `goodbye(name)` after `hello`, in the same style.
2. `test_goodbye.py`: a test that names the person.
3. Run the unit tests.

Nothing else changes; `hello` keeps its behaviour."""

FAREWELL_PLAN_AGAIN = """# Plan: a farewell, second version

The feedback on the first version was read. The practice model cannot weigh it, so the steps stay small:

1. `greetings.py`: add `goodbye(name)` after `hello`, with a type annotation and a docstring.
2. `test_goodbye.py`: one test for a name, run with the tests that exist.
3. Run the unit tests before handing over."""

GOODBYE = '''    return f"Hello, {name}!"


def goodbye(name: str) -> str:
    """Take leave of somebody by name."""
    return f"Goodbye, {name}!"
'''

TEST_GOODBYE = """import unittest

from greetings import goodbye


class GoodbyeTest(unittest.TestCase):
    def test_goodbye_names_the_person(self) -> None:
        self.assertEqual(goodbye("Ada"), "Goodbye, Ada!")


if __name__ == "__main__":
    unittest.main()
"""

FAREWELL: Script = {
    "planning": [
        [
            _step("I will look at the package first.", _read("greetings.py"), _tool("glob", pattern="*.py")),
            {"plan": FAREWELL_PLAN, "pace": PACE},
            _step("The plan is handed in: one new function, one new test."),
        ],
        [
            _step("I will read the package again with the feedback in mind.", _read("greetings.py")),
            {"plan": FAREWELL_PLAN_AGAIN, "pace": PACE},
            _step("The second version of the plan is handed in."),
        ],
    ],
    "implementation": [
        [
            _step(
                "",
                _todos(("Add goodbye()", "in_progress"), ("Test it", "pending")),
                _read("greetings.py"),
                reasoning="The function belongs after hello, in the same style.",
            ),
            _step(
                "Now the function and its test.",
                _tool(
                    "edit",
                    filePath="{cwd}/greetings.py",
                    # The new text does not contain the old one, so that a second run changes nothing.
                    oldString='def hello(name: str) -> str:\n    """Greet somebody by name."""\n    return f"Hello, {name}!"\n',
                    newString=f'def hello(name: str) -> str:\n    """Greet somebody by their name."""\n{GOODBYE}',
                ),
                _tool("write", filePath="{cwd}/test_goodbye.py", content=TEST_GOODBYE),
            ),
            _step("", RUN_TESTS),
            _step("", _todos(("Add goodbye()", "completed"), ("Test it", "completed"))),
            _step("`goodbye(name)` is there, and the tests pass."),
        ]
    ],
    "review": [
        [
            _step("I will read the change and run the tests.", SHOW_CHANGE, _read("greetings.py")),
            {
                "verdict": "approved",
                "summary": "`goodbye` follows the style of `hello` and has a test. Nothing else changed.",
                "pace": PACE,
            },
            _step("Approved."),
        ]
    ],
}

LANGUAGES = '''"""Greetings in other languages."""

GREETINGS = {"en": "Hello", "de": "Hallo", "fr": "Bonjour", "es": "Hola"}


def hello_in(name: str, language: str) -> str:
    """Greet somebody by name in `language`, a two-letter code."""
    return f"{GREETINGS[language]}, {name}!"
'''

LANGUAGES_LINE = '    return f"{GREETINGS[language]}, {name}!"\n'
LANGUAGES_FIXED = "    return f\"{GREETINGS.get(language, GREETINGS['en'])}, {name}!\"\n"

TEST_LANGUAGES = """import unittest

from languages import hello_in


class HelloInTest(unittest.TestCase):
    def test_a_known_language(self) -> None:
        self.assertEqual(hello_in("Ada", "fr"), "Bonjour, Ada!")
"""

TEST_CLASS = "class HelloInTest(unittest.TestCase):\n"
TEST_KNOWN = "    def test_a_known_language"
TEST_UNKNOWN = """    def test_an_unknown_language_falls_back_to_english(self) -> None:
        self.assertEqual(hello_in("Ada", "xx"), "Hello, Ada!")

"""

LANGUAGE_PLAN = """# Plan: greet in another language

1. `languages.py`: a table of greetings and `hello_in(name, language)`.
2. `test_languages.py`: a test for one of the languages.
3. Run the unit tests."""

LANGUAGE: Script = {
    "planning": [
        [
            _step("I will look at what exists.", _read("greetings.py"), _read("README.md")),
            {"plan": LANGUAGE_PLAN, "pace": PACE},
            _step("The plan is handed in: a module of its own, so that `greetings.py` stays as it is."),
        ]
    ],
    "implementation": [
        [
            _step(
                "A module of its own, with a table that is easy to extend.",
                _tool("write", filePath="{cwd}/languages.py", content=LANGUAGES),
                _tool("write", filePath="{cwd}/test_languages.py", content=TEST_LANGUAGES),
            ),
            _step("", RUN_TESTS),
            _step("`hello_in(name, language)` knows four languages, and the tests pass."),
        ]
    ],
    "review": [
        [
            _step(
                "I will read the change.", SHOW_CHANGE, reasoning="What happens for a code that is not in the table?"
            ),
            {
                "verdict": "changes_requested",
                "summary": "An unknown language code ends in a KeyError.",
                "findings": [
                    {
                        "severity": "error",
                        "title": "An unknown language raises KeyError",
                        "body": "`GREETINGS[language]` fails for a code that is not in the table. Fall back to English, with a test.",
                        "file": "languages.py",
                        "line": 8,
                    }
                ],
                "pace": PACE,
            },
            _step("I asked for one change."),
        ],
        [
            _step("I will read what was changed since.", SHOW_CHANGE, _read("languages.py")),
            {"mark": "verified", "note": "The code falls back to English, and a test says so."},
            {
                "verdict": "approved",
                "summary": "An unknown code now falls back to English, and a test covers it.",
                "pace": PACE,
            },
            _step("Approved."),
        ],
    ],
    "fix": [
        [
            _step(
                "", _read("languages.py"), _read("test_languages.py"), reasoning="A default in the lookup is enough."
            ),
            _step(
                "The lookup falls back to English, and a test says so.",
                _tool("edit", filePath="{cwd}/languages.py", oldString=LANGUAGES_LINE, newString=LANGUAGES_FIXED),
                _tool(
                    "edit",
                    filePath="{cwd}/test_languages.py",
                    oldString=f"{TEST_CLASS}{TEST_KNOWN}",
                    newString=f"{TEST_CLASS}{TEST_UNKNOWN}{TEST_KNOWN}",
                ),
            ),
            _step("", RUN_TESTS),
            {"mark": "fixed", "note": "Falls back to English, with a test."},
            _step("The finding is repaired, and the tests pass."),
        ]
    ],
}

DOCUMENT_PLAN = """# Plan: document the package

1. `README.md`: a section that shows how to greet somebody, and one on running the tests.

No code changes."""

USAGE = """Change it as you wish.

## Use

    from greetings import hello

    print(hello("Ada"))  # Hello, Ada!

## Test

    python3 -m unittest
"""

DOCUMENT: Script = {
    "planning": [
        [
            _step("I will read what is documented today.", _read("README.md"), _read("greetings.py")),
            {"plan": DOCUMENT_PLAN, "pace": PACE},
            _step("The plan is handed in: two short sections."),
        ]
    ],
    "implementation": [
        [
            _step("", _read("README.md")),
            _step(
                "I will add the two sections.",
                _tool(
                    "edit",
                    filePath="{cwd}/README.md",
                    oldString="Change it as you like.\n",
                    newString=USAGE,
                ),
            ),
            _step("The README shows how to use the package and how to run its tests."),
        ]
    ],
    "review": [
        [
            _step("I will read the change.", SHOW_CHANGE),
            {"verdict": "approved", "summary": "The examples match the code.", "pace": PACE},
            _step("Approved."),
        ]
    ],
}

DEFAULT: Script = {
    "planning": [
        [
            _step("I will look at the repository.", _read("")),
            {
                "plan": "# Plan: {title}\n\nThis plan comes from the practice model, which follows a script and does not think.\n\n"
                "1. Add `docs/practice/{key}.md`, a note that names the task.\n2. Change nothing else.",
                "pace": PACE,
            },
            _step("The plan is handed in."),
        ]
    ],
    "implementation": [
        [
            _step("I will look at the repository.", _read("")),
            _step(
                "I will write the note.",
                _tool(
                    "write",
                    filePath="{cwd}/docs/practice/{key}.md",
                    content="# {title}\n\nWritten for {key} by the practice model, which follows a script and does not think.\n",
                ),
            ),
            _step("The note is in `docs/practice/{key}.md`. Connect a real model to have the task itself done."),
        ]
    ],
    "review": [
        [
            _step("I will read the change.", SHOW_CHANGE),
            {
                "verdict": "approved",
                "summary": "The change was read. The practice model does not judge: look at it yourself before you merge.",
                "pace": PACE,
            },
            _step("The review is handed in."),
        ]
    ],
    "fix": [
        [
            {"resolve": "both", "text": "Both sides of each conflict are kept.", "pace": PACE},
            _step(
                "I will record that the feedback arrived.",
                _tool(
                    "write",
                    filePath="{cwd}/docs/practice/{key}-fix-{round}.md",
                    content="# {title}\n\nRound {round}: feedback arrived. The practice model follows a script and cannot act on it.\n",
                ),
            ),
            {"mark": "fixed", "note": "Recorded by the practice model."},
            _step("The feedback is recorded in `docs/practice/{key}-fix-{round}.md`."),
        ]
    ],
}

SAMPLES: dict[str, Script] = {
    "Add a farewell": FAREWELL,
    "Greet in another language": LANGUAGE,
    "Document the package": DOCUMENT,
}
