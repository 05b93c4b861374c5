"""How the C library treats memory that is freed."""

import ctypes

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # mallopt(3)


def keep_freed_memory() -> None:
    """From now on this process keeps what it frees for what it allocates next. Only glibc listens.

    By default an image's megabytes are given back and faulted in anew, page by page, for the next. Not for training,
    where the peak grows with it (docs/performance.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(TOP_PAD, 2**26)
        mallopt(MMAP_MAX, 0)
