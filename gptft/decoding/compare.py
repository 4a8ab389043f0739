"""One prompt and many strategies -> a row each: the text, how fast, how likely, how varied.

In: names of strategies, a config's own ones, flags for all of them. Out: `Entry`, what is to be
run or why it can't be, then a `Row` each, and rows for a terminal. Where a strategy needs something
that nobody gave, a stand-in is taken that makes sense for any text, and the row says so. Only
`compare` itself loads torch and transformers.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gptft.config.generation_fields import PARAMETERS, read_generation
from gptft.config.suggest import did_you_mean
from gptft.decoding.measures import distinct_n, seq_rep_n
from gptft.decoding.settings import Settings, resolve_settings, shown, with_seed
from gptft.decoding.strategies import (
    STRATEGIES,
    SWITCHES,
    WARPERS,
    Strategy,
    choose_strategy,
    find_strategy,
    listed,
)
from gptft.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch

    from gptft.decoding.engine import Generated
    from gptft.decoding.others import Others
    from gptft.decoding.speed import Speed
    from gptft.decoding.writer import Writer
    from gptft.models.precision import DtypeName

Notify = Callable[[str], None]

_LABEL_WIDTH = 24
TABLE_WIDTH = 100  # columns: in a narrower window each strategy is a block of lines
_SENTENCE = "[^.!?]{1,80}[.!?]"
_CYRILLIC = re.compile("[\u0400-\u04ff]")
_MODELS = tuple(name for name in PARAMETERS if name.endswith("_model"))
_ONE_TEXT = "num_return_sequences"


class CopySearch(Protocol):
    """What finds copies of a training text, such as `novelty.training_text.TrainingText`."""

    def copies(self, token_id_lists: Sequence[Sequence[int]]) -> Sequence[Any]:
        """For each sequence of ids what of it is copied; `longest` is its longest span."""


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


def shared_settings(generation: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config's `generation` goes for every strategy: lengths, words, penalties, the seed.

    Its strategy, and what that one cuts or searches by, is one way among those that are compared.

    >>> shared_settings({"strategy": "nucleus", "top_p": 0.9, "max_new_tokens": 30})
    {'max_new_tokens': 30}
    """
    groups = ("length", "repetition", "tokens")
    return {
        name: value
        for name, value in generation.items()
        if name in PARAMETERS and (name == "seed" or PARAMETERS[name].group in groups)
    }


def default_settings(
    names: Sequence[str] | None,
    *,
    own: Mapping[str, Mapping[str, Any]],
    shared: Mapping[str, Any],
    base_model: str | None,
    prompt: str,
) -> list[Entry]:
    """What to run for each strategy that is to be compared.

    Args:
        names: of strategies, a config's own among them; None for all of ours and then all of the
            config's.
        own: the config's own strategies by name.
        shared: settings for all that take them, by name, such as max_new_tokens and seed. One that
            a strategy has no use for is left out there.
        base_model: what the model was tuned from; None where it wasn't, or that isn't known.
        prompt: the text to go on from, which stand-ins are taken from.

    Returns:
        an entry a name, in order; a name given twice counts once.

    Raises:
        ConfigError: an unknown strategy, or shared settings that are wrong or that none of the
            strategies uses; all of them at once.
    """
    given = _read_shared(shared)
    if names is None:
        names = [*STRATEGIES, *own]
    names = list(dict.fromkeys(names))
    _check_names(names, own)
    entries, used = [], set[str]()
    for name in names:
        values = own.get(name, {"strategy": name})
        strategy = find_strategy(values.get("strategy") or choose_strategy(_read(values)))
        fitting = _fitting(strategy, given, values=values)
        used |= fitting.keys()
        entries.append(
            _entry(name, strategy, {**values, **fitting}, base_model=base_model, prompt=prompt)
        )
    _check_used(given, used=used)
    return entries


def _read(values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in read_generation(values)[0].items() if n not in ("strategy", "seed")}


def _read_shared(shared: Mapping[str, Any]) -> dict[str, Any]:
    """The shared settings in the types they are meant in."""
    given, wrong = read_generation(shared)
    problems = [f"{name} {message}" for name, message in wrong]
    number = given.pop(_ONE_TEXT, 1)
    if number > 1:
        problems.append(
            f"{_ONE_TEXT} is {number}, and a comparison writes one text a strategy. Leave it out."
        )
    if "strategy" in given:
        problems.append(
            f"strategy is {given['strategy']}, and a comparison has several. Leave it out."
        )
    if problems:
        raise ConfigError(*problems)
    return given


def _check_names(names: Sequence[str], own: Mapping[str, Any]) -> None:
    known = [*STRATEGIES, *own]
    problems = []
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"There are {listed(known)}."
            problems.append(f"There is no strategy {name!r} to compare. {hint}")
    if not names:
        problems.append("There is no strategy to compare. Name one or more, or take all.")
    if problems:
        raise ConfigError(*problems)


def _check_used(given: Mapping[str, Any], *, used: set[str]) -> None:
    problems = [
        f"{name} is {shown(value)}, and none of the strategies compared uses it. Leave it out."
        for name, value in given.items()
        if name not in used and name != "seed" and value != PARAMETERS[name].neutral
    ]
    if problems:
        raise ConfigError(*problems)


def _fitting(
    strategy: Strategy, given: Mapping[str, Any], *, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Of shared settings those that change something for a strategy."""
    taken = {n: v for n, v in given.items() if n in strategy.takes or n == "seed"}
    together = {**strategy.values, **_read(values), **taken}

    def is_on(name: str) -> bool:
        return bool(together.get(name) != PARAMETERS[name].neutral)

    def has_effect(name: str) -> bool:
        if name in SWITCHES:
            return is_on(SWITCHES[name])
        draws = strategy.draws == "always" or together.get("do_sample") is True
        return name not in WARPERS or draws or strategy.draws == "never"

    return {name: value for name, value in taken.items() if has_effect(name)}


def _entry(
    label: str,
    strategy: Strategy,
    values: Mapping[str, Any],
    *,
    base_model: str | None,
    prompt: str,
) -> Entry:
    """A strategy with what it needs, or why it can't be had."""
    stand_ins: Mapping[str, Any] = {}
    if strategy.needs and not any(values.get(name) for name in strategy.needs):
        stand_ins = _stand_ins(strategy, base_model=base_model, prompt=prompt)
        if not stand_ins:
            return Entry(label, strategy.name, None, left_out=_wanting(strategy))
    try:
        settings = resolve_settings({**values, **stand_ins, "strategy": strategy.name})
    except ConfigError as error:
        return Entry(label, strategy.name, None, stand_ins, left_out=" ".join(error.problems))
    if _ONE_TEXT in settings.values:
        settings = settings.changed(**{_ONE_TEXT: 1})
    own_prompt = None
    if context := stand_ins.get("context"):
        # Where the whole prompt is the context, it is also what is gone on from.
        own_prompt = prompt.removeprefix(context) if prompt.startswith(context) else prompt
    return Entry(label, strategy.name, settings, stand_ins, own_prompt)


def _stand_ins(strategy: Strategy, *, base_model: str | None, prompt: str) -> dict[str, Any]:
    """What a strategy needs, made for a prompt and a model; nothing where it can't be.

    >>> _stand_ins(STRATEGIES["choices"], base_model=None, prompt="Мороз и солнце?")
    {'choices': [' да', ' нет']}
    >>> _stand_ins(STRATEGIES["context_aware"], base_model=None, prompt="one two three four")
    {'context': 'one two'}
    """
    words = re.findall(r"\w+", prompt)
    needed: dict[str, Any] = {
        "force_words": words[:1],
        "choices": _yes_or_no(prompt),
        "regex": _SENTENCE,
        "context": _first_half(prompt),
        "amateur_model": base_model,
        "antiexpert_model": base_model,
        "assistant_model": base_model,
        "amateur_layers": 1,
    }
    # One is enough; in the table the better one comes first.
    name = next((name for name in strategy.needs if needed.get(name)), None)
    return {} if name is None else {name: needed[name]}


def _yes_or_no(prompt: str) -> list[str]:
    space = "" if not prompt or prompt[-1].isspace() else " "
    return [space + word for word in (("да", "нет") if _CYRILLIC.search(prompt) else ("yes", "no"))]


def _first_half(prompt: str) -> str:
    r"""The first half of a prompt's words; all of it as a line where it has one word.

    >>> _first_half("Мороз и солнце; день чудесный!"), _first_half("Мороз")
    ('Мороз и', 'Мороз\n')
    """
    ends = [match.end() for match in re.finditer(r"\S+", prompt)]
    if not ends:
        return ""
    return prompt[: ends[len(ends) // 2 - 1]] if len(ends) > 1 else f"{prompt}\n"


def _wanting(strategy: Strategy) -> str:
    """Why a strategy is left out that needs what nobody gave."""
    needs = f"It needs {' or '.join(strategy.needs)}"
    if any(name in _MODELS for name in strategy.needs):
        return (
            f"{needs}. The base that a model was tuned from would stand in, and none is known of "
            "this one: name a model."
        )
    return f"{needs}, and the prompt has no word to make a stand-in of: give it."


def compare(
    model_name: str,
    prompt: str,
    entries: Sequence[Entry],
    *,
    dtype: "DtypeName" = "auto",
    use_cpu: bool = False,
    revision: str | None = None,
    window: bool = False,
    training_text: "CopySearch | None" = None,
    notify: Notify = lambda sentence: None,
) -> list[Row]:
    """Have a model go on from a prompt by one strategy after the other.

    The model is loaded once, and so is each other model that settings name. Strategies that draw
    and have no seed share one. Each text is written and timed alone, after the model was called
    once to warm up.

    Args:
        model_name: pico, a model or run folder, or a hub id.
        prompt: one text; an empty one begins with BOS, or EOS.
        entries: see `default_settings`.
        dtype: of the weights.
        use_cpu: leave an accelerator alone.
        revision: branch, tag or commit of a hub model.
        window: let the model forget the beginning of what doesn't fit its context.
        training_text: of the run, to say how much of a text is copied from it.
        notify: told of each strategy before it writes.

    Returns:
        a row an entry, in order; what a strategy fails for is its row's reason.

    Raises:
        ConfigError: there is no entry that can be run, or none wrote a text.
        ModelError: the model can't be found or read.
    """
    _raise_where_none(entries)
    from gptft.decoding.engine import generate, load_writer

    greedy = resolve_settings({"strategy": "greedy", "max_new_tokens": 1})
    writer = load_writer(
        model_name, settings=greedy, dtype=dtype, revision=revision, use_cpu=use_cpu
    )
    generate(writer, [prompt], settings=greedy, window=window)
    others = _OtherModels(writer, dtype=dtype)
    rows = []
    for number, entry in enumerate(_with_one_seed(entries), start=1):
        if entry.settings is not None:
            notify(f"{number}/{len(entries)} {entry.label}")
        rows.append(_row(entry, prompt, others, window=window, training_text=training_text))
    _raise_where_none(rows)
    return rows


def _raise_where_none(found: Sequence[Entry] | Sequence[Row]) -> None:
    """Refuse a comparison of nothing: all that was to be compared is left out."""
    reasons = [one.left_out for one in found]
    if all(reasons):
        raise ConfigError(*dict.fromkeys(reason for reason in reasons if reason))


def _with_one_seed(entries: Sequence[Entry]) -> Iterator[Entry]:
    """The entries, those that draw and have no seed with the same one."""
    seed = with_seed(resolve_settings({"strategy": "temperature"})).seed
    for entry in entries:
        settings = entry.settings
        if settings is not None and settings.do_sample and settings.seed is None:
            yield replace(entry, settings=replace(settings, seed=seed))
        else:
            yield entry


class _OtherModels:
    """Models besides the one that writes, each loaded once."""

    def __init__(self, writer: "Writer", *, dtype: "DtypeName") -> None:
        self._writer, self._dtype = writer, dtype
        self._loaded: dict[str, Others] = {}

    def writer_for(self, settings: Settings) -> "Writer":
        """The writer with all other models that `settings` name.

        Raises:
            ConfigError: one doesn't fit.
            ModelError: one can't be found or read.
        """
        from gptft.decoding.others import Others

        models, tokenizer = {}, None
        for setting in _MODELS:
            if name := settings[setting]:
                models[setting], theirs = self._model(setting, name)
                tokenizer = theirs or tokenizer
        return replace(self._writer, others=Others(models, tokenizer))

    def _model(self, setting: str, name: str) -> tuple[Any, Any]:
        from gptft.decoding.others import load_others

        known = self._loaded.get(name)
        # Only drafts may come from a model with another tokenizer: elsewhere it is refused.
        if known is None or (known.assistant_tokenizer is not None and setting != _DRAFT):
            device: torch.device = self._writer.model.device
            alone = Settings("greedy", {setting: name})
            known = load_others(alone, self._writer.tokenizer, device=device, dtype=self._dtype)
            self._loaded[name] = known
        (model,) = known.models.values()
        return model, known.assistant_tokenizer


_DRAFT = "assistant_model"


def _row(
    entry: Entry,
    prompt: str,
    others: _OtherModels,
    *,
    window: bool,
    training_text: "CopySearch | None",
) -> Row:
    """Run one entry."""
    from gptft.decoding.engine import generate
    from gptft.decoding.speed import SpeedMeter

    if entry.settings is None:
        return Row(entry, prompt, left_out=entry.left_out)
    given = prompt if entry.prompt is None else entry.prompt
    try:
        writer = others.writer_for(entry.settings)
        with SpeedMeter(writer.model) as meter:
            texts = generate(writer, [given], settings=entry.settings, window=window)
        return Row(entry, prompt, _written(writer, texts[0], meter.speed(texts[:1]), training_text))
    except (ConfigError, ModelError) as error:
        return Row(entry, prompt, left_out=" ".join(str(error).split("\n")))


def _written(
    writer: "Writer", text: "Generated", speed: "Speed", training_text: "CopySearch | None"
) -> Written:
    """A text with its measures."""
    from gptft.decoding.scoring import sequence_logprobs

    mean_logprob = longest_copy = None
    if ids := text.new_ids:
        start = len(text.prompt_ids)
        (total,) = sequence_logprobs(writer.model, [[*text.prompt_ids, *ids]], starts=[start])
        mean_logprob = total / len(ids)
    if training_text is not None:
        (copied,) = training_text.copies([ids])
        longest_copy = copied.longest
    return Written(
        continuation=text.continuation,
        num_new_tokens=text.num_new_tokens,
        stopped=text.stopped,
        speed=speed,
        mean_logprob=mean_logprob,
        distinct={n: distinct_n(ids, n=n) for n in (1, 2, 3)},
        repetition=seq_rep_n(ids),
        longest_copy=longest_copy,
    )


def settings_in_words(row: Row) -> str:
    """What of a row's settings makes the strategy or changes something, stand-ins left out.

    The length isn't said: all rows tend to share it.
    """
    settings = row.entry.settings
    if settings is None:
        return ""
    hidden = {"max_new_tokens", _ONE_TEXT, *row.entry.stand_ins}
    own = {name for name in settings.row.own if settings[name] is not None}
    words = [
        f"{name} {_one_line(shown(settings[name]))}"
        for name in settings.values
        if name not in hidden and (settings.is_on(name) or name in own)
    ]
    return ", ".join([*words, *([f"seed {row.seed}"] if row.seed is not None else [])])


def stand_ins_in_words(row: Row) -> str:
    """What a row's strategy needs and got a stand-in for; empty where it got none."""
    said = [f"{name} {_quoted(value)}" for name, value in row.entry.stand_ins.items()]
    return f"stand-in: {', '.join(said)}" if said else ""


def drafts_in_words(row: Row) -> str:
    """How much drafts helped; empty where nothing was drafted.

    Lookahead's guesses aren't counted, its calls are.
    """
    speed = row.written.speed if row.written else None
    if speed is None or (speed.draft_acceptance is None and speed.tokens_per_call <= 1):
        return ""
    said = f"{speed.tokens_per_call:.2f} tokens a call"
    if speed.draft_acceptance is None:
        return said
    return f"{said}, {speed.draft_acceptance:.0%} of drafted tokens kept"


def _quoted(value: Any) -> str:
    """A value with its texts in quotes, so that spaces show."""
    if isinstance(value, list):
        return ", ".join(_quoted(one) for one in value)
    return f'"{_one_line(value)}"' if isinstance(value, str) else str(value)


def comparison_table(rows: Sequence[Row], *, width: int | None) -> RenderableType:
    """Rows for a terminal: a table, or a block of lines a strategy where it is narrow.

    In the table a text is cut to one line; in blocks it is whole.

    Args:
        rows: see `compare`.
        width: of the window, in columns; None off a terminal, for blocks.
    """
    figures = known_figures(rows)
    if width is None or width < TABLE_WIDTH:
        return Text("\n\n").join(_block(row, figures) for row in rows)
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("strategy", no_wrap=True, max_width=_LABEL_WIDTH)
    for name in ("tokens", *(figure.short for figure in figures)):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("text", ratio=1)
    for row in rows:
        numbers = [f"{row.written.num_new_tokens:,}"] if row.written else ["-"]
        numbers += [figure.shown(row) for figure in figures]
        table.add_row(Text(_one_line(row.label)), *numbers, _cell(row))
    below = [
        Text(f"{_one_line(row.label)}: {_one_line(row.left_out)}", style="yellow")
        for row in rows
        if row.left_out
    ]
    legend = "; ".join(f"{figure.short}: {figure.meaning}" for figure in figures)
    return Group(table, *below, Text(f"{legend}.", style="dim"))


def known_figures(rows: Sequence[Row]) -> list[Figure]:
    """The measures that at least one row has."""
    return [figure for figure in FIGURES if any(figure.of(row) is not None for row in rows)]


def _cell(row: Row) -> RenderableType:
    """What a table shows of a row's text: a line of it, and below what it was given."""
    if row.written is None:
        return Text("left out, see below", style="yellow")
    line = " ".join(_one_line(row.written.continuation).split())
    text = Text(line, no_wrap=True, overflow="ellipsis")
    notes = [note for note in (stand_ins_in_words(row), drafts_in_words(row)) if note]
    return Group(text, Text("; ".join(notes), style="dim", overflow="fold")) if notes else text


def _block(row: Row, figures: Sequence[Figure]) -> Text:
    """A row as lines: its name and settings, the whole text, the measures."""
    told = "; ".join(filter(None, [settings_in_words(row), stand_ins_in_words(row)]))
    block = Text.assemble((_one_line(row.label), "bold"), f": {told}" if told else "", "\n")
    written = row.written
    if written is None:
        return block.append(f"left out: {_one_line(row.left_out or '')}", style="yellow")
    numbers = [
        f"{written.num_new_tokens:,} tokens",
        *(f"{one.title} {one.shown(row)}" for one in figures if one.of(row) is not None),
        f"stopped by {written.stopped}",
        drafts_in_words(row),
    ]
    text, ends = without_line_ends(written.continuation)
    block.append(_lines(row.prompt), style="dim").append(_lines(text))
    block.append(f"{ends}\n", style="dim")
    return block.append(", ".join(filter(None, numbers)), style="dim")


def without_line_ends(text: str) -> tuple[str, str]:
    r"""A text without the line ends it closes with, and those as one sign.

    >>> without_line_ends("Мороз\n\n\n"), without_line_ends("Мороз")
    (('Мороз', ' ↵ × 3'), ('Мороз', ''))
    """
    bare = text.rstrip("\n")
    number = len(text) - len(bare)
    return bare, " ↵" * bool(number) + f" × {number}" * (number > 1)


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


def _lines(text: str) -> str:
    """Text in which nothing acts on the terminal but the ends of its lines."""
    return "\n".join(_one_line(line) for line in text.split("\n"))


def _one_line(text: str) -> str:
    r"""Text in one line, in which nothing acts on the terminal or hides.

    >>> print(_one_line("Мороз\nи\x1b[2J"))
    Мороз ↵ и\x1b[2J
    """
    return "".join(
        mark if mark.isprintable() else _SHOWN.get(mark, mark.encode("unicode_escape").decode())
        for mark in text
    )


_SHOWN = {"\n": " ↵ ", "\t": " ", "\xa0": "\xa0"}
