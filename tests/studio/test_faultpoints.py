"""Fault points: off by default, and each order carried out exactly once by exactly one process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from studio.kernel import faultpoints
from studio.kernel.faultpoints import FaultError, arm, armed_in, disarm, fired

REACH = "from studio.kernel.faultpoints import reach; [reach('here') for _ in range(3)]"


def run(folder=None, count=1):
    """The exit codes of `count` processes that reach the point `here` three times each, at the same time."""
    environment = {name: value for name, value in os.environ.items() if name != faultpoints.VARIABLE}
    if folder is not None:
        environment[faultpoints.VARIABLE] = str(folder)
    started = [subprocess.Popen([sys.executable, "-c", REACH], env=environment) for _ in range(count)]
    return [process.wait(30) for process in started]


def test_reach__is_nothing_without_the_variable():
    assert faultpoints.reach is faultpoints._off
    assert run() == [0]


def test_reach__kills_exactly_one_of_many_processes(tmp_path):
    arm(tmp_path, "here", "kill", reaches=4)
    codes = run(tmp_path, count=4)
    assert sorted(codes) == [-9, 0, 0, 0]
    assert fired(tmp_path, "here")["action"] == "kill"


def test_reach__acts_on_the_armed_point_only_and_once(tmp_path):
    reach = armed_in(tmp_path)
    arm(tmp_path, "here", "raise", reaches=2)
    reach("there")
    reach("here")
    assert fired(tmp_path, "here") is None
    with pytest.raises(FaultError, match="here"):
        reach("here")
    reach("here")
    assert fired(tmp_path, "here")["pid"] == os.getpid()


def test_arm__forgets_the_last_time(tmp_path):
    reach = armed_in(tmp_path)
    arm(tmp_path, "here", "sleep")
    reach("here")
    assert fired(tmp_path, "here")
    arm(tmp_path, "here", "sleep")
    assert fired(tmp_path, "here") is None
    assert disarm(tmp_path, "here")
    assert not disarm(tmp_path, "here")
    reach("here")
    assert fired(tmp_path, "here") is None


def test_arm__refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="action"):
        arm(tmp_path, "here", "explode")
