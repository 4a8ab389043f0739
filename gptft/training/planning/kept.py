"""A model without memory -> the bytes that autograd keeps of a batch, and its operations.

The model is run on tensors that have shapes and no contents, so that nothing is computed and none
of it needs memory; what is saved for the backward pass is counted storage by storage. That holds
for any architecture, adapters and frozen weights among them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from gptft.training.head import DeferredHead

_attend = torch.nn.functional.scaled_dot_product_attention


@dataclass(frozen=True)
class Kept:
    """What a forward pass leaves for the backward pass.

    Attributes:
        num_bytes: that are kept.
        flops: operations of the forward pass.
    """

    num_bytes: int
    flops: int


class _Attention(torch.autograd.Function):
    """Keeps what the fused kernels of torch keep: their inputs, the result, a number a query.

    Without contents torch takes the kernel that keeps all scores, which no device does.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any
    ) -> torch.Tensor:
        """A result of shape (B, H, T, D), without contents."""
        result = torch.empty_like(query)  # its memory is laid out as the query's
        if value.shape[-1] != query.shape[-1]:
            result = query.new_empty((*query.shape[:-1], value.shape[-1]))
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, result, sums, mask)
        return result

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        """Never called."""
        raise NotImplementedError


def kept_of_batch(
    model: PreTrainedModel,
    mode: FakeTensorMode,
    *,
    rows: int,
    length: int,
    is_isolated: bool,
    autocast: torch.dtype | None,
    head: DeferredHead | None,
) -> Kept:
    """What a batch of `rows` blocks of `length` tokens leaves.

    Args:
        model: made within `mode`.
        mode: in which tensors have no contents.
        rows: blocks.
        length: tokens of each.
        is_isolated: whether documents are kept from seeing each other, which takes a mask.
        autocast: what layers compute in, where that isn't the weights' own.
        head: the output layer, where it is deferred.
    """
    own = {mode_storage(one) for one in (*model.parameters(), *model.buffers())}
    seen: dict[int, Any] = {}  # the storages themselves: one that is freed gives its number away

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if mode_storage(tensor) not in own:
            seen[mode_storage(tensor)] = tensor.untyped_storage()
        return tensor

    attended: list[int] = []
    model.train()
    counter = FlopCounterMode(display=False)
    mixed: Any = nullcontext() if autocast is None else torch.autocast("cpu", dtype=autocast)
    with mode, _fused_attention(attended, is_masked=is_isolated), counter, mixed:
        inputs = {"input_ids": torch.zeros((rows, length), dtype=torch.int64)}
        if is_isolated:
            inputs["position_ids"] = torch.zeros((rows, length), dtype=torch.int64)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            nullcontext() if head is None else head.deferred(),
        ):
            outputs = model(**inputs, use_cache=False)
    flops = counter.get_total_flops() + sum(attended)
    if head is not None:
        flops += 2 * rows * length * head.layer.weight.numel()
    num_bytes = sum(storage.nbytes() for storage in seen.values())
    del outputs
    return Kept(num_bytes, flops)


def mode_storage(tensor: torch.Tensor) -> int:
    """What tells the memory of one tensor from that of another, as long as both are there."""
    return int(tensor.untyped_storage()._cdata)


@contextmanager
def _fused_attention(attended: list[int], *, is_masked: bool) -> Iterator[None]:
    """Attention as the fused kernels have it; its operations are added to `attended`."""

    def attend(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **kwargs: Any,
    ) -> torch.Tensor:
        if dropout_p:  # which no fused kernel of a CPU has
            return _attend(query, key, value, attn_mask, dropout_p, is_causal, **kwargs)
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        # Half of the scores are above the diagonal; each takes 2 D operations, and its value, too.
        attended.append(2 * query.numel() * key.shape[-2])
        mask = None if attn_mask is None else attn_mask.to(query.dtype)
        result: torch.Tensor = _Attention.apply(query, key, value, mask)  # type: ignore[no-untyped-call]
        return result

    replaced: Any = attend
    torch.nn.functional.scaled_dot_product_attention = replaced
    # A mask that only says what is causal is left out where contents can be looked at.
    masks = nullcontext() if is_masked else _without_masks()
    try:
        with masks:
            yield
    finally:
        torch.nn.functional.scaled_dot_product_attention = _attend


@contextmanager
def _without_masks() -> Iterator[None]:
    before = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] = lambda *args, **kwargs: None
    try:
        yield
    finally:
        ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] = before
