"""One run, from its model to its last sample, written down in its folder as it goes."""

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from gptft.config.sections import Config
from gptft.config.source import dump_yaml
from gptft.console import Notify, stage
from gptft.errors import ConfigError, GptftError, Interrupted, RunError
from gptft.files import as_json, is_disk_full, keep_json_lines, write_json, write_text
from gptft.runs import run_folder
from gptft.runs.checkpoints import Checkpoint, clear_leftovers, newest_valid
from gptft.runs.held_out import best_step, held_out_curve
from gptft.runs.model_folder import model_folder
from gptft.runs.read import Sample, is_older_than_bos
from gptft.terminal.words import count
from gptft.training.dry_save import check_savable
from gptft.training.evaluation import EvaluationStoppedError
from gptft.training.figures import as_facts, before_and_after, from_facts
from gptft.training.fingerprint import adapter_facts, fingerprint
from gptft.training.forecast import forecast, forecast_words, with_real
from gptft.training.general import Measurer
from gptft.training.model_saving import save_model
from gptft.training.recital import Reciter
from gptft.training.result import TrainResult
from gptft.training.resume import agreed_changes, require_training_state
from gptft.training.samples import Sampler, SampleWriter
from gptft.training.setup import set_up
from gptft.training.signals import Signals
from gptft.training.smaller_batch import smaller_batch
from gptft.training.text_measures import TextMeasures
from gptft.training.trackers import tracker_facts
from gptft.training.watching import watch


@dataclass(frozen=True)
class Resume:
    """How to resume a run.

    Attributes:
        allow: fields of the fingerprint that may differ.
        extend: whether more steps or epochs may be asked for than before.
    """

    allow: tuple[str, ...] = ()
    extend: bool = False


class TrainingRun:
    """One run; its methods are called in the order they stand in.

    Attributes:
        facts: what run.json says; None before there is one.
    """

    def __init__(
        self,
        config: Config,
        *,
        store_dir: Path,
        run_dir: Path,
        sampler: Sampler,
        reciter: Reciter,
        measurer: Measurer | None,
        signals: Signals,
        notify: Notify,
    ) -> None:
        """Load all that the run needs; see `train_model`."""
        self._config, self._run_dir = config, run_dir
        self._signals, self._notify = signals, notify
        self._setup = setup = set_up(config, store_dir=store_dir, run_dir=run_dir, signals=signals)
        self._trainer = setup.trainer
        self._is_first = setup.trainer.is_world_process_zero()
        self._samples = SampleWriter(
            run_dir / "samples.jsonl",
            sampler=sampler,
            tokenizer=setup.tokenizer,
            prompts=config.samples.prompts,
        )
        self._texts = TextMeasures(
            setup, recite=config.samples.recite, reciter=reciter, measurer=measurer, notify=notify
        )
        self._checkpoint: Checkpoint | None = None
        self._is_extended = False
        self._first: list[str] = []  # the prompts continued before training
        self.facts: dict[str, Any] | None = None

    def begin(self, earlier: Mapping[str, Any] | None, resume: Resume, *, overwrite: bool) -> None:
        """Measure the model and claim the folder; or find the checkpoint to resume from."""
        setup = self._setup
        if self._is_first:
            check_savable(setup.model, setup.tokenizer, notify=self._notify)
        self._trainer.checkpoints.check_disk()
        if earlier is not None:
            self._is_extended = resume.extend
            self._resume(earlier, resume)
        self._notify(
            f"Training {setup.trained_words} in {setup.dtype} on "
            f"{self._trainer.args.device.type}, {count(len(setup.store), 'block')}."
        )
        predicted = forecast(setup)
        self._notify(forecast_words(predicted))
        for sentence in setup.notices(self._config):
            self._notify(sentence)
        if earlier is not None:
            if self._is_first and self._checkpoint is None:
                self._samples.write(self._first, step=0)
            return
        unchanged = fingerprint(self._config, setup)  # Reformer's forward writes into its config
        with stage("Measuring the model before training"):
            self._before = setup.measure()
        if self._is_first:
            self._first = self._samples.sample(setup.model)
            self._texts.begin()
            # Nothing on disk is touched before all that can be refused has been.
            run_folder.claim(self._run_dir, overwrite=overwrite)
        train, validation = map(as_facts, self._before)
        self.facts = run_folder.circumstances(
            state="running",
            fingerprint=unchanged,
            before={"train": train, "validation": validation, **self._known_before()},
            config=self._resolved(),
            data={"store": setup.store_dir.name, "ledger": dict(setup.ledger)},
            seed=self._trainer.args.seed,
            dtype=setup.dtype,
            device=self._trainer.args.device.type,
            num_parameters=setup.num_parameters,
            threads=torch.get_num_threads(),
            plan={"predicted": predicted},
            **adapter_facts(self._config, setup),
            **tracker_facts(self._run_dir, self._config.training),
        )
        if self._is_first:
            self._write_settings()  # from here on it is a run that can be resumed
            self._samples.write(self._first, step=0)

    def _resume(self, earlier: Mapping[str, Any], resume: Resume) -> None:
        """Take up the newest intact checkpoint of a run that is still the same run.

        Raises:
            ConfigError: something that decides its weights is another now.
        """
        if self._setup.ledger.get("num_bos") and is_older_than_bos(earlier):
            raise ConfigError(
                f"{self._run_dir} began before gptft put BOS before documents, and its blocks have "
                "none. Resume it with --set data.add_bos=false."
            )
        new, old = fingerprint(self._config, self._setup), earlier.get("fingerprint")
        if not isinstance(old, dict) or "before" not in earlier:
            raise ConfigError(
                f"{self._run_dir} was made by a gptft that couldn't resume its runs. "
                "Name another training.output_dir."
            )
        changes = agreed_changes(old, new, allow=resume.allow, extend=resume.extend)
        self._checkpoint, skipped = newest_valid(folder := self._run_dir / "checkpoints")
        step = self._checkpoint.step if self._checkpoint else 0
        if resume.extend and earlier.get("state") == "done" and self._setup.num_steps() <= step:
            raise ConfigError(
                f"{self._run_dir} is complete, and --extend asks for no more. Set a larger "
                "training.num_train_epochs or training.max_steps."
            )
        for one in skipped:
            self._notify(f"Skipped {one.name}: {one.reason}.")
        if self._checkpoint is None:
            self._notify(f"{folder} holds no intact checkpoint: training starts from step 0.")
        else:
            require_training_state(self._checkpoint.path, num_left=self._setup.num_steps() - step)
            self._notify(f"Resuming from step {step:,} ({self._checkpoint.path}).")
            self._trainer.resume_from(
                self._checkpoint, changed=frozenset(change.field for change in changes)
            )
        before = earlier["before"]
        self._take_up(before, prompts=earlier["config"]["samples"]["prompts"])
        self.facts = {
            **{name: fact for name, fact in earlier.items() if name not in ("error", "step")},
            "state": "running",
            "before": {**before, **self._known_before()},
            "config": self._resolved(),
            "working_dir": run_folder.working_dir(),
            "fingerprint": new,
            "changes": [
                *earlier.get("changes", []),
                *({**vars(change), "step": step} for change in changes),
            ],
            "resumed": [*earlier.get("resumed", []), {"step": step, "time": run_folder.now()}],
        }
        for change in changes:
            self._notify(f"{change.field} changes from {change.old} to {change.new}.")
        if self._is_first:
            shutil.rmtree(self._run_dir / ".model.partial", ignore_errors=True)
            self._cut_logs(after=step if self._checkpoint else -1)
            self._write_settings()

    def _take_up(self, before: Mapping[str, Any], *, prompts: Any) -> None:
        """Take up what was known before training, or find it out: no checkpoint is loaded yet."""
        self._before, self._first = from_facts(before), list(before["samples"])
        if not self._is_first:
            return
        if prompts != self._config.samples.prompts:
            self._first = self._samples.sample(self._setup.model)
        self._texts.resume(before)

    def _known_before(self) -> dict[str, Any]:
        return {"samples": self._first, **self._texts.as_facts()}

    def _cut_logs(self, *, after: int) -> None:
        for name in ("metrics.jsonl", "samples.jsonl"):
            keep_json_lines(self._run_dir / name, until_step=after)

    def _write_settings(self) -> None:
        self._write_facts()
        write_text(self._run_dir / "config.yaml", dump_yaml(self._resolved()))

    def _resolved(self) -> dict[str, Any]:
        resolved = self._config.resolved()
        resolved["training"]["output_dir"] = str(self._run_dir)
        return resolved

    def train(self, console: Console, *, profile_steps: int | None = None) -> float:
        """Train to the end, or to a signal; returns the seconds it took, all processes of the run.

        Raises:
            Interrupted: there was a signal.
        """
        trainer, checkpoint = self._trainer, self._checkpoint
        close = watch(
            trainer, self.facts or {}, self._run_dir / "metrics.jsonl", console=console,
            held_out=self._before[1], checkpoint=checkpoint, samples=self._samples,
            sample_steps=self._config.samples.steps, profile_steps=profile_steps,
            notify=self._notify,
        )  # fmt: skip
        started = time.perf_counter()
        is_over = checkpoint is not None and self._is_last(checkpoint)
        with self._signals.deferred("Stopping after this step"):
            try:
                if checkpoint is not None and is_over:
                    self._notify(
                        f"Step {checkpoint.step:,} was the last one; nothing is left to train."
                    )
                    trainer.load_finished(checkpoint)
                else:
                    path = str(checkpoint.path) if checkpoint else None
                    trainer.train(resume_from_checkpoint=path)
            except EvaluationStoppedError:  # before this process's first step: nothing is lost
                pass
            finally:
                close()
        if self._signals.stop is not None:
            raise self._signals.interrupted("")
        trainer.kept.take(trainer)
        if why := trainer.ending.why:
            step, planned = trainer.state.global_step, self._setup.num_steps()
            self._notify(f"Stopped at step {step:,} of {planned:,}: {why}")
        return trainer.seconds_before + (0.0 if is_over else time.perf_counter() - started)

    def _is_last(self, checkpoint: Checkpoint) -> bool:
        """Whether no step is left after a checkpoint: all were made, or it was an early end."""
        if checkpoint.step >= self._setup.num_steps() or self._is_extended:
            return checkpoint.step >= self._setup.num_steps()
        return self._trainer.ending.came_with(checkpoint, self._config.training)

    def finish(self, seconds: float) -> TrainResult:
        """Measure again, write the model and what was found."""
        setup, run_dir = self._setup, self._run_dir
        with stage("Measuring what was learned"):
            after = setup.measure()
        last = self._samples.sample(setup.model) if self._is_first else []
        before, steps = self._before, self._trainer.state.global_step
        model_step = self._trainer.model_step
        validation = before_and_after(before[1], after[1]) if before[1] and after[1] else None
        not_stored = None if self._trainer.kept.is_stored else model_step
        curve = held_out_curve(self._trainer.held_out_losses(), validation, model_step=model_step)
        result = TrainResult(
            run_dir=run_dir,
            model_folder=model_folder({"config": self._config.resolved()}),
            steps=steps,
            planned_steps=setup.num_steps(),
            is_memorized=self._trainer.ending.is_memorized,
            **self._trainer.ending.as_result(),
            averaged=self._trainer.kept.as_result(),
            model_step=model_step,
            seconds=seconds,
            num_tokens=self._trainer.total_tokens_seen(),
            num_text_tokens=setup.store.num_tokens,
            train=before_and_after(before[0], after[0]),
            validation=validation,
            best=best_step(curve, run_dir=run_dir, not_stored=not_stored),
            samples=tuple(
                Sample(prompt, ((0, first), (steps, text)))
                for prompt, first, text in zip(
                    self._config.samples.prompts, self._first, last, strict=False
                )
            ),
            **(vars(self._texts.finish()) if self._is_first else {}),
        )
        with self._signals.deferred("Writing the model first"):  # as long as a checkpoint takes
            try:
                with stage("Saving the model"):
                    apart = save_model(
                        setup, run_dir=run_dir, settings=self._config.model, notify=self._notify,
                    )  # fmt: skip
            except Exception as error:  # torch and safetensors raise types of their own
                raise self._trainer.checkpoints.explain(error) from error
            if self._is_first and self.facts is not None:
                # A process that died just here has written them already.
                keep_json_lines(run_dir / "samples.jsonl", until_step=result.steps - 1)
                self._samples.write(last, step=result.steps)
                self.facts |= {
                    "state": "done",
                    "finished": run_folder.now(),
                    "result": as_json(result),
                    "plan": with_real(self.facts.get("plan"), seconds=seconds),
                    **({} if apart is None else {"merged_apart": apart}),
                }
                self._write_facts()
                run_folder.drop_earlier(run_dir)
                clear_leftovers(run_dir / "checkpoints")
        return result

    def ended_by(self, error: BaseException) -> BaseException:
        """Write down how the run ended, after a signal keep what was trained; what to raise."""
        if isinstance(error, Interrupted):
            try:
                return self._stopped()
            except Exception as failed:  # the checkpoint can't be written, on a full disk for one
                return self.ended_by(failed)
        if isinstance(error, GptftError):
            self._failed(str(error))
        elif isinstance(error, Exception) and is_disk_full(error):  # a log that can't be written
            error = self._trainer.checkpoints.explain(error)
            self._failed(str(error))
        else:
            self._failed(f"{type(error).__name__}: {error}")
        return error

    def _stopped(self) -> Interrupted:
        step = self._trainer.state.global_step
        if self.facts is None or not step:
            self._note_state("stopped")
            return self._signals.interrupted("before the first step; nothing was lost")
        if self._signals.at_once:  # perhaps in the middle of an update: nothing is saved
            self._note_state("stopped")
            return self._signals.interrupted(
                "and a second Ctrl-C, at once. Resume from the newest checkpoint with --resume",
                resumable=True,
            )
        if self._trainer.args.world_size == 1:  # several have saved together, between two steps
            self._trainer.save_now()
        self._note_state("stopped", step=step)
        return self._signals.interrupted(
            f"after step {step:,}, which is saved. Resume with --resume", resumable=True
        )

    def _failed(self, why: str) -> None:
        self._note_state("failed", step=self._trainer.state.global_step, error=why)

    def after_out_of_memory(self, error: torch.OutOfMemoryError) -> Config:
        """Keep what was trained, and give the config with a smaller batch and more accumulation.

        Raises:
            RunError: it isn't asked for, or one block at a time is too much already.
        """
        trainer, training = self._trainer, self._config.training
        batch = trainer.args.per_device_train_batch_size
        if not training.get("auto_batch") or batch == 1 or self.facts is None:
            is_set = batch == 1 or training.get("auto_batch")  # the latter: in the first sample
            way = "Lower data.block_size" if is_set else "Set training.auto_batch: true"
            problem = f"Out of memory with {batch} blocks a batch. {way}, or take a smaller model."
            self._failed(problem)
            raise RunError(problem) from error
        if trainer.state.global_step and not trainer.in_optimizer_step:
            trainer.undo_step()
            trainer.save_now()
        changed = smaller_batch(trainer.args)
        smaller, accumulation = changed.values()
        self._notify(
            f"Out of memory with {batch} blocks a batch: continuing with {smaller} and "
            f"gradient_accumulation_steps {accumulation}, which trains the same."
        )
        config = self._config.model_copy(update={"training": {**training, **changed}})
        self._setup.release()
        return config

    def _note_state(self, state: str, **more: Any) -> None:
        if self._is_first and self.facts is not None:
            self.facts |= {"state": state, **more}
            with suppress(OSError):  # on a full disk: what ended the run is told all the same
                self._write_facts()

    def _write_facts(self) -> None:
        if self.facts is not None:
            write_json(self._run_dir / "run.json", self.facts)
