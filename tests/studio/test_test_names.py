"""What pytest prints of the tests themselves."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("text", ["x" * 65_536, b"x" * 65_536])
def test_names__of_long_parameters_are_short(request, text):
    assert request.node.name.startswith("test_names__of_long_parameters_are_short[text-of-65536")
    assert len(request.node.name) < 80
