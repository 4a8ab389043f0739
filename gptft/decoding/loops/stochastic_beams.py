"""Stochastic beam search, a loop for `generate`: different texts, drawn without replacement."""

import torch
from torch import Tensor

from gptft.decoding.logprobs import NO_TOKEN_LEFT
from gptft.decoding.loops.beam_search import (
    Texts,
    best_texts,
    first_beams,
    flat_rows,
)
from gptft.decoding.loops.generation_loop import LoopInputs, generation_loop


@generation_loop
def stochastic_beam_search(inputs: LoopInputs) -> Tensor:
    """Draw num_beams different texts a prompt, without replacement, from torch's global state.

    What the logits processors leave is normalized again.

    Returns:
        ids of shape (B * num_return_sequences, T + new), by falling perturbed log-probability. All
        differ unless there are fewer texts than that.

    Raises:
        ConfigError: other settings leave no token to write.

    Source: Kool, van Hoof and Welling 2019 (1903.06059), algorithm 1.
    """
    width, pad = inputs.num_beams, inputs.pad_id
    ids = inputs.input_ids  # (B * W, T)
    prompt_length = ids.shape[1]
    cached, output = inputs.read_prompts()
    logits = output.logits[:, -1].float()  # (B * W, V)
    precise = torch.float32 if ids.device.type == "mps" else torch.float64  # mps has no float64
    log_probs = first_beams(len(ids) // width, width, device=ids.device).to(precise)  # (B, W)
    perturbed = log_probs.clone()
    ended = torch.zeros_like(perturbed, dtype=torch.bool)
    lengths = torch.zeros_like(ended, dtype=torch.long)
    while True:
        steps = inputs.logits_processor(ids, logits.log_softmax(dim=-1)).to(precise)
        steps = steps.log_softmax(-1).unflatten(0, (-1, width))  # (B, W, V)
        steps = steps.masked_fill(steps.isnan(), -torch.inf)  # a row of nothing but -inf
        # An ended text is sure to be followed by padding: it stays what it is.
        steps = steps.masked_fill(ended[..., None], -torch.inf)
        steps[..., pad] = steps[..., pad].masked_fill(ended, 0.0)
        parents, tokens, log_probs, perturbed = draw_children(steps, log_probs, perturbed)
        rows = flat_rows(parents, width)
        ids = torch.cat([ids[rows], tokens.view(-1, 1)], dim=1)
        ended = ended.gather(1, parents)
        lengths = lengths.gather(1, parents) + ~ended
        ended = ended | inputs.stopping_criteria(ids, None).view(-1, width)
        if bool((ended | (perturbed == -torch.inf)).all()):
            texts = Texts(ids.unflatten(0, (-1, width)), perturbed, lengths + prompt_length)
            return best_texts(inputs, texts, unmet=NO_TOKEN_LEFT)
        cached.select_rows(rows)
        logits = cached.next_logits(ids[:, -1:])


def draw_children(
    steps: Tensor, log_probs: Tensor, perturbed: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of sampling without replacement: the W children of the highest perturbed score.

    Children's Gumbel noise is drawn under the condition that the highest of them has its parent's
    score, which makes the W kept over all steps the W highest of all texts.

    Args:
        steps: log-probabilities of the next token, shape (B, W, V), float64.
        log_probs: of the texts so far, shape (B, W).
        perturbed: log_probs and noise, shape (B, W); -inf where there is no text.

    Returns:
        parents, tokens, log_probs and perturbed of the children, each of shape (B, W), by falling
        perturbed score.

    Source: Kool, van Hoof and Welling 2019 (1903.06059), sections 3.1 and 4.1, appendix B.3.
    """
    width, num_ids = steps.shape[1:]
    totals = log_probs[..., None] + steps  # (B, W, V)
    noise = torch.empty_like(totals).exponential_().clamp_min(torch.finfo(totals.dtype).tiny)
    drawn = totals - noise.log()
    highest = drawn.amax(dim=-1, keepdim=True)  # (B, W, 1)
    # T - max(0, v) - log1p(exp(-|v|)) is -log(exp(-T) - exp(-Z) + exp(-G)) without overflow.
    target = perturbed[..., None]
    v = target - drawn + torch.log1p(-torch.exp(drawn - highest))
    moved = target - v.clamp_min(0.0) - torch.log1p(torch.exp(-v.abs()))
    moved = torch.where((drawn == -torch.inf) | (target == -torch.inf), -torch.inf, moved)
    scores, index = moved.flatten(1).topk(width, dim=1)  # (B, W), of the W * V children
    return index // num_ids, index % num_ids, totals.flatten(1).gather(1, index), scores
