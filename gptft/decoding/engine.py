"""A model, prompts and settings -> texts: what `gptft generate` does.

In: a model's name or a loaded model, prompts, `Settings`. Out: one `Generated` a text. Every field
of transformers' GenerationConfig is set here; of a model's own only its special tokens count. Knows
nothing of how a model was trained.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, Literal

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging as transformers_logging

from gptft.decoding.strategies import Settings, Value, why_not_streamed, with_seed
from gptft.decoding.stream import PieceStreamer
from gptft.decoding.text import continuation, encode_prompt
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of, load_auto_tokenizer, load_for_inference
from gptft.models.precision import DtypeName, pick_device

Sampler = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Sequence[str]], list[str]]

_BATCH_PROMPTS = 16  # prompts at once where nothing is drawn


@dataclass(frozen=True)
class Generated:
    """A prompt and how a model went on.

    Attributes:
        prompt: as it was given.
        continuation: what follows it, exactly: spaces kept, special tokens left out.
        num_new_tokens: tokens of the continuation, EOS not counted.
        stopped: eos where the model ended the text, length where max_new_tokens did.
        settings: what was in force, the seed included.
    """

    prompt: str
    continuation: str
    num_new_tokens: int
    stopped: Literal["eos", "length"]
    settings: Settings

    @property
    def text(self) -> str:
        """The prompt and its continuation."""
        return self.prompt + self.continuation

    def to_dict(self) -> dict[str, str | int | dict[str, Value] | None]:
        """The fields by name, as `gptft generate --json` prints them; no seed if none was used."""
        return {
            "prompt": self.prompt,
            "text": self.text,
            "continuation": self.continuation,
            "strategy": self.settings.strategy,
            "settings": self.settings.to_dict(),
            "seed": self.settings.seed if self.settings.do_sample else None,
            "num_new_tokens": self.num_new_tokens,
            "stopped": self.stopped,
        }


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that begin, end and fill up texts.

    Attributes:
        eos: each of them ends a text; those of the tokenizer and of the model, maybe none.
        pad: fills up rows of a batch; masked, so any id will do.
        start: what an empty prompt begins with, or None where there is neither BOS nor EOS.
    """

    eos: tuple[int, ...]
    pad: int
    start: int | None


def generate(
    model_name: str,
    prompts: Sequence[str],
    *,
    settings: Settings,
    dtype: DtypeName = "auto",
    revision: str | None = None,
    use_cpu: bool = False,
    on_text: Callable[[str], None] | None = None,
) -> list[Generated]:
    """Load a model and continue `prompts`.

    Args:
        model_name: pico, a model or run folder, or a hub id.
        prompts: plain texts.
        settings: see `resolve_settings`; a missing seed is drawn.
        dtype: of the weights.
        revision: branch, tag or commit of a hub model.
        use_cpu: leave an accelerator alone.
        on_text: told of the prompt and then of each new piece of text as it is written; for one
            prompt and one text without beams.

    Returns:
        `num_return_sequences` texts for each prompt, in the order of the prompts.

    Raises:
        ConfigError: a prompt is too long, or settings that can't be had.
        ModelError: the model can't be found or read, or its logits are no numbers.
    """
    reason = why_not_streamed(settings, num_prompts=len(prompts)) if on_text else None
    if reason:
        raise ConfigError(f"This can't be streamed: {reason}.")
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    settings = with_seed(settings)
    tokenizer = load_auto_tokenizer(model_name, revision=revision)
    device = pick_device(use_cpu=use_cpu)
    model = load_for_inference(model_name, device=device, dtype=dtype, revision=revision)
    streamer = None
    if on_text is not None:
        eos = special_tokens(model, tokenizer).eos
        streamer = PieceStreamer(tokenizer, prompt=prompts[0], eos_token_ids=eos, on_text=on_text)
    seed = settings.seed or 0
    return generate_texts(
        model, tokenizer, prompts, settings=settings, seed=seed, streamer=streamer
    )


def make_sampler(settings: Settings) -> Sampler:
    """A function that continues each prompt once with whatever model it is given.

    It sets torch's global random state to the settings' seed, or 0, before each drawn text, and
    leaves the state where drawing took it: a caller that needs its own keeps it.
    """
    single = replace(settings, num_return_sequences=1)

    def sample(
        model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
    ) -> list[str]:
        texts = generate_texts(model, tokenizer, prompts, settings=single, seed=settings.seed or 0)
        return [text.continuation for text in texts]

    return sample


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    settings: Settings,
    seed: int,
    streamer: BaseStreamer | None = None,
) -> list[Generated]:
    """Continue `prompts` with a loaded model in eval mode.

    Where tokens are drawn each prompt runs alone from `seed`, so that its text doesn't depend on
    the others; elsewhere prompts of similar length run together.

    Args:
        model: a causal one.
        tokenizer: the model's.
        prompts: plain texts; an empty one begins with BOS, or EOS.
        settings: see `resolve_settings`.
        seed: of the draws.
        streamer: given the ids as they come; for one prompt and one text without beams.

    Returns:
        `num_return_sequences` texts for each prompt, in the order of the prompts.

    Raises:
        ConfigError: prompts too long for the model, all of them at once and before any text is
            written, or settings that transformers refuses.
        ModelError: the tokenizer isn't the model's, or the model's logits are no numbers.
    """
    special = special_tokens(model, tokenizer)
    encoded = [encode_prompt(tokenizer, prompt) or _start(special) for prompt in prompts]
    _check_ids(model, encoded)
    _check_context(model, encoded, prompts=prompts, max_new_tokens=settings.max_new_tokens)
    config = generation_config(settings, special)
    in_force = replace(settings, seed=seed) if settings.do_sample else settings
    texts: dict[int, list[Generated]] = {}
    for batch in _batches([len(ids) for ids in encoded], settings):
        if settings.do_sample:
            torch.manual_seed(seed)
        rows = _run(model, [encoded[i] for i in batch], config=config, streamer=streamer)
        for i, new_rows in zip(batch, _split(rows, len(batch)), strict=True):
            texts[i] = [
                _generated(tokenizer, prompts[i], encoded[i], row, special.eos, in_force)
                for row in new_rows
            ]
    return [text for i in range(len(prompts)) for text in texts[i]]


def special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """The special ids of a model and its tokenizer; ids the model has no embedding for are not."""
    num_ids = _num_ids(model)
    own = model.generation_config

    def known(*candidates: Any) -> list[int]:
        flat = [i for c in candidates for i in (c if isinstance(c, list) else [c])]
        return [i for i in dict.fromkeys(flat) if isinstance(i, int) and 0 <= i < num_ids]

    eos = known(tokenizer.eos_token_id, own.eos_token_id if own else None)
    bos = known(tokenizer.bos_token_id, own.bos_token_id if own else None)
    pad = known(tokenizer.pad_token_id, *eos)
    return SpecialTokens(tuple(eos), pad[0] if pad else 0, next(iter([*bos, *eos]), None))


def generation_config(settings: Settings, special: SpecialTokens) -> GenerationConfig:
    """The settings as transformers takes them, checked by its own strict check.

    Raises:
        ConfigError: transformers refuses them.
    """
    values: dict[str, Any] = settings.to_dict()
    if not settings.do_sample:  # its strict check takes 0, which is off, for a setting
        del values["top_k"]
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


def _start(special: SpecialTokens) -> list[int]:
    if special.start is None:
        raise ConfigError(
            "The prompt is empty, and this model has neither BOS nor EOS to begin a text with. "
            "Give it a first word."
        )
    return [special.start]


def _num_ids(model: PreTrainedModel) -> int:
    return int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]


def _check_ids(model: PreTrainedModel, encoded: Sequence[Sequence[int]]) -> None:
    highest, num_ids = max((i for ids in encoded for i in ids), default=0), _num_ids(model)
    if highest >= num_ids:
        raise ModelError(
            f"The tokenizer gives id {highest:,}, and the model has {num_ids:,} embeddings. "
            "The tokenizer belongs to another model."
        )


def _check_context(
    model: PreTrainedModel,
    encoded: Sequence[Sequence[int]],
    *,
    prompts: Sequence[str],
    max_new_tokens: int,
) -> None:
    """Refuse what would run beyond the last position; the last new token needs none."""
    context = context_of(model)
    if context is None:
        return
    problems = []
    for prompt, ids in zip(prompts, encoded, strict=True):
        if len(ids) + max_new_tokens - 1 <= context:
            continue
        room = context - len(ids) + 1
        way_out = (
            f"Set max_new_tokens to {room:,} or less, or shorten the prompt."
            if room > 0
            else "Shorten the prompt."
        )
        problems.append(
            f"The prompt {_excerpt(prompt)} has {len(ids):,} tokens, and with max_new_tokens "
            f"{max_new_tokens:,} it doesn't fit the model's context of {context:,}. {way_out}"
        )
    if problems:
        raise ConfigError(*problems)


def _excerpt(prompt: str, *, length: int = 30) -> str:
    """The beginning of a prompt, in one line."""
    line = " ".join(prompt[: length + 1].split())
    return f'"{line[:length]}…"' if len(prompt) > length else f'"{line}"'


def _batches(lengths: Sequence[int], settings: Settings) -> Iterator[list[int]]:
    """Which prompts run together, by their index, from short to long.

    Rows drawn together would share one stream of random numbers. Penalties look at the padding,
    too: under them only prompts of one length share a batch.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    penalized = settings.repetition_penalty != 1.0 or settings.no_repeat_ngram_size > 0
    size = 1 if settings.do_sample else _BATCH_PROMPTS
    for _, group in groupby(order, key=lambda i: lengths[i] if penalized else 0):
        while batch := list(islice(group, size)):
            yield batch


def _run(
    model: PreTrainedModel,
    encoded: Sequence[Sequence[int]],
    *,
    config: GenerationConfig,
    streamer: BaseStreamer | None,
) -> list[list[int]]:
    """One call of `generate`: B prompts -> B x num_return_sequences rows of new ids, padded."""
    input_ids, attention_mask = _left_padded(encoded, pad=int(config.pad_token_id or 0))
    try:
        with _only(config, model):
            output = model.generate(  # type: ignore[operator]
                input_ids.to(model.device),
                attention_mask=attention_mask.to(model.device),
                generation_config=config,
                logits_processor=LogitsProcessorList([_refuse_nan]),
                streamer=streamer,
            )
    except torch.OutOfMemoryError:
        raise ModelError(
            f"Out of memory on {model.device}. Lower num_beams or num_return_sequences, or the "
            "length of text and prompt."
        ) from None
    rows: list[list[int]] = output[:, input_ids.shape[1] :].tolist()
    return rows


def _left_padded(
    encoded: Sequence[Sequence[int]], *, pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both of shape (B, T) with T the longest; a decoder goes on from the right."""
    longest = max(map(len, encoded))
    input_ids = torch.tensor([[pad] * (longest - len(ids)) + list(ids) for ids in encoded])
    mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in encoded])
    return input_ids, mask


@contextmanager
def _only(config: GenerationConfig, model: PreTrainedModel) -> Iterator[None]:
    """Hide the model's own generation config: `generate` fills unset fields from it in silence."""
    own = model.generation_config
    model.generation_config = config
    try:
        yield
    finally:
        model.generation_config = own


def _refuse_nan(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Pass logits of shape (B, V) on as they are, unless they are no numbers."""
    if torch.isnan(scores).any():
        raise ModelError(
            "The model's logits are not numbers. Its training went astray, or its dtype is too "
            "narrow: try --dtype float32."
        )
    return scores


def _split(rows: Sequence[list[int]], num_parts: int) -> Iterator[Sequence[list[int]]]:
    size = len(rows) // num_parts
    for i in range(num_parts):
        yield rows[i * size : (i + 1) * size]


def _generated(
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    prompt_ids: Sequence[int],
    row: Sequence[int],
    eos: Sequence[int],
    settings: Settings,
) -> Generated:
    """Cut a row at its EOS, behind which there is padding, and decode it."""
    end = next((i for i, token in enumerate(row) if token in eos), None)
    new_ids = row[:end]
    return Generated(
        prompt=prompt,
        continuation=continuation(tokenizer, prompt_ids, new_ids),
        num_new_tokens=len(new_ids),
        stopped="length" if end is None else "eos",
        settings=settings,
    )
