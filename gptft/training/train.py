"""The stage block store + base model -> run folder: what `gptft train` does.

In: a config and a prepared block store. Out: a run folder whose `model/` plain transformers opens,
and a `TrainResult` with what was measured before and after.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging as transformers_logging

from gptft.config.sections import Config
from gptft.config.source import dump_yaml
from gptft.corpus.store import BlockStore, read_ledger
from gptft.errors import ConfigError, DataError, ModelError
from gptft.models.load import context_of, load_auto_tokenizer, load_for_training, new_model
from gptft.models.precision import named_dtype
from gptft.training import run_folder
from gptft.training.arguments import training_arguments
from gptft.training.dataset import (
    BlockDataset,
    CutEachEpoch,
    ShiftedBlockDataset,
    collate_blocks,
    collate_isolated,
    spread_indices,
)
from gptft.training.isolation import check_isolation
from gptft.training.progress import RunLog
from gptft.training.samples import SampleEvery, Sampler, SampleWriter
from gptft.training.trainer import BlockTrainer, Measured

_FIT_BLOCKS = 64  # training blocks measured before and after: enough to see fit, quick at any size


@dataclass(frozen=True)
class BeforeAfter:
    """One figure of the model as it came and as it left."""

    before: Measured
    after: Measured

    def to_dict(self) -> dict[str, float]:
        """Losses in nats a token and perplexities, by name."""
        return {
            "loss_before": self.before.loss,
            "loss_after": self.after.loss,
            "perplexity_before": self.before.perplexity,
            "perplexity_after": self.after.perplexity,
            "num_tokens": self.after.num_tokens,
        }


@dataclass(frozen=True)
class Sample:
    """A prompt, and how the model went on before and after training."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class TrainResult:
    """What a run did.

    Attributes:
        run_dir: its folder.
        steps: optimizer updates.
        seconds: of training itself.
        num_tokens: trained on, every epoch counted.
        train: on the training part, or 64 blocks spread over a longer one.
        validation: on the validation part, where there is one.
        samples: prompts with their continuations.
    """

    run_dir: Path
    steps: int
    seconds: float
    num_tokens: int
    train: BeforeAfter
    validation: BeforeAfter | None
    samples: tuple[Sample, ...]

    def to_dict(self) -> dict[str, Any]:
        """The figures by name, as in run.json."""
        return {
            "run_dir": str(self.run_dir),
            "model_dir": str(self.run_dir / "model"),
            "steps": self.steps,
            "seconds": round(self.seconds, 2),
            "num_tokens": self.num_tokens,
            "tokens_per_second": round(self.num_tokens / max(self.seconds, 1e-9), 1),
            "train": self.train.to_dict(),
            "validation": self.validation.to_dict() if self.validation else None,
            "samples": [vars(sample) for sample in self.samples],
        }


def train_model(
    config: Config,
    *,
    store_dir: Path,
    run_dir: Path,
    sampler: Sampler,
    console: Console,
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda message: None,
) -> TrainResult:
    """Train on a block store and leave a run folder.

    Args:
        config: the whole config, already checked.
        store_dir: a block store made for this config.
        run_dir: where the run goes; see `run_folder.check_free`.
        sampler: continues `samples.prompts`.
        console: where progress is shown.
        overwrite: replace an earlier run in `run_dir`.
        notify: told in a sentence what happens next.

    Raises:
        ConfigError: settings that don't go together, or a run folder in use.
        ModelError: the base model can't be read, doesn't fit the blocks, or can't isolate documents
            where it is asked to.
        RunError: the run folder can't be written.
    """
    _quiet_libraries()
    run_folder.check_free(run_dir, overwrite=overwrite)
    job = _assemble(config, store_dir=store_dir, run_dir=run_dir)
    trainer = job.trainer
    is_first = trainer.is_world_process_zero()
    writer = SampleWriter(
        run_dir / "samples.jsonl",
        sampler=sampler,
        tokenizer=job.tokenizer,
        prompts=config.samples.prompts,
    )
    notify(
        f"Training {job.num_parameters:,} parameters in {job.dtype} on "
        f"{trainer.args.device.type}, {len(job.store):,} blocks."
    )
    before = job.measure()
    first = writer.sample(job.model) if is_first else []
    if is_first:  # nothing on disk is touched before all that can be refused has been
        run_folder.claim(run_dir, overwrite=overwrite)
        writer.write(first, step=0)
    facts = _start(run_dir, config, job=job)
    seconds = _train(trainer, writer, run_dir=run_dir, console=console, every=config.samples.steps)
    after = job.measure()
    last = writer.sample(job.model) if is_first else []
    result = TrainResult(
        run_dir=run_dir,
        steps=trainer.state.global_step,
        seconds=seconds,
        num_tokens=trainer.total_tokens_seen(),
        train=BeforeAfter(before[0], after[0]),
        validation=BeforeAfter(before[1], after[1]) if before[1] and after[1] else None,
        samples=tuple(map(Sample, config.samples.prompts, first, last)),
    )
    _save(job, run_dir=run_dir, save_dtype=config.model.save_dtype)
    if is_first:
        writer.write(last, step=result.steps)
        finished = {**facts, "state": "done", "finished": run_folder.now()}
        run_folder.write_json(run_dir / "run.json", {**finished, "result": result.to_dict()})
        run_folder.drop_earlier(run_dir)
    return result


@dataclass(frozen=True)
class _Job:
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
        return sum(p.numel() for p in self.model.parameters())

    @property
    def dtype(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")

    def measure(self) -> tuple[Measured, Measured | None]:
        """The model as it is now, on the training text and on the validation part."""
        validation = self.trainer.measure(self.validation) if self.validation else None
        return self.trainer.measure(self.fit), validation


def _assemble(config: Config, *, store_dir: Path, run_dir: Path) -> _Job:
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
    validation = BlockDataset(BlockStore(store_dir, part="validation")) if has_validation else None
    shifts = config.data is not None and config.data.shift_blocks
    shifted = ShiftedBlockDataset(store, seed=args.seed, eos_token_id=eos)
    trainer = BlockTrainer(
        model=model,
        args=args,
        data_collator=partial(collate_isolated, eos_token_id=eos) if isolates else collate_blocks,
        train_dataset=shifted if shifts else BlockDataset(store),
        eval_dataset=validation,
        callbacks=[CutEachEpoch(shifted)],
    )
    trainer.remove_callback(PrinterCallback)
    fit = BlockDataset(store, indices=spread_indices(len(store), at_most=_FIT_BLOCKS))
    return _Job(trainer, model, tokenizer, store, store_dir, ledger, fit, validation)


def _train(
    trainer: BlockTrainer,
    writer: SampleWriter,
    *,
    run_dir: Path,
    console: Console,
    every: int | None,
) -> float:
    """Train to the end, logging; returns the seconds it took."""
    log = RunLog(
        run_dir / "metrics.jsonl",
        console=console,
        num_tokens_seen=lambda: int(trainer.num_tokens_seen),
    )
    trainer.add_callback(log)
    if every is not None:
        trainer.add_callback(SampleEvery(writer, steps=every))
    started = time.perf_counter()
    try:
        trainer.train()
    finally:
        log.close()
    return time.perf_counter() - started


def _quiet_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal; errors still come through."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _load(
    config: Config, *, store_dir: Path, eos_token_id: int, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base model, or a new one, with its tokenizer."""
    sizes = config.model.from_scratch
    if sizes is None:
        model = load_for_training(
            config.model.name,
            dtype=config.model.dtype,
            revision=config.model.revision,
            config_overrides=config.model.config_overrides,
        )
        tokenizer = load_auto_tokenizer(config.model.name, revision=config.model.revision)
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


def _start(run_dir: Path, config: Config, *, job: _Job) -> dict[str, Any]:
    """Write config.yaml and run.json; returns run.json's content."""
    resolved = config.resolved()
    resolved["training"]["output_dir"] = str(run_dir)
    facts = run_folder.fingerprint(
        state="running",
        config=resolved,
        data={"store": job.store_dir.name, "ledger": dict(job.ledger)},
        seed=job.trainer.args.seed,
        dtype=job.dtype,
        device=job.trainer.args.device.type,
        num_parameters=job.num_parameters,
        threads=torch.get_num_threads(),
    )
    if job.trainer.is_world_process_zero():
        (run_dir / "config.yaml").write_text(dump_yaml(resolved), encoding="utf-8")
        run_folder.write_json(run_dir / "run.json", facts)
    return facts


def _save(job: _Job, *, run_dir: Path, save_dtype: str) -> None:
    """Write `model/` under another name first, so that it is whole or absent."""
    job.model.config.use_cache = True  # Trainer turns it off for training, and it would be saved
    if save_dtype != "auto":
        job.model.to(named_dtype(save_dtype))  # type: ignore[arg-type]
    partial = run_dir / ".model.partial"
    job.trainer.save_model(str(partial))
    if job.trainer.is_world_process_zero():
        job.tokenizer.save_pretrained(str(partial))
        for path in partial.iterdir():  # safetensors writes for its owner alone
            path.chmod(0o666 & ~_umask())
        partial.rename(run_dir / "model")


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
