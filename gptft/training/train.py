"""The stage block store + base model -> run folder: what `gptft train` does.

In: a config and a prepared block store. Out: a run folder whose `model/` plain transformers opens,
and a `TrainResult` with what was measured before and after.
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console
from transformers.utils import logging as transformers_logging

from gptft.config.sections import Config
from gptft.config.source import dump_yaml
from gptft.errors import ConfigError, Interrupted, RunError
from gptft.files import JsonFields, as_json, is_disk_full, keep_json_lines, write_json, write_text
from gptft.models.precision import pick_device
from gptft.runs import run_folder
from gptft.runs.checkpoints import Checkpoint, clear_leftovers, newest_valid
from gptft.runs.read import BeforeAfter, Sample, read_facts
from gptft.training.memory_allocator import keep_freed_memory
from gptft.training.progress import RunLog
from gptft.training.resume import agreed_changes
from gptft.training.samples import SampleEvery, Sampler, SampleWriter
from gptft.training.setup import assemble, fingerprint, save_model
from gptft.training.signals import Interrupts
from gptft.training.trainer import BlockTrainer, Measured, MeasuringStoppedError

_BATCH_FIELDS = (
    "training.per_device_train_batch_size",
    "training.gradient_accumulation_steps",
)


@dataclass(frozen=True)
class TrainResult(JsonFields):
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

    json_names = (
        "run_dir",
        "model_dir",
        "steps",
        "seconds",
        "num_tokens",
        "tokens_per_second",
        "train",
        "validation",
        "samples",
    )
    json_digits: ClassVar = {"seconds": 2, "tokens_per_second": 1}

    @property
    def model_dir(self) -> Path:
        """The folder that transformers opens."""
        return self.run_dir / "model"

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on a second."""
        return self.num_tokens / max(self.seconds, 1e-9)


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
    if pick_device(use_cpu=bool(config.training.get("use_cpu"))).type == "cpu":
        keep_freed_memory()
    interrupts = Interrupts()
    with interrupts.listen(), run_folder.hold(run_dir):
        earlier = read_facts(run_dir) if resume else None
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
                if not is_disk_full(error):
                    run.failed(f"{type(error).__name__}: {error}")
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
        self._job = job = assemble(
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
        self.facts = run_folder.circumstances(
            state="running",
            fingerprint=fingerprint(self._config, job),
            before={**before, "samples": self._first},
            config=self._resolved(),
            data={"store": job.store_dir.name, "ledger": dict(job.ledger)},
            seed=job.trainer.args.seed,
            dtype=job.dtype,
            device=job.trainer.args.device.type,
            num_parameters=job.num_parameters,
            threads=torch.get_num_threads(),
        )
        if self._is_first:
            self._write_settings()  # from here on it is a run to go on with
            self._writer.write(self._first, step=0)

    def _go_on(self, earlier: Mapping[str, Any], resume: Resume) -> None:
        """Take up the newest whole checkpoint of a run that is still the same run.

        Raises:
            ConfigError: something that decides its weights is another now.
        """
        job = self._job
        new = fingerprint(self._config, job)
        old = earlier.get("fingerprint")
        if not isinstance(old, dict):
            raise ConfigError(
                f"{self._run_dir} was made by a gptft that couldn't go on with its runs. "
                "Name another training.output_dir."
            )
        changes = agreed_changes(old, new, allow=resume.allow, extend=resume.extend)
        folder = self._run_dir / "checkpoints"
        self._checkpoint, skipped = newest_valid(folder)
        step = self._checkpoint.step if self._checkpoint else 0
        if resume.extend and earlier.get("state") == "done" and job.num_steps() <= step:
            raise ConfigError(
                f"{self._run_dir} is complete, and --extend asks for no more. Set a larger "
                "training.num_train_epochs or training.max_steps."
            )
        for one in skipped:
            self._notify(f"Skipped {one.name}: {one.reason}.")
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
                *({**as_json(change), "step": step} for change in changes),
            ],
            "resumed": [*earlier.get("resumed", []), {"step": step, "time": run_folder.now()}],
        }
        for change in changes:
            self._notify(f"{change.field} changes from {change.old} to {change.new}.")
        if self._is_first:
            shutil.rmtree(self._run_dir / ".model.partial", ignore_errors=True)
            cut = step if self._checkpoint else -1
            keep_json_lines(self._run_dir / "metrics.jsonl", until_step=cut)
            keep_json_lines(self._run_dir / "samples.jsonl", until_step=cut)
            self._write_settings()

    def _write_settings(self) -> None:
        self._write_facts()
        write_text(self._run_dir / "config.yaml", dump_yaml(self._resolved()))

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
        before, steps = self._before, job.trainer.state.global_step
        result = TrainResult(
            run_dir=run_dir,
            steps=steps,
            seconds=seconds,
            num_tokens=job.trainer.total_tokens_seen(),
            train=_before_after(before[0], after[0]),
            validation=_before_after(before[1], after[1]) if before[1] and after[1] else None,
            samples=tuple(
                Sample(prompt, ((0, first), (steps, text)))
                for prompt, first, text in zip(
                    self._config.samples.prompts, self._first, last, strict=False
                )
            ),
        )
        with self._interrupts.deferred():  # what is left takes no longer than a checkpoint
            try:
                save_model(job, run_dir=run_dir, save_dtype=self._config.model.save_dtype)
            except Exception as error:  # torch and safetensors raise types of their own
                raise job.trainer.explain_write(error) from error
            if self._is_first and self.facts is not None:
                # A process that died just here has written them already.
                keep_json_lines(run_dir / "samples.jsonl", until_step=result.steps - 1)
                self._writer.write(last, step=result.steps)
                self.facts |= {
                    "state": "done",
                    "finished": run_folder.now(),
                    "result": as_json(result),
                }
                self._write_facts()
                run_folder.drop_earlier(run_dir)
                clear_leftovers(run_dir / "checkpoints")
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
            write_json(self._run_dir / "run.json", self.facts)


def _named(figures: tuple[Measured, Measured | None]) -> dict[str, Measured | None]:
    return dict(zip(("train", "validation"), figures, strict=True))


def _before_after(before: Measured, after: Measured) -> BeforeAfter:
    return BeforeAfter(
        before.loss, after.loss, before.perplexity, after.perplexity, after.num_tokens
    )


def _plain(figure: Measured | None) -> dict[str, Any] | None:
    return None if figure is None else {"loss": figure.loss, "num_tokens": figure.num_tokens}


def _measured_from(before: Mapping[str, Any]) -> tuple[Measured, Measured | None]:
    validation = before.get("validation")
    return _read(before["train"]), _read(validation) if validation else None


def _read(figure: Mapping[str, Any]) -> Measured:
    """What `_plain` wrote; JSON has no word for a loss that isn't a number."""
    loss = figure["loss"]
    return Measured(math.nan if loss is None else float(loss), int(figure["num_tokens"]))


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
