"""A run folder -> its facts, metrics and samples; what was not recorded is None or empty."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gptft.data.ledger import Ledger
from gptft.errors import RunError
from gptft.files import JsonFields, read_json_lines, read_json_value
from gptft.inputs import is_file

Point = tuple[int, float]  # a step and what was logged there
_Log = tuple[list[dict[str, Any]], list[str]]  # rows, and the lines that hold none

_LOGS = ("metrics.jsonl", "samples.jsonl")

# The counts of a ledger that its sums are made of.
_ACCOUNT = (
    "documents", "tokens", "num_eos", "block_size", "num_blocks", "tail_tokens", "dropped_tokens",
    "validation_documents", "validation_blocks", "validation_tail_tokens",
    "validation_dropped_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class BeforeAfter:
    """How well a text was predicted before and after training; None is what wasn't recorded.

    Attributes:
        loss_before: mean negative log-likelihood a predicted token, in nats.
        loss_after: the same, after training.
        perplexity_before: exp(loss_before).
        perplexity_after: exp(loss_after).
        num_tokens: tokens predicted.
        bits_per_byte_before: bits a byte of the text that is predicted.
        bits_per_byte_after: the same, after training.
        num_bytes: bytes of UTF-8 that the predicted tokens stand for.
    """

    loss_before: float | None
    loss_after: float | None
    perplexity_before: float | None
    perplexity_after: float | None
    num_tokens: int | None
    bits_per_byte_before: float | None = None
    bits_per_byte_after: float | None = None
    num_bytes: int | None = None


@dataclass(frozen=True)
class SampleRound:
    """All prompts continued at one step: pairs of a prompt and its continuation."""

    step: int
    texts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Sample(JsonFields):
    """One prompt as it was continued again and again: pairs of a step and a continuation."""

    prompt: str
    texts: tuple[tuple[int, str], ...]

    json_names = ("prompt", "before", "after")

    @property
    def before(self) -> str:
        """The first continuation."""
        return self.texts[0][1]

    @property
    def after(self) -> str:
        """The last continuation."""
        return self.texts[-1][1]


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        path: the folder.
        name: the folder's own name.
        facts: run.json as it is.
        metrics: the rows of metrics.jsonl, in their order.
        rounds: the samples, one round a step, steps ascending.
        unreadable: lines left out because they hold no JSON object, as `metrics.jsonl:17`.
    """

    path: Path
    name: str
    facts: Mapping[str, Any]
    metrics: tuple[Mapping[str, Any], ...]
    rounds: tuple[SampleRound, ...]
    unreadable: tuple[str, ...]

    @property
    def is_finished(self) -> bool:
        """Whether training came to its end."""
        return self.facts.get("state") == "done"

    @property
    def result(self) -> Mapping[str, Any]:
        """What was measured at the end; empty for a run that isn't finished."""
        return as_mapping(self.facts.get("result"))

    @property
    def steps(self) -> int | None:
        """Optimizer updates, or the last step logged for a run that isn't finished."""
        logged = [step for row in self.metrics if (step := as_int(row.get("step"))) is not None]
        return as_int(self.result.get("steps")) or (logged[-1] if logged else None)

    @property
    def model_step(self) -> int | None:
        """The step whose model was kept; None where that wasn't recorded."""
        if (step := as_int(self.result.get("model_step"))) is not None:
            return step
        return None if self.section("training").get("load_best_model_at_end") else self.steps

    @property
    def train(self) -> BeforeAfter | None:
        """The figures of the training text."""
        return _before_after(self.result.get("train"))

    @property
    def validation(self) -> BeforeAfter | None:
        """The figures of the held-out text."""
        return _before_after(self.result.get("validation"))

    @property
    def general(self) -> dict[str, BeforeAfter]:
        """The figures of the general texts, by language."""
        found = as_mapping(self.result.get("general"))
        read = {str(name): _before_after(figures) for name, figures in found.items()}
        return {name: figures for name, figures in read.items() if figures}

    @property
    def store(self) -> str | None:
        """The hash that names the block store."""
        store = as_mapping(self.facts.get("data")).get("store")
        return store if isinstance(store, str) else None

    @property
    def ledger(self) -> Ledger | None:
        """The account of the corpus, if run.json holds all that it is made of.

        A count that another version of gptft didn't keep, and that no sum needs, is 0.
        """
        kept = as_mapping(as_mapping(self.facts.get("data")).get("ledger"))
        if any(as_int(kept.get(name)) is None for name in _ACCOUNT) or not kept["tokens"]:
            return None
        counts: dict[str, Any] = {name: as_int(kept.get(name)) or 0 for name in Ledger.counts()}
        tail: Literal["keep", "drop"] = "drop" if kept.get("tail") == "drop" else "keep"
        packing = "best_fit" if kept.get("packing") == "best_fit" else "stream"
        return Ledger(**counts, tail=tail, packing=packing)

    @property
    def samples(self) -> list[Sample]:
        """The prompts in their order, each with all its continuations; one given twice is two."""
        found: dict[tuple[str, int], list[tuple[int, str]]] = {}
        for round_ in self.rounds:
            times: Counter[str] = Counter()
            for prompt, text in round_.texts:
                found.setdefault((prompt, times[prompt]), []).append((round_.step, text))
                times[prompt] += 1
        return [Sample(prompt, tuple(texts)) for (prompt, _), texts in found.items()]

    def sample_step(self, step: int) -> int:
        """The step of the model that wrote a round of samples: for the last round, the one kept."""
        kept = self.model_step if self.is_finished and step == self.steps else None
        return step if kept is None else kept

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the config as resolved; an absent one is empty."""
        return as_mapping(as_mapping(self.facts["config"]).get(name))

    def curve(self, key: str) -> list[Point]:
        """What was logged under `key`; see `curve_of`."""
        return curve_of(self.metrics, key)


def read_run(run_dir: Path) -> Run:
    """Read a run folder.

    Raises:
        RunError: it isn't one, or can't be read.
    """
    facts = require_facts(run_dir)
    if not isinstance(facts.get("config"), dict):
        raise RunError(f"{run_dir / 'run.json'} is not gptft's: it holds no config of a run.")
    metrics, samples = (_read_log(run_dir / name) for name in _LOGS)
    return _made_of(run_dir, facts, metrics, samples)


def look_at_run(run_dir: Path) -> tuple[Run, list[str]]:
    """Read what can be read of a run folder, whatever is damaged in it.

    Returns:
        the run, whose facts hold no config but an empty one where run.json can't be read; and a
        sentence for each log that can't be.
    """
    try:
        facts = read_facts(run_dir) or {}
    except RunError:
        facts = {}
    logs: list[_Log] = []
    problems: list[str] = []
    for name in _LOGS:
        try:
            logs.append(_read_log(run_dir / name))
        except RunError as error:
            logs.append(([], []))
            problems.append(str(error))
    config = dict(as_mapping(facts.get("config")))
    metrics, samples = logs
    return _made_of(run_dir, {**facts, "config": config}, metrics, samples), problems


def _made_of(run_dir: Path, facts: dict[str, Any], metrics: _Log, samples: _Log) -> Run:
    return Run(
        path=run_dir,
        name=Path(os.path.realpath(run_dir)).name.encode("utf-8", "replace").decode("utf-8")
        or "run",
        facts=facts,
        metrics=tuple(metrics[0]),
        rounds=_all_rounds(facts, samples[0]),
        unreadable=(*metrics[1], *samples[1]),
    )


def curve_of(rows: Iterable[Mapping[str, Any]], key: str) -> list[Point]:
    """What rows of a log have under `key`, by ascending step; NaN where that is not a number.

    Where the log goes back, as after resuming from a checkpoint, the later rows count.
    """
    points: list[Point] = []
    for row in rows:
        step = as_int(row.get("step"))
        if step is None or step < 0 or key not in row:
            continue
        while points and points[-1][0] >= step:
            points.pop()
        value = as_float(row[key])
        points.append((step, math.nan if value is None else value))
    return points


def read_facts(run_dir: Path) -> dict[str, Any] | None:
    """What run.json says; None where there is none.

    Raises:
        RunError: it can't be read.
    """
    path = run_dir / "run.json"
    if not is_file(path):
        return None
    try:
        facts = read_json_value(path)
    except OSError as error:
        raise RunError(f"{path} is not readable: {error.strerror}.") from None
    except ValueError as error:
        raise RunError(str(error)) from None
    if not isinstance(facts, dict):
        raise RunError(f"{path} is not gptft's: it holds no run.")
    return facts


def require_facts(run_dir: Path) -> dict[str, Any]:
    """What run.json says.

    Raises:
        RunError: there is none, or it can't be read.
    """
    if (facts := read_facts(run_dir)) is None:
        raise RunError(
            f"{run_dir} is not a run of gptft: there is no run.json in it. "
            "Give the folder that `gptft train` wrote."
        )
    return facts


def as_mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def is_older_than_bos(facts: Mapping[str, Any]) -> bool:
    """Whether a run.json knows no `data.add_bos`: documents began without BOS then."""
    return "add_bos" not in as_mapping(as_mapping(facts.get("config")).get("data"))


def as_int(value: Any) -> int | None:
    """`value` if it is a whole number that fits 64 bits, else None.

    >>> as_int(3), as_int(3.0), as_int(True), as_int("3")
    (3, 3, None, None)
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and abs(value) < 2**63 else None


def as_float(value: Any) -> float | None:
    """`value` if it is a number, NaN and infinity included, else None.

    >>> as_float(3), as_float(10**400), as_float(None)
    (3.0, inf, None)
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _read_log(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    try:
        return read_json_lines(path)
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror}.") from None


def _before_after(value: Any) -> BeforeAfter | None:
    figures = as_mapping(value)
    losses = {
        name: as_float(figures.get(name))
        for name in ("loss_before", "loss_after", "perplexity_before", "perplexity_after")
    }
    if all(loss is None for loss in losses.values()):
        return None
    return BeforeAfter(
        **losses,
        num_tokens=as_int(figures.get("num_tokens")),
        bits_per_byte_before=as_float(figures.get("bits_per_byte_before")),
        bits_per_byte_after=as_float(figures.get("bits_per_byte_after")),
        num_bytes=as_int(figures.get("num_bytes")),
    )


def _rounds(
    rows: Iterable[Mapping[str, Any]], *, prompts: Sequence[Any]
) -> tuple[SampleRound, ...]:
    """Sample rows by step; where steps go back or a step comes again, the later rows count.

    Args:
        rows: of samples.jsonl.
        prompts: of the config; only one that is there twice is expected twice a step.
    """
    rounds: list[tuple[int, list[tuple[str, str]]]] = []
    for row in rows:
        step, prompt, text = as_int(row.get("step")), row.get("prompt"), row.get("continuation")
        if step is None or not isinstance(prompt, str) or not isinstance(text, str):
            continue
        seen = [known for known, _ in rounds[-1][1]] if rounds else []
        again = seen.count(prompt) >= max(prompts.count(prompt), 1)
        if not rounds or rounds[-1][0] != step or again:
            while rounds and rounds[-1][0] >= step:
                rounds.pop()
            rounds.append((step, []))
        rounds[-1][1].append((prompt, text))
    return tuple(SampleRound(step, tuple(texts)) for step, texts in rounds)


def _all_rounds(
    facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> tuple[SampleRound, ...]:
    """The rounds of samples.jsonl; where it is gone, those before and after, from run.json."""
    prompts = as_mapping(facts["config"].get("samples")).get("prompts")
    prompts = prompts if isinstance(prompts, list) else []
    result = as_mapping(facts.get("result"))
    kept, last = result.get("samples"), as_int(result.get("steps")) or 0
    ends = [as_mapping(sample) for sample in kept] if isinstance(kept, list) else []
    before_after = [
        {"step": step, "prompt": sample.get("prompt"), "continuation": sample.get(when)}
        for step, when in ((0, "before"), (last, "after"))
        for sample in ends
    ]
    return _rounds(rows or before_after, prompts=prompts)
