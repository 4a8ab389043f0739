"""What `gptft generate` costs beside a bare `model.generate`, and contrastive search beside greedy.

    python benchmarks/generate.py [--model pico] [--tokens 200] [--runs 15]

Everything takes turns in one process, on one model loaded once: what the command does from the
prompt as text to the text, and plain transformers with the same settings, for one prompt and for a
batch of 16. (As processes of their own the same two differ by a third from one run to the next.)
One thread, and CPU time: a model as small as pico gains nothing from two threads, which wait for
each other where a machine has other work. Prints medians and the medians of the ratios of each
turn, and exits with 1 where a limit is missed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig

from gptft.decoding.engine import generate, load_model
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings

# In a batch of 16 each four times, with an ending of its own.
PROMPTS = (
    "Мороз и солнце; день чудесный!", "Буря мглою небо кроет", "Я помню чудное мгновенье:",
    "У лукоморья дуб зелёный;",
)  # fmt: skip
BATCHES = {1: PROMPTS[:1], 16: [p + end for end in ("", " И", " Но", " О") for p in PROMPTS]}
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "nucleus": {"do_sample": True, "top_p": 0.9, "top_k": 0},
}
MIN_SHARE = 0.95  # of a bare call's speed
MIN_CONTRASTIVE = 0.5  # of greedy's speed


def through_gptft(loaded: LoadedModel, strategy: str, prompts: Sequence[str], tokens: int) -> None:
    """What the command does."""
    length = {"max_new_tokens": tokens, "min_new_tokens": tokens}
    settings = resolve_settings({"strategy": strategy, "seed": 1, **length})
    generate(loaded, prompts, settings=settings)


def bare(loaded: LoadedModel, strategy: str, prompts: Sequence[str], tokens: int) -> None:
    """Plain transformers."""
    eos = list(loaded.special.eos)
    config = GenerationConfig(
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        eos_token_id=eos,
        pad_token_id=loaded.special.pad,
        **SETTINGS[strategy],
    )
    torch.manual_seed(1)
    inputs = loaded.tokenizer(
        list(prompts), return_tensors="pt", padding=len(prompts) > 1, padding_side="left"
    )
    output = loaded.model.generate(**inputs, generation_config=config)
    loaded.tokenizer.batch_decode(output, skip_special_tokens=True)


def main() -> int:
    """Measure, print, and tell whether every limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pico", help="a run folder, a model folder, or pico")
    parser.add_argument("--tokens", type=int, default=200, help="tokens a text")
    parser.add_argument("--runs", type=int, default=15, help="turns")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    greedy = resolve_settings({"strategy": "greedy"})
    loaded = load_model(arguments.model, settings=greedy, use_cpu=True)
    tokenizer = loaded.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    ways: dict[str, tuple[Callable[[], None], int]] = {}
    for size, prompts in BATCHES.items():
        for name in (*SETTINGS, *(["contrastive"] if size == 1 else [])):
            given = (loaded, name, prompts, arguments.tokens)
            ways[f"gptft, {name}, {size}"] = partial(through_gptft, *given), size
            if name in SETTINGS:
                ways[f"transformers, {name}, {size}"] = partial(bare, *given), size
    for way, _ in ways.values():  # a first text takes longer
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.runs):
        for name, (way, size) in ways.items():
            started = time.process_time()
            way()
            taken[name].append(size * arguments.tokens / (time.process_time() - started))
    print(f"{'tokens a second, median of ' + str(arguments.runs):34}{'':8} {'min-max':^17}")
    for name, speeds in taken.items():
        spread = f"{min(speeds):.1f}-{max(speeds):.1f}"
        print(f"{name:34}{statistics.median(speeds):8.1f} {spread:^17}")
    kept = True
    for size in BATCHES:
        for name in SETTINGS:
            one = share(taken[f"gptft, {name}, {size}"], taken[f"transformers, {name}, {size}"])
            words = f"{name}, {size} at once: {one:.3f} of a bare call's speed"
            kept &= said(one >= MIN_SHARE, words, MIN_SHARE)
    one = share(taken["gptft, contrastive, 1"], taken["gptft, greedy, 1"])
    words = f"contrastive: {one:.2f} of greedy's speed"
    return 0 if said(one >= MIN_CONTRASTIVE, words, MIN_CONTRASTIVE) and kept else 1


def share(speeds: Sequence[float], others: Sequence[float]) -> float:
    """The median of how fast one was beside the other in the same turn."""
    return statistics.median(a / b for a, b in zip(speeds, others, strict=True))


def said(is_kept: bool, words: str, limit: float) -> bool:
    """Print whether a limit is kept."""
    print(f"{'ok' if is_kept else 'MISSED':7} {words} (limit {limit})")
    return is_kept


if __name__ == "__main__":
    sys.exit(main())
