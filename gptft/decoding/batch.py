"""A batch of prompts as ids -> new ids: one call of `generate`.

The GenerationConfig is set in full here: what a model's own says is never mixed in. Logits are
changed by our list of processors alone, and loops that transformers doesn't have are ours.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from gptft.decoding.cached_model import new_cache
from gptft.decoding.define import BatchContext, Process
from gptft.decoding.draws import race
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.logprobs import check_logits, check_some_left
from gptft.decoding.processors import named_processors
from gptft.decoding.settings import Settings
from gptft.decoding.special_tokens import SpecialTokens
from gptft.decoding.stopping import StopTexts
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of


def batch_context(
    loaded: LoadedModel, encoded: Sequence[Sequence[int]], *, rows: int
) -> BatchContext:
    """A batch of prompts as processors see it."""
    # On the left, because a decoder continues on the right: (B, T), T that of the longest.
    left_padded = partial(pad_sequence, batch_first=True, padding_side="left")
    ids = [torch.tensor(list(one), device=loaded.model.device) for one in encoded]
    return BatchContext(
        model=loaded.model,
        tokenizer=loaded.tokenizer,
        eos=loaded.special.eos,
        input_ids=left_padded(ids, padding_value=loaded.special.pad),
        attention_mask=left_padded([torch.ones_like(one) for one in ids]),
        auxiliary_models=loaded.auxiliary.models,
        rows=rows,
        unknown_ids=loaded.special.unknown,
    )


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
    batch = batch_context(loaded, encoded, rows=settings.num_drawn)
    config.use_cache = _remembers(model, num_rows=len(encoded) * batch.rows)
    made = [processor for _, processor in named_processors(settings, batch)]
    make_loop = settings.row.loop
    loop = make_loop(settings, batch, streamer) if make_loop else None
    criteria = StoppingCriteriaList()
    if stops := settings["stop_strings"]:
        length = batch.prompt_length
        criteria.append(StopTexts(loaded.tokenizer, stops, prompts=encoded, prompt_length=length))
    # Beams that end nowhere are dropped, and loops of ours look themselves.
    looks_itself = settings.row.beams or loop is not None
    check_left = None if looks_itself else partial(_check_left, batch, criteria)
    ids, mask, choose = batch.input_ids, batch.attention_mask, None
    if settings.draws_together:  # `generate` is to take the likeliest, and repeats no prompt then
        ids, mask = (one.repeat_interleave(batch.rows, dim=0) for one in (ids, mask))
        choose = race(len(encoded))
    with (
        _explained_errors(loaded),
        _only(config, model),
        _drafting(loaded, settings, config, batch) as drafts,
    ):
        output = model.generate(  # type: ignore[operator]
            ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([_InOneCall(made, check_left, choose)]),
            stopping_criteria=criteria,
            streamer=streamer if loop is None else None,
            custom_generate=loop,
            **drafts,
        )
    texts: list[list[int]] = output[:, batch.prompt_length :].tolist()
    return texts


@contextmanager
def _explained_errors(loaded: LoadedModel) -> Iterator[None]:
    """Say what the library's errors mean to a user."""
    try:
        yield
    except IndexError:
        if loaded.auxiliary.assistant_tokenizer is None:
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


def _remembers(model: PreTrainedModel, *, num_rows: int) -> bool:
    """Whether the model continues so many rows right from what it keeps of them.

    RWKV mixes the states of several rows up (transformers 5.23, `extract_key_value`).
    """
    mixes_rows = num_rows > 1 and model.config.model_type == "rwkv"
    return new_cache(model) is not None and not mixes_rows


def _within_context(
    model: PreTrainedModel, encoded: Sequence[Sequence[int]], settings: Settings
) -> Settings:
    """Let prompt lookup draft no further than the model can see; the library would."""
    context = context_of(model)
    if not settings["prompt_lookup_num_tokens"] or context is None:
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
        **settings.named("max_new_tokens", "num_beams", "max_time"),
        "num_return_sequences": 1 if settings.draws_together else settings.num_drawn,
        "do_sample": settings.do_sample and not settings.draws_together,
        "eos_token_id": list(special.eos) or None,
        "pad_token_id": special.pad,
        "bos_token_id": special.start,
        **settings.row.generation(settings),
    }
    if values["do_sample"]:
        values["top_k"] = 0  # unset it would be 50
    try:
        config = GenerationConfig(**values)
        config.validate(strict=True)
    except ValueError as error:
        raise ConfigError(f"transformers refuses these settings: {error}") from None
    return config


@contextmanager
def _drafting(
    loaded: LoadedModel, settings: Settings, config: GenerationConfig, batch: BatchContext
) -> Iterator[dict[str, Any]]:
    """The arguments of `generate` for drafts; a draft model is told how by its own config."""
    if settings.row.draft is None:
        yield {}
        return
    assistant = settings.row.draft(settings, batch)
    values = config.to_dict() | settings.row.draft_fields(settings)
    drafts: dict[str, Any] = {"assistant_model": assistant}
    if loaded.auxiliary.assistant_tokenizer is not None:
        drafts["tokenizer"] = loaded.tokenizer
        drafts["assistant_tokenizer"] = loaded.auxiliary.assistant_tokenizer
    with _only(GenerationConfig.from_dict(values), assistant):
        yield drafts


@contextmanager
def _only(config: GenerationConfig, model: PreTrainedModel) -> Iterator[None]:
    """Hide the model's own generation config: `generate` fills unset fields from it in silence."""
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def _check_left(
    batch: BatchContext,
    criteria: StoppingCriteriaList,
    input_ids: torch.Tensor,
    stuck: torch.Tensor,
) -> None:
    """Refuse rows (B,) that are left without a token where their texts, ids (B, T), go on.

    Raises:
        ConfigError: there is one.
    """
    ends = torch.tensor(batch.eos, device=input_ids.device)
    ended = torch.isin(input_ids[:, batch.prompt_length :], ends).any(dim=-1)
    if criteria:
        ended = ended | criteria(input_ids, None)
    check_some_left(stuck, finished=ended)


class _InOneCall(LogitsProcessor):
    """Several processors as one, which the library calls without asking each for its signature."""

    def __init__(
        self,
        processors: Sequence[Process],
        check_left: Callable[[torch.Tensor, torch.Tensor], None] | None,
        choose: Process | None,
    ) -> None:
        """Take them in order.

        Args:
            processors: what changes the logits.
            check_left: told ids (B, T), and which rows (B,) have no token left.
            choose: makes of what is left logits whose likeliest token is the one to take.
        """
        self._processors, self._check_left = tuple(processors), check_left
        self._choose = choose

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Change logits (B, V) of what follows `input_ids`, unless they are not numbers.

        Rows without a token left are all -inf, unless they are checked.
        """
        check_logits(scores)
        changed: torch.Tensor = scores
        stuck = torch.zeros_like(changed[:, 0], dtype=torch.bool)  # (B,)
        for processor in self._processors:
            changed = processor(input_ids, changed)
            empty = (changed == -torch.inf).all(dim=-1)
            if bool(empty.any()):  # what comes next may not bear it: softmax makes NaN of it
                stuck = stuck | empty
                changed = changed.masked_fill(empty[:, None], 0.0)
        if bool(stuck.any()):
            if self._check_left is None:
                return changed.masked_fill(stuck[:, None], -torch.inf)  # type: ignore[return-value]
            self._check_left(input_ids, stuck)
        if self._choose is not None:
            changed = self._choose(input_ids, changed)
        return changed  # type: ignore[return-value]
