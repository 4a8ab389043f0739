"""transformers' `Trainer`, with hooks where it has only private methods.

Nothing else in gptft touches a private name of it. Checked against transformers 5.23, signature by
signature, in tests/training/test_trainer_adapter.py. Overridden, since no callback and no public
method is called there:

- `_get_grad_norm`: the last call before the optimizer's step, with the gradient it will take.
- `_maybe_log_save_evaluate`: all that happens between two steps; callbacks see only its parts.
- `_get_output_dir`: where a checkpoint is written; the stock one writes in place.
- `_save_checkpoint`: when a checkpoint is written; the stock one also rotates by folder name.
- `_save`: the stock one pickles the arguments, a hub token among them, beside every model.
- `_load_from_checkpoint`: the stock one matches stored weights by name, and leaves those that have
  another in memory as they were, without a word.
- `_load_best_model`: likewise; and the best checkpoint may still be on its way to the disk.
- `_init_training_state`: the stock one restores how often to log, measure and save from the
  checkpoint, whatever the settings are now, and looks for the best one where the run was then.
- `_run_epoch`: the first moment after a checkpoint was loaded at which training can be put right.
- `_load_optimizer_and_scheduler`: the stock one ignores every setting changed since the checkpoint.

Read or called: `_tr_loss` and `_globalstep_last_logged` (the loss that the next log step averages,
which no checkpoint of the stock Trainer keeps), `_prepare_inputs`, `_evaluate`,
`_determine_best_metric`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer_callback import TrainerState

from gptft.errors import RunError
from gptft.models.lora import TrainedAdapter
from gptft.models.restore import check_restorable, restore_weights
from gptft.runs.checkpoints import STAGING, find_damage
from gptft.training.head import DeferredHead

_STATE = "trainer_state.json"
_KEEP_LAST = (
    "Put it back, or keep the last weights: --resume --set training.load_best_model_at_end=false."
)


class TrainerAdapter(Trainer):
    """The stock Trainer; a subclass fills in the hooks.

    Attributes:
        is_staging: whether what is written now goes to the staging folder.
        lora: the adapter that is trained in place of all weights, or None.
        head: the output layer, where it may be deferred; or None.
    """

    is_staging = False
    lora: TrainedAdapter | None = None
    head: DeferredHead | None = None

    @property
    def num_bytes_beside(self) -> int:
        """What `add_to_checkpoint` writes, about."""
        return 0

    def before_update(self, model: torch.nn.Module, norm: Any) -> None:
        """Called with all gradients there, before the optimizer takes its step.

        Args:
            model: whose parameters have gradients.
            norm: of the gradient before clipping; None where the backend computes none.
        """

    def between_steps(self, log_save_evaluate: Callable[[], None]) -> None:
        """Called between two steps; `log_save_evaluate` is what the stock Trainer does there."""
        log_save_evaluate()

    def before_epoch(self) -> None:
        """Called before the first batch of an epoch, after a checkpoint was loaded."""

    def write_checkpoint(self) -> None:
        """Write a checkpoint of the state as it is."""
        self.stage_checkpoint()

    def add_to_checkpoint(self, folder: Path) -> None:
        """Called by the first process, to write more into the folder of a checkpoint."""

    def after_restore(self, folder: Path) -> None:
        """Called when the weights of the checkpoint in `folder` are the model's."""

    def wait_for_commit(self) -> None:
        """Wait until the checkpoint that was written last can be loaded."""

    def load_optimizer(self, load: Callable[[], None]) -> None:
        """Take up a checkpoint's optimizer and schedule; `load` is the stock loading."""
        load()

    @property
    def loss_sum(self) -> torch.Tensor:
        """This process's losses since the last log step, summed: a 0-d tensor."""
        total: torch.Tensor = self._tr_loss
        return total

    @loss_sum.setter
    def loss_sum(self, value: torch.Tensor) -> None:
        self._tr_loss = value

    @property
    def last_logged_step(self) -> int:
        """The step that was logged last."""
        return self._globalstep_last_logged

    @last_logged_step.setter
    def last_logged_step(self, step: int) -> None:
        self._globalstep_last_logged = step

    @property
    def checkpoints_dir(self) -> Path:
        """The folder that checkpoints are in."""
        return Path(str(self.args.output_dir))

    def stage_checkpoint(self) -> None:
        """Write the stock checkpoint into the staging folder."""
        self.is_staging = True
        try:
            model: Any = self.model
            super()._save_checkpoint(model, None)
        finally:
            self.is_staging = False

    def write_state(self, checkpoint: Path) -> None:
        """Write the state into a checkpoint's folder, its best one by a path within the run."""
        best = self.state.best_model_checkpoint
        if best is not None:
            self.state.best_model_checkpoint = f"{self.checkpoints_dir.name}/{Path(best).name}"
        self.state.save_to_json(str(checkpoint / _STATE))
        self.state.best_model_checkpoint = best

    def check_restorable(self, checkpoint: Path) -> None:
        """Prove that the weights in a checkpoint's folder can become the model's again.

        Raises:
            RunError: they can't.
        """
        if self.lora is not None:
            self.lora.check_restorable(checkpoint)
        elif not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            check_restorable(self.accelerator.unwrap_model(self.model), checkpoint)

    def load_checkpoint(self, checkpoint: Path) -> None:
        """Load weights and state, to look at and not to train on."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / _STATE))
        self._find_best(checkpoint)

    def load_best(self) -> None:
        """Load the weights of the best checkpoint so far, if there is one."""
        if self.state.best_model_checkpoint is not None:
            self._load_best_model()

    def evaluate_and_compare(self) -> bool:
        """Evaluate as between two steps; whether the model is the best so far."""
        metrics = self._evaluate(None, None)
        return self._determine_best_metric(metrics=metrics, trial=None)

    def to_device(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch where the model is."""
        return self._prepare_inputs(batch)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm: Any = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        self.before_update(model, norm)
        return norm

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        stock = super()._maybe_log_save_evaluate
        self.between_steps(lambda: stock(*args, **kwargs))

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, STAGING) if self.is_staging else folder

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.write_checkpoint()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(str(output_dir or self.args.output_dir))
        if self.lora is not None:
            if self.args.should_save:  # the stock Trainer calls this in every process
                folder.mkdir(parents=True, exist_ok=True)
                self.lora.save(folder)
            return
        super()._save(output_dir, state_dict)
        (folder / "training_args.bin").unlink(missing_ok=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.lora is not None:
            self.lora.restore(Path(resume_from_checkpoint))
        elif self.is_deepspeed_enabled or self.is_fsdp_enabled:  # with formats of their own
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            to_fill: Any = self.model if model is None else model
            restore_weights(to_fill, Path(resume_from_checkpoint))
        self.after_restore(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        self.wait_for_commit()
        best = Path(str(self.state.best_model_checkpoint))
        if damage := find_damage(best):
            raise RunError(f"{best}, the best checkpoint, can't be used: {damage}. {_KEEP_LAST}")
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(str(best))

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> Any:
        begun = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        self.state.compute_steps(self.args, max_steps)
        if resume_from_checkpoint is not None:
            self._find_best(Path(resume_from_checkpoint))
        return begun

    def _find_best(self, checkpoint: Path) -> None:
        """Let the state name the best checkpoint by where the run is now."""
        name = TrainerState.load_from_json(str(checkpoint / _STATE)).best_model_checkpoint
        best = self.checkpoints_dir / Path(name).name if name else None
        is_there = best is not None and best.is_dir()
        if best is not None and not is_there and self.args.load_best_model_at_end:
            raise RunError(f"{best} was the best checkpoint and isn't there any more. {_KEEP_LAST}")
        self.state.best_model_checkpoint = str(best) if is_there else None

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        self.before_epoch()
        if self.control.should_training_stop:
            return  # an evaluation that was due ended training, and the stock loop makes a step
        super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        stock = super()._load_optimizer_and_scheduler
        if checkpoint is not None:
            self.load_optimizer(lambda: stock(checkpoint))
