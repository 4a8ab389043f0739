"""A model, one prompt and many strategies -> a text of each: how fast, how likely, how varied.

Only `compare` itself loads torch and transformers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gptft.analysis.compare.diversity import distinct_n, seq_rep_n
from gptft.analysis.compare.results import MeasuredText, StrategyEntry, StrategyResult
from gptft.console import Notify, silent, stage
from gptft.decoding.settings import Settings, resolve_settings, with_seed
from gptft.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from gptft.analysis.training_text import TrainingText
    from gptft.decoding.engine import Generated
    from gptft.decoding.loaded_model import LoadedModel
    from gptft.decoding.speed import Speed
    from gptft.models.precision import DtypeName


def compare(
    model_name: str,
    prompt: str,
    entries: Sequence[StrategyEntry],
    *,
    dtype: "DtypeName" = "auto",
    use_cpu: bool = False,
    revision: str | None = None,
    window: bool = False,
    training_text: "TrainingText | None" = None,
    notify: Notify = silent,
) -> list[StrategyResult]:
    """Continue a prompt by one strategy after the other.

    The model is loaded once, and so is each auxiliary model that settings name. Strategies that
    draw and have no seed share one. Each text is generated and timed alone, after the model was
    called once to warm up.

    Args:
        model_name: pico, a model or run folder, or a hub id.
        prompt: one text; an empty one begins with BOS, or EOS.
        entries: see `comparison_entries`.
        dtype: of the weights.
        use_cpu: run on the CPU even if an accelerator is available.
        revision: branch, tag or commit of a hub model.
        window: slide a window over what doesn't fit the context.
        training_text: of the run, to say how much of a text is copied from it.
        notify: told of each strategy before it runs.

    Returns:
        a result an entry, in order; what a strategy fails for is the reason in its result.

    Raises:
        ConfigError: there is no entry that can be run, or none gave a text.
        ModelError: the model can't be found or read.
    """
    _raise_where_none(entries)
    from gptft.decoding.auxiliary_models import load_auxiliary_models
    from gptft.decoding.engine import generate, load_model

    greedy = resolve_settings({"strategy": "greedy", "max_new_tokens": 1})
    loaded = load_model(
        model_name, settings=greedy, dtype=dtype, revision=revision, use_cpu=use_cpu
    )
    generate(loaded, [prompt], settings=greedy, window=window)
    load_others = partial(
        load_auxiliary_models, tokenizer=loaded.tokenizer, device=loaded.model.device, dtype=dtype,
        loaded={},
    )  # fmt: skip

    def load_for(settings: Settings) -> "LoadedModel":
        return replace(loaded, auxiliary=load_others(settings))

    results = []
    for number, entry in enumerate(_with_one_seed(entries), start=1):
        if entry.settings is not None:
            notify(f"{number}/{len(entries)} {entry.label}")
        results.append(_result(entry, prompt, load_for, window=window, training_text=training_text))
    _raise_where_none(results)
    return results


def _raise_where_none(found: Sequence[StrategyEntry] | Sequence[StrategyResult]) -> None:
    """Refuse a comparison of nothing: all that was to be compared is left out."""
    reasons = [one.left_out for one in found]
    if all(reasons):
        raise ConfigError(*dict.fromkeys(reason for reason in reasons if reason))


def _with_one_seed(entries: Sequence[StrategyEntry]) -> Iterator[StrategyEntry]:
    """The entries, those that draw and have no seed with the same one."""
    seed = with_seed(resolve_settings({"strategy": "temperature"})).seed
    for entry in entries:
        settings = entry.settings
        if settings is not None and settings.do_sample and settings.seed is None:
            yield replace(entry, settings=replace(settings, seed=seed))
        else:
            yield entry


def _result(
    entry: StrategyEntry,
    prompt: str,
    load_for: Callable[[Settings], "LoadedModel"],
    *,
    window: bool,
    training_text: "TrainingText | None",
) -> StrategyResult:
    """Run one entry."""
    from gptft.decoding.engine import generate
    from gptft.decoding.speed import SpeedMeter

    if entry.settings is None:
        return StrategyResult(entry, prompt, left_out=entry.left_out)
    given = prompt if entry.prompt is None else entry.prompt
    try:
        loaded = load_for(entry.settings)
        with stage("Generating"), SpeedMeter(loaded.model) as meter:
            texts = generate(loaded, [given], settings=entry.settings, window=window)
        measured = _measured(loaded, texts[0], meter.speed(texts[:1]), training_text)
        return StrategyResult(entry, prompt, measured)
    except (ConfigError, ModelError) as error:
        return StrategyResult(entry, prompt, left_out=" ".join(str(error).split("\n")))


def _measured(
    loaded: "LoadedModel", text: "Generated", speed: "Speed", training_text: "TrainingText | None"
) -> MeasuredText:
    """A text and what is measured of it."""
    from gptft.decoding.logprobs import sequence_logprobs

    mean_logprob = longest_copy = None
    if ids := text.new_ids:
        everything, kept = [*text.prompt_ids, *ids], loaded.special.num_before(text.prompt_ids)
        starts = [len(text.prompt_ids)]
        (total,) = sequence_logprobs(loaded.model, [everything], starts=starts, kept=kept)
        mean_logprob = total / len(ids)
    if training_text is not None:
        (copied,) = training_text.copies([ids])
        longest_copy = copied.longest
    distinct = {n: distinct_n(ids, n=n) for n in (1, 2, 3)}
    return MeasuredText(
        text.continuation, text.num_new_tokens, text.stopped, speed, mean_logprob, distinct,
        repetition=seq_rep_n(ids), longest_copy=longest_copy,
    )  # fmt: skip
