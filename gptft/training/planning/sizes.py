"""A config and the ledger of its blocks -> what decides the memory and the time of its run."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from gptft.config.sections import Config
from gptft.models.precision import named_dtype
from gptft.runs.plan_sizes import BatchSizes, Sizes
from gptft.training.head import DeferredHead
from gptft.training.loss import rows_at_once
from gptft.training.optimizers import make_optimizer
from gptft.training.planning.kept import Kept, kept_of_batch
from gptft.training.planning.outline import Outline

# Of libraries while they compute on a CPU: packed matrices, and what an evaluation and a backward
# pass leave in the heap (docs/experiments.md).
_BUFFERS = 120_000_000
_MOMENTS = 8  # bytes a trained parameter: AdamW's two, in float32
_BESIDE = 1_000_000  # of a checkpoint: its settings, its log, its tokenizer
_QUANTIZED = {"nf4": 0.5 + 1 / 16, "int8": 1.0}  # bytes a parameter, scales among them


def run_sizes(
    config: Config,
    args: TrainingArguments,
    outlined: Outline,
    *,
    block_size: int,
    is_isolated: bool,
    libraries: int,
) -> tuple[Sizes, str | None]:
    """What decides the memory of a run; and why what depends on its batch isn't known, if so.

    Args:
        config: already checked.
        args: of the run.
        outlined: its model.
        block_size: tokens of a block.
        is_isolated: whether documents are kept from seeing each other.
        libraries: bytes that the process has before the model.
    """
    model, why = outlined.model, None
    parameters = list(model.parameters())
    trained = [one for one in parameters if one.requires_grad]
    num_trained = sum(one.numel() for one in trained)
    weights = _weight_bytes(config, model)
    optimizer = _optimizer_bytes(model, args, outlined)
    average = _size_of(trained, 4) if config.training.get("ema_decay") is not None else 0
    batch = checkpointed = flops = None
    try:
        batch, checkpointed, flops = _batch(
            args, outlined, block_size=block_size, is_isolated=is_isolated
        )
    except Exception as error:  # whatever it is that this architecture needs contents for
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    saved = sum(one.nbytes for one in (trained if outlined.is_adapter else parameters))
    is_gpu = args.device.type == "cuda"
    return Sizes(
        device=args.device.type,
        parameters=outlined.num_base,
        trained=num_trained,
        libraries=0 if is_gpu else libraries + _BUFFERS,
        loading=0 if is_gpu or config.model.from_scratch is not None else weights,
        weights=weights,
        gradients=sum(one.nbytes for one in trained),
        optimizer=optimizer,
        average=average,
        batch=batch,
        checkpointed=checkpointed,
        batch_size=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        processes=args.world_size,
        block_size=block_size,
        flops_a_block=flops,
        model_bytes=_model_bytes(config, outlined, trained),
        saved_bytes=saved + average + _BESIDE + (0 if args.save_only_model else optimizer),
    ), why  # fmt: skip


def _size_of(tensors: Iterable[torch.Tensor], num_bytes: int) -> int:
    return sum(num_bytes * one.numel() for one in tensors)


def _weight_bytes(config: Config, model: PreTrainedModel) -> int:
    """Of parameters and buffers; of a quantized base its linear layers as they are packed."""
    total = sum(one.nbytes for one in (*model.parameters(), *model.buffers()))
    if config.lora is None or config.lora.quantize is None:
        return total
    share, head = _QUANTIZED[config.lora.quantize], model.get_output_embeddings()
    packed = [
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Linear) and module is not head and not module.weight.requires_grad
    ]
    return total - sum(one.nbytes for one in packed) + int(sum(share * w.numel() for w in packed))


def _model_bytes(config: Config, outlined: Outline, trained: Iterable[torch.Tensor]) -> int:
    """Of what a run leaves: the model, an adapter, or both."""
    name = config.model.save_dtype
    dtype = outlined.model.dtype if name == "auto" else named_dtype(name)
    whole = outlined.num_base * dtype.itemsize
    if config.lora is None:
        return whole
    adapter = _size_of(trained, 4)
    return adapter + (whole if config.lora.merge else 0)


def _optimizer_bytes(model: PreTrainedModel, args: TrainingArguments, outlined: Outline) -> int:
    """Of the state of the run's own optimizer, after a step without contents.

    Each group makes it alone, and its state is there before it looks at contents, if it does; what
    has no state even then is counted as AdamW's, or as that in 8 bits.
    """
    trained = [one for one in model.parameters() if one.requires_grad]
    beside = _MOMENTS if "bit" not in str(args.optim) or "32bit" in str(args.optim) else 2
    with outlined.mode:
        optimizer = _optimizer(model, args, trained)
        if optimizer is None:
            return _size_of(trained, beside)
        stateless: list[torch.Tensor] = []
        for group in [*optimizer.param_groups]:
            optimizer.param_groups = [group]
            for one in group["params"]:
                one.grad = torch.empty_like(one)
            try:
                optimizer.step()
            except Exception:  # each optimizer looks at contents in its own way
                stateless += [one for one in group["params"] if not optimizer.state.get(one)]
            for one in group["params"]:
                one.grad = None
    states = [value for state in optimizer.state.values() for value in state.values()]
    tensors = [one for one in states if isinstance(one, torch.Tensor)]
    return sum(one.nbytes for one in tensors) + _size_of(stateless, beside)


def _optimizer(
    model: PreTrainedModel, args: TrainingArguments, trained: list[Any]
) -> torch.optim.Optimizer | None:
    """The run's own; None where its package isn't here, or it can't be made without contents."""
    try:
        if (own := make_optimizer(model, args, decay_names=())) is not None:
            return own
        made, kwargs = Trainer.get_optimizer_cls_and_kwargs(args, model)
        optimizer: torch.optim.Optimizer = made(trained, **kwargs)
        return optimizer
    except Exception:  # of packages that few have
        return None


def _batch(
    args: TrainingArguments, outlined: Outline, *, block_size: int, is_isolated: bool
) -> tuple[BatchSizes, BatchSizes | None, int]:
    """What depends on the batch: as it is, with activation checkpointing, and operations."""
    model = outlined.model
    dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    layer: Any = model.get_output_embeddings()
    head = DeferredHead(layer) if outlined.is_deferrable else None

    def kept(rows: int) -> Kept:
        return kept_of_batch(
            model, outlined.mode, rows=rows, length=block_size, is_isolated=is_isolated,
            autocast=dtype, head=head,
        )  # fmt: skip

    one, two = kept(1), kept(2)
    a_block = two.num_bytes - one.num_bytes
    fixed = max(0, one.num_bytes - a_block)
    rows, channels = layer.weight.shape
    width = 4 if dtype is None else 6  # beside bfloat16's logits those of the loss, in float32
    copies = 0 if dtype is None else 2 * layer.weight.numel()
    logits = {
        "logits_a_row": width * rows if head is not None else 3 * rows * (2 if dtype else 4),
        "logits_rows": rows_at_once(args.device.type) if head is not None else None,
        "beside_a_token": 4 * channels if head is not None else 0,
    }
    full = BatchSizes(kept=fixed + copies, kept_a_block=a_block, **logits)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    factor = 2 + min(1.0, trained / max(outlined.num_base, 1))
    layers = max(1, int(getattr(model.config, "num_hidden_layers", 1)))
    recomputed = _checkpointed(kept, model, args, full, layers=layers)
    flops = one.flops * (factor + (1 if args.gradient_checkpointing else 0))
    if args.gradient_checkpointing and recomputed is not None:
        return recomputed, None, int(flops)
    return full, recomputed, int(flops)


def _checkpointed(
    kept: Callable[[int], Kept],
    model: PreTrainedModel,
    args: TrainingArguments,
    full: BatchSizes,
    *,
    layers: int,
) -> BatchSizes | None:
    """What is kept where layers are computed again: their inputs, and one layer in full."""
    if not model.supports_gradient_checkpointing:
        return None
    given = args.activation_checkpointing_kwargs
    kwargs = {**given} if isinstance(given, dict) else {}
    model.activation_checkpointing_enable(every_n_layers=int(kwargs.get("every_n_layers", 1)))
    model.enable_input_require_grads()
    try:
        one, two = kept(1), kept(2)
    finally:
        model.activation_checkpointing_disable()
    a_block = two.num_bytes - one.num_bytes
    again = max(0, full.kept_a_block - a_block) // layers
    return replace(full, kept_a_block=a_block + again)
