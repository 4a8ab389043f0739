"""A batch of prompts as ids -> new ids: one call of `generate`.

The GenerationConfig is set in full here: what a model's own says is never mixed in. Logits are
changed by our list of processors alone, and loops that transformers doesn't have are ours.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from gptft.decoding.early_exit import first_layers
from gptft.decoding.encoding import encode_bare
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.logprobs import check_logits
from gptft.decoding.loops.constrained_beams import constrained_beam_search
from gptft.decoding.loops.contrastive import contrastive_search
from gptft.decoding.loops.diverse_beams import diverse_beam_search
from gptft.decoding.loops.dola import dola_decoding
from gptft.decoding.loops.lookahead import lookahead_decoding
from gptft.decoding.loops.stochastic_beams import stochastic_beam_search
from gptft.decoding.processors import BatchContext, named_processors
from gptft.decoding.settings import Settings
from gptft.decoding.special_tokens import SpecialTokens
from gptft.decoding.stopping import StopTexts
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of


def batch_context(
    loaded: LoadedModel, encoded: Sequence[Sequence[int]], *, rows: int
) -> BatchContext:
    """A batch of prompts as processors see it."""
    input_ids, attention_mask = left_padded(encoded, pad=loaded.special.pad)
    device = loaded.model.device
    return BatchContext(loaded, input_ids.to(device), attention_mask.to(device), rows=rows)


def generate_batch(
    loaded: LoadedModel,
    encoded: Sequence[Sequence[int]],
    *,
    settings: Settings,
    streamer: BaseStreamer | None = None,
) -> list[list[int]]:
    """One call of `generate`.

    Args:
        loaded: the model and what goes with it.
        encoded: the ids of B prompts, none empty.
        settings: see `resolve_settings`.
        streamer: given the ids as they come; for one prompt and one text without beams.

    Returns:
        new ids of B x num_drawn texts, those of a prompt together, EOS and padding at their end.

    Raises:
        ConfigError: settings that transformers refuses, or that don't fit model or tokenizer.
        ModelError: the logits are not numbers, or memory is short.
    """
    model, special = loaded.model, loaded.special
    config = generation_config(_within_context(model, encoded, settings), special)
    rows_a_prompt = config.num_beams if settings.row.beams else config.num_return_sequences
    batch = batch_context(loaded, encoded, rows=rows_a_prompt)
    made = [processor for _, processor in named_processors(settings, batch)]
    criteria = StoppingCriteriaList()
    if texts := settings["stop_strings"]:
        length = batch.prompt_length
        criteria.append(StopTexts(loaded.tokenizer, texts, prompts=encoded, prompt_length=length))
    with (
        _explained_errors(loaded),
        _only(config, model),
        _drafting(loaded, settings, config, prompt_length=batch.prompt_length) as drafts,
    ):
        output = model.generate(  # type: ignore[operator]
            batch.input_ids,
            attention_mask=batch.attention_mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([_InOneCall(made)]),
            stopping_criteria=criteria,
            streamer=streamer if settings.row.loop == "native" else None,
            custom_generate=_loop(loaded, settings, streamer),
            **drafts,
        )
    new_ids: list[list[int]] = output[:, batch.prompt_length :].tolist()
    # transformers 5.23 fills up beams that have no EOS, ended by a stop string, with -1.
    return [[i for i in row if i >= 0] for row in new_ids]


@contextmanager
def _explained_errors(loaded: LoadedModel) -> Iterator[None]:
    """Say what the library's errors mean to a user."""
    try:
        yield
    except IndexError:
        if loaded.others.assistant_tokenizer is None:
            raise
        raise ConfigError(
            "assistant_model can't see so long a text: its own tokenizer makes more tokens of it "
            "than its context holds. Lower max_new_tokens, or take another draft model."
        ) from None
    except torch.OutOfMemoryError:
        raise ModelError(
            f"Out of memory on {loaded.model.device}. Lower num_beams or num_return_sequences, or "
            "the length of text and prompt."
        ) from None


def _within_context(
    model: PreTrainedModel, encoded: Sequence[Sequence[int]], settings: Settings
) -> Settings:
    """Let prompt lookup draft no further than the model can see; the library would."""
    context = context_of(model)
    if settings.strategy != "prompt_lookup" or context is None:
        return settings
    room = context - max(map(len, encoded)) - settings["max_new_tokens"] + 1
    drafted = max(min(settings["prompt_lookup_num_tokens"], room), 0)
    return settings.changed(prompt_lookup_num_tokens=drafted)


def generation_config(settings: Settings, special: SpecialTokens) -> GenerationConfig:
    """What of the settings isn't a processor's, as transformers takes it and strictly checks it.

    Raises:
        ConfigError: transformers refuses them.
    """
    values: dict[str, Any] = {
        "max_new_tokens": settings["max_new_tokens"],
        "num_return_sequences": settings.num_drawn,
        "num_beams": settings["num_beams"],
        "do_sample": settings.do_sample and settings.row.loop != "stochastic_beam",
    }
    if settings.is_on("max_time"):
        values["max_time"] = settings["max_time"]
    if values["do_sample"]:
        values["top_k"] = 0  # unset it would be 50
    if settings.row.beams:
        values |= {name: settings[name] for name in ("length_penalty", "early_stopping")}
    if settings["prompt_lookup_num_tokens"]:
        names = ("prompt_lookup_num_tokens", "max_matching_ngram_size")
        values |= {name: settings[name] for name in names}
    try:
        config = GenerationConfig(
            **values,
            eos_token_id=list(special.eos) or None,
            pad_token_id=special.pad,
            bos_token_id=special.start,
            use_cache=True,
        )
        config.validate(strict=True)
    except ValueError as error:
        raise ConfigError(f"transformers refuses these settings: {error}") from None
    return config


def _loop(
    loaded: LoadedModel, settings: Settings, streamer: BaseStreamer | None
) -> Callable[..., Any] | None:
    """The loop to run instead of transformers' own, with its settings."""
    loop = settings.row.loop
    if loop == "contrastive":
        alpha, top_k = settings["penalty_alpha"], settings["top_k"]
        return partial(
            contrastive_search, penalty_alpha=alpha, top_k=top_k, token_streamer=streamer
        )
    if loop == "dola":
        layers, do_sample = settings["dola_layers"], settings.do_sample
        return partial(dola_decoding, dola_layers=layers, do_sample=do_sample)
    if loop == "diverse_beam":
        groups, penalty = settings["num_beam_groups"], settings["diversity_penalty"]
        return partial(diverse_beam_search, num_beam_groups=groups, diversity_penalty=penalty)
    if loop == "constrained_beam":
        constraints = [_word_ids(loaded.tokenizer, word) for word in settings["force_words"]]
        return partial(constrained_beam_search, constraints=constraints)
    if loop == "stochastic_beam":
        return stochastic_beam_search
    if loop == "lookahead":
        names = ("lookahead_window", "lookahead_ngram_size", "lookahead_guesses")
        return partial(lookahead_decoding, **{name: settings[name] for name in names})
    return None


def _word_ids(tokenizer: PreTrainedTokenizerBase, word: str | list[str]) -> list[list[int]]:
    """The ids of a required word, after a space and as it is; of any of several words."""
    words = [word] if isinstance(word, str) else word
    texts = [t for w in words for t in ([w] if w[0].isspace() else [f" {w}", w])]
    return [ids for text in texts if (ids := encode_bare(tokenizer, text))]


@contextmanager
def _drafting(
    loaded: LoadedModel, settings: Settings, config: GenerationConfig, *, prompt_length: int
) -> Iterator[dict[str, Any]]:
    """The arguments of `generate` for drafts; a draft model is told how by its own config."""
    if settings.strategy not in ("assisted", "early_exit"):
        yield {}
        return
    if settings.strategy == "early_exit":
        assistant = first_layers(loaded.model, settings["assistant_early_exit"])
    else:
        assistant = loaded.others.models["assistant_model"]
        _check_draft_context(assistant, prompt_length, settings["max_new_tokens"])
    names = (
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
    )
    values = config.to_dict() | {name: settings[name] for name in names}
    drafts: dict[str, Any] = {"assistant_model": assistant}
    if loaded.others.assistant_tokenizer is not None:
        drafts["tokenizer"] = loaded.tokenizer
        drafts["assistant_tokenizer"] = loaded.others.assistant_tokenizer
    with _only(GenerationConfig.from_dict(values), assistant):
        yield drafts


def _check_draft_context(draft: PreTrainedModel, prompt_length: int, max_new_tokens: int) -> None:
    """Refuse a text that is longer than the draft model can see.

    With another tokenizer it counts differently; by how much shows only as the text is generated.
    """
    context = context_of(draft)
    if context is not None and prompt_length + max_new_tokens - 1 > context:
        raise ConfigError(
            f"assistant_model sees {context:,} tokens, and the prompt of {prompt_length:,} with "
            f"max_new_tokens {max_new_tokens:,} is longer. Set max_new_tokens to "
            f"{max(context - prompt_length + 1, 1):,} or less, or take another draft model."
        )


@contextmanager
def _only(config: GenerationConfig, model: PreTrainedModel) -> Iterator[None]:
    """Hide the model's own generation config: `generate` fills unset fields from it in silence."""
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def left_padded(encoded: Sequence[Sequence[int]], *, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both of shape (B, T) with T the longest; a decoder continues on the right."""
    longest = max(map(len, encoded))
    input_ids = torch.tensor([[pad] * (longest - len(ids)) + list(ids) for ids in encoded])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in encoded])
    return input_ids, mask


class _InOneCall(LogitsProcessor):
    """Several processors as one, which the library calls without asking each for its signature."""

    def __init__(self, processors: Sequence[LogitsProcessor]) -> None:
        self.processors = tuple(processors)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Change logits (B, V) of what follows `input_ids`, unless they are not numbers."""
        check_logits(scores)
        for processor in self.processors:
            scores = processor(input_ids, scores)
        return scores
