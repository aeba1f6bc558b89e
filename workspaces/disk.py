"""How much room folders take and disks have: as `du` counts it, bounded in time."""

from __future__ import annotations

import os
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

BLOCK = 512  # bytes; what st_blocks counts, whatever the file system's own blocks are
MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Size:
    """What a folder takes. `partial`: the time ran out, and it takes at least so much."""

    bytes: int
    partial: bool


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk of the data folder."""

    free_bytes: int
    low: bool

    @property
    def message(self) -> str:
        """What to do when it is nearly full; empty otherwise."""
        if not self.low:
            return ""
        return (
            f"Only {self.free_bytes // MEGABYTE} MB are free on the disk of the data folder. Checkouts, commits and logs need "
            "room: remove checkouts and kept work on the projects' storage pages, or make room elsewhere on this disk."
        )


def measure(folder: Path, *, seconds: float) -> Size:
    """What `folder` takes on its disk. Links are counted and not followed, a file with several names counts once."""
    deadline = time.monotonic() + seconds
    seen: set[tuple[int, int]] = set()
    total, waiting = 0, [folder]
    while waiting:
        if time.monotonic() > deadline:
            return Size(total, partial=True)
        place = waiting.pop()
        try:
            total += place.lstat().st_blocks * BLOCK if place == folder else 0
            entries = list(os.scandir(place))
        except OSError:
            continue  # somebody works in it: what is gone takes no room
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                identity = (found.st_dev, found.st_ino)
                if identity in seen:
                    continue
                seen.add(identity)
            total += found.st_blocks * BLOCK
            if stat.S_ISDIR(found.st_mode):
                waiting.append(Path(entry.path))
    return Size(total, partial=False)


def disk() -> Disk:
    """How full the data folder's disk is."""
    free = shutil.disk_usage(settings.DATA).free
    return Disk(free, low=free < settings.STUDIO_DISK_LOW_MB * MEGABYTE)
