"""Node ids for the generated items: schemathesis names each operation, but gives all of them the node id of the function."""

from __future__ import annotations

import pytest
from _pytest.nodeid import NodeId


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell the operations apart where node ids are keys: pytest-xdist would run one of them and take it for all."""
    for item in items:
        if item.name.startswith("test_operation__keeps_its_contract[") and item.parent is not None:
            item._id = NodeId.parse(f"{item.parent.nodeid}::{item.name}")  # there is no public way to set it
