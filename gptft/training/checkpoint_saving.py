"""A trainer's state -> a checkpoint that is complete or absent, sealed while training continues."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gptft.runs import disk
from gptft.runs.checkpoints import (
    STAGING,
    Checkpoint,
    clear_leftovers,
    commit_checkpoint,
    due_checkpoints,
    rotate_checkpoints,
)
from gptft.training.trainer_adapter import TrainerAdapter


class CheckpointSaver:
    """Writes the checkpoints of a trainer.

    A checkpoint is written into a staging folder; a thread makes its checksums, renames it into
    place and only then removes older ones. It is one from the rename on: `wait` waits for it, and
    so does the next `write`.

    Attributes:
        last: the newest one known to be intact, or None.
        saved_step: the step whose state is saved, or None.
    """

    def __init__(self, trainer: TrainerAdapter, *, keep: int | None, num_averaged: int = 0) -> None:
        """Save for `trainer`, and keep the `keep` newest checkpoints and the best; None for all.

        The newest `num_averaged` that were due stay as well, whatever a signal saved after them.
        """
        self._trainer = trainer
        self._keep, self._num_averaged = keep, num_averaged
        self._is_proved = False  # that what is written can be restored
        self.last: Checkpoint | None = None
        self.saved_step: int | None = None
        self._committer = ThreadPoolExecutor(max_workers=1)
        self._committing: Future[Checkpoint] | None = None

    def write(self, notes: dict[str, Any]) -> None:
        """Write a checkpoint with `notes` in its manifest; called by all processes together.

        Raises:
            RunError: it, or the one before, can't be written; the older ones are as they were.
        """
        self.wait()
        trainer, folder = self._trainer, self._trainer.checkpoints_dir
        step, is_first = trainer.state.global_step, trainer.is_world_process_zero()
        if is_first:
            folder.mkdir(parents=True, exist_ok=True)
            clear_leftovers(folder)
            disk.check_room(folder, needed=self.num_bytes(), kept=self._kept())
        trainer.accelerator.wait_for_everyone()
        try:
            trainer.stage_checkpoint()
            trainer.accelerator.wait_for_everyone()
            staged = folder / STAGING / f"checkpoint-{step}"
            if is_first:
                trainer.add_to_checkpoint(staged)
            self._name_best(staged)
            if is_first and not self._is_proved:
                trainer.check_restorable(staged)
                self._is_proved = True
        except Exception as error:  # torch and safetensors raise types of their own
            raise self._failed(error) from error
        self.saved_step = step
        if is_first:
            best = trainer.state.best_model_checkpoint
            self._committing = self._committer.submit(
                self._commit, folder, step=step, notes=notes, best=Path(best) if best else None
            )

    def _name_best(self, written: Path) -> None:
        """Let the state of every process name the best checkpoint by the place it will be in."""
        state = self._trainer.state
        if state.best_model_checkpoint is not None:
            best = Path(state.best_model_checkpoint)
            state.best_model_checkpoint = str(self._trainer.checkpoints_dir / best.name)
            if self._trainer.is_world_process_zero():
                self._trainer.write_state(written)

    def _commit(
        self, folder: Path, *, step: int, notes: dict[str, Any], best: Path | None
    ) -> Checkpoint:
        staged = folder / STAGING / f"checkpoint-{step}"
        checkpoint = commit_checkpoint(staged, folder, step=step, notes=notes)
        if self._keep:
            due = due_checkpoints(folder, step=step)[: self._num_averaged]
            needed = [one.path for one in due]
            rotate_checkpoints(folder, step=step, keep=self._keep, best=best, needed=needed)
        clear_leftovers(folder)
        return checkpoint

    def wait(self) -> None:
        """Wait until the checkpoint that was written last is one.

        Raises:
            RunError: it couldn't be sealed; the older ones are as they were.
        """
        committing, self._committing = self._committing, None
        if committing is None:
            return
        try:
            self.last = committing.result()
        except Exception as error:
            self.saved_step = None
            raise self._failed(error) from error

    def wait_if_done(self) -> None:
        """Hear at once of a checkpoint that couldn't be sealed."""
        if self._committing is not None and self._committing.done():
            self.wait()

    def close(self) -> None:
        """Let the thread end, its work done."""
        self._committer.shutdown(wait=True)
        self._committer = ThreadPoolExecutor(max_workers=1)

    def _failed(self, error: Exception) -> Exception:
        folder = self._trainer.checkpoints_dir
        # Explained first: a full disk is full only as long as the half-written checkpoint is there.
        why = disk.explain(error, folder, needed=self.num_bytes(), kept=self._kept())
        if self._trainer.is_world_process_zero():
            clear_leftovers(folder)
        return why

    def explain(self, error: Exception) -> Exception:
        """What a failed write outside of a checkpoint means."""
        folder = self._trainer.checkpoints_dir.parent
        return disk.explain(error, folder, needed=self.num_bytes(), kept=self._kept())

    def _kept(self) -> str:
        if self.last is None:
            return "No checkpoint was there before."
        return f"Last good checkpoint: {self.last.path}."

    def num_bytes(self) -> int:
        """About what a checkpoint takes: weights, two moments of each that is trained, and more."""
        model = self._trainer.accelerator.unwrap_model(self._trainer.model)
        saved = [p for p in model.parameters() if self._trainer.lora is None or p.requires_grad]
        weights = sum(int(p.numel() * p.element_size()) for p in saved)
        moments = sum(2 * 4 * int(p.numel()) for p in model.parameters() if p.requires_grad)
        beside = self._trainer.num_bytes_beside
        return weights + beside + (0 if self._trainer.args.save_only_model else moments) + 1_000_000

    def check_disk(self) -> None:
        """Refuse to begin where no checkpoint and no model would fit.

        Raises:
            RunError: the disk is too full.
        """
        saves = self._trainer.args.save_strategy != "no"
        needed = self.num_bytes() * (2 if saves else 1)
        if self._trainer.lora is not None and self._trainer.lora.is_merged:
            needed += 4 * self._trainer.lora.num_base
        if self._trainer.is_world_process_zero():
            disk.check_room(
                self._trainer.checkpoints_dir,
                needed=needed,
                kept="Nothing was trained yet.",
            )
