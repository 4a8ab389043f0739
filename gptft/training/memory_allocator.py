"""glibc's memory allocator, set so that a process keeps the memory it frees.

It maps each large tensor anew and unmaps it when it goes, so that the kernel clears the same pages
over and over while a model trains on a CPU (docs/experiments.md has the measurement).
"""

import ctypes
import platform

# From malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Never return freed memory to the system; whether the allocator could be told so.

    It holds for the whole process and can't be undone. Where the C library isn't glibc, nothing
    happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
