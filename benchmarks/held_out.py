"""The bundled model beside compressors and an n-gram model, in bits a byte of works none has seen.

    python benchmarks/held_out.py [--config YAML] [--model pico]
        [--corpus PATH/TO/ru-classics] [--rows model,xz,zstd,ppmd,kneser-ney]

Works that the config holds out are what is measured on; all it trains on is what each row knows
beforehand: a compressor gets the training text as prefix or patch source, and what is counted is by
how much its output grows; the n-gram model is counted on it. The held-out works follow each other
in one file, so that a compressor may use one for the next, which the model can't: it reads
each work alone. Needs xz, zstd and 7z. Prints a table and exits with 1 where the model isn't the
best row.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gptft.api import load_config
from gptft.config.data import DataConfig
from gptft.config.sections import Config
from gptft.documents.read import read_documents
from gptft.documents.scan import scan_texts
from gptft.documents.sources import VALIDATION, find_texts
from gptft.files import default_cache_dir

CONFIG = Path("gptft/models/pico/recipes/pretrain-pico.yaml")
CORPUS = "corpus/ru-classics"  # its name in the recipes
_PPMD_ORDERS = (6, 8, 16)
_ORDER = 5  # of the n-gram model: four characters, and the one to come


def read_parts(data: DataConfig) -> tuple[list[str], dict[str, str]]:
    """The training documents, and the held-out ones by the name of their file."""
    found = find_texts(data)
    scanned = scan_texts(found.texts, data, cache_dir=default_cache_dir())
    train: list[str] = []
    held_out: dict[str, str] = {}
    for text in scanned:
        document = "".join(chunk.text for chunk in read_documents(text, data))
        if text.source.number == VALIDATION:
            held_out[text.source.name] = document
        else:
            train.append(document)
    return train, held_out


def model_bits(name: str, works: dict[str, str]) -> dict[str, float]:
    """Bits a model needs for each work, read through a window of its context that moves by half."""
    from gptft.decoding.encoding import encode_bare
    from gptft.decoding.loaded_model import open_model
    from gptft.decoding.logprobs import sequence_logprobs
    from gptft.decoding.special_tokens import special_tokens

    model, tokenizer = open_model(name)
    special = special_tokens(model, tokenizer)
    bits = {}
    for work, text in works.items():
        ids = [*special.before, *encode_bare(tokenizer, text)]
        starts = [max(len(special.before), 1)]
        (logprob,) = sequence_logprobs(model, [ids], starts=starts, kept=len(special.prefix))
        bits[work] = -logprob / math.log(2)
    return bits


def grown_by(command: Callable[[Path, Path], list[str]], folder: Path) -> tuple[float, str]:
    """Bits by which a compressor's output grows when held-out text follows training text."""
    sizes = []
    for name in ("train.txt", "both.txt"):
        packed = folder / f"{name}.packed"
        subprocess.run(
            command(folder / name, packed), check=True, stdout=subprocess.DEVNULL, cwd=folder
        )
        sizes.append(packed.stat().st_size)
        packed.unlink()
    shown = command(Path("both.txt"), Path("OUT"))
    return 8.0 * (sizes[1] - sizes[0]), " ".join(shown) + ", less train.txt alone"


def xz_row(folder: Path) -> tuple[float, str]:
    """Its dictionary at -9 is 64 MiB: more than the training text."""
    return grown_by(
        lambda text, packed: ["sh", "-c", f"xz -9e -k -c '{text}' > '{packed}'"], folder
    )


def zstd_row(folder: Path) -> tuple[float, str]:
    """The training text is what the held-out one is a patch of."""
    command = ["zstd", "-19", "--ultra", "--long=27", "--patch-from=train.txt", "-qc", "held.txt"]
    packed = subprocess.run(command, check=True, capture_output=True, cwd=folder).stdout
    return 8.0 * len(packed), " ".join(command)


def ppmd_row(folder: Path, *, order: int) -> tuple[float, str]:
    """7-zip's PPMd, with memory for all contexts."""
    method = f"-m0=PPMd:o={order}:mem=2g"
    return grown_by(
        lambda text, packed: ["7z", "a", "-t7z", method, str(packed), str(text)], folder
    )


def kneser_ney_bits(train: str, held_out: str, *, order: int) -> float:
    """Bits an interpolated, modified Kneser-Ney model of characters needs for a text.

    Args:
        train: counted on.
        held_out: predicted, each character after the `order` - 1 before it.
        order: the longest n-gram.

    Three discounts an order, from how many n-grams were seen one to four times; below the unigrams
    a uniform distribution over the characters of `train` and one for all others, whose code point
    then costs another 20 bits.

    Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language
    modeling", section 3 and appendix.
    """
    alphabet = np.unique(np.frombuffer(train.encode("utf-32-le"), dtype=np.uint32))
    base = len(alphabet) + 1  # the last one is any other character
    stream, asked = (_numbered(text, alphabet) for text in (train, held_out))
    # Codes of all n-grams of a stream, by their last character: n * base + c.
    grams: list[tuple[np.ndarray, np.ndarray]] = []  # sorted codes and their counts, by length
    for length in range(1, order + 1):
        grams.append(np.unique(_codes(stream, base, length), return_counts=True))
    known = np.full(len(asked), 1.0 / base)  # below the unigrams
    for length in range(1, order + 1):
        codes, counts = grams[length - 1]
        if length < order:  # how many characters it was seen after, not how often
            longer = grams[length][0]
            codes, counts = np.unique(longer % base**length, return_counts=True)
        known = _interpolated(codes, counts, _codes(asked, base, length), known, base)
    bits = float(-np.log2(known).sum())
    return bits + 20.0 * float((asked == base - 1).sum())


def _numbered(text: str, alphabet: np.ndarray) -> np.ndarray:
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    place = np.searchsorted(alphabet, points).clip(max=len(alphabet) - 1)
    return np.where(alphabet[place] == points, place, len(alphabet)).astype(np.int64)


def _codes(stream: np.ndarray, base: int, length: int) -> np.ndarray:
    """A number for the n-gram that ends at each place; before the text stands character 0."""
    padded = np.concatenate([np.zeros(length - 1, dtype=np.int64), stream])
    codes = np.zeros(len(stream), dtype=np.int64)
    for offset in range(length):
        codes = codes * base + padded[offset : offset + len(stream)]
    return codes


def _interpolated(
    codes: np.ndarray, counts: np.ndarray, asked: np.ndarray, lower: np.ndarray, base: int
) -> np.ndarray:
    """One order's probability of each n-gram asked for, given that of the order below."""
    ones, twos, threes, fours = ((counts == number).sum() for number in (1, 2, 3, 4))
    discounts = np.array([0.0, 0.5, 1.0, 1.5])  # where so few were seen that no estimate holds
    if min(ones, twos, threes) > 0:
        y = ones / (ones + 2 * twos)
        ratios = np.array([0.0, twos / ones, threes / twos, fours / threes])
        discounts = np.arange(4) - np.arange(1, 5) * y * ratios
        discounts = discounts.clip(0.0, np.arange(4))
    contexts, inverse = np.unique(codes // base, return_inverse=True)
    totals = np.bincount(inverse, weights=counts)
    taken = np.bincount(inverse, weights=discounts[counts.clip(max=3)])
    place = np.searchsorted(codes, asked).clip(max=len(codes) - 1)
    count = np.where(codes[place] == asked, counts[place], 0)
    where = np.searchsorted(contexts, asked // base).clip(max=len(contexts) - 1)
    seen = contexts[where] == asked // base
    own = (count - discounts[count.clip(max=3)]).clip(min=0) / totals[where]
    return np.where(seen, own + taken[where] / totals[where] * lower, lower)


def kind_of(work: str) -> str:
    """Whose works they are, by the corpus's own folders."""
    if "/poems/Pushkin/" in work:
        return "Pushkin's verse"
    return "other verse" if "/poems/" in work else "prose"


def main() -> int:
    """Measure, print, and tell whether the model is the best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--model", default="pico", help="a run folder, a model folder, or pico")
    parser.add_argument("--corpus", default=CORPUS, help="where the corpus is")
    parser.add_argument("--rows", default="model,xz,zstd,ppmd,kneser-ney", help="some of them")
    arguments = parser.parse_args()
    rows = arguments.rows.split(",")
    train, works = read_parts(data_of(arguments.config, corpus=arguments.corpus))
    print(
        f"{len(works)} held-out works, {size_of(works.values()):,} bytes; known before: "
        f"{len(train)} works, {size_of(train):,} bytes."
    )
    found: dict[str, float] = {}
    if "model" in rows:
        found[arguments.model] = show_model(arguments.model, works)
    found |= show_others(rows, "".join(train), "".join(works.values()))
    best = min(found, key=lambda title: found[title])
    return 0 if arguments.model not in found or best == arguments.model else 1


def size_of(texts: Iterable[str]) -> int:
    """Bytes of some texts, as UTF-8."""
    return sum(len(text.encode()) for text in texts)


def show_model(name: str, works: dict[str, str]) -> float:
    """Print a model's rows, one for each kind of works and one for all; bits a byte of all."""
    bits = model_bits(name, works)
    for kind in ("Pushkin's verse", "other verse", "prose"):
        chosen = [work for work in works if kind_of(work) == kind]
        size = size_of(works[work] for work in chosen)
        if chosen:
            show(f"  {kind}, {size:,} bytes", sum(bits[work] for work in chosen), size, "")
    return show(name, sum(bits.values()), size_of(works.values()), "")


def show_others(rows: Sequence[str], train: str, held_out: str) -> dict[str, float]:
    """Print the rows of compressors and of the n-gram model; bits a byte by title."""
    found = {}
    num_bytes = size_of([held_out])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways: list[tuple[str, str, Callable[[], tuple[float, str]]]] = [
            ("xz", "xz -9e", partial(xz_row, folder)),
            ("zstd", "zstd -19 --ultra", partial(zstd_row, folder)),
            *(
                ("ppmd", f"PPMd, order {order}", partial(ppmd_row, folder, order=order))
                for order in _PPMD_ORDERS
            ),
        ]
        asked = [(title, way) for row, title, way in ways if row in rows]
        if asked:
            texts = {"train.txt": train, "held.txt": held_out, "both.txt": train + held_out}
            for file, text in texts.items():
                (folder / file).write_text(text, encoding="utf-8", newline="")
        for title, way in asked:
            bits, command = way()
            found[title] = show(title, bits, num_bytes, command)
    if "kneser-ney" in rows:
        title = f"{_ORDER}-gram Kneser-Ney, characters"
        found[title] = show(title, kneser_ney_bits(train, held_out, order=_ORDER), num_bytes, "")
    return found


def data_of(path: Path, *, corpus: str) -> DataConfig:
    """The config's texts, looked for in another folder where one is named."""
    config: Config = load_config(path, overrides=[])
    assert config.data is not None
    values: dict[str, Any] = config.data.model_dump(mode="json", exclude_unset=True)
    moved = [source.path.replace(CORPUS, corpus) for source in config.data.train]
    held_out = config.data.validation
    if isinstance(held_out, list):
        values["validation"] = [name.replace(CORPUS, corpus) for name in held_out]
    return DataConfig.model_validate({**values, "train": moved})


def show(title: str, bits: float, num_bytes: int, command: str) -> float:
    """Print a row and give its bits a byte."""
    print(f"{title:32}{bits / num_bytes:8.4f} bits a byte   {command}", flush=True)
    return bits / num_bytes


if __name__ == "__main__":
    sys.exit(main())
