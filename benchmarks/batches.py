"""Whether a text that is drawn in a batch is the one its prompt gets alone.

    python benchmarks/batches.py [--model pico] [--texts 1000] [--tokens 60] [--strategy nucleus]

Each verse of data/pushkin, cut after a word to three, is a prompt. All are continued in batches,
then each alone, in float32 and with one thread, another seed for every hundred. Prints how many
texts are equal and the first that isn't, and exits with 1 below 999 of 1,000.
"""

import argparse
import sys
import time
from itertools import cycle, islice
from pathlib import Path

import torch

from gptft.decoding.engine import Generated, generate, load_model
from gptft.decoding.settings import resolve_settings

POEMS = Path(__file__).parents[1] / "data" / "pushkin"
MIN_EQUAL = 0.999
A_SEED = 100  # prompts


def prompts(number: int) -> list[str]:
    """Beginnings of verses, of one word to three."""
    verses = [
        line.split()
        for path in sorted(POEMS.glob("*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if len(line.split()) > 2
    ]
    words = cycle(enumerate(verses))
    return [" ".join(verse[: 1 + n % 3]) for n, verse in islice(words, number)]


def main() -> int:
    """Compare, print, and tell whether enough texts are equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pico", help="a run folder, a model folder, or pico")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=60, help="tokens a text, at most")
    parser.add_argument("--strategy", default="nucleus")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    given = {"strategy": arguments.strategy, "max_new_tokens": arguments.tokens}
    loaded = load_model(
        arguments.model, settings=resolve_settings(given), dtype="float32", use_cpu=True
    )
    texts = prompts(arguments.texts)
    taken: dict[int, float] = {}
    found: dict[int, list[Generated]] = {}
    for batch_size in (16, 1):
        started = time.process_time()
        found[batch_size] = []
        for at in range(0, len(texts), A_SEED):
            settings = resolve_settings({**given, "seed": at})
            found[batch_size] += generate(
                loaded, texts[at : at + A_SEED], settings=settings, batch_size=batch_size
            )
        taken[batch_size] = time.process_time() - started
    pairs = list(zip(found[16], found[1], strict=True))
    unlike = [pair for pair in pairs if pair[0].new_ids != pair[1].new_ids]
    equal = len(pairs) - len(unlike)
    print(
        f"{equal:,} of {len(pairs):,} texts are equal; {taken[16]:.0f} s of CPU time in batches, "
        f"{taken[1]:.0f} s one by one"
    )
    for together, alone in unlike[:1]:
        same = sum(a == b for a, b in zip(together.new_ids, alone.new_ids, strict=False))
        print(f"first unlike: {together.prompt!r}, {same} tokens of {alone.num_new_tokens} equal")
        print(f"  in a batch: {together.continuation!r}\n  alone:      {alone.continuation!r}")
    return 0 if equal >= MIN_EQUAL * len(pairs) else 1


if __name__ == "__main__":
    sys.exit(main())
