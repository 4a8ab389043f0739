"""Several runs -> what differs in their settings, and which did best on what can be compared."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.inputs import is_folder
from gptft.runs.find import find_runs
from gptft.runs.held_out import lowest
from gptft.runs.read import Point, as_float, as_int, as_mapping
from gptft.runs.settings import PLACES, default_settings, settings_of
from gptft.runs.show import ShownRun, held_out_points, require_run, show_run
from gptft.terminal.words import short_value

_MARKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MACHINE = ("device", "dtype", "threads", "world_size", "num_parameters", "gptft")
_TEXT_COUNTS = (
    "documents", "bytes", "characters", "validation_documents", "empty_documents"
)  # fmt: skip
UNKNOWN = "-"

DIFFERENT_TOKENIZERS = (
    "Their tokenizers differ: a token of one holds more text than one of another, so losses and "
    "perplexities don't compare. Bits a byte do."
)
ESTIMATED = (
    "Of runs that didn't record their bits a byte, these are estimated by the tokens a byte of all "
    "their texts."
)
DIFFERENT_TEXTS = (
    "Their texts differ, and so does what is held out: a lower loss may be of an easier text. Only "
    "how far each fell compares."
)


@dataclass(frozen=True)
class ComparedRun(JsonFields):
    """One of the runs that are compared.

    Attributes:
        mark: a letter that stands for it in charts.
        name: its folder's, as short as tells it from the others.
        shown: all that is known of it.
    """

    mark: str
    name: str
    shown: ShownRun

    json_names = (
        "path", "mark", "name", "state", "reason", "step", "training_loss", "held_out_before",
        "held_out_loss", "perplexity", "lowest_loss", "lowest_step", "bits_per_byte",
        "is_estimated", "general_russian", "general_english", "seconds",
    )  # fmt: skip

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.shown.status.path

    @property
    def state(self) -> str:
        """How it stands."""
        return self.shown.status.state

    @property
    def reason(self) -> str | None:
        """Why it isn't done."""
        return self.shown.status.reason

    @property
    def step(self) -> int | None:
        """Optimizer updates so far."""
        return self.shown.status.step

    @property
    def training_loss(self) -> float | None:
        """On the training text after training, else the last logged."""
        train = self.shown.train
        after = None if train is None else train.loss_after
        return self.shown.status.loss if after is None else after

    @property
    def held_out_before(self) -> float | None:
        """Held-out loss before training."""
        curve = self.held_out
        return curve[0][1] if curve and curve[0][0] == 0 else None

    @property
    def held_out_loss(self) -> float | None:
        """Of the model kept, else the last logged, in nats a token."""
        return self.shown.status.held_out_loss

    @property
    def perplexity(self) -> float | None:
        """The exponential of the held-out loss."""
        loss = self.held_out_loss
        if loss is None:
            return None
        return math.exp(loss) if loss < 700 else math.inf

    @property
    def lowest_loss(self) -> float | None:
        """The lowest held-out loss there was."""
        return None if (point := lowest(self.held_out)) is None else point[1]

    @property
    def lowest_step(self) -> int | None:
        """Where that was."""
        return None if (point := lowest(self.held_out)) is None else point[0]

    @property
    def bits_per_byte(self) -> float | None:
        """Of held-out text; None where it wasn't measured and can't be estimated."""
        held_out = self.shown.validation
        recorded = None if held_out is None else held_out.bits_per_byte_after
        return self._estimated_bits if recorded is None else recorded

    @property
    def is_estimated(self) -> bool:
        """Whether `bits_per_byte` is the held-out loss by the tokens a byte of all texts."""
        held_out = self.shown.validation
        recorded = None if held_out is None else held_out.bits_per_byte_after
        return recorded is None and self._estimated_bits is not None

    @property
    def _estimated_bits(self) -> float | None:
        ledger = as_mapping(as_mapping(self.shown.run.facts.get("data")).get("ledger"))
        counts = [as_int(ledger.get(name)) for name in ("tokens", "num_eos", "bytes")]
        if self.held_out_loss is None or None in counts or not counts[2]:
            return None
        tokens, num_eos, num_bytes = (count or 0 for count in counts)
        return self.held_out_loss / math.log(2) * (tokens + num_eos) / num_bytes

    @property
    def general_russian(self) -> float | None:
        """Bits a byte of the Russian text that comes with gptft, after training."""
        return self._general("ru")

    @property
    def general_english(self) -> float | None:
        """The same of the English one."""
        return self._general("en")

    def _general(self, language: str) -> float | None:
        measured = self.shown.run.general.get(language)
        return None if measured is None else measured.bits_per_byte_after

    @property
    def seconds(self) -> float | None:
        """That training took."""
        return as_float(self.shown.run.result.get("seconds"))

    @cached_property
    def held_out(self) -> list[Point]:
        """Held-out loss by step."""
        return held_out_points(self.shown.run)

    @cached_property
    def training(self) -> list[Point]:
        """Training loss by step, as it was logged."""
        return self.shown.run.curve("loss")


@dataclass(frozen=True)
class RunComparison(JsonFields):
    """Runs side by side.

    Attributes:
        runs: in the order they were named.
        settings: those that differ, by name: a value for each run, `-` where it isn't known.
        remarks: sentences on what doesn't compare.
        best: by the name of a figure, the places of the runs where it is lowest; only figures that
            compare are in it.
    """

    runs: tuple[ComparedRun, ...]
    settings: Mapping[str, tuple[str, ...]]
    remarks: tuple[str, ...]
    best: Mapping[str, tuple[int, ...]]

    json_names = ("runs", "settings", "remarks", "best", "samples")

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Every prompt that several runs continued, each with its last continuation by them."""
        texts: dict[str, dict[int, str]] = {}
        for place, one in enumerate(self.runs):
            for sample in one.shown.run.samples:
                texts.setdefault(sample.prompt, {})[place] = sample.after
        return [
            {"prompt": prompt, "continuations": [by.get(n) for n in range(len(self.runs))]}
            for prompt, by in texts.items()
            if len(by) > 1
        ]


def compare_runs(folders: Sequence[Path]) -> RunComparison:
    """Compare runs, finished or not.

    Args:
        folders: runs, or folders of runs, which stand for all below them.

    Raises:
        ConfigError: fewer than two runs, one named twice, or a folder without any; all at once.
    """
    paths = _runs_named(folders)
    names = _short_names(paths)
    marks = _MARKS if len(paths) <= len(_MARKS) else "•" * len(paths)
    runs = tuple(
        ComparedRun(mark, name, show_run(path))
        for mark, name, path in zip(marks, names, paths, strict=False)
    )
    are_same_tokens, are_same_texts = _agree(runs, _tokenizer), _agree(runs, _texts)
    remarks = []
    if not are_same_tokens:
        remarks.append(DIFFERENT_TOKENIZERS)
        if any(one.is_estimated for one in runs):
            remarks.append(ESTIMATED)
    if not are_same_texts:
        remarks.append(DIFFERENT_TEXTS)
    figures = ["general_russian", "general_english"]  # of the same text for all
    figures += ["bits_per_byte"] if are_same_texts else []
    if are_same_texts and are_same_tokens:
        figures += ["held_out_loss", "perplexity", "lowest_loss", "training_loss"]
    lowest_at = {name: _lowest_places([getattr(one, name) for one in runs]) for name in figures}
    best = {name: places for name, places in lowest_at.items() if places}
    return RunComparison(runs, _differing(runs), tuple(remarks), best)


def _runs_named(folders: Sequence[Path]) -> list[Path]:
    paths: list[Path] = []
    problems: list[str] = []
    for folder in folders:
        try:
            below = find_runs(folder)[0] if is_folder(folder) else []
            if folder in below or not below:
                require_run(folder)
                below = [folder]
            paths += sorted(below)
        except ConfigError as error:
            problems += error.problems
    seen: dict[str, Path] = {}
    for path in paths:
        if (first := seen.setdefault(str(path.resolve()), path)) is not path:
            problems.append(f"{path} is the run {first} again. Name each run once.")
    if not problems and len(paths) < 2:
        named = f"{paths[0]} is the only run." if paths else "No run is named."
        problems.append(f"{named} Name two or more, or a folder that holds them.")
    if problems:
        raise ConfigError(*problems)
    return paths


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell all of them apart.

    >>> _short_names([Path("runs/a/x"), Path("runs/b/x")]), _short_names([Path("a"), Path("r/b")])
    (['a/x', 'b/x'], ['a', 'b'])
    """
    parts = [path.absolute().parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-depth:]).replace("//", "/") for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _tokenizer(one: ComparedRun) -> Any:
    return as_mapping(one.shown.run.facts.get("fingerprint")).get("tokenizer")


def _texts(one: ComparedRun) -> Any:
    """What tells the texts of a run, and what of them is held out, whatever the tokenizer."""
    ledger = as_mapping(as_mapping(one.shown.run.facts.get("data")).get("ledger"))
    if not ledger:
        return None
    data = one.shown.run.section("data")
    held = [str(data.get(name)) for name in ("validation", "seed")]
    return (*(ledger.get(name) for name in _TEXT_COUNTS), *held)


def _agree(runs: Iterable[ComparedRun], key: Any) -> bool:
    """Whether all runs that say it say the same."""
    return len({value for one in runs if (value := key(one)) is not None}) <= 1


def _lowest_places(values: Sequence[float | None]) -> tuple[int, ...]:
    """Where the least of the finite values is; nowhere where fewer than two are known."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if len(finite) < 2:
        return ()
    return tuple(place for place, value in enumerate(values) if value == min(finite))


def _differing(runs: Sequence[ComparedRun]) -> dict[str, tuple[str, ...]]:
    known = [_known_settings(one) for one in runs]
    names = dict.fromkeys(name for settings in known for name in settings)
    rows = {name: tuple(settings.get(name, UNKNOWN) for settings in known) for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _known_settings(one: ComparedRun) -> dict[str, str]:
    """A run's settings with the defaults that it ran with, and what it ran on."""
    facts = one.shown.run.facts
    if not facts.get("config"):
        return {}
    fingerprint = as_mapping(facts.get("fingerprint"))
    used = {name: value for name, value in fingerprint.items() if name.startswith("training.")}
    machine = {name: facts[name] for name in _MACHINE if name in facts}
    versions = {f"versions.{k}": v for k, v in as_mapping(facts.get("versions")).items()}
    values = {**default_settings(), **used, **settings_of(facts), **machine, **versions}
    return {
        name: short_value(value)
        for name, value in values.items()
        if name not in PLACES and value not in (None, [], {})
    }
