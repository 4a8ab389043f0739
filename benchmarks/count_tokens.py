"""How fast the token account of a corpus is counted, beside fastokens alone.

    python benchmarks/count_tokens.py [--corpus FOLDER] [--tokenizer FOLDER] [--runs 5] [--large]

All figures come from one run, in which everything takes turns, each time as a fresh process:
`gptft.inspection.counts.count_tokens` with an empty cache, which reads the files twice, and again
with the cache it left; and fastokens alone, reading the same files and counting nothing, in each of
the ways that are fastest. Both use one tokenizer, the bundled model's unless another is named. MB
are 10^6 bytes of UTF-8 text. Prints medians and the ratio, and exits with 1 where a limit is
missed. `--large` adds ten copies of the corpus, for the memory.

It isn't named after the command, `tokenize`: a file of that name beside a script hides Python's
own module.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prepare import (
    BARE_WAYS,
    MAX_GROWTH,
    MAX_MB,
    MIN_SHARE,
    PICO,
    SHARED,
    Run,
    copy_as_utf8,
    machine,
    median,
    print_row,
    run,
)

OURS = "gptft count_tokens"
CACHED = "gptft count_tokens, surveyed"


def count(folder: Path, cache: Path, model: Path) -> None:
    """Count a corpus, and print the time and the tokens; runs in a process of its own."""
    from gptft.inspection.counts import count_tokens
    from gptft.tokenization.tokenizer import load_tokenizer

    counts = count_tokens([str(folder)], load_tokenizer(str(model)), cache_dir=cache)
    said = {"seconds": counts.seconds, "tokens": counts.tokens, "engine": counts.engine}
    print(json.dumps(said))


def counted(folder: Path, cache: Path, model: Path) -> Run:
    """One run of `count`."""
    command = [sys.executable, __file__, "--count", str(cache), "--corpus", str(folder)]
    return run([*command, "--tokenizer", str(model)])


def bare(way: str, folder: Path, model: Path) -> Run:
    """One run of fastokens alone, as benchmarks/prepare.py has it."""
    script = Path(__file__).with_name("prepare.py")
    command = [sys.executable, str(script), "--bare", way, "--corpus", str(folder)]
    return run([*command, "--tokenizer", str(model)])


def measure(folder: Path, scratch: Path, *, model: Path, runs: int) -> dict[str, list[Run]]:
    """Let everything take turns, after one round that only warms the disk's cache."""
    taken: dict[str, list[Run]] = {}
    for number in range(runs + 1):
        cache = scratch / f"cache-{number}"
        turn = {OURS: counted(folder, cache, model), CACHED: counted(folder, cache, model)}
        turn |= {f"fastokens, {way}": bare(way, folder, model) for way in BARE_WAYS}
        for name, one in turn.items():
            if number:
                taken.setdefault(name, []).append(one)
    return taken


def measure_large(corpus: Path, scratch: Path, *, model: Path) -> tuple[int, Run]:
    """Ten copies, no two files alike: their bytes, and one run."""
    folder = scratch / "large"
    size = sum(
        copy_as_utf8(corpus, folder / f"copy-{number:02}", first_line=f"{number}\n")
        for number in range(10)
    )
    return size, counted(folder, scratch / "cache-large", model)


def limits(
    taken: dict[str, list[Run]], large: tuple[int, Run] | None
) -> Iterator[tuple[bool, str]]:
    """For each limit, whether it is kept, and a line that says so."""
    tokens = {name: runs[0].said["tokens"] for name, runs in taken.items()}
    if len(set(tokens.values())) > 1:
        yield False, f"tokens differ: {tokens}"
    alone = {way: median(taken[f"fastokens, {way}"], "own_seconds") for way in BARE_WAYS}
    best = min(alone, key=lambda way: alone[way])
    for name in (OURS, CACHED):
        share = alone[best] / median(taken[name], "own_seconds")
        yield (
            share >= MIN_SHARE,
            f"{name} against fastokens alone ({best}): {share:.2f} of its speed "
            f"(at least {MIN_SHARE})",
        )
    peak = median(taken[OURS], "peak_mb")
    yield peak <= MAX_MB, f"peak memory: {peak:.0f} MB (at most {MAX_MB:.0f} MB)"
    if large:
        growth = large[1].peak_mb / peak
        yield (
            growth <= MAX_GROWTH,
            f"peak memory of ten copies: {growth:.2f} of one copy's (at most {MAX_GROWTH})",
        )


def parse_arguments() -> argparse.Namespace:
    """The command line, with paths made absolute and checked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=SHARED / "corpus" / "ru-classics")
    parser.add_argument("--tokenizer", type=Path, default=PICO, help="a model folder")
    parser.add_argument("--runs", type=int, default=5, help="runs of each")
    parser.add_argument("--large", action="store_true", help="ten copies of the corpus, too")
    parser.add_argument("--count", type=Path, metavar="CACHE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.corpus = arguments.corpus.resolve()
    arguments.tokenizer = arguments.tokenizer.resolve()
    if arguments.runs < 1:
        parser.error("--runs is at least 1")
    if not arguments.corpus.is_dir():
        sys.exit(f"{arguments.corpus} isn't there: name a folder of .txt files with --corpus.")
    return arguments


def main() -> int:
    """Measure, print, and tell whether every limit is kept."""
    arguments = parse_arguments()
    if arguments.count:
        count(arguments.corpus, arguments.count, arguments.tokenizer)
        return 0
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        scratch, folder = Path(name), Path(name) / "corpus"
        size = copy_as_utf8(arguments.corpus, folder)
        print(f"{size / 1e6:.1f} MB of text\n")
        taken = measure(folder, scratch, model=arguments.tokenizer, runs=arguments.runs)
        large = None
        if arguments.large:
            large = measure_large(arguments.corpus, scratch, model=arguments.tokenizer)
    print(
        f"{'median of':<34} {'process':>9}  {'min-max':^13} {'CPU':>7} {'itself':>9} "
        f"{'of itself':>12} {'peak':>8} {'runs':>4}"
    )
    for row, runs in taken.items():
        print_row(row, runs, size=size)
    if large:
        print_row(f"{OURS}, {large[0] / 1e6:.0f} MB", [large[1]], size=large[0])
    print()
    verdicts = list(limits(taken, large))
    for kept, line in verdicts:
        print(f"{'ok' if kept else 'MISSED':<7} {line}")
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")
    return int(not all(kept for kept, _ in verdicts))


if __name__ == "__main__":
    sys.exit(main())
