"""A device -> whether training computes faster there in bfloat16, and by how much.

The answer belongs to the machine: what its CPU can do is asked first, and a timing is kept in the
cache for each model of CPU, version of torch and number of threads.
"""

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from gptft.errors import ConfigError
from gptft.files import default_cache_dir, read_json, write_json
from gptft.models.precision import has_native_bfloat16

VARIABLE = "GPTFT_BF16"  # true or false: what training.bf16: auto means, where it is set
_ROWS, _WIDTH, _WIDER = 256, 768, 3072  # of the layer that is timed: a GPT-2's, a block of 256
_ROUNDS = 5
# How much faster it has to be: an AMX unit always is, unless torch goes round it, which takes 30
# times as long and more; other instructions may gain next to nothing.
_LEAST_BY_AMX, _LEAST = 0.8, 1.2


@dataclass(frozen=True)
class Bfloat16:
    """Whether bfloat16 is taken.

    Attributes:
        pays: whether a step is faster in it.
        gain: how many times as fast a layer was there as in float32; None where none was timed.
    """

    pays: bool
    gain: float | None = None


def bfloat16_on(device: torch.device) -> Bfloat16:
    """Whether bfloat16 pays on `device`; on a CPU that leaves it open a layer is timed, once.

    Raises:
        ConfigError: the environment says neither true nor false.
    """
    if said := os.environ.get(VARIABLE):
        if said.lower() not in ("true", "false"):
            raise ConfigError(f"{VARIABLE} in the environment is {said!r}, not true or false.")
        return Bfloat16(said.lower() == "true")
    if not has_native_bfloat16(device) or device.type != "cpu":
        return Bfloat16(has_native_bfloat16(device))
    gain = _known_gain()
    least = _LEAST_BY_AMX if _has_amx() else _LEAST
    return Bfloat16(gain >= least, gain)


def _has_amx() -> bool:
    # Not public (torch 2.13), so it may be missing; `bool` stands in for it and gives False.
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def _known_gain() -> float:
    """The gain on this CPU, from the cache if it was measured before."""
    path = default_cache_dir() / "machine" / "bfloat16.json"
    key = f"{_cpu_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    try:
        known = dict(read_json(path))
        if isinstance(gain := known.get(key), float) and gain > 0:
            return gain
    except (OSError, ValueError, TypeError):
        known = {}
    gain = round(_measure(), 2)
    with suppress(OSError):  # a cache that can't be written is measured for again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**known, key: gain})
    return gain


def _measure() -> float:
    """How many times as fast a layer is in bfloat16, forward and backward: the best of a few."""
    with torch.random.fork_rng(devices=[]):
        layer = torch.nn.Linear(_WIDTH, _WIDER)
        states = torch.randn(_ROWS, _WIDTH, requires_grad=True)
    best = dict.fromkeys((False, True), float("inf"))
    for _ in range(_ROUNDS):
        for mixed in best:
            best[mixed] = min(best[mixed], _seconds(partial(_step, layer, states, mixed)))
    return best[False] / best[True]


def _step(layer: torch.nn.Linear, states: torch.Tensor, mixed: bool) -> None:
    with torch.enable_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            out = layer(states)
        out.sum().backward()


def _seconds(do: Callable[[], None]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
