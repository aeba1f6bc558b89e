"""What long-running processes do about memory."""

from __future__ import annotations

import gc


def settle() -> None:
    """Put everything that the process has loaded so far out of the garbage collector's sight.

    Call it once, when a long-running process has started. Modules and models live until its end, and a full collection that
    looks through all of them stops every reader for a tenth of a second (docs/performance.md).
    """
    gc.collect()
    gc.freeze()
