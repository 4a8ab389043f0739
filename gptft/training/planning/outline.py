"""A config -> its model as it would be trained, of tensors that have shapes and no contents."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PreTrainedModel, TrainingArguments

from gptft.config.sections import Config
from gptft.models.freeze import freeze
from gptft.models.hub import find_model
from gptft.models.load import training_config
from gptft.models.lora import add_adapter
from gptft.models.new import new_model
from gptft.models.precision import training_dtype
from gptft.models.quantized import num_weights
from gptft.tokenization.tokenizer import load_tokenizer
from gptft.training.lean_layers import use_lean_layers

# What a config says of logits that are changed before the loss, so that their layer isn't deferred.
_CAPS = ("final_logit_softcapping", "logits_soft_cap")


@dataclass(frozen=True)
class Outline:
    """A model without contents.

    Attributes:
        model: with its adapter, if it has one, and what is frozen.
        mode: in which its tensors have no contents.
        num_base: how many numbers the base has.
        is_adapter: whether an adapter is trained.
        is_deferrable: whether its logits can be made some rows at a time.
    """

    model: PreTrainedModel
    mode: FakeTensorMode
    num_base: int
    is_adapter: bool
    is_deferrable: bool


def outline(config: Config, args: TrainingArguments, *, ledger: Mapping[str, Any]) -> Outline:
    """Build the model of a run without memory for it.

    Args:
        config: already checked.
        args: of the run.
        ledger: of its blocks.

    Raises:
        Exception: transformers, peft or torch can't; each raises types of its own.
    """
    mode = FakeTensorMode()
    vocab_size = int(ledger.get("vocab_size", 0))
    with torch.random.fork_rng(devices=[]), mode, _staying():
        model, new_ids = _base(config, args, ledger=ledger, vocab_size=vocab_size)
        num_base = num_weights(model)
        if config.lora is not None:
            add_adapter(
                model, config.lora, base_name=config.model.name, revision=config.model.revision,
                seed=args.seed, new_ids=new_ids,
            )  # fmt: skip
        if config.model.freeze:
            freeze(model, config.model.freeze, has_new=bool(new_ids))
        use_lean_layers(model, args, is_tried=False)
    head = model.get_output_embeddings()
    is_capped = any(getattr(model.config, name, None) for name in _CAPS)
    is_plain = type(head) is nn.Linear and not is_capped
    is_own = args.torch_compile or args.use_liger_kernel or args.label_smoothing_factor or args.fsdp
    return Outline(model, mode, num_base, config.lora is not None, bool(is_plain and not is_own))


def _base(
    config: Config, args: TrainingArguments, *, ledger: Mapping[str, Any], vocab_size: int
) -> tuple[PreTrainedModel, list[int]]:
    """The base, or the new model, and the ids that its tokenizer has beyond the base's."""
    dropout = None if config.model.dropout == "own" else config.model.dropout
    if (sizes := config.model.from_scratch) is not None:
        eos, bos = int(ledger.get("eos_token_id", 0)), tuple(ledger.get("bos_token_ids", ()))
        made = new_model(
            sizes, vocab_size=vocab_size, eos_token_id=eos, dropout=dropout, seed=args.seed,
            bos_token_id=bos[0] if bos else None,
        )  # fmt: skip
        return made, []
    files = find_model(config.model.name, revision=config.model.revision, with_weights=False)
    own = training_config(files, config_overrides=config.model.config_overrides, dropout=dropout)
    if hasattr(own, "quantization_config"):
        del own.quantization_config
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        own, dtype=training_dtype(config.model.dtype), trust_remote_code=False
    )
    if config.tokenizer.name is None and not config.tokenizer.grows:
        return model, []
    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    multiple = config.tokenizer.pad_to_multiple_of
    needed = -(-max(rows, vocab_size) // multiple) * multiple
    if needed > rows:
        model.resize_token_embeddings(needed, mean_resizing=False)
    return model, [*range(load_tokenizer(files).vocab_size, vocab_size)]


@contextmanager
def _staying() -> Iterator[None]:
    """Leave modules where they are: parameters without contents can't be moved (torch 2.13)."""
    move = nn.Module.to
    stay: Any = lambda module, *args, **kwargs: module  # noqa: E731
    nn.Module.to = stay  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.to = move  # type: ignore[method-assign]
