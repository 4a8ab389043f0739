"""One prompt and many strategies -> a row each: the text, how fast, how likely, how varied.

In: a model's name and entries, see `comparison_entries`. Out: a `Row` each. Only `compare` itself
loads torch and transformers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from gptft.decoding.compare.diversity import distinct_n, seq_rep_n
from gptft.decoding.compare.entries import MODELS
from gptft.decoding.compare.results import Entry, Row, Written
from gptft.decoding.settings import Settings, resolve_settings, with_seed
from gptft.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch

    from gptft.decoding.auxiliary_models import AuxiliaryModels
    from gptft.decoding.engine import Generated
    from gptft.decoding.loaded_model import LoadedModel
    from gptft.decoding.speed import Speed
    from gptft.models.precision import DtypeName


Notify = Callable[[str], None]


class CopySearch(Protocol):
    """What finds copies of a training text, such as `novelty.training_text.TrainingText`."""

    def copies(self, token_id_lists: Sequence[Sequence[int]]) -> Sequence[Any]:
        """For each sequence of ids what of it is copied; `longest` is its longest span."""


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
    from gptft.decoding.engine import generate, load_model

    greedy = resolve_settings({"strategy": "greedy", "max_new_tokens": 1})
    loaded = load_model(
        model_name, settings=greedy, dtype=dtype, revision=revision, use_cpu=use_cpu
    )
    generate(loaded, [prompt], settings=greedy, window=window)
    others = _OtherModels(loaded, dtype=dtype)
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

    def __init__(self, loaded: "LoadedModel", *, dtype: "DtypeName") -> None:
        self._writer, self._dtype = loaded, dtype
        self._loaded: dict[str, AuxiliaryModels] = {}

    def loaded_for(self, settings: Settings) -> "LoadedModel":
        """The writer with all other models that `settings` name.

        Raises:
            ConfigError: one doesn't fit.
            ModelError: one can't be found or read.
        """
        from gptft.decoding.auxiliary_models import AuxiliaryModels

        models, tokenizer = {}, None
        for setting in MODELS:
            if name := settings[setting]:
                models[setting], theirs = self._model(setting, name)
                tokenizer = theirs or tokenizer
        return replace(self._writer, others=AuxiliaryModels(models, tokenizer))

    def _model(self, setting: str, name: str) -> tuple[Any, Any]:
        from gptft.decoding.auxiliary_models import load_auxiliary_models

        known = self._loaded.get(name)
        # Only drafts may come from a model with another tokenizer: elsewhere it is refused.
        if known is None or (known.assistant_tokenizer is not None and setting != _DRAFT):
            device: torch.device = self._writer.model.device
            alone = Settings("greedy", {setting: name})
            known = load_auxiliary_models(
                alone, self._writer.tokenizer, device=device, dtype=self._dtype
            )
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
        loaded = others.loaded_for(entry.settings)
        with SpeedMeter(loaded.model) as meter:
            texts = generate(loaded, [given], settings=entry.settings, window=window)
        return Row(entry, prompt, _written(loaded, texts[0], meter.speed(texts[:1]), training_text))
    except (ConfigError, ModelError) as error:
        return Row(entry, prompt, left_out=" ".join(str(error).split("\n")))


def _written(
    loaded: "LoadedModel", text: "Generated", speed: "Speed", training_text: "CopySearch | None"
) -> Written:
    """A text with its measures."""
    from gptft.decoding.logprobs import sequence_logprobs

    mean_logprob = longest_copy = None
    if ids := text.new_ids:
        start = len(text.prompt_ids)
        (total,) = sequence_logprobs(loaded.model, [[*text.prompt_ids, *ids]], starts=[start])
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
