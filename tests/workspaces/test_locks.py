"""A lock keeps others out, and a killed holder frees it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.conf import settings

from workspaces.locks import Busy, held

HOLD = """
import fcntl, sys, time
handle = open(sys.argv[1], "w")
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_held__keeps_others_out_until_it_is_given_back():
    with held("a", patience=0), held("b", patience=0):
        with pytest.raises(Busy) as caught, held("a", patience=0):
            pass
        assert caught.value.transient
    with held("a", patience=0):
        pass


def test_held__is_given_back_after_an_error():
    with pytest.raises(ValueError), held("a", patience=0):
        raise ValueError
    with held("a", patience=0):
        pass


def test_held__a_killed_holder_does_not_keep_it():
    folder = settings.DATA / "run" / "locks"
    before = set(folder.iterdir()) if folder.exists() else set()
    with held("killed", patience=0):
        (path,) = set(folder.iterdir()) - before
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy), held("killed", patience=0):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with held("killed", patience=5):
        pass
