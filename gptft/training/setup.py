"""What a run works with: the model, its blocks, the Trainer between them.

In: a config and a prepared block store. Out: a `Job` in which all goes together; the fingerprint of
what decides its weights; and in the end its model on disk.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.trainer_callback import PrinterCallback

from gptft.config.sections import Config
from gptft.config.training_fields import DEFAULT_NGRAM_SIZE
from gptft.data.store import BlockStore, read_ledger
from gptft.errors import ConfigError, DataError, ModelError
from gptft.files import json_checksum, sync_folder, sync_tree
from gptft.models.hub import find_model
from gptft.models.load import context_of, load_auto_tokenizer, load_for_training, new_model
from gptft.models.precision import named_dtype
from gptft.models.source import VOLATILE_FIELDS
from gptft.runs import run_folder
from gptft.training.arguments import training_arguments
from gptft.training.dataset import (
    BlockDataset,
    CutEachEpoch,
    ShiftedBlockDataset,
    collate_blocks,
    collate_isolated,
    spread_indices,
)
from gptft.training.document_masking import check_isolation
from gptft.training.resume import decides
from gptft.training.signals import Interrupts
from gptft.training.trainer import BlockTrainer, Measured
from gptft.training.unlikelihood import Unlikelihood
from gptft.version import __version__

_FIT_BLOCKS = 64  # training blocks measured before and after: enough to see fit, quick at any size


@dataclass(frozen=True)
class Job:
    """What a run works with."""

    trainer: BlockTrainer
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    store: BlockStore
    store_dir: Path
    ledger: Mapping[str, Any]
    fit: BlockDataset
    validation: BlockDataset | None

    @property
    def num_parameters(self) -> int:
        """Weights, trained or not."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def dtype(self) -> str:
        """What the weights are trained in."""
        return str(self.model.dtype).removeprefix("torch.")

    def num_steps(self) -> int:
        """The steps of the whole run."""
        loader = self.trainer.get_train_dataloader()
        *_, max_steps = self.trainer.set_initial_training_values(self.trainer.args, loader)
        return int(max_steps)

    def release(self) -> None:
        """Give back what the accelerator holds."""
        self.trainer.accelerator.free_memory()
        self.model.to("cpu")  # type: ignore[arg-type]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def measure(self) -> tuple[Measured, Measured | None]:
        """The model as it is now, on the training text and on the validation part."""
        validation = self.trainer.measure(self.validation) if self.validation else None
        return self.trainer.measure(self.fit), validation


def assemble(config: Config, *, store_dir: Path, run_dir: Path, interrupts: Interrupts) -> Job:
    """Load all a run needs, and refuse what doesn't go together."""
    store = BlockStore(store_dir)
    ledger = read_ledger(store_dir) or {}
    has_validation = bool(ledger.get("validation_documents"))
    args = training_arguments(
        config.training, run_dir=run_dir, has_validation=has_validation, dtype=config.model.dtype
    )
    eos = int(ledger.get("eos_token_id", -1))
    model, tokenizer = _load(config, store_dir=store_dir, eos_token_id=eos, seed=args.seed)
    _check_fit(model, store, name=config.model.name)
    isolates = config.data is not None and config.data.isolate_documents
    if isolates:  # before the Trainer, which makes the run folder
        if args.place_model_on_device is not False and not (args.fsdp or args.deepspeed):
            model.to(args.device)  # type: ignore[arg-type]
        new = config.model.from_scratch is not None
        check_isolation(model, name="The new model" if new else config.model.name)
    set_seed(args.seed)
    validation = BlockDataset(BlockStore(store_dir, split="validation")) if has_validation else None
    shifts = config.data is not None and config.data.shift_blocks
    shifted = ShiftedBlockDataset(store, seed=args.seed, eos_token_id=eos)
    trainer = BlockTrainer(
        model=model,
        interrupts=interrupts,
        unlikelihood=_unlikelihood(config.training, eos_token_id=eos),
        args=args,
        data_collator=partial(collate_isolated, eos_token_id=eos) if isolates else collate_blocks,
        train_dataset=shifted if shifts else BlockDataset(store),
        eval_dataset=validation,
        callbacks=[CutEachEpoch(shifted)],
    )
    trainer.remove_callback(PrinterCallback)
    fit = BlockDataset(store, indices=spread_indices(len(store), at_most=_FIT_BLOCKS))
    return Job(trainer, model, tokenizer, store, store_dir, ledger, fit, validation)


def _load(
    config: Config, *, store_dir: Path, eos_token_id: int, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model, or a new one, with its tokenizer."""
    sizes = config.model.from_scratch
    if sizes is None:
        files = find_model(config.model.name, revision=config.model.revision)
        model = load_for_training(
            files,
            dtype=config.model.dtype,
            config_overrides=config.model.config_overrides,
            average_with=[(one.name, one.weight) for one in config.model.average_with],
        )
        tokenizer = load_auto_tokenizer(files)
    else:
        named = config.tokenizer.name
        tokenizer = load_auto_tokenizer(named if named else str(store_dir / "tokenizer"))
        model = new_model(
            sizes,
            vocab_size=len(tokenizer),
            eos_token_id=eos_token_id,
            seed=seed,
        )
    if tokenizer.eos_token_id != eos_token_id:  # the files disagree; the blocks have the last word
        tokenizer.eos_token = str(tokenizer.convert_ids_to_tokens(eos_token_id))
    _learn_eos(model, eos_token_id)
    return model, tokenizer


def _unlikelihood(training: Mapping[str, Any], *, eos_token_id: int) -> Unlikelihood | None:
    """What a repetition costs, where it costs anything."""
    if not (weight := training.get("unlikelihood_weight")):
        return None
    ngram_size = training.get("unlikelihood_ngram_size", DEFAULT_NGRAM_SIZE)
    return Unlikelihood(weight, ngram_size, eos_token_id)


def _learn_eos(model: PreTrainedModel, eos_token_id: int) -> None:
    """Let generation stop at the very token that ends documents in the blocks."""
    generation = model.generation_config
    known = generation.eos_token_id
    stops = known if isinstance(known, list) else [known]
    if eos_token_id not in stops:
        generation.eos_token_id = model.config.eos_token_id = eos_token_id
    if generation.pad_token_id is None:
        generation.pad_token_id = eos_token_id


def _check_fit(model: PreTrainedModel, store: BlockStore, *, name: str) -> None:
    """Refuse blocks the model would fail on with an IndexError in mid-run."""
    if not len(store):
        raise DataError("The block store holds no block. Prepare it again.")
    context, longest = context_of(model), len(store[0])
    if context is not None and longest > context:
        raise ConfigError(
            f"Blocks of {longest:,} tokens are longer than the context of {name}, {context:,}. "
            f"Use data.block_size: {context} or less."
        )
    num_ids = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    if (highest := store.max_token_id()) >= num_ids:
        raise ModelError(
            f"The blocks hold token id {highest:,}, and {name} has {num_ids:,} embeddings. "
            "Its tokenizer belongs to another model."
        )


def fingerprint(config: Config, job: Job) -> dict[str, Any]:
    """All that decides the weights, by names a person knows, as JSON gives it back."""
    args = job.trainer.args
    training = {
        f"training.{name}": value for name, value in args.to_dict().items() if decides(name)
    }
    if unlikelihood := job.trainer.unlikelihood:
        training["training.unlikelihood_weight"] = unlikelihood.weight
        training["training.unlikelihood_ngram_size"] = unlikelihood.ngram_size
    if config.model.average_with:
        training["model.average_with"] = config.model.model_dump()["average_with"]
    data = config.data
    model_config = job.model.config.to_dict()
    sizes = {name: value for name, value in model_config.items() if name not in VOLATILE_FIELDS}
    sizes["attn_implementation"] = job.model.config._attn_implementation
    facts = run_folder.versions()
    values = {
        **training,
        "data": job.store_dir.name,
        "data.shift_blocks": data.shift_blocks if data else None,
        "data.isolate_documents": data.isolate_documents if data else None,
        "tokenizer": _digest(job.tokenizer.get_vocab()),
        "model": config.model.name if config.model.from_scratch is None else "new",
        "model.config": _digest(sizes),
        "model.dtype": job.dtype,
        "device": args.device.type,
        "world_size": args.world_size,
        "threads": torch.get_num_threads(),
        **{f"versions.{name}": facts[name] for name in ("torch", "transformers") if name in facts},
        "versions.gptft": __version__,
    }
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _digest(value: Any) -> str:
    return json_checksum(value, default=str)[:16]


def save_model(job: Job, *, run_dir: Path, save_dtype: str) -> None:
    """Write `model/` under another name first, so that it is whole or absent."""
    job.model.config.use_cache = True  # Trainer turns it off for training, and it would be saved
    if save_dtype != "auto":
        job.model.to(named_dtype(save_dtype))  # type: ignore[arg-type]
    partial, old = run_dir / ".model.partial", run_dir / ".model.old"
    if job.trainer.is_world_process_zero():
        shutil.rmtree(partial, ignore_errors=True)
    job.trainer.accelerator.wait_for_everyone()
    job.trainer.save_model(str(partial))
    if job.trainer.is_world_process_zero():
        job.tokenizer.save_pretrained(str(partial))
        for path in partial.iterdir():  # safetensors writes for its owner alone
            path.chmod(0o666 & ~_umask())
        sync_tree(partial)
        if (run_dir / "model").exists():  # of a run that goes on
            shutil.rmtree(old, ignore_errors=True)
            (run_dir / "model").rename(old)
        partial.rename(run_dir / "model")
        sync_folder(run_dir)
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
