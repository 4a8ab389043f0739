"""One forward pass -> what each part added to the logit of the likeliest next token.

The stream between layers is a sum: the embeddings and what attention and feed-forward of each layer
add. The last norm divides all of it by one number; taken as it is, a logit is the sum of what each
part adds to it. Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gptft.analysis.explain.capture import Attention, ForwardPass, LayerPass, same
from gptft.analysis.explain.explanation import Part, PartKind

_NEAR_ZERO = 1e-7  # of the largest number: what it is divided by is left out


@dataclass(frozen=True)
class Direction:
    """Which way a vector of the stream must point to raise one token's logit.

    Attributes:
        gains: what each number of it counts, shape (C,).
        norm_gains: of that, the part of the norm, which is the same for every token.
        is_centered: whether the mean is taken off before.
        constant: what the norm's and the head's own biases add.
        head_bias: of that, the head's.
    """

    gains: Tensor
    norm_gains: Tensor
    is_centered: bool
    constant: float
    head_bias: float

    def of(self, vector: Tensor) -> float:
        """What a part of the stream, shape (C,), adds to the logit."""
        return float(self.each(vector[None])[0])

    def each(self, vectors: Tensor) -> Tensor:
        """The same of several, shape (N, C) to (N,)."""
        centered = vectors - vectors.mean(dim=-1, keepdim=True) if self.is_centered else vectors
        return centered.double() @ self.gains.double()


@torch.no_grad()
def direction_of(passed: ForwardPass, token_id: int) -> Direction | None:
    """The direction that raises the logit of `token_id` after the last token.

    Returns:
        None where the head doesn't read the stream through a norm that is taken off and put on by
        one factor a number.
    """
    if not passed.has_residual:
        return None
    stream, read = passed.layers[-1].after[-1], passed.head_input[-1]
    weight = getattr(passed.head, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        return None
    row = weight[token_id].float()
    bias = getattr(passed.head, "bias", None)
    head_bias = float(bias[token_id]) if isinstance(bias, Tensor) else 0.0
    if passed.norm is None:
        return Direction(row, torch.ones_like(row), False, head_bias, head_bias)
    shift = getattr(passed.norm, "bias", None)
    added = shift.float() if isinstance(shift, Tensor) else torch.zeros_like(read)
    for is_centered in (isinstance(passed.norm, nn.LayerNorm), True, False):
        plain = stream - stream.mean() if is_centered else stream
        gains = _divided(read - added, plain)
        if same((plain * gains + added)[None], read[None]) and _is_linear(
            passed.norm, stream, gains, added, is_centered=is_centered
        ):
            constant = float(added.double() @ row.double()) + head_bias
            return Direction(gains * row, gains, is_centered, constant, head_bias)
    return None


def _divided(one: Tensor, other: Tensor) -> Tensor:
    is_safe = other.abs() > _NEAR_ZERO * float(other.abs().max())
    return torch.where(is_safe, one / torch.where(is_safe, other, 1.0), 0.0)


def _is_linear(
    norm: nn.Module, stream: Tensor, gains: Tensor, added: Tensor, *, is_centered: bool
) -> bool:
    """Whether the norm of another vector has these very gains, but for one factor for all."""
    other = stream.flip(0)
    with torch.no_grad():
        made = norm(other[None, None].to(_dtype_of(norm)))[0, 0].float() - added
    expected = (other - other.mean() if is_centered else other) * gains
    factor = float((made @ expected) / (expected @ expected).clamp_min(1e-20))
    return same((expected * factor)[None], made[None])


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next((one.dtype for one in module.parameters()), torch.float32)


def split_layer(layer: LayerPass) -> tuple[Tensor, Tensor] | None:
    """What attention and what feed-forward add to the stream in one layer, shapes (T, C).

    Each is what a module of the layer gave, or a norm made of it, or a fixed multiple of that, as
    the numbers prove: the two together are all that the layer adds.

    Returns:
        None where they prove nothing, as where a norm follows the sum.
    """
    if layer.attention is None:
        return None
    ends = [at for at, (one, *_) in enumerate(layer.calls) if one is layer.attention.module]
    if not ends:
        return None
    total, end = layer.after - layer.before, ends[-1]
    own, later = layer.calls[end][2], layer.calls[end + 1 :]
    if own.shape != total.shape:
        return None
    others = [made for _, _, made in layer.calls[:end] + later if made.shape == total.shape]
    gave = [own, *(made for _, given, made in later if same(given, own))]
    for added in gave:
        for other in reversed(others):
            scale = _factor(total, added + other)
            if same((added + other) * scale, total):
                return added * scale, other * scale
    reads_sum = any(same(given, own) for _, given, _ in later)
    if reads_sum and any(same(made, layer.after) for made in others):  # both add the stream to it
        return own - layer.before, layer.after - own
    return None


def _factor(total: Tensor, both: Tensor) -> float:
    """The one factor by which what the parts of a layer give is multiplied."""
    return float((total * both).sum() / (both * both).sum().clamp_min(1e-20))


@torch.no_grad()
def parts_of(passed: ForwardPass, direction: Direction) -> list[Part]:
    """What each part adds to the logit of the last token, in order; the parts sum to it."""
    parts = list(_embedding_parts(passed, direction))
    for number, layer in enumerate(passed.layers):
        split = split_layer(layer)
        kinds: list[tuple[PartKind, Tensor]] = (
            [("layer", layer.after - layer.before)]
            if split is None
            else [("attention", split[0]), ("feed-forward", split[1])]
        )
        parts += [Part(kind, number, direction.of(added[-1])) for kind, added in kinds]
        if number + 1 < len(passed.layers):  # what happens to the stream between two layers
            between = passed.layers[number + 1].before - layer.after
            if bool(between[-1].any()):
                parts.append(Part("layer", number, direction.of(between[-1])))
    if direction.constant - direction.head_bias:
        parts.append(Part("norm", None, direction.constant - direction.head_bias))
    if direction.head_bias:
        parts.append(Part("head", None, direction.head_bias))
    return parts


def _embedding_parts(passed: ForwardPass, direction: Direction) -> Iterator[Part]:
    first, tokens = passed.layers[0].before, passed.token_embeddings
    if passed.other_embeddings and first.shape == tokens.shape:
        others = [made for _, made in passed.other_embeddings]
        fitting = [one.expand_as(first) for one in others if one.shape[-1] == first.shape[-1]]
        if len(fitting) == len(others) and same(tokens + sum(fitting), first):
            yield Part("token", None, direction.of(tokens[-1]))
            yield Part("position", None, direction.of((first - tokens)[-1]))
            return
    yield Part("embedding", None, direction.of(first[-1]))


@torch.no_grad()
def head_parts(passed: ForwardPass, direction: Direction) -> np.ndarray | None:
    """What each head adds to the logit, shape (L, H); nan where it can't be told."""
    rows = [_heads_of(layer, direction) for layer in passed.layers]
    widest = max((len(row) for row in rows if row is not None), default=0)
    if not widest:
        return None
    found = np.full((len(rows), widest), np.nan)
    for at, row in enumerate(rows):
        if row is not None:
            found[at, : len(row)] = row
    return found


def _heads_of(layer: LayerPass, direction: Direction) -> list[float] | None:
    attention, split = layer.attention, split_layer(layer)
    if attention is None or split is None:
        return None
    written = head_outputs(attention)
    if written is None:
        return None
    # A norm behind attention mixes its heads; then what each adds can't be told.
    own = next(made for one, _, made in reversed(layer.calls) if one is attention.module)
    scale = _ratio(split[0], own)
    return None if scale is None else (direction.each(written) * scale).tolist()


def _ratio(added: Tensor, own: Tensor) -> float | None:
    """The factor by which `own` became `added`; None where it isn't one for all numbers."""
    scale = float((added * own).sum() / (own * own).sum().clamp_min(1e-20))
    return scale if same(own * scale, added) else None


@torch.no_grad()
def head_outputs(attention: Attention) -> Tensor | None:
    """What each head writes for the last token, shape (H, C), without the projection's bias."""
    flat, project = attention.heads_output, attention.project
    if flat is None or project is None:
        return None
    num_heads, last = len(attention.weights), flat[-1]
    alone = torch.zeros(num_heads + 1, len(last), dtype=last.dtype, device=last.device)
    width = len(last) // num_heads
    for head in range(num_heads):
        alone[head, head * width : (head + 1) * width] = last[head * width : (head + 1) * width]
    made: Tensor = project(alone.to(_dtype_of(project))).float()
    if not same(
        (made[:-1] - made[-1]).sum(0)[None] + made[-1],
        project(last[None].to(_dtype_of(project))).float(),
    ):  # it isn't linear
        return None
    return made[:-1] - made[-1]
