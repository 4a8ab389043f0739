"""What each file of `strategies` declares: a `Method` of settings, processors and strategies."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gptft.config.settings import Setting
from gptft.decoding.known_model import KnownModel, ModelIds

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Changes the next token's logits, shape (B, V), after ids of shape (B, T).
Process = Callable[[Any, Any], "Tensor"]
# What a setting is about: a panel of `--help-all`.
Group = Literal[
    "", "length", "choice", "search", "sampling", "repetition", "tokens", "other models", "speed",
    "watermark",
]  # fmt: skip

# Groups of settings, written among the names that a strategy takes.
CUTS = "<cuts>"  # what bends or cuts a distribution before a draw, whichever strategy draws
ALWAYS = "<always>"  # lengths, repetition and tokens: for every strategy
SAMPLING = (CUTS, ALWAYS, "num_return_sequences")
ASKED_SAMPLING = ("do_sample", *SAMPLING)
DRAFTED = (CUTS, "do_sample", ALWAYS)
ALWAYS_GROUPS = ("length", "repetition", "tokens")

ONE_TOKEN_AT_A_TIME = "beams, guidance and mirostat: a draft that is rejected would stay in memory"

# Where in the order of processors one stands; add to it to place several in a stage.
BAN = 50  # first: what is plausible is seen among what is allowed, and so never all of it banned
OTHER_MODEL = 100  # compares distributions, of which nothing but bans may have changed anything yet
BIAS = 200
PENALTY = 300
FORM = 500  # length and form; from TEMPERATURE up to MARK only where tokens are drawn
TEMPERATURE = 600
CUT = 700
STEER = 800  # remembers what was drawn: nothing may change probabilities after it
MARK = 900


class Values(Protocol):
    """What a method reads of the settings in force."""

    @property
    def strategy(self) -> str:
        """The strategy's name."""

    @property
    def do_sample(self) -> bool:
        """Whether tokens are drawn."""

    def __getitem__(self, name: str, /) -> Any:
        """A setting by name, neutral where the strategy doesn't take it."""

    def is_on(self, name: str, /) -> bool:
        """Whether a setting changes anything."""

    def named(self, *names: str) -> dict[str, Any]:
        """Some settings by name, to hand them on as arguments."""


@dataclass(frozen=True)
class BatchContext(ModelIds):
    """What processors and loops are made for.

    Attributes:
        model: the one whose logits they change.
        tokenizer: its tokenizer.
        eos: the ids that end a text.
        input_ids: prompts of shape (B, T), left-padded.
        attention_mask: 1 for their tokens, shape (B, T).
        auxiliary_models: the models that settings name, by setting.
        rows: rows a prompt, beams or texts.
        unknown_ids: ids that the tokenizer has no token for.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    eos: tuple[int, ...]
    input_ids: "Tensor"
    attention_mask: "Tensor"
    auxiliary_models: Mapping[str, "PreTrainedModel"] = field(default_factory=dict)
    rows: int = 1
    unknown_ids: Collection[int] = ()

    @property
    def vocab_size(self) -> int:
        """The ids the model has logits for."""
        from gptft.decoding.special_tokens import num_logits

        return num_logits(self.model)

    @property
    def prompt_length(self) -> int:
        """T, padding included."""
        return int(self.input_ids.shape[1])

    @property
    def device(self) -> str:
        """Where the ids are."""
        return str(self.input_ids.device)

    def encode(self, text: str) -> list[int]:
        """The ids of a text as it is, with nothing before or after it."""
        from gptft.decoding.encoding import encode_bare

        return encode_bare(self.tokenizer, text)

    def min_kept(self, settings: Values) -> int:
        """Tokens that a cut must leave: with beams one besides every EOS, or a beam would end."""
        return max(len(self.eos), 1) + 1 if settings["num_beams"] > 1 else 1


Build = Callable[[Values, BatchContext], Process]


@dataclass(frozen=True)
class Processor:
    """What changes the logits while its setting is on.

    Attributes:
        name: of the setting, or what `predict` and `--why` call it.
        order: where it stands: a stage and a step in it.
        build: makes it for a batch.
        settings: those that count only while it is on.
        when: whether it is on, where that isn't the setting's to say.
        sees_padding: looks at the prompts' ids and would take padding for text.
        needs_eos: does nothing for a model without EOS.
        draws: takes random numbers.
    """

    name: str
    order: int
    build: Build
    settings: tuple[str, ...] = ()
    when: Callable[[Values], bool] | None = None
    sees_padding: bool = False
    needs_eos: bool = False
    draws: bool = False

    def is_on(self, settings: Values) -> bool:
        """Whether it changes anything under these settings."""
        if TEMPERATURE <= self.order < MARK and not settings.do_sample:
            return False
        return self.when(settings) if self.when else settings.is_on(self.name)

    def place(self, *, temperature_last: bool) -> tuple[int, int]:
        """Where it stands; what bends the distribution may come behind all cuts."""
        is_moved = temperature_last and TEMPERATURE <= self.order < CUT
        return (STEER - 1 if is_moved else self.order, self.order)

    @property
    def is_cut(self) -> bool:
        """Whether its settings are among `CUTS`."""
        return TEMPERATURE <= self.order < STEER


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """A named way to decode.

    Attributes:
        name: what a config and the command line call it.
        description: what it does, in one sentence.
        source: where it was described.
        takes: the settings it uses, by name or by group; the registry puts names for groups.
        defaults: its own, where they aren't the neutral ones.
        needs: settings of which at least one must be given.
        draws: whether it draws tokens, and so needs a seed: always, never, or with do_sample.
        asked_by: settings each of which asks for it where no strategy is named; of several
            strategies asked for, the last in the table is taken.
        when_drawing: the strategy in its place where its settings alone are given with others that
            only draws use.
        processors: those that are there with it alone.
        loop: makes the callable that runs in place of transformers' own loop.
        streams: whether tokens come one by one where there is a loop.
        generation: the fields of GenerationConfig that it sets.
        draft: the model that drafts for it; `generate` is told how by the draft's own config.
        draft_fields: what of GenerationConfig that one is told.
        pick: which of the texts drawn are returned.
        single: why it takes one prompt at a time; empty where prompts share a batch.
        conflicts: what it can't be combined with, in words.
        by_beginning: depends on the beginning of the text, which a sliding window forgets.
        check: what is wrong with settings that are each in range, a message each.
        stand_ins: of a prompt and the base model's name, what it needs for a comparison.
        settings: filled in by the registry, every setting it takes by name.
        own: filled in by the registry, the settings that make it what it is.
    """

    name: str
    description: str
    source: str
    takes: tuple[str, ...]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    draws: Literal["never", "always", "asked"] = "never"
    asked_by: tuple[str, ...] = ()
    when_drawing: str | None = None
    processors: tuple[Processor, ...] = ()
    loop: Callable[[Values, BatchContext, Any], Callable[..., Any]] | None = None
    streams: bool = False
    generation: Callable[[Values], dict[str, Any]] = lambda settings: {}
    draft: "Callable[[Values, BatchContext], PreTrainedModel] | None" = None
    draft_fields: Callable[[Values], dict[str, Any]] = lambda settings: {}
    pick: Literal["all", "best_of_n", "self_consistency", "mbr"] = "all"
    single: str = ""
    conflicts: str = ""
    by_beginning: bool = False
    check: Callable[[Values], Iterator[str]] = lambda settings: iter(())
    stand_ins: Callable[[str, str | None], dict[str, Any]] = lambda prompt, base_model: {}
    settings: Mapping[str, Setting] = field(default_factory=dict)
    own: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """What is in force where nothing is given, by name."""
        return {n: self.defaults.get(n, row.neutral) for n, row in self.settings.items()}

    @property
    def beams(self) -> bool:
        """Whether it keeps several texts at once."""
        return "num_beams" in self.takes

    def to_dict(self) -> dict[str, Any]:
        """The row with its settings in full, by name."""
        return {
            "name": self.name,
            "description": self.description,
            "source": self.source,
            "draws": self.draws,
            "needs": list(self.needs),
            "conflicts": self.conflicts,
            "settings": [
                {
                    "name": name,
                    "type": row.kind.name,
                    "range": row.range,
                    "default": self.values[name],
                    "description": row.description,
                }
                for name, row in self.settings.items()
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Method:
    """One file's entry in the registry.

    Attributes:
        group: what those settings are about that don't say it themselves; "" where there are none.
        settings: those that it declares; others may be taken by its strategies as well.
        processors: of settings that several strategies take.
        strategies: named after it, in the order in which they are listed.
        check: what is wrong with its settings together, a message each, whatever the strategy.
        check_model: what a model that isn't loaded yet can't have of its settings, a message each.
    """

    group: Group = ""
    settings: tuple[Setting, ...] = ()
    processors: tuple[Processor, ...] = ()
    strategies: tuple[Strategy, ...] = ()
    check: Callable[[Values], Iterator[str]] = lambda settings: iter(())
    check_model: Callable[[Values, KnownModel], Iterator[str]] = lambda settings, model: iter(())


def sampling(
    name: str, description: str, source: str, *, is_asked: bool = True, **defaults: Any
) -> Strategy:
    """A strategy that draws from a distribution which settings have cut or bent.

    The first of its defaults asks for it where no strategy is named, unless told otherwise.
    """
    return Strategy(
        name=name,
        description=description,
        source=source,
        takes=(*defaults, *SAMPLING),
        defaults=defaults,
        draws="always",
        asked_by=tuple(defaults)[:1] if is_asked else (),
    )


def cut(logits: "Tensor", keeps: "Tensor", *, at_least: int = 1) -> "Tensor":
    """Remove what isn't kept from logits (B, V), except for the `at_least` likeliest tokens."""
    likeliest = logits.topk(min(at_least, logits.shape[-1]), -1).indices
    return logits.masked_fill(~keeps.scatter(-1, likeliest, True), float("-inf"))


def stock_processors() -> Any:
    """The module of transformers' own processors, loaded when one is made."""
    from transformers.generation import logits_process

    return logits_process


def cut_by(
    keeps: "Callable[..., Tensor]", *, min_tokens_to_keep: int = 1, **settings: Any
) -> Process:
    """A processor that removes what `keeps`, called with float32 logits (B, V), doesn't keep."""

    def process(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        logits = scores.float()
        return cut(logits, keeps(logits, **settings), at_least=min_tokens_to_keep)

    return process


def bend_by(bend: "Callable[..., Tensor]", **settings: Any) -> Process:
    """A processor that returns what `bend` makes of float32 logits (B, V)."""
    return lambda input_ids, scores: bend(scores.float(), **settings)


class LastStep:
    """The log-probabilities of the step before, to tell how likely the token drawn was."""

    def __init__(self) -> None:
        self._before: tuple[Tensor, Tensor] | None = None

    def drawn(self, input_ids: "Tensor") -> "Tensor | None":
        """The log-probability of the last token of each row, shape (B, 1).

        Returns:
            None where ids (B, T) aren't those of the step before and one more a row: a new text.
        """
        if self._before is None or not self._before[0].equal(input_ids[:, :-1]):
            return None
        return self._before[1].gather(-1, input_ids[:, -1:])

    def remember(self, input_ids: "Tensor", log_probs: "Tensor") -> None:
        """Keep the log-probabilities (B, V) of the tokens that may follow ids (B, T)."""
        self._before = (input_ids.clone(), log_probs)
