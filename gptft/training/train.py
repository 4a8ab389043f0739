"""The stage block store + base model -> run folder: what `gptft train` does.

In: a config and a prepared block store. Out: a run folder whose `model/` plain transformers opens,
and a `TrainResult` with what was measured before and after.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from gptft.training.dataset import BlockDataset, collate_blocks, spread_indices
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
        ModelError: the base model can't be read, or doesn't fit the blocks.
        RunError: the run folder can't be written.
    """
    _quiet_libraries()
    run_folder.check_free(run_dir, overwrite=overwrite)
    store = BlockStore(store_dir)
    ledger = read_ledger(store_dir) or {}
    has_validation = bool(ledger.get("validation_documents"))
    args = training_arguments(
        config.training, run_dir=run_dir, has_validation=has_validation, dtype=config.model.dtype
    )
    model, tokenizer = _load(config, store_dir=store_dir, seed=args.seed)
    _check_fit(model, store, name=config.model.name)
    if args.process_index == 0:
        run_folder.claim(run_dir)
    facts = _start(run_dir, config, ledger=ledger, store_dir=store_dir, model=model)
    set_seed(args.seed)
    validation = BlockDataset(BlockStore(store_dir, part="validation")) if has_validation else None
    fit = BlockDataset(store, indices=spread_indices(len(store), at_most=_FIT_BLOCKS))
    trainer = BlockTrainer(
        model=model,
        args=args,
        data_collator=collate_blocks,
        train_dataset=BlockDataset(store),
        eval_dataset=validation,
    )
    log = RunLog(
        run_dir / "metrics.jsonl",
        console=console,
        num_tokens_seen=lambda: int(trainer.num_tokens_seen),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(log)
    writer = SampleWriter(
        run_dir / "samples.jsonl",
        sampler=sampler,
        tokenizer=tokenizer,
        prompts=config.samples.prompts,
    )
    if config.samples.steps and config.samples.prompts:
        trainer.add_callback(SampleEvery(writer, steps=config.samples.steps))
    parameters = sum(p.numel() for p in model.parameters())
    notify(
        f"Training {parameters:,} parameters in {str(model.dtype).removeprefix('torch.')} on "
        f"{args.device.type}, {len(store):,} blocks."
    )
    before = _measure(trainer, fit, validation)
    first = writer.write(model, step=0) if trainer.is_world_process_zero() else []
    started = time.perf_counter()
    try:
        trainer.train()
    finally:
        log.close()
    seconds = time.perf_counter() - started
    after = _measure(trainer, fit, validation)
    steps = trainer.state.global_step
    last = writer.write(model, step=steps) if trainer.is_world_process_zero() else []
    result = TrainResult(
        run_dir=run_dir,
        steps=steps,
        seconds=seconds,
        num_tokens=int(trainer.num_tokens_seen) * args.world_size,
        train=BeforeAfter(before[0], after[0]),
        validation=BeforeAfter(before[1], after[1]) if before[1] and after[1] else None,
        samples=tuple(map(Sample, config.samples.prompts, first, last)),
    )
    _save(trainer, model, tokenizer, run_dir=run_dir, config=config)
    if trainer.is_world_process_zero():
        finished = {**facts, "state": "done", "finished": run_folder.now()}
        run_folder.write_json(run_dir / "run.json", {**finished, "result": result.to_dict()})
    return result


def _quiet_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal; errors still come through."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def _load(
    config: Config, *, store_dir: Path, seed: int
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
            eos_token_id=_eos_id(tokenizer, config.model.name),
            seed=seed,
        )
    _learn_eos(model, _eos_id(tokenizer, config.model.name))
    return model, tokenizer


def _eos_id(tokenizer: PreTrainedTokenizerBase, name: str) -> int:
    eos = tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise ModelError(f"The tokenizer of {name} has no EOS token. Set eos_token in its config.")
    return eos


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


def _start(
    run_dir: Path,
    config: Config,
    *,
    ledger: Mapping[str, Any],
    store_dir: Path,
    model: PreTrainedModel,
) -> dict[str, Any]:
    """Write config.yaml and run.json; returns run.json's content."""
    resolved = config.model_dump(mode="json", exclude_none=True)
    resolved["training"] = {**config.training, "output_dir": str(run_dir)}
    facts = run_folder.fingerprint(
        state="running",
        config=resolved,
        data={"store": store_dir.name, "ledger": dict(ledger)},
        seed=config.training.get("seed", 42),
        dtype=str(model.dtype).removeprefix("torch."),
        num_parameters=sum(p.numel() for p in model.parameters()),
        threads=torch.get_num_threads(),
    )
    if facts["world_size"] == 1 or torch.distributed.get_rank() == 0:
        (run_dir / "config.yaml").write_text(dump_yaml(resolved), encoding="utf-8")
        run_folder.write_json(run_dir / "run.json", facts)
    return facts


def _measure(
    trainer: BlockTrainer, fit: BlockDataset, validation: BlockDataset | None
) -> tuple[Measured, Measured | None]:
    return trainer.measure(fit), trainer.measure(validation) if validation else None


def _save(
    trainer: BlockTrainer,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    run_dir: Path,
    config: Config,
) -> None:
    """Write `model/` under another name first, so that it is whole or absent."""
    if config.model.save_dtype != "auto":
        model.to(named_dtype(config.model.save_dtype))  # type: ignore[arg-type]
    partial = run_dir / ".model.partial"
    trainer.save_model(str(partial))
    if trainer.is_world_process_zero():
        tokenizer.save_pretrained(str(partial))
        partial.rename(run_dir / "model")
