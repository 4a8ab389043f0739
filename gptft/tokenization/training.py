"""A corpus -> a new tokenizer in a folder that `AutoTokenizer` opens, and what it costs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gptft.config.numbers import LARGEST_WHOLE, MAX_VOCAB_SIZE
from gptft.documents.scan import Progress
from gptft.errors import ConfigError, ModelError
from gptft.inputs import can_be_made
from gptft.models.hub import find_cached
from gptft.models.source import resolve_model
from gptft.terminal.words import count, short_number
from gptft.tokenization.evaluation import Cost, measure_cost, split_corpus
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer, names_gguf, save_tokenizer
from gptft.tokenization.trainers import OWN_SPECIAL, TRAINERS, Kind

_ALWAYS_BESIDE = "pico"
_BYTES = 256
_MIN_FREQUENCY = 2


@dataclass(frozen=True)
class TrainedTokenizer:
    """A tokenizer that was trained.

    Attributes:
        path: its folder.
        kind: bpe, unigram or wordpiece.
        vocab_size: ids in all.
        asked: ids that were asked for; more where the text gives no more.
        special_tokens: in the order of their ids, EOS first.
        passages: passages of the corpus: documents, or up to 10,000 characters of longer ones.
        held_out: how many of them were held out; 0 where it was measured on the text it learned.
        costs: what the held-out text costs, in this tokenizer first.
        seconds: reading, training and measuring.
    """

    path: Path
    kind: Kind
    vocab_size: int
    asked: int
    special_tokens: tuple[str, ...]
    passages: int
    held_out: int
    costs: tuple[Cost, ...]
    seconds: float

    @property
    def remark(self) -> str | None:
        """What a person should know who means to train it again."""
        if self.kind != "unigram":
            return None
        return (
            "Unigram training isn't repeatable: the library adds up in another order in each "
            "process, and a few tokens differ. Keep this folder where the ids matter."
        )


def train_tokenizer(
    names: Sequence[str],
    out_dir: Path,
    *,
    kind: Kind = "bpe",
    vocab_size: int = 8192,
    min_frequency: int | None = None,
    special: Sequence[str] = (),
    held_out: float = 0.05,
    model_max_length: int = 1024,
    beside: Sequence[str] = (),
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> TrainedTokenizer:
    """Train a tokenizer on texts, write it, and measure it on passages that were held out.

    Args:
        names: files, folders, globs and `hub:` datasets.
        out_dir: where tokenizer.json and tokenizer_config.json are written.
        kind: the model of the tokenizer.
        vocab_size: ids in all.
        min_frequency: a pair seen fewer times is not merged, 2 unless given; Unigram has none.
        special: special tokens besides EOS.
        held_out: the share of the passages that is measured on and not learned from.
        model_max_length: what tokenizer_config.json says that a model sees at once.
        beside: tokenizers to compare with, besides pico's; none is fetched.
        cache_dir: where scans of files are remembered.
        progress: told (what is being done, bytes done, bytes in all).

    Raises:
        ConfigError: settings that can't be met, or a folder that holds a tokenizer.
        DataError: texts are missing, can't be read, or hold nothing.
        ModelError: a tokenizer to compare with isn't here.
    """
    _check(kind, vocab_size, min_frequency, special, held_out, model_max_length)
    refuse_full(out_dir)
    others = [open_local(name) for name in dict.fromkeys([_ALWAYS_BESIDE, *beside])]
    started = time.perf_counter()
    corpus = split_corpus(names, held_out=held_out, cache_dir=cache_dir, progress=progress)
    tokenizer = TRAINERS[kind](
        partial(corpus.training, "training", progress),
        vocab_size=vocab_size,
        min_frequency=min_frequency or _MIN_FREQUENCY,
        special=special,
    )
    tokenizer = replace(tokenizer, name=out_dir.name or str(out_dir))
    save_tokenizer(tokenizer, out_dir, model_max_length=model_max_length)
    costs = [measure_cost(each, corpus, progress=progress) for each in (tokenizer, *others)]
    return TrainedTokenizer(
        path=out_dir,
        kind=kind,
        vocab_size=tokenizer.vocab_size,
        asked=vocab_size,
        special_tokens=(*OWN_SPECIAL[kind], *special),
        passages=corpus.num_passages,
        held_out=corpus.num_held_out,
        costs=tuple(costs),
        seconds=time.perf_counter() - started,
    )


def _check(
    kind: Kind,
    vocab_size: int,
    min_frequency: int | None,
    special: Sequence[str],
    held_out: float,
    model_max_length: int,
) -> None:
    problems: list[str] = []
    own = OWN_SPECIAL[kind]
    if any(not token.strip() for token in special):
        problems.append("A special token is empty. Leave it out.")
    taken = [token for number, token in enumerate(special) if token in (*own, *special[:number])]
    problems += [f"The special token {token!r} is there already." for token in dict.fromkeys(taken)]
    num_special = len(own) + len(special)
    least = num_special + (1 if kind == "wordpiece" else _BYTES)
    if vocab_size < least:
        needed = "one character" if kind == "wordpiece" else f"{_BYTES} bytes"
        problems.append(
            f"A vocabulary of {vocab_size:,} is too small: {count(num_special, 'special token')} "
            f"and {needed} need {least:,}."
        )
    # The library sets memory aside for so many, and ends the process where there is none.
    for name, number, most in (
        ("vocab_size", vocab_size, MAX_VOCAB_SIZE),
        ("min_frequency", min_frequency or 1, LARGEST_WHOLE),
        ("model_max_length", model_max_length, LARGEST_WHOLE),
    ):
        if number > most:
            problems.append(f"{name} is {short_number(number)}; the most is {most:,}.")
    if kind == "unigram" and min_frequency is not None:
        problems.append("Unigram has no min_frequency: it prunes by likelihood. Leave it out.")
    if min_frequency is not None and min_frequency < 1:
        problems.append(f"min_frequency is {min_frequency}; the least is 1.")
    if problem := check_held_out(held_out):
        problems.append(problem)
    if model_max_length < 1:
        problems.append(f"A model can't see {model_max_length} tokens. Give 1 or more.")
    if problems:
        raise ConfigError(*problems)


def check_held_out(share: float) -> str | None:
    """Why a share of a text can't be held out, or None."""
    return None if 0 <= share < 1 else f"{share:g} of the text can't be held out. Give 0 to 0.9."


def refuse_full(folder: Path) -> None:
    """Refuse to write a tokenizer over another.

    Raises:
        ConfigError: the folder holds one, isn't a folder, or can't be made.
    """
    if not can_be_made(folder):
        raise ConfigError(f"{folder} is a file, or can't be made or written to. Name another.")
    if any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json")):
        raise ConfigError(f"{folder} holds a tokenizer already. Name another folder, or remove it.")


def open_local(name: str) -> TextTokenizer:
    """Open a tokenizer that is on this machine, without asking the network.

    Raises:
        ModelError: it isn't here.
    """
    if names_gguf(name) or resolve_model(name) is not None:
        return load_tokenizer(name)
    files = find_cached(name)
    if files is None:
        raise ModelError(
            f"{name}: no such folder here, and not in the model hub's cache; nothing is fetched to "
            "compare with. Give a local folder."
        )
    return load_tokenizer(files)
