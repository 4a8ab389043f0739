"""What this machine computes with, found out without loading torch."""

import platform
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_BFLOAT16_FLAGS = {"avx512_bf16", "amx_tile", "bf16"}  # as /proc/cpuinfo of x86 and ARM has them


@cache
def accelerator() -> str | None:
    """The accelerator that the installed torch would use: cuda, mps, or None."""
    if sys.platform == "darwin":
        return "mps" if platform.machine() == "arm64" else None
    return "cuda" if cuda_capability() is not None else None


@cache
def cuda_capability() -> tuple[int, int] | None:
    """The compute capability of the first CUDA device; None without one, or without CUDA in torch.

    Asked of the driver, as torch does: cuDeviceGetAttribute of CUDA's driver API, attributes 75
    and 76.
    """
    spec = find_spec("torch")
    version = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    if version is None or "cuda: Optional[str] = None" in version.read_text(encoding="utf-8"):
        return None
    import ctypes  # only where torch could use a GPU: loading it takes a while

    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    parts = [ctypes.c_int(), ctypes.c_int()]
    device = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for part, attribute in zip(parts, (75, 76), strict=True):
        driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
    return parts[0].value, parts[1].value


@cache
def cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; True where the system doesn't tell."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True
    lines = (line for line in info.splitlines() if line.lower().startswith(("flags", "features")))
    return bool(_BFLOAT16_FLAGS & set(next(lines, "").split()))
