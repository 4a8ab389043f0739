"""One forward pass -> what each layer would say if it were the last.

The stream after each layer goes through the last norm and the head. Source: nostalgebraist 2020,
"interpreting GPT: the logit lens".
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gptft.analysis.explain.capture import ForwardPass
from gptft.analysis.explain.explanation import Lens, LensCell, NamedToken


@torch.no_grad()
def lens_logprobs(passed: ForwardPass) -> Tensor | None:
    """Log-probabilities, float32, shape (L + 1, T, V), or None where the head reads no stream.

    Row 0 is of what goes into the first layer, row L of the model's own output.
    """
    if not passed.has_residual:
        return None
    streams = [passed.layers[0].before, *(layer.after for layer in passed.layers[:-1])]
    rows = []
    for stream in streams:
        vectors = stream.to(passed.head_dtype)[None]
        read = vectors if passed.norm is None else passed.norm(vectors)
        rows.append(passed.finish(passed.head(read)[0].float()).log_softmax(-1))
    return torch.stack([*rows, passed.logits.log_softmax(-1)])


def lens_of(logprobs: Tensor, name: Callable[[int], NamedToken]) -> Lens:
    """What `lens_logprobs` says, token by token."""
    final = logprobs[-1].argmax(-1)  # (T,)
    best, ids = logprobs.max(-1)  # (L + 1, T)
    of_final = logprobs.gather(-1, final.expand(len(logprobs), -1)[..., None])[..., 0]
    cells = tuple(
        tuple(
            LensCell(name(int(i)), float(p), float(q))
            for i, p, q in zip(row, chances, finals, strict=True)
        )
        for row, chances, finals in zip(
            ids.tolist(), best.exp().tolist(), of_final.exp().tolist(), strict=True
        )
    )
    return Lens(cells, tuple(_decided(column) for column in (ids == final).T.tolist()))


def _decided(is_final: Sequence[bool]) -> int:
    """The first row from which on all say what the last says."""
    others = [row for row, agrees in enumerate(is_final) if not agrees]
    return others[-1] + 1 if others else 0
