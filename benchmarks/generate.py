"""What `gptft generate` costs beside a bare `model.generate`, and contrastive search beside greedy.

    python benchmarks/generate.py [--model pico] [--tokens 200] [--runs 15]

Everything takes turns in one process, on one model loaded once: what the command does from the
prompt as text to the text, as `--speed` times it, and plain transformers with the same settings.
(As processes of their own the same two differ by a third from one run to the next.) One thread: a
model as small as pico gains nothing from two, and two wait for each other where a machine has other
work. Prints medians and ratios, and exits with 1 where a limit is missed.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig

from gptft.decoding.engine import generate, load_model
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.speed import SpeedMeter

PROMPT = "Мороз и солнце; день чудесный!"
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "nucleus": {"do_sample": True, "top_p": 0.9, "top_k": 0},
}
MAX_COST = 1.05  # of a bare call's time
MIN_CONTRASTIVE = 0.5  # of greedy's speed


def through_gptft(loaded: LoadedModel, strategy: str, *, tokens: int) -> float:
    """Tokens a second of what the command does."""
    length = {"max_new_tokens": tokens, "min_new_tokens": tokens}
    settings = resolve_settings({"strategy": strategy, "seed": 1, **length})
    with SpeedMeter(loaded.model) as meter:
        texts = generate(loaded, [PROMPT], settings=settings)
    return meter.speed(texts).tokens_per_s


def bare(loaded: LoadedModel, strategy: str, *, tokens: int) -> float:
    """Tokens a second of plain transformers."""
    eos = list(loaded.special.eos)
    config = GenerationConfig(
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        eos_token_id=eos,
        pad_token_id=loaded.special.pad,
        **SETTINGS[strategy],
    )
    torch.manual_seed(1)
    started = time.perf_counter()
    inputs = loaded.tokenizer(PROMPT, return_tensors="pt")
    output = loaded.model.generate(**inputs, generation_config=config)
    loaded.tokenizer.decode(output[0], skip_special_tokens=True)
    return tokens / (time.perf_counter() - started)


def main() -> int:
    """Measure, print, and tell whether every limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pico", help="a run folder, a model folder, or pico")
    parser.add_argument("--tokens", type=int, default=200, help="tokens a text")
    parser.add_argument("--runs", type=int, default=15, help="texts each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    greedy = resolve_settings({"strategy": "greedy"})
    loaded = load_model(arguments.model, settings=greedy, use_cpu=True)
    ways: dict[str, Callable[[], float]] = {}
    for name in (*SETTINGS, "contrastive"):
        ways[f"gptft, {name}"] = lambda name=name: through_gptft(
            loaded, name, tokens=arguments.tokens
        )
        if name in SETTINGS:
            ways[f"transformers, {name}"] = lambda name=name: bare(
                loaded, name, tokens=arguments.tokens
            )
    for way in ways.values():  # a first text takes longer
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.runs):
        for name, way in ways.items():
            taken[name].append(way())
    print(f"{'tokens a second, median of ' + str(arguments.runs):34}{'':8} {'min-max':^17}")
    for name, speeds in taken.items():
        spread = f"{min(speeds):.1f}-{max(speeds):.1f}"
        print(f"{name:34}{statistics.median(speeds):8.1f} {spread:^17}")
    middle = {name: statistics.median(speeds) for name, speeds in taken.items()}
    kept = True
    for name in SETTINGS:
        cost = middle[f"transformers, {name}"] / middle[f"gptft, {name}"]
        kept &= said(cost <= MAX_COST, f"{name}: {cost:.3f} of a bare call's time", MAX_COST)
    share = middle["gptft, contrastive"] / middle["gptft, greedy"]
    kept &= said(
        share >= MIN_CONTRASTIVE, f"contrastive: {share:.2f} of greedy's speed", MIN_CONTRASTIVE
    )
    return 0 if kept else 1


def said(is_kept: bool, words: str, limit: float) -> bool:
    """Print whether a limit is kept."""
    print(f"{'ok' if is_kept else 'MISSED':7} {words} (limit {limit})")
    return is_kept


if __name__ == "__main__":
    sys.exit(main())
