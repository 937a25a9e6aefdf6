"""How this process takes memory from the kernel, which on CPUs decides over a large part of a training's time; how much it has.

glibc takes every large block from the kernel and gives it back when it is freed. A tensor's memory is then new each time, and
the kernel hands new memory out page by page, zeroed, at the first write: that took about a third of the reference's training
step at 128x128 (``docs/performance.md``). A training needs the same blocks again in every step, so it may as well keep them.
jemalloc and tcmalloc do so, too, but have to be preloaded by whoever starts Python.
"""

import ctypes
import os
from pathlib import Path

import torch

# Of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
NEVER, DEFAULT_MMAP_MAX = -1, 65536
MB = 2**20


def glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc and this process takes its memory from it, and not from a malloc preloaded."""
    try:
        library, process = ctypes.CDLL('libc.so.6'), ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    if not hasattr(library, 'malloc_trim'):  # musl by glibc's name
        return None
    own, used = (ctypes.cast(source.malloc, ctypes.c_void_p).value for source in (library, process))
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library if own == used else None


def keep_freed_memory() -> bool:
    """Has this process keep the memory it frees for what it needs next. It holds for the whole process.

    The process then occupies what it has needed at its peak, and what lies between blocks. The tools do this where there is no
    GPU; ``MMSAGAN_KEEP_MEMORY=0`` in the environment keeps them from it.

    Returns:
        Whether it could be done: only with glibc, so not on macOS, Windows or musl.
    """
    library = glibc()
    if library is None:
        return False
    return bool(library.mallopt(MMAP_MAX, 0) and library.mallopt(TRIM_THRESHOLD, NEVER))


def return_freed_memory() -> bool:
    """Undoes :func:`keep_freed_memory` and gives back what lies free.

    Returns:
        Whether it could be done.
    """
    library = glibc()
    if library is None:
        return False
    library.mallopt(MMAP_MAX, DEFAULT_MMAP_MAX)
    # glibc adapts both by itself until one is set. These are what it comes to in a program with large tensors.
    library.mallopt(MMAP_THRESHOLD, 32 * MB)
    library.mallopt(TRIM_THRESHOLD, 64 * MB)
    library.malloc_trim(0)
    return True


def memory_in_use() -> float | None:
    """What the process has: on a GPU, what its tensors have taken there at most; else, its resident memory.

    Returns:
        MB of 2^20 bytes; None where it cannot be told.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MB
    try:
        resident_pages = int(Path('/proc/self/statm').read_text().split()[1])
    except (OSError, ValueError, IndexError):  # no Linux
        return None
    return resident_pages * os.sysconf('SC_PAGE_SIZE') / MB
