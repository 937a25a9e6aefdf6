"""Memory of this process: glibc returns large blocks when they are freed, although a training step needs them all again.

New pages for each tensor took about a third of the reference's training step at 128x128 (``docs/performance.md``).
"""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # parameters of mallopt in glibc's malloc.h


def keep_freed_memory() -> bool:
    """Keeps what this process frees for what it allocates next, so that it occupies its peak; returns False without glibc.

    The tools call this if they train on the CPU, unless ``MMSAGAN_KEEP_MEMORY=0`` is set.
    """
    try:
        library = ctypes.CDLL('libc.so.6')
        return bool(library.mallopt(MMAP_MAX, 0) and library.mallopt(TRIM_THRESHOLD, -1))  # -1: never
    except (OSError, AttributeError):
        return False
