"""A config -> the model to be trained and its tokenizer, with what is trained of it."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from gptft.config.sections import Config, TokenizerConfig
from gptft.errors import ModelError
from gptft.models.freeze import freeze
from gptft.models.freeze_check import DIVIDED
from gptft.models.grow import add_rows, new_tokens
from gptft.models.hub import find_model
from gptft.models.load import load_for_training
from gptft.models.lora import TrainedAdapter, add_adapter
from gptft.models.new import new_model
from gptft.models.quantized import quantized_loading
from gptft.terminal.words import count
from gptft.tokenization.auto import load_auto_tokenizer
from gptft.tokenization.extension import added_token
from gptft.training.run_tokenizer import begin_as_blocks


def load_base(
    config: Config,
    *,
    store_dir: Path,
    eos_token_id: int,
    bos_token_ids: tuple[int, ...],
    chat: Mapping[str, Any],
    args: TrainingArguments,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, tuple[str, ...], Sequence[int]]:
    """The base model, or a new one, with its tokenizer, what to say of them, and new ids.

    Args:
        config: with the sections model and tokenizer.
        store_dir: of the blocks, where a tokenizer that was trained lies.
        eos_token_id: the token that ends documents in the blocks.
        bos_token_ids: what begins them.
        chat: how conversations are written in them, as the ledger has it; empty for texts.
        args: where a quantized base is to be, and the seed of a new model's weights.

    Raises:
        ModelError: the base can't be found or read.
        ConfigError: a setting doesn't fit it.
    """
    sizes, notes, new_ids = config.model.from_scratch, tuple[str, ...](), list[int]()
    own = _with_marks(config.tokenizer, chat)
    dropout = None if config.model.dropout == "own" else config.model.dropout
    if sizes is None:
        files = find_model(config.model.name, revision=config.model.revision)
        model = load_for_training(
            files,
            dtype=config.model.dtype,
            config_overrides=config.model.config_overrides,
            dropout=dropout,
            average_with=[(one.name, one.weight) for one in config.model.average_with],
            loading=None if config.lora is None or config.lora.quantize is None
            else quantized_loading(config.lora.quantize, device=args.device, name=files.name),
        )  # fmt: skip
        base = load_auto_tokenizer(files)
        tokenizer, notes = _grow(model, base, own)
        new_ids = sorted({*tokenizer.get_vocab().values()} - {*base.get_vocab().values()})
    else:
        named = config.tokenizer.name
        tokenizer = load_auto_tokenizer(named if named else str(store_dir / "tokenizer"))
        add_to(tokenizer, own)
        model = new_model(
            sizes,
            vocab_size=len(tokenizer),
            eos_token_id=eos_token_id,
            bos_token_id=bos_token_ids[0] if bos_token_ids else None,
            dropout=dropout,
            seed=args.seed,
        )
    if chat.get("template"):  # which writes what conversations begin with
        tokenizer.chat_template = chat["template"]
    else:
        tokenizer = begin_as_blocks(model, tokenizer, bos=bos_token_ids, eos_token_id=eos_token_id)
    if tokenizer.eos_token_id != eos_token_id:  # the files disagree; the blocks have the last word
        tokenizer.eos_token = str(tokenizer.convert_ids_to_tokens(eos_token_id))
    learn_eos(model, eos_token_id, ends=chat.get("end_token_ids", ()))
    return model, tokenizer, notes, new_ids


def make_adapter(
    config: Config, model: PreTrainedModel, args: TrainingArguments, *, new_ids: Sequence[int]
) -> TrainedAdapter | None:
    """The adapter that is trained in place of all weights, where one is asked for.

    Raises:
        ConfigError: its settings don't fit the model.
        ModelError: the weights aren't all here.
    """
    if config.lora is None:
        return None
    if is_elsewhere(model, args) or args.fsdp:
        raise ModelError(
            "lora: an adapter is trained in one process or several with all weights each, and "
            "training.fsdp or DeepSpeed divide them. Leave those out."
        )
    adapter = add_adapter(
        model, config.lora, base_name=config.model.name, revision=config.model.revision,
        seed=args.seed, new_ids=new_ids,
    )  # fmt: skip
    if args.gradient_checkpointing:
        model.enable_input_require_grads()
    return adapter


def freeze_base(
    config: Config, model: PreTrainedModel, args: TrainingArguments, *, has_new: bool
) -> tuple[str, ...]:
    """Freeze the weights that are to stay as they are; sentences on what is frozen besides.

    Raises:
        ConfigError: see `freeze`.
        ModelError: the weights aren't all here.
    """
    if not config.model.freeze:
        return ()
    if is_elsewhere(model, args) or args.fsdp:
        raise ModelError(f"{DIVIDED} Leave those out.")
    notes = freeze(model, config.model.freeze, has_new=has_new)
    if args.gradient_checkpointing:  # which may start from what the embeddings give
        model.enable_input_require_grads()
    return notes


def _grow(
    model: PreTrainedModel, base: PreTrainedTokenizerBase, own: TokenizerConfig
) -> tuple[PreTrainedTokenizerBase, tuple[str, ...]]:
    """The tokenizer that a base is to have, once the model has a row for each of its tokens.

    Returns:
        the tokenizer, and what to say of it.
    """
    if own.name is None and not own.grows:
        return base, ()
    num_known = 1 + max(base.get_vocab().values())
    larger = load_auto_tokenizer(own.name) if own.name is not None else copy.deepcopy(base)
    add_to(larger, own)
    pieces = new_tokens(base, larger)
    add_rows(model, pieces, num_known=num_known, multiple_of=own.pad_to_multiple_of)
    rows = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    note = (
        f"{count(len(pieces), 'new token')}, whose embeddings begin at the mean of the pieces that "
        f"they replace; the model has {rows:,} embeddings."
    )
    return larger, (note,)


def add_to(tokenizer: PreTrainedTokenizerBase, own: TokenizerConfig) -> None:
    """Add what a config's section adds, the ids in the order of `with_added`."""
    tokenizer.add_tokens([added_token(text) for text in own.add_tokens])
    special = [added_token(text, special=True) for text in own.special_tokens]
    tokenizer.add_tokens(special, special_tokens=True)


def _with_marks(own: TokenizerConfig, chat: Mapping[str, Any]) -> TokenizerConfig:
    """A config's section, with the control tokens that a chat template needs besides."""
    added = [*own.special_tokens, *chat.get("added_tokens", ())]
    return own.model_copy(update={"special_tokens": added})


def learn_eos(model: PreTrainedModel, eos_token_id: int, *, ends: Sequence[int] = ()) -> None:
    """Let generation stop at the very token that ends documents in the blocks, and answers."""
    for config in (model.generation_config, model.config.get_text_config(decoder=True)):
        known = getattr(config, "eos_token_id", None)  # not every architecture's config has it
        if eos_token_id not in (known if isinstance(known, list) else [known]):
            config.eos_token_id = eos_token_id
    generation = model.generation_config
    if more := [i for i in ends if i != eos_token_id]:
        generation.eos_token_id = [eos_token_id, *more]
    if generation.pad_token_id is None:
        generation.pad_token_id = eos_token_id


def is_elsewhere(model: PreTrainedModel, args: TrainingArguments) -> bool:
    """Whether the weights aren't all here, and can't be tried."""
    return bool(args.deepspeed) or any(weight.is_meta for weight in model.parameters())
