"""One forward pass -> one layer's heads with their numbers: queries, keys, what is fetched."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gptft.analysis.explain.attribution import Direction, head_outputs, head_parts
from gptft.analysis.explain.capture import Attention, ForwardPass, same
from gptft.analysis.explain.explanation import Fetched, OpenedBlock
from gptft.analysis.explain.values import NamedToken

_SHOWN = 5  # tokens of what a head fetches


def open_block(
    passed: ForwardPass, direction: Direction | None, *, name: Callable[[int], NamedToken]
) -> OpenedBlock | None:
    """The layer of the head that adds most to the likeliest token; the middle one without any.

    Args:
        passed: the pass.
        direction: of the likeliest next token.
        name: gives a token of an id.

    Returns:
        None where queries and keys can't be had.
    """
    with_numbers = [
        number
        for number, layer in enumerate(passed.layers)
        if layer.attention is not None and layer.attention.query is not None
    ]
    if not with_numbers:
        return None
    number, head = _most_telling(passed, direction, with_numbers)
    attention = passed.layers[number].attention
    if attention is None or attention.query is None or attention.key is None:
        return None
    if attention.query.shape[:2] != attention.key.shape[:2] or attention.scaling is None:
        return None
    weights = attention.weights.cpu().numpy()
    at = weights.shape[1] - 1
    row = weights[head, at].copy()
    row[0] = row[0] if at < 2 else 0.0  # what rests on the first token tells little
    return OpenedBlock(
        layer=number,
        head=head,
        at=at,
        looks_at=int(row.argmax()),
        query=attention.query.cpu().numpy(),
        key=attention.key.cpu().numpy(),
        scaling=attention.scaling,
        weights=weights,
        fetched=tuple(_fetched(passed, attention, direction, name)),
        has_other_terms=not _is_plain(attention),
    )


def _most_telling(
    passed: ForwardPass, direction: Direction | None, among: list[int]
) -> tuple[int, int]:
    added = None if direction is None else head_parts(passed, direction)
    if added is None or bool(np.isnan(added[among]).all()):
        return among[len(among) // 2], 0
    best = int(np.nanargmax(added[among]))
    row, head = divmod(best, added.shape[1])
    return among[row], head


def _is_plain(attention: Attention) -> bool:
    """Whether the weights are the softmax of the scaled products of what may be seen."""
    query, key = attention.query, attention.key
    if query is None or key is None or attention.scaling is None:
        return False
    scores = query @ key.transpose(-1, -2) * attention.scaling
    mask = torch.ones_like(scores[0], dtype=torch.bool).triu(1)
    return same(scores.masked_fill(mask, -torch.inf).softmax(-1), attention.weights)


@torch.no_grad()
def _fetched(
    passed: ForwardPass,
    attention: Attention,
    direction: Direction | None,
    name: Callable[[int], NamedToken],
) -> list[Fetched]:
    written = head_outputs(attention)
    if written is None or direction is None:
        return []
    weight: Tensor = passed.head.weight.detach().float()  # type: ignore[operator]
    found = []
    for head, vector in enumerate(written):
        centered = vector - vector.mean() if direction.is_centered else vector
        raises = weight @ (centered * direction.norm_gains)  # (V,)
        best, ids = raises.topk(min(_SHOWN, len(raises)))
        row = attention.weights[head, -1]
        most, places = row.topk(min(_SHOWN, len(row)))
        found.append(
            Fetched(
                tuple(zip(places.tolist(), most.tolist(), strict=True)),
                tuple(
                    (name(int(i)), float(by))
                    for i, by in zip(ids.tolist(), best.tolist(), strict=True)
                ),
            )
        )
    return found
