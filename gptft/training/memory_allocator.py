"""Let a process keep the memory it frees, where glibc would give it back at every step.

In: nothing. Out: nothing but speed. glibc maps each large tensor anew and unmaps it when it goes,
so that the kernel clears the same pages over and over while a model trains on a CPU
(docs/experiments.md has the measurement). Knows nothing of torch.
"""

import ctypes
import platform

# From malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Serve large blocks from the heap, and never trim it; whether that could be arranged.

    It holds for the whole process and can't be taken back. Where the C library isn't glibc, nothing
    happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))
