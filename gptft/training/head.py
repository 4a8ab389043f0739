"""A model's output layer, deferred: its loss takes hidden states and makes logits in chunks.

All logits of a batch and their gradient are the largest tensors of a step: with a vocabulary of
50,257 each takes 206 MB a block of 1,024 tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer

from gptft.training.hooks import has_hooks

_LARGEST = 4  # as a power of ten: a soft cap on logits shows there, and not near 1
_SHAPE = (2, 5)  # of the probe's ids


class DeferredHead:
    """Makes a model's forward hand on hidden states where its logits would be.

    Attributes:
        layer: the output layer, from C channels to V logits.
        is_deferred: whether it is left out just now.
    """

    def __init__(self, layer: nn.Linear) -> None:
        """Take a layer that `find_head` has tried."""
        self.layer = layer
        self.is_deferred = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """What the model computes in here has hidden states, of shape (B, T, C), as its logits."""
        self.layer.forward = _hand_on  # type: ignore[assignment, method-assign]
        self.is_deferred = True
        try:
            yield
        finally:
            self.is_deferred = False
            del self.layer.forward

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of shape (N, V) of the hidden states that the model handed on, (N, C)."""
        return nn.functional.linear(hidden, self.layer.weight, self.layer.bias)


def defer_head(model: PreTrainedModel, trainer: Trainer) -> DeferredHead | None:
    """Let a model's loss make the logits itself, where the loss is the model's own call.

    Args:
        model: its loss is `causal_loss`, and all its weights are here as they are, unless `trainer`
            divides them.
        trainer: made for the model.
    """
    args = trainer.args
    is_divided = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    is_replaced = trainer.compute_loss_func is not None or bool(args.label_smoothing_factor)
    if is_divided or is_replaced or args.torch_compile or args.use_liger_kernel:
        return None
    head = find_head(model)
    if head is not None:
        model.loss_function = partial(model.loss_function, head=head)
    return head


def find_head(model: PreTrainedModel) -> DeferredHead | None:
    """The output layer of a model that does nothing with its logits but scale them.

    A tensor of large numbers is put in place of what the layer gives, and what reaches
    `loss_function` is looked at: a soft cap, a cut, a mask or a loss of the model's own show there.

    Args:
        model: on its device; its mode, its loss and the random state are left as they were.

    Returns:
        None where the layer isn't a plain one, has hooks, or more is done with its logits.
    """
    layer = model.get_output_embeddings()
    if type(layer) is not nn.Linear or not layer.weight.is_floating_point():
        return None
    if has_hooks(layer) or layer.weight.is_meta:
        return None
    seen = _what_the_loss_sees(model, layer)
    if seen is None:
        return None
    given, taken = seen
    if given.shape != taken.shape or not bool(torch.isfinite(taken).all()):
        return None
    scale = float(taken.flatten()[0] / given.flatten()[0])
    is_scaled = torch.allclose(taken.double(), given.double() * scale, rtol=1e-2, atol=0.0)
    if not is_scaled or not scale or (scale != 1.0 and layer.bias is not None):
        return None
    return DeferredHead(layer)


@torch.no_grad()
def _what_the_loss_sees(
    model: PreTrainedModel, layer: nn.Linear
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """What a stand-in for the layer gave, and what of it reached the loss."""
    given: list[torch.Tensor] = []
    taken: list[torch.Tensor] = []

    def stand_in(hidden: torch.Tensor) -> torch.Tensor:
        sizes = torch.logspace(0, _LARGEST, hidden.numel(), device=hidden.device)
        sizes[1::2] *= -1
        given.append(sizes.view_as(hidden).to(hidden.dtype))
        return given[-1]

    def loss(logits: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        taken.append(logits)
        return logits.sum()

    ids = torch.zeros(_SHAPE, dtype=torch.int64, device=model.device)
    was_training, own_loss = model.training, model.loss_function
    device = [model.device] if model.device.type == "cuda" else []
    model.eval()
    layer.forward = stand_in  # type: ignore[assignment, method-assign]
    model.loss_function = loss
    try:
        with torch.random.fork_rng(devices=device):
            model(input_ids=ids, labels=ids, use_cache=False)
    except Exception:  # whatever it is that this architecture needs the logits for
        return None
    finally:
        del layer.forward
        model.loss_function = own_loss
        model.train(was_training)
    return (given[0], taken[0]) if len(given) == len(taken) == 1 else None


def _hand_on(hidden: torch.Tensor) -> torch.Tensor:
    return hidden
