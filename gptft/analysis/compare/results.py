"""What a comparison of strategies is made of: what to run, the text of each, and its metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gptft.decoding.settings import Settings
from gptft.files import JsonFields

if TYPE_CHECKING:
    from gptft.decoding.speed import Speed


@dataclass(frozen=True)
class StrategyEntry:
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
class MeasuredText:
    """A text and what is measured of it.

    Attributes:
        continuation: what follows the prompt.
        num_new_tokens: of it, EOS not counted.
        stopped: by eos, stop_string or length.
        speed: how fast it was generated.
        mean_logprob: of a token under the model alone, in nats; None where there is no token.
        distinct: by n, different n-grams by all n-grams of its tokens; None where there are none.
        repetition: the share of its 4-grams that repeat earlier ones, likewise.
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
class StrategyResult(JsonFields):
    """A strategy and its text, or why there is none.

    Attributes:
        entry: what was run, its seed included.
        prompt: the comparison's.
        measured: the text and its metrics; None where there is none.
        left_out: why there is none, in a sentence; None where there is one.
    """

    entry: StrategyEntry
    prompt: str
    measured: MeasuredText | None = None
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

    def json_fields(self) -> dict[str, Any]:
        """As `gptft generate --compare --json` prints it."""
        settings, measured = self.entry.settings, self.measured
        return {
            "label": self.label,
            "strategy": self.entry.strategy,
            "left_out": self.left_out,
            "settings": settings.to_dict() if settings else None,
            "stand_ins": self.entry.stand_ins,
            "seed": self.seed,
            "prompt": self.prompt,
            "text": self.prompt + measured.continuation if measured else None,
            **{name: getattr(measured, name, None) for name in _TEXT_NAMES},
            **{name: getattr(measured.speed, name) if measured else None for name in _SPEED_NAMES},
            **{metric.name: metric.of(self) for metric in METRICS},
        }


@dataclass(frozen=True)
class Metric:
    """A metric of a result.

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
    of: Callable[[StrategyResult], float | None]
    decimals: int = 2
    better: int = 1

    @property
    def title(self) -> str:
        """Its name in words."""
        return _TITLES.get(self.name, self.name.replace("_", " "))

    def shown(self, result: StrategyResult) -> str:
        """The value as a reader sees it; a dash where there is none."""
        value = self.of(result)
        return "-" if value is None else f"{value:,.{self.decimals}f}"

    def best_of(self, results: Sequence[StrategyResult]) -> frozenset[int]:
        """The indices of the results whose value, as it is shown, is the best.

        None of them where all are alike. A text that an earlier result has as well isn't counted,
        but for how fast it was.
        """
        same = {} if self.name in _SPEED_NAMES else equal_earlier(results)
        values = {
            i: round(value, self.decimals)
            for i, result in enumerate(results)
            if (value := self.of(result)) is not None and i not in same
        }
        if len(set(values.values())) < 2:
            return frozenset()
        best = max(value * self.better for value in values.values())
        return frozenset(i for i, value in values.items() if value * self.better == best)


_TITLES = {
    "tokens_per_s": "tokens a second",
    **{f"distinct_{n}": f"distinct-{n}" for n in (1, 2, 3)},
}


def _of(name: str) -> Callable[[StrategyResult], float | None]:
    return lambda result: getattr(result.measured, name, None)


def _distinct(n: int) -> Callable[[StrategyResult], float | None]:
    return lambda result: result.measured.distinct.get(n) if result.measured else None


METRICS: tuple[Metric, ...] = (
    Metric(
        "tokens_per_s", "tok/s", "tokens by the seconds it took, reading the prompt included",
        lambda result: result.measured.speed.tokens_per_s if result.measured else None, decimals=1,
    ),
    Metric(
        "mean_logprob", "logp",
        "mean log-probability of a token under the model alone, in nats", _of("mean_logprob"),
    ),
    *(
        Metric(f"distinct_{n}", f"d-{n}", f"different {ngrams} by all {ngrams}", _distinct(n))
        for n, ngrams in ((1, "tokens"), (2, "pairs of tokens"), (3, "triples of tokens"))
    ),
    Metric(
        "repetition", "rep-4", "the share of 4 tokens in a row that stood in it before",
        _of("repetition"), better=-1,
    ),
    Metric(
        "longest_copy", "copy",
        "tokens of the longest span that stands in the training text word for word",
        _of("longest_copy"), decimals=0, better=-1,
    ),
)  # fmt: skip
_TEXT_NAMES = ("continuation", "num_new_tokens", "stopped")
_SPEED_NAMES = (
    "seconds", "tokens_per_s", "seconds_to_first_token", "model_calls", "tokens_per_call",
    "draft_acceptance",
)  # fmt: skip


def equal_earlier(results: Sequence[StrategyResult]) -> dict[int, int]:
    """Of each result whose text an earlier one has as well: its index, and the first such one's."""
    first: dict[str, int] = {}
    return {
        i: place
        for i, result in enumerate(results)
        if result.measured is not None
        and (place := first.setdefault(result.measured.continuation, i)) != i
    }


def known_metrics(results: Sequence[StrategyResult]) -> list[Metric]:
    """The metrics that at least one result has."""
    return [one for one in METRICS if any(one.of(result) is not None for result in results)]
