"""Contrastive search: of the likeliest tokens the one that is least like the text so far.

In: a causal model, prompts as `generate` prepares them, `top_k` and `penalty_alpha`. Out: rows of
ids. A loop for `model.generate(custom_generate=...)`; draws nothing.
"""

from typing import Any

import torch
from torch.nn.functional import normalize
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)

from gptft.decoding.loops.rows import (
    Reader,
    TokenStreamer,
    pad_id,
    read_prompt,
    streaming,
    with_tokens,
)
from gptft.errors import ConfigError, ModelError
from gptft.models.load import context_of


def contrastive_search(
    model: PreTrainedModel,
    input_ids: torch.LongTensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    *,
    top_k: int,
    penalty_alpha: float,
    token_streamer: TokenStreamer | None = None,
    **prepared: Any,
) -> torch.Tensor:
    """Continue prompts; each step reads `top_k` candidates at once, and so also the next token.

    A candidate is worth (1 - penalty_alpha) times its probability less penalty_alpha times the
    highest cosine between its hidden state and those of the text so far. A candidate that the
    processors forbid is never taken. A token behind the model's last position has no hidden state:
    there the likeliest is taken.

    Args:
        model: a causal one that gives its hidden states.
        input_ids: shape (B, T), left-padded.
        logits_processor: applied to the logits before they become probabilities.
        stopping_criteria: say which rows are done.
        generation_config: its pad_token_id fills up rows that are done.
        top_k: candidates a step, >= 1; 1 is greedy.
        penalty_alpha: weight of the likeness, 0 to 1; 0 is greedy.
        token_streamer: given the prompts, then the tokens of each step.
        prepared: what `generate` prepares for the model; see `loop.read_prompt`.

    Returns:
        Ids of shape (B, T + new tokens).

    Raises:
        ConfigError: top_k or penalty_alpha is out of range.
        ModelError: the model gives no hidden states.

    Source: Su et al. 2022 (2202.06417), section 3: contrastive search.
    """
    if top_k < 1:
        raise ConfigError(f"top_k must be at least 1 for contrastive search, not {top_k}.")
    if not 0 <= penalty_alpha <= 1:
        raise ConfigError(f"penalty_alpha must be from 0 to 1, not {penalty_alpha}.")
    with streaming(token_streamer, input_ids) as tell:
        reader, output = read_prompt(model, input_ids, prepared, output_hidden_states=True)
        logits = output.logits[:, -1].float()
        history = _directions(model, output.hidden_states)
        num_rows, num_candidates = len(input_ids), min(top_k, logits.shape[1])
        rows = torch.arange(num_rows, device=input_ids.device)
        padding = None if reader.attention_mask is None else reader.attention_mask == 0
        reader.choose(rows.repeat_interleave(num_candidates))
        done = torch.zeros(num_rows, dtype=torch.bool, device=input_ids.device)
        room = _room(reader)
        while True:
            scores = logits_processor(input_ids, logits)
            probabilities, candidates = scores.softmax(dim=-1).topk(num_candidates)
            forbidden = scores.gather(1, candidates) == -torch.inf
            beyond = _hold_at_end(reader, room=room)
            output = reader.read(candidates.view(-1, 1), output_hidden_states=True)
            states = _directions(model, output.hidden_states).view(num_rows, num_candidates, -1)
            likeness = _likeness(states, history, padding=padding)
            if beyond is not None:
                likeness = likeness.masked_fill(beyond.view_as(likeness), 0.0)
            worth = (1 - penalty_alpha) * probabilities - penalty_alpha * likeness
            best = worth.masked_fill(forbidden, -torch.inf).argmax(dim=1)
            tokens = candidates[rows, best].masked_fill(done, pad_id(generation_config))
            input_ids = with_tokens(input_ids, tokens)
            tell(tokens)
            done = done | stopping_criteria(input_ids, scores)
            if done.all():
                return input_ids
            # The candidate's own step was that of the token chosen: nothing is read twice.
            chosen = rows * num_candidates + best
            logits = output.logits[chosen, -1].float()
            reader.choose(chosen.repeat_interleave(num_candidates))
            history = torch.cat([history, states[rows, best][:, None]], dim=1)
            if padding is not None:
                padding = torch.cat([padding, padding.new_zeros(num_rows, 1)], dim=1)
            room -= 1


def _directions(
    model: PreTrainedModel, hidden_states: tuple[torch.Tensor, ...] | None
) -> torch.Tensor:
    """The last layer's states, shape (B, T, C), each of length 1, so that products are cosines."""
    if not hidden_states:
        raise ModelError(
            f"{type(model).__name__} doesn't give its hidden states, which contrastive search "
            "compares. Take another strategy."
        )
    return normalize(hidden_states[-1].float(), dim=-1)


def _likeness(
    states: torch.Tensor, history: torch.Tensor, *, padding: torch.Tensor | None
) -> torch.Tensor:
    """The highest cosine of states (B, k, C) to a history (B, T, C) without padding (B, T)."""
    cosines = states @ history.mT
    if padding is not None:
        cosines = cosines.masked_fill(padding[:, None], -torch.inf)
    return cosines.amax(dim=-1)


def _room(reader: Reader) -> int:
    """Tokens that still have a position in the longest row; negative where there is no end."""
    context = context_of(reader.model)
    if context is None or reader.position_ids is None:
        return -1
    return context - 1 - int(reader.position_ids.max())


def _hold_at_end(reader: Reader, *, room: int) -> torch.Tensor | None:
    """Keep rows without room at the last position; which they are, shape (rows, 1), if any."""
    if room != 0 or reader.position_ids is None:
        return None
    last = int(reader.position_ids.max())
    beyond = reader.position_ids == last
    reader.position_ids = reader.position_ids.clamp(max=last - 1)
    return beyond
