"""The data folder: what can be wrong with it, who holds it, what is left of it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from studio.launcher.errors import LauncherError
from studio.launcher.folder import DataFolder

NOBODY = 65534


def test_prepare__makes_a_folder_that_only_its_owner_can_enter(tmp_path):
    folder = DataFolder(tmp_path / "deep" / "data")
    folder.prepare()
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert list(folder.root.iterdir()) == []


def test_prepare__refuses_a_file(tmp_path):
    path = tmp_path / "data"
    path.write_text("mine")
    with pytest.raises(LauncherError, match=r"is a file.*--data"):
        DataFolder(path).prepare()
    assert path.read_text() == "mine"


def test_prepare__refuses_a_place_below_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(LauncherError, match="not a folder"):
        DataFolder(tmp_path / "file" / "data").prepare()


@contextmanager
def another_account():
    """As an account that owns nothing here, where the tests run as root; else as we are."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_prepare__refuses_a_folder_that_cannot_be_written_to():
    parent = Path(tempfile.mkdtemp(prefix="studio-closed-"))
    try:
        parent.chmod(0o555)
        with another_account(), pytest.raises(LauncherError, match="cannot be written to by this account"):
            DataFolder(parent / "new" / "data").prepare()
        assert list(parent.iterdir()) == []
    finally:
        shutil.rmtree(parent)


@pytest.mark.parametrize(
    ("number", "sentence"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EIO, "cannot be used")]
)
def test_prepare__leaves_nothing_where_the_disk_fails(tmp_path, monkeypatch, number, sentence):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LauncherError, match=sentence):
        DataFolder(tmp_path / "deep" / "data").prepare()
    assert list(tmp_path.iterdir()) == []


def test_prepare__refuses_a_disk_that_is_nearly_full(tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 5 * 1024**2, 5 * 1024**2)
    )
    with pytest.raises(LauncherError, match="Only 5 MB are free"):
        DataFolder(tmp_path / "data").prepare()
    assert list(tmp_path.iterdir()) == []


def test_sockets__move_to_a_short_path_when_the_folder_is_deep(tmp_path):
    deep = DataFolder(tmp_path / ("d" * 100))
    assert not deep.sockets.is_relative_to(deep.root)
    assert len(os.fsencode(deep.supervisor_socket)) < 100
    deep.prepare()
    deep.prepare_run()
    assert stat.S_IMODE(deep.sockets.stat().st_mode) == 0o700
    deep.clear()
    assert not deep.sockets.exists()


def test_prepare_run__refuses_sockets_that_others_can_reach(tmp_path):
    folder = DataFolder(tmp_path / ("d" * 100))
    folder.sockets.mkdir(parents=True)
    folder.sockets.chmod(0o777)
    try:
        with pytest.raises(LauncherError, match="only this account"):
            folder.prepare_run()
    finally:
        folder.sockets.rmdir()


def test_held__by_one_at_a_time(tmp_path):
    folder = DataFolder(tmp_path)
    with folder.held() as first, folder.held() as second:
        assert (first, second) == (True, False)
    assert not folder.lock.exists()
    with folder.held() as again:
        assert again


def test_held__is_free_once_its_process_was_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from studio.launcher.folder import DataFolder\n"
        "with DataFolder(Path(sys.argv[1])).held() as held: print(held, flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    with holder:
        assert holder.stdout.readline() == "True\n"
        folder = DataFolder(tmp_path)
        with folder.held() as held:
            assert not held
        holder.kill()
    with folder.held() as held:
        assert held


def test_held__is_not_fooled_by_a_lock_file_that_was_removed(tmp_path, monkeypatch):
    """Its former holder removes the file between our open and our lock: we must not hold a file that is gone."""
    folder = DataFolder(tmp_path)
    real, removed = os.open, []

    def open_and_lose(path, *arguments):
        descriptor = real(path, *arguments)
        if not removed:
            removed.append(path)
            folder.lock.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with folder.held() as first:
        assert first
        assert folder.lock.exists()
        with folder.held() as second:
            assert not second
