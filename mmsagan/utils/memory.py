"""Memory of this process.

glibc takes every large block from the kernel, and returns it when it is freed. The kernel then has to provide and clear new
pages for each new tensor, which took about a third of the reference's training step at 128x128 (``docs/performance.md``). A
training needs the same blocks again in each step, and may as well keep them.
"""

import ctypes
import os
from pathlib import Path

import torch

# Parameters of mallopt in glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
NEVER, DEFAULT_MMAP_MAX = -1, 65536
MB = 2**20


def glibc() -> ctypes.CDLL | None:
    """Returns the C library if it is glibc and its malloc is in use; None otherwise."""
    try:
        library, process = ctypes.CDLL('libc.so.6'), ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    if not hasattr(library, 'malloc_trim'):  # musl
        return None
    own, used = (ctypes.cast(source.malloc, ctypes.c_void_p).value for source in (library, process))
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library if own == used else None


def keep_freed_memory() -> bool:
    """Keeps the memory that this process frees, for what it allocates next.

    The process then occupies its peak. The tools call this if there is no GPU, unless ``MMSAGAN_KEEP_MEMORY=0`` is set.

    Returns:
        Whether it has an effect: only with glibc, not on macOS, Windows or musl.
    """
    library = glibc()
    return library is not None and bool(library.mallopt(MMAP_MAX, 0) and library.mallopt(TRIM_THRESHOLD, NEVER))


def return_freed_memory() -> bool:
    """Undoes :func:`keep_freed_memory`, and returns free memory to the kernel.

    Returns:
        Whether it has an effect.
    """
    library = glibc()
    if library is None:
        return False
    library.mallopt(MMAP_MAX, DEFAULT_MMAP_MAX)
    # glibc adapts both until one is set; these are its values in a program with large tensors.
    library.mallopt(MMAP_THRESHOLD, 32 * MB)
    library.mallopt(TRIM_THRESHOLD, 64 * MB)
    library.malloc_trim(0)
    return True


def memory_in_use() -> float | None:
    """Returns the peak memory of tensors on the GPU, or else the resident memory of the process, in MB of 2^20 bytes.

    None if it is unknown, as on systems other than Linux.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MB
    try:
        resident_pages = int(Path('/proc/self/statm').read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return resident_pages * os.sysconf('SC_PAGE_SIZE') / MB
