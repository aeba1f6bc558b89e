"""Which tests share something expensive, and so run on one of pytest-xdist's workers, one after the other.

A worker that runs one test with a studio has started that studio: spread over both workers each would be started twice, and
those of a module again whenever another module's test came between. A test belongs to the group of its file, by the table
below; the groups begin first, in the table's order, and the tests in no group fill up what remains, one at a time.

xdist's own `xdist_group` marks travel as a suffix of node ids that it writes into a private attribute, which pytest 9.2 does not
read. This plugin uses the public hook for schedulers, and leaves node ids as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

# What is expensive -> whose tests use it; what takes longest first. Of paths that fit a test, the longest counts.
GROUPS: dict[str, tuple[str, ...]] = {
    "studio": ("tests/e2e/",),
    "studio that is hurt": ("tests/crash/",),
    "agent server": (
        "tests/agents/test_real_",
        "tests/agents/test_supervisor_faults.py",
        "tests/sessions_app/test_real_",
    ),
    "studio that is asked": ("tests/e2e/test_asks.py",),
    "studio with commands": ("tests/e2e/test_commands.py",),
    "studio that forgets": ("tests/e2e/test_sessions.py",),
    "Postgres": ("tests/sessions_app/test_on_postgres.py", "tests/process/test_compose.py"),
}
_GROUP_OF = {path: group for group, paths in GROUPS.items() for path in paths}
_PATHS = sorted(_GROUP_OF, key=len, reverse=True)
_RANK = {group: rank for rank, group in enumerate(GROUPS)}


def group_of(nodeid: str) -> str:
    """The group of a test; empty when it shares nothing expensive."""
    return next((_GROUP_OF[path] for path in _PATHS if nodeid.startswith(path)), "")


class GroupScheduling(LoadScopeScheduling):
    """Hands out whole groups and single tests, in the order in which they were collected."""

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """Take a worker's tests. Two of one name would be one: the first would run and the other be forgotten."""
        if again := [name for name, count in Counter(collection).items() if count > 1]:
            raise pytest.UsageError(f"tests that share a name: {', '.join(again)}")
        super().add_node_collection(node, collection)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid


@pytest.hookimpl(optionalhook=True)  # xdist's, and nothing without it
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling | None:
    """Use the groups with `--dist loadgroup`."""
    if config.getvalue("dist") != "loadgroup":
        return None
    config.option.loadscopereorder = False  # how many tests a group has says little about how long it takes
    return GroupScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the groups first on a worker, whatever the shuffled order of the rest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _RANK.get(group_of(item.nodeid), len(_RANK)))
