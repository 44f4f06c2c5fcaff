"""Memory that is freed and asked for again at once: have the C library keep it, so that it is not cleared each time.

`keep_freed_memory` is for a process of our own that trains; `keep_temporaries` for a function in anyone's process.
"""

from __future__ import annotations

import ctypes
import functools
import os

import numpy as np

VARIABLE = "CHANNEL_BENCH_KEEP_MEMORY"
"""Environment variable that says "0" where memory is shorter than time."""

# malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


@functools.cache
def keep_freed_memory() -> bool:
    """Let this process keep what it frees, from now on, where its C library is GNU's.

    By default that library gives tensors of more than 32 MiB back to the kernel when they are freed, and the kernel
    clears every page of the next one. A step of a network of the full spaces makes hundreds of such tensors, all of
    sizes that come again, and on a CPU clearing took up to two fifths of its time (tests/perf/bench_memory.py). The
    numbers that are computed are the same. The process holds the most that it needed until it ends, and that is up to
    half as much again, because what is freed is not all of one size.

    Returns:
        Whether the library took it; False where `VARIABLE` is "0".
    """
    if os.environ.get(VARIABLE) == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none that can be asked
        return False
    # All memory comes from one heap, of which nothing is cut off at its end.
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))


def keep_temporaries() -> None:
    """Have the C library keep the memory of arrays of up to 16 MiB, before they are made by the thousand.

    Freeing one large array teaches GNU's to (mallopt(3), dynamic M_MMAP_THRESHOLD). Otherwise it may give each of ours
    back to the system and fetch it again page by page, which costs half as much as the work itself. Other C libraries
    are not impressed.
    """
    np.empty(2**24, np.uint8)
