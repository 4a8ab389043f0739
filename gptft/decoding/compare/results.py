"""What a comparison of strategies is made of: what is to be run, what came of it, its measures.

In and out: plain values, no torch. An `Entry` is a strategy to be run, or why it can't be; a `Row`
is an entry with the text it wrote; a `Figure` is a measure of a row.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gptft.decoding.settings import Settings

if TYPE_CHECKING:
    from gptft.decoding.speed import Speed


@dataclass(frozen=True)
class Entry:
    """A strategy that is to be compared.

    Attributes:
        label: its name, or what a config calls it.
        strategy: its name.
        settings: in full; None where it is left out.
        stand_ins: settings it needs and nobody gave, by name.
        prompt: where it isn't the comparison's own: the end of that one, after a context.
        left_out: why it can't be run, in a sentence; None where it can.
    """

    label: str
    strategy: str
    settings: Settings | None
    stand_ins: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class Written:
    """A text and its measures.

    Attributes:
        continuation: what follows the prompt.
        num_new_tokens: of it, EOS not counted.
        stopped: by eos, stop_string or length.
        speed: how fast it was written.
        mean_logprob: of a token under the model alone, in nats; None where there is no token.
        distinct: by n, different n-grams by all n-grams of its tokens; None where there are none.
        repetition: the share of its 4-grams that stood in it before, likewise.
        longest_copy: tokens of the longest span that stands in the training text; None where that
            isn't known.
    """

    continuation: str
    num_new_tokens: int
    stopped: str
    speed: "Speed"
    mean_logprob: float | None
    distinct: Mapping[int, float | None]
    repetition: float | None
    longest_copy: int | None = None


@dataclass(frozen=True)
class Row:
    """A strategy and the text it wrote, or why it wrote none.

    Attributes:
        entry: what was run, its seed included.
        prompt: the comparison's.
        written: the text; None where there is none.
        left_out: why there is none, in a sentence; None where there is one.
    """

    entry: Entry
    prompt: str
    written: Written | None = None
    left_out: str | None = None

    @property
    def label(self) -> str:
        """The strategy's name, or what a config calls it."""
        return self.entry.label

    @property
    def seed(self) -> int | None:
        """Of its draws; None where it drew nothing."""
        settings = self.entry.settings
        return settings.seed if settings is not None and settings.do_sample else None

    def to_dict(self) -> dict[str, Any]:
        """All of it by name, as JSON has it; null for what isn't known or isn't finite."""
        settings, written = self.entry.settings, self.written
        speed = written.speed.to_dict() if written else {}
        return {
            "label": self.label,
            "strategy": self.entry.strategy,
            "left_out": self.left_out,
            "settings": settings.to_dict() if settings else None,
            "stand_ins": dict(self.entry.stand_ins),
            "seed": self.seed,
            "prompt": self.prompt,
            "text": self.prompt + written.continuation if written else None,
            "continuation": written.continuation if written else None,
            "num_new_tokens": written.num_new_tokens if written else None,
            "stopped": written.stopped if written else None,
            **{name: speed.get(name) for name in _SPEED_NAMES},
            **{figure.name: _finite(figure.of(self)) for figure in FIGURES},
        }


@dataclass(frozen=True)
class Figure:
    """A measure of a row.

    Attributes:
        name: its key in JSON.
        short: the head of its column.
        meaning: what it says, in words.
        of: its value; None where it isn't known.
        decimals: that are shown.
        better: 1 where more is called better, -1 where less is.
    """

    name: str
    short: str
    meaning: str
    of: Callable[[Row], float | None]
    decimals: int = 2
    better: int = 1

    @property
    def title(self) -> str:
        """Its name in words."""
        return _TITLES.get(self.name, self.name.replace("_", " "))

    def shown(self, row: Row) -> str:
        """The value as a reader sees it; a dash where there is none."""
        value = self.of(row)
        return "-" if value is None else f"{value:,.{self.decimals}f}"

    def best_of(self, rows: Sequence[Row]) -> frozenset[int]:
        """The indices of the rows whose value, as it is shown, is the best.

        None of them where all are alike.
        """
        values = {
            i: round(value, self.decimals)
            for i, row in enumerate(rows)
            if (value := self.of(row)) is not None
        }
        if len(set(values.values())) < 2:
            return frozenset()
        best = max(value * self.better for value in values.values())
        return frozenset(i for i, value in values.items() if value * self.better == best)


_TITLES = {
    "tokens_per_s": "tokens a second",
    **{f"distinct_{n}": f"distinct-{n}" for n in (1, 2, 3)},
}


def _of(name: str) -> Callable[[Row], float | None]:
    return lambda row: getattr(row.written, name, None)


def _distinct(n: int) -> Callable[[Row], float | None]:
    return lambda row: row.written.distinct.get(n) if row.written else None


FIGURES: tuple[Figure, ...] = (
    Figure(
        "tokens_per_s",
        "tok/s",
        "tokens written by the seconds it took, reading the prompt included",
        lambda row: row.written.speed.tokens_per_s if row.written else None,
        decimals=1,
    ),
    Figure(
        "mean_logprob",
        "logp",
        "mean log-probability of a token under the model alone, in nats",
        _of("mean_logprob"),
    ),
    *(
        Figure(
            f"distinct_{n}",
            f"d-{n}",
            f"different {ngrams} by all {ngrams}",
            _distinct(n),
        )
        for n, ngrams in ((1, "tokens"), (2, "pairs of tokens"), (3, "triples of tokens"))
    ),
    Figure(
        "repetition",
        "rep-4",
        "the share of 4 tokens in a row that stood in it before",
        _of("repetition"),
        better=-1,
    ),
    Figure(
        "longest_copy",
        "copy",
        "tokens of the longest span that stands in the training text word for word",
        _of("longest_copy"),
        decimals=0,
        better=-1,
    ),
)
_SPEED_NAMES = (
    "seconds", "tokens_per_s", "seconds_to_first_token", "model_calls", "tokens_per_call",
    "draft_acceptance",
)  # fmt: skip


def known_figures(rows: Sequence[Row]) -> list[Figure]:
    """The measures that at least one row has."""
    return [figure for figure in FIGURES if any(figure.of(row) is not None for row in rows)]


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
