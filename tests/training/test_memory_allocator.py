"""Freed memory stays with the process, seen from outside: by what the kernel counts."""

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from gptft.training.memory_allocator import keep_freed_memory
import torch
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    x = torch.ones(12_000_000)  # 48 MB: above 32 glibc maps and unmaps unless told
    return float((x * 2)[0])
for _ in range(6):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so")
def test_the_kernel_clears_fewer_pages():
    def faults(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert faults("keep") < faults("leave") / 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    from gptft.training import memory_allocator

    monkeypatch.setattr(memory_allocator.platform, "libc_ver", lambda: ("", ""))
    assert memory_allocator.keep_freed_memory() is False
