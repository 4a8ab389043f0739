"""One forward pass -> what each layer would say if it were the last.

The stream after each layer goes through the last norm and the head. Source: nostalgebraist 2020,
"interpreting GPT: the logit lens".
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from gptft.analysis.explain.capture import ForwardPass
from gptft.analysis.explain.explanation import Lens, LensCell
from gptft.analysis.explain.values import NamedToken


def lens_rows(passed: ForwardPass) -> Iterator[Tensor]:
    """Log-probabilities, float32, shape (T, V) each, one row at a time: V may be large.

    The first are of what goes into the first layer, the last of the model's own output. There are
    none where the head reads no stream.
    """
    if not passed.has_residual:
        return
    streams = [passed.layers[0].before, *(layer.after for layer in passed.layers[:-1])]
    for stream in streams:
        yield _read(passed, stream)
    yield passed.logits.log_softmax(-1)


@torch.no_grad()
def _read(passed: ForwardPass, stream: Tensor) -> Tensor:
    vectors = stream.to(passed.head_dtype)[None]
    read = vectors if passed.norm is None else passed.norm(vectors)
    return passed.finish(passed.head(read)[0].float()).log_softmax(-1)


def lens_of(passed: ForwardPass, name: Callable[[int], NamedToken]) -> Lens | None:
    """What `lens_rows` say, token by token; None where there are none."""
    final = passed.logits.argmax(-1)  # (T,)
    cells, agrees = [], []
    for row in lens_rows(passed):
        best, ids = row.exp().max(-1)
        of_final = row.exp().gather(-1, final[:, None])[:, 0]
        read = zip(ids.tolist(), best.tolist(), of_final.tolist(), strict=True)
        cells.append(tuple(LensCell(name(i), p, q) for i, p, q in read))
        agrees.append((ids == final).tolist())
    if not cells:
        return None
    return Lens(tuple(cells), tuple(map(_decided, zip(*agrees, strict=True))))


def _decided(is_final: Sequence[bool]) -> int:
    """The first row from which on all say what the last says."""
    others = [row for row, agrees in enumerate(is_final) if not agrees]
    return others[-1] + 1 if others else 0
