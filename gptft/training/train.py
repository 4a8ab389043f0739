"""The stage block store + base model -> run folder: what `gptft train` does.

In: a config and a prepared block store. Out: a run folder whose `model/` plain transformers opens,
and a `TrainResult` with what was measured before and after.
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging as transformers_logging

from gptft import __version__
from gptft.config.sections import Config
from gptft.config.source import dump_yaml
from gptft.corpus.store import BlockStore, read_ledger, sync_folder
from gptft.errors import ConfigError, DataError, Interrupted, ModelError, RunError
from gptft.models.load import context_of, load_auto_tokenizer, load_for_training, new_model
from gptft.models.precision import named_dtype
from gptft.training import run_folder
from gptft.training.arguments import training_arguments
from gptft.training.checkpoints import Checkpoint, newest_valid
from gptft.training.dataset import (
    BlockDataset,
    CutEachEpoch,
    ShiftedBlockDataset,
    collate_blocks,
    collate_isolated,
    spread_indices,
)
from gptft.training.disk import means_full
from gptft.training.interrupts import Interrupts
from gptft.training.isolation import check_isolation
from gptft.training.progress import RunLog
from gptft.training.resume import agreed_changes, decides
from gptft.training.samples import SampleEvery, Sampler, SampleWriter
from gptft.training.trainer import BlockTrainer, Measured, MeasuringStoppedError

_BATCH_FIELDS = (
    "training.per_device_train_batch_size",
    "training.gradient_accumulation_steps",
)
_FIT_BLOCKS = 64  # training blocks measured before and after: enough to see fit, quick at any size


@dataclass(frozen=True)
class BeforeAfter:
    """One figure of the model as it came and as it left."""

    before: Measured
    after: Measured

    def to_dict(self) -> dict[str, float | None]:
        """Losses in nats a token and perplexities, by name; None for one that isn't finite."""
        figures = {
            "loss_before": self.before.loss,
            "loss_after": self.after.loss,
            "perplexity_before": self.before.perplexity,
            "perplexity_after": self.after.perplexity,
        }
        return {**run_folder.finite_only(figures), "num_tokens": self.after.num_tokens}


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


@dataclass(frozen=True)
class Resume:
    """How to go on with a run.

    Attributes:
        allow: fields of the fingerprint that may differ.
        extend: whether more steps or epochs may be asked for than before.
    """

    allow: tuple[str, ...] = ()
    extend: bool = False


def train_model(
    config: Config,
    *,
    store_dir: Path,
    run_dir: Path,
    sampler: Sampler,
    console: Console,
    overwrite: bool = False,
    resume: Resume | None = None,
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
        resume: go on with the run in `run_dir`, if there is one.
        notify: told in a sentence what happens next.

    Raises:
        ConfigError: settings that don't go together or aren't those of the run to go on with, or a
            run folder in use.
        ModelError: the base model can't be read, doesn't fit the blocks, or can't isolate documents
            where it is asked to.
        RunError: the run folder can't be written, the disk is full, or training diverged.
        Interrupted: a signal ended it; what was trained is saved.
    """
    _quiet_libraries()
    interrupts = Interrupts()
    with interrupts.listen(), run_folder.hold(run_dir):
        earlier = run_folder.read_facts(run_dir) if resume else None
        if earlier is None:
            run_folder.check_free(run_dir, overwrite=overwrite)
        while True:
            run = _Run(
                config,
                store_dir=store_dir,
                run_dir=run_dir,
                sampler=sampler,
                interrupts=interrupts,
                notify=notify,
            )
            try:
                run.begin(earlier, resume or Resume(), overwrite=overwrite)
                return run.finish(run.train(console))
            except torch.OutOfMemoryError as error:
                config, earlier = run.after_out_of_memory(error), run.facts
                resume = Resume(allow=(*(resume.allow if resume else ()), *_BATCH_FIELDS))
            except Interrupted:
                raise run.stopped() from None
            except RunError as error:
                run.failed(str(error))
                raise
            except Exception as error:  # from a log, say
                if not means_full(error):
                    raise
                raise run.out_of_room(error) from error


class _Run:
    """One run, from its model to its last sample."""

    def __init__(
        self,
        config: Config,
        *,
        store_dir: Path,
        run_dir: Path,
        sampler: Sampler,
        interrupts: Interrupts,
        notify: Callable[[str], None],
    ) -> None:
        self._config, self._run_dir = config, run_dir
        self._interrupts, self._notify = interrupts, notify
        self._job = job = _assemble(
            config, store_dir=store_dir, run_dir=run_dir, interrupts=interrupts
        )
        self._is_first = job.trainer.is_world_process_zero()
        self._writer = SampleWriter(
            run_dir / "samples.jsonl",
            sampler=sampler,
            tokenizer=job.tokenizer,
            prompts=config.samples.prompts,
        )
        self._checkpoint: Checkpoint | None = None
        self.facts: dict[str, Any] | None = None  # run.json, once there is one

    def begin(self, earlier: Mapping[str, Any] | None, resume: Resume, *, overwrite: bool) -> None:
        """Measure, and claim the folder; or find where to go on."""
        job = self._job
        job.trainer.check_disk()
        if earlier is not None:
            self._go_on(earlier, resume)
        self._notify(
            f"Training {job.num_parameters:,} parameters in {job.dtype} on "
            f"{job.trainer.args.device.type}, {len(job.store):,} blocks."
        )
        if earlier is not None and "before" in earlier:
            self._before = _measured_from(earlier["before"])
            self._first = list(earlier["before"]["samples"])
            if self._is_first and self._checkpoint is None:
                self._writer.write(self._first, step=0)
            return
        self._before = job.measure()
        self._first = self._writer.sample(job.model) if self._is_first else []
        if self._is_first:  # nothing on disk is touched before all that can be refused has been
            run_folder.claim(self._run_dir, overwrite=overwrite)
        before = {name: _plain(figure) for name, figure in _named(self._before).items()}
        self.facts = _start(
            self._run_dir, self._config, job=job, before={**before, "samples": self._first}
        )
        if self._is_first:
            self._writer.write(self._first, step=0)

    def _go_on(self, earlier: Mapping[str, Any], resume: Resume) -> None:
        """Take up the newest whole checkpoint of a run that is still the same run.

        Raises:
            ConfigError: something that decides its weights is another now.
        """
        job = self._job
        new = json.loads(json.dumps(_fingerprint(self._config, job), default=str))
        old = earlier.get("fingerprint")
        if not isinstance(old, dict):
            raise ConfigError(
                f"{self._run_dir} was made by a gptft that couldn't go on with its runs. "
                "Name another training.output_dir."
            )
        changes = agreed_changes(old, new, allow=resume.allow, extend=resume.extend)
        folder = self._run_dir / "checkpoints"
        self._checkpoint, skipped = newest_valid(folder)
        planned = self._checkpoint.step if self._checkpoint else 0
        if resume.extend and earlier.get("state") == "done" and job.num_steps() <= planned:
            raise ConfigError(
                f"{self._run_dir} is complete, and --extend asks for no more. Set a larger "
                "training.num_train_epochs or training.max_steps."
            )
        for one in skipped:
            self._notify(f"Skipped {one.name}: {one.reason}.")
        step = self._checkpoint.step if self._checkpoint else 0
        if self._checkpoint is None:
            self._notify(f"{folder} holds no whole checkpoint: training begins again.")
        else:
            self._notify(f"Going on from step {step:,} ({self._checkpoint.path}).")
            job.trainer.resume_from(
                self._checkpoint, changed=frozenset(change.field for change in changes)
            )
        self.facts = {
            **{name: fact for name, fact in earlier.items() if name not in ("error", "step")},
            "state": "running",
            "config": self._resolved(),
            "fingerprint": new,
            "changes": [
                *earlier.get("changes", []),
                *({**change.to_dict(), "step": step} for change in changes),
            ],
            "resumed": [*earlier.get("resumed", []), {"step": step, "time": run_folder.now()}],
        }
        for change in changes:
            self._notify(f"{change.field} changes from {change.old} to {change.new}.")
        if self._is_first:
            shutil.rmtree(self._run_dir / ".model.partial", ignore_errors=True)
            cut = step if self._checkpoint else -1
            run_folder.drop_rows_after(self._run_dir / "metrics.jsonl", step=cut)
            run_folder.drop_rows_after(self._run_dir / "samples.jsonl", step=cut)
            self._write_facts()
            run_folder.write_text(self._run_dir / "config.yaml", dump_yaml(self._resolved()))

    def _resolved(self) -> dict[str, Any]:
        resolved = self._config.resolved()
        resolved["training"]["output_dir"] = str(self._run_dir)
        return resolved

    def train(self, console: Console) -> float:
        """Train to the end, or to a signal; returns the seconds it took.

        Raises:
            Interrupted: there was a signal.
        """
        trainer, checkpoint = self._job.trainer, self._checkpoint
        is_over = checkpoint is not None and checkpoint.step >= self._job.num_steps()
        if checkpoint is not None and is_over:
            self._notify(f"Step {checkpoint.step:,} was the last one; nothing is left to train.")
        with self._interrupts.deferred():
            seconds = _train(
                trainer,
                self._writer,
                run_dir=self._run_dir,
                console=console,
                every=self._config.samples.steps,
                checkpoint=checkpoint,
                is_over=is_over,
            )
        if self._interrupts.stop is not None:
            raise self._interrupts.interrupted("")
        return seconds

    def finish(self, seconds: float) -> TrainResult:
        """Measure again, write the model and what was found."""
        job, run_dir = self._job, self._run_dir
        after = job.measure()
        last = self._writer.sample(job.model) if self._is_first else []
        before = self._before
        result = TrainResult(
            run_dir=run_dir,
            steps=job.trainer.state.global_step,
            seconds=seconds,
            num_tokens=job.trainer.total_tokens_seen(),
            train=BeforeAfter(before[0], after[0]),
            validation=BeforeAfter(before[1], after[1]) if before[1] and after[1] else None,
            samples=tuple(map(Sample, self._config.samples.prompts, self._first, last)),
        )
        with self._interrupts.deferred():  # what is left takes no longer than a checkpoint
            try:
                _save(job, run_dir=run_dir, save_dtype=self._config.model.save_dtype)
            except Exception as error:  # torch and safetensors raise types of their own
                raise job.trainer.explain_write(error) from error
            if self._is_first and self.facts is not None:
                # A process that died just here has written them already.
                run_folder.drop_rows_after(run_dir / "samples.jsonl", step=result.steps - 1)
                self._writer.write(last, step=result.steps)
                self.facts |= {
                    "state": "done",
                    "finished": run_folder.now(),
                    "result": result.to_dict(),
                }
                self._write_facts()
                run_folder.drop_earlier(run_dir)
        return result

    def stopped(self) -> Interrupted:
        """Keep what was trained, after a signal; what ends the command."""
        trainer = self._job.trainer
        step = trainer.state.global_step
        if self._interrupts.at_once:  # perhaps in the middle of an update: nothing is saved
            self._note_state("stopped")
            return self._interrupts.interrupted(
                "and a second Ctrl-C, at once. Go on from the newest checkpoint with --resume"
            )
        if self.facts is None or not step:
            self._note_state("stopped")
            return self._interrupts.interrupted("before the first step; nothing was lost")
        if self._job.trainer.args.world_size == 1:  # several have saved together, between two steps
            trainer.save_checkpoint()
        self._note_state("stopped", step=step)
        return self._interrupts.interrupted(
            f"after step {step:,}, which is saved. Go on with --resume"
        )

    def failed(self, why: str) -> None:
        """Write down that the run ended with an error."""
        self._note_state("failed", step=self._job.trainer.state.global_step, error=why)

    def out_of_room(self, error: Exception) -> Exception:
        """Write down, if that is still possible, that the disk is full; what ends the command."""
        why = self._job.trainer.explain_write(error)
        self.failed(str(why))
        return why

    def after_out_of_memory(self, error: torch.OutOfMemoryError) -> Config:
        """Keep what was trained, and give the config with half the batch, twice the accumulation.

        Raises:
            RunError: it isn't asked for, or one block at a time is too much already.
        """
        trainer, training = self._job.trainer, self._config.training
        batch = trainer.args.per_device_train_batch_size
        if not training.get("auto_batch") or batch == 1 or self.facts is None:
            way = "Lower data.block_size" if batch == 1 else "Set training.auto_batch: true"
            problem = f"Out of memory with {batch} blocks a batch. {way}, or take a smaller model."
            self.failed(problem)
            raise RunError(problem) from error
        if trainer.state.global_step and not trainer.in_optimizer_step:
            trainer.undo_step()
            trainer.save_checkpoint()
        by = next(n for n in range(2, batch + 1) if batch % n == 0)
        accumulation = trainer.args.gradient_accumulation_steps * by
        self._notify(
            f"Out of memory with {batch} blocks a batch: going on with {batch // by} and "
            f"gradient_accumulation_steps {accumulation}, which trains the same."
        )
        changed = {
            "per_device_train_batch_size": batch // by,
            "gradient_accumulation_steps": accumulation,
        }
        config = self._config.model_copy(update={"training": {**training, **changed}})
        self._job.release()
        return config

    def _note_state(self, state: str, **more: Any) -> None:
        if self._is_first and self.facts is not None:
            self.facts |= {"state": state, **more}
            with suppress(OSError):  # on a full disk: what ended the run is told all the same
                self._write_facts()

    def _write_facts(self) -> None:
        if self.facts is not None:
            run_folder.write_json(self._run_dir / "run.json", self.facts)


def _named(figures: tuple[Measured, Measured | None]) -> dict[str, Measured | None]:
    return dict(zip(("train", "validation"), figures, strict=True))


def _plain(figure: Measured | None) -> dict[str, Any] | None:
    return None if figure is None else {"loss": figure.loss, "num_tokens": figure.num_tokens}


def _measured_from(before: Mapping[str, Any]) -> tuple[Measured, Measured | None]:
    validation = before.get("validation")
    return _read(before["train"]), _read(validation) if validation else None


def _read(figure: Mapping[str, Any]) -> Measured:
    """What `_plain` wrote; JSON has no word for a loss that isn't a number."""
    loss = figure["loss"]
    return Measured(math.nan if loss is None else float(loss), int(figure["num_tokens"]))


def _fingerprint(config: Config, job: "_Job") -> dict[str, Any]:
    """All that decides the weights, by names a person knows."""
    args = job.trainer.args
    training = {
        f"training.{name}": value for name, value in args.to_dict().items() if decides(name)
    }
    data = config.data
    model_config = job.model.config.to_dict()
    volatile = ("_name_or_path", "transformers_version", "use_cache", "dtype", "torch_dtype")
    sizes = {name: value for name, value in model_config.items() if name not in volatile}
    facts = run_folder.versions()
    return {
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


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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


def _assemble(config: Config, *, store_dir: Path, run_dir: Path, interrupts: Interrupts) -> _Job:
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
        interrupts=interrupts,
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
    checkpoint: Checkpoint | None,
    is_over: bool,
) -> float:
    """Train to the end from the start or a checkpoint, logging; returns the seconds of it all."""
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
        if checkpoint is not None and is_over:
            trainer.load_finished(checkpoint)
            return trainer.seconds_before
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    except MeasuringStoppedError:  # before the first step of this process: nothing is lost
        pass
    finally:
        log.close()
    return trainer.seconds_before + time.perf_counter() - started


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


def _start(
    run_dir: Path, config: Config, *, job: _Job, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Write config.yaml and run.json; returns run.json's content."""
    resolved = config.resolved()
    resolved["training"]["output_dir"] = str(run_dir)
    facts = run_folder.circumstances(
        state="running",
        fingerprint=json.loads(json.dumps(_fingerprint(config, job), default=str)),
        before=before,
        config=resolved,
        data={"store": job.store_dir.name, "ledger": dict(job.ledger)},
        seed=job.trainer.args.seed,
        dtype=job.dtype,
        device=job.trainer.args.device.type,
        num_parameters=job.num_parameters,
        threads=torch.get_num_threads(),
    )
    if job.trainer.is_world_process_zero():
        run_folder.write_json(run_dir / "run.json", facts)  # from here on it is a run to go on with
        run_folder.write_text(run_dir / "config.yaml", dump_yaml(resolved))
    return facts


def _save(job: _Job, *, run_dir: Path, save_dtype: str) -> None:
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
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        sync_folder(partial)
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
