"""What `gptft generate` costs beside a bare `model.generate`, and contrastive search beside greedy.

    python benchmarks/generate.py [--model pico] [--tokens 200] [--runs 7]

Everything takes turns, each time as a fresh process that loads the model and writes one text of a
fixed length: the command with `--speed`, and plain transformers with the same settings. Timed is
the writing alone, from the prompt as text to the text; loading isn't. Each process has one thread:
a model as small as pico gains nothing from two, and two wait for each other where a machine has
other work. Prints medians and ratios, and exits with 1 where a limit is missed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from gptft.models.source import resolve_model

PROMPT = "Мороз и солнце; день чудесный!"
SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "nucleus": {"do_sample": True, "top_p": 0.9, "top_k": 0},
}
MAX_COST = 1.05  # of a bare call's time
MIN_CONTRASTIVE = 0.5  # of greedy's speed


def through_the_command(strategy: str, *, model: str, tokens: int) -> float:
    """Tokens a second of `gptft generate`."""
    length = ["--max-new-tokens", str(tokens), "--min-new-tokens", str(tokens)]
    command = [sys.executable, "-m", "gptft", "generate", model, "-p", PROMPT, "--cpu", *length]
    command += ["--strategy", strategy, "--seed", "1", "--speed", "--json"]
    (text,) = json.loads(run(command))
    return float(text["speed"]["tokens_per_s"])


def bare(strategy: str, *, model: str, tokens: int) -> float:
    """Tokens a second of plain transformers, in a process of its own."""
    command = [sys.executable, __file__, "--bare", strategy, "--model", model]
    return float(run([*command, "--tokens", str(tokens)]))


def run(command: Sequence[str]) -> str:
    """What a command prints; end with its errors where it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{done.stderr[-2000:]}\nfailed, exit code {done.returncode}: {command[:6]}")
    return done.stdout


def write_bare(strategy: str, *, model: str, tokens: int) -> None:
    """Load, write, and print the tokens a second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = resolve_model(model) or model
    tokenizer = AutoTokenizer.from_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.manual_seed(1)
    started = time.perf_counter()
    inputs = tokenizer(PROMPT, return_tensors="pt")
    config = GenerationConfig(
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
        **SETTINGS[strategy],
    )
    output = loaded.generate(**inputs, generation_config=config)
    tokenizer.decode(output[0], skip_special_tokens=True)
    print(tokens / (time.perf_counter() - started))


def main() -> int:
    """Measure, print, and tell whether every limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pico", help="a run folder, a model folder, or pico")
    parser.add_argument("--tokens", type=int, default=200, help="tokens a text")
    parser.add_argument("--runs", type=int, default=7, help="texts each")
    parser.add_argument("--bare", choices=SETTINGS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    what = {"model": arguments.model, "tokens": arguments.tokens}
    if arguments.bare:
        write_bare(arguments.bare, **what)
        return 0
    taken: dict[str, list[float]] = {}
    for _ in range(arguments.runs):
        for name in (*SETTINGS, "contrastive"):
            taken.setdefault(f"gptft, {name}", []).append(through_the_command(name, **what))
            if name in SETTINGS:
                taken.setdefault(f"transformers, {name}", []).append(bare(name, **what))
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
