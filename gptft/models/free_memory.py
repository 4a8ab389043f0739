"""This machine -> bytes of memory that a process can still have, without loading torch."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
# Of a container: the limit, what is used of it, and what of that the kernel can give back, by the
# two versions of control groups.
_LIMITS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def free_memory() -> int | None:
    """Bytes of RAM that are free, caches counted as free; the limit of a container counts, too.

    Returns:
        None where the system doesn't tell.
    """
    found = [free for free in (_available(), _within_limit(_CGROUP)) if free is not None]
    return max(0, min(found)) if found else None


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        entries = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(entries["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return _of_system()


def _of_system() -> int | None:
    """What psutil says, which accelerate brings along; else all of the memory there is."""
    try:
        from psutil import virtual_memory  # type: ignore[import-untyped]  # only off Linux

        return int(virtual_memory().available)
    except ImportError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _within_limit(root: Path) -> int | None:
    """What a control group leaves; None where there is none, or it sets no limit."""
    for limit, used, stat, cache in _LIMITS:
        try:
            most = int((root / limit).read_text(encoding="utf-8"))
            now = int((root / used).read_text(encoding="utf-8"))
            lines = (root / stat).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):  # "max" is no limit
            continue
        cached = next((int(line.split()[1]) for line in lines if line.startswith(f"{cache} ")), 0)
        return most - now + cached
    return None


def resident_memory() -> int | None:
    """Bytes of RAM that this process has now; None where the system doesn't tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def peak_memory() -> int | None:
    """Bytes of RAM that this process had at most; None where the system doesn't tell."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
