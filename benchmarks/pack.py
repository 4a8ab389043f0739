"""How long `data.packing: best_fit` takes beside `stream`, and how full its blocks are.

    python benchmarks/pack.py [--corpus FOLDER] [--tokens 10_000_000] [--block-size 1024] [--runs 3]

Documents of log-normal length are made of the words of data/pushkin, or of the lines of a corpus's
`.txt` files, until they are about so many tokens. They are then prepared as `gptft prepare` does,
by both in turn, each time into an empty cache, with the bundled model's tokenizer; and packed by
both in turn from what one encoding gave. Prints medians and ratios, and exits with 1 where
preparing by best fit takes more than 1.05 times as long, or blocks are less than 97 % full.
"""

import argparse
import dataclasses
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gptft.config.sections import Config
from gptft.console import silent
from gptft.data.encoded_documents import EncodedDocuments, encode_documents
from gptft.data.fitted_blocks import Framing, write_fitted
from gptft.data.pack import Prepared
from gptft.data.plan import PackingPlan, plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.split import Split
from gptft.data.store import write_split
from gptft.documents.scan import scan_texts
from gptft.documents.sources import find_texts
from gptft.tokenization.token_ids import token_dtype

POEMS = Path(__file__).resolve().parents[1] / "data" / "pushkin"
SEPARATOR = "\n%%\n"
MEDIAN_BYTES, SIGMA = 1_500, 0.9  # of a document: some hundred tokens, a few of them thousands
BYTES_A_TOKEN = 5.0  # about what the bundled tokenizer makes of Russian
MAX_RATIO, LEAST_FULL = 1.05, 0.97
PACKINGS = ("stream", "best_fit")


def documents(corpus: Path | None, num_bytes: int) -> Iterator[str]:
    """Documents of about so many bytes in all."""
    rng = np.random.default_rng(0)
    texts = [path.read_text("utf-8", "ignore") for path in (corpus or POEMS).rglob("*.txt")]
    words = "".join(texts).split(" ") if corpus is None else []
    lines = "".join(texts).splitlines(keepends=True)
    at = 0
    while num_bytes > 0:
        size = int(rng.lognormal(math.log(MEDIAN_BYTES), SIGMA))
        pieces: list[str] = []
        while size > 0:
            if words:
                piece = words[int(rng.integers(len(words)))] + " "
            else:
                piece = lines[at % len(lines)]
                at += 1
            pieces.append(piece)
            size -= (used := len(piece.encode()))
            num_bytes -= used
        yield "".join(pieces)


def plan(text: Path, cache: Path, packing: str, block_size: int) -> PackingPlan:
    """How the text is prepared."""
    data = {
        "train": str(text), "document_separator": SEPARATOR, "packing": packing,
        "block_size": block_size,
    }  # fmt: skip
    made = plan_packing(Config.model_validate({"data": data, "model": {"name": "pico"}}))
    return dataclasses.replace(made, cache_dir=cache)


def in_turn(runs: int, work: Callable[[str, Path], None]) -> dict[str, float]:
    """The median seconds of both packings, each time in an empty folder, but for a first round."""
    seconds: dict[str, list[float]] = {packing: [] for packing in PACKINGS}
    for number in range(runs + 1):
        for packing in PACKINGS:
            with tempfile.TemporaryDirectory() as name:
                started = time.perf_counter()
                work(packing, Path(name))
                if number:
                    seconds[packing].append(time.perf_counter() - started)
    return {packing: statistics.median(some) for packing, some in seconds.items()}


def main() -> int:
    """Print what both take, and tell whether the limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--block-size", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        made = documents(given.corpus, int(given.tokens * BYTES_A_TOKEN))
        text.write_text(SEPARATOR.join(made), encoding="utf-8")
        last: dict[str, Prepared] = {}

        def prepare(packing: str, cache: Path) -> None:
            last[packing] = prepare_blocks(plan(text, cache, packing, given.block_size))

        whole = in_turn(given.runs, prepare)
        of_plan = plan(text, folder / "cache", "stream", given.block_size)
        tokenizer = of_plan.tokenizer
        if tokenizer is None:
            return 2
        texts = scan_texts(find_texts(of_plan.data).texts, of_plan.data, cache_dir=folder / "cache")
        (folder / "encoded").mkdir()
        encode_documents(texts, of_plan.data, tokenizer, folder / "encoded", notify=silent)
        encoded = EncodedDocuments(folder / "encoded")

        def pack(packing: str, target: Path) -> None:
            split = Split([encoded], [0], of_plan.data)
            dtype = token_dtype(tokenizer.vocab_size)
            if packing == "stream":
                write_split(
                    split.token_ids("train"), target, split="train", block_size=given.block_size,
                    dtype=dtype, keep_tail=True,
                )  # fmt: skip
            else:
                write_fitted(
                    split, target, name="train", framing=Framing((), tokenizer.require_eos()),
                    block_size=given.block_size, dtype=dtype, keep_tail=True,
                )  # fmt: skip

        alone = in_turn(given.runs, pack)
    ledger = last["best_fit"].ledger
    ratio = whole["best_fit"] / whole["stream"]
    print(f"{ledger.tokens:,} tokens, {ledger.documents:,} documents, blocks of {given.block_size}")
    print(f"full: {ledger.fill_share:.2%}, split documents: {ledger.split_documents:,}")
    print("", *PACKINGS, "ratio", sep="\t")
    for title, seconds in (("prepare", whole), ("packing alone", alone)):
        row = [f"{seconds[packing]:.3f} s" for packing in PACKINGS]
        print(title, *row, f"{seconds['best_fit'] / seconds['stream']:.3f}", sep="\t")
    return 0 if ratio <= MAX_RATIO and ledger.fill_share >= LEAST_FULL else 1


if __name__ == "__main__":
    sys.exit(main())
