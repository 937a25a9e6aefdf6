"""Memory of this process.

glibc takes every large block from the kernel, and returns it when it is freed. The kernel then has to provide and clear new
pages for each new tensor, which took about a third of the reference's training step at 128x128 (``docs/performance.md``). A
training needs the same blocks again in each step, and may as well keep them.
"""

import ctypes

# Parameters of mallopt in glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
NEVER = -1


def keep_freed_memory() -> bool:
    """Keeps the memory that this process frees, for what it allocates next.

    The process then occupies its peak. The tools call this if there is no GPU, unless ``MMSAGAN_KEEP_MEMORY=0`` is set.
    Returns False where there is no glibc: on macOS, Windows and musl.
    """
    try:
        library = ctypes.CDLL('libc.so.6')
        return bool(library.mallopt(MMAP_MAX, 0) and library.mallopt(TRIM_THRESHOLD, NEVER))
    except (OSError, AttributeError):
        return False
