"""A model, blocks and `TrainingArguments` -> a trained model, by a Trainer that survives faults."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from gptft.console import Notify
from gptft.errors import RunError
from gptft.models.lora import TrainedAdapter
from gptft.runs.checkpoints import Checkpoint
from gptft.training.changed_settings import load_with_changes
from gptft.training.checkpoint_saving import CheckpointSaver
from gptft.training.dataset import DOCUMENTS, count_tokens
from gptft.training.early_stopping import EarlyStopping, StopEarly
from gptft.training.ending import Ending
from gptft.training.evaluation import EvaluationStoppedError, Measured, measure_loss
from gptft.training.head import defer_head
from gptft.training.kept_weights import KeptWeights
from gptft.training.loss import use_fast_loss
from gptft.training.moving_average import UpdateAverage
from gptft.training.optimizers import make_optimizer
from gptft.training.overfitting import SayTurn
from gptft.training.signals import Signals
from gptft.training.trainer_adapter import TrainerAdapter
from gptft.training.unlikelihood import Unlikelihood


class BlockTrainer(TrainerAdapter):
    """A Trainer that weighs every predicted token alike, in training and in evaluation.

    The stock one averages the losses of batches in evaluation, so that a short last block counts as
    much as a full one. In training it divides a GPT-2's loss by all tokens of a batch, though the
    first of each block is never predicted: it looks for "ForCausalLM" in the class name, and
    GPT2LMHeadModel has none (transformers 5.23, `PreTrainedModel.loss_type`). On a 20-token poem
    that is 5 % off.

    Signals are answered between two steps. A gradient or loss that isn't finite ends training
    before it touches the weights.

    Attributes:
        checkpoints: what saves them.
        num_tokens_seen: real tokens trained on by this process, as a 0-d tensor.
        in_optimizer_step: whether the weights may be half updated.
        seconds_before: trained until the checkpoint this process resumes from.
        unlikelihood: what a repetition costs in training, or None. It is in the loss of a step,
            never in what `measure` gives.
        kept: what the run keeps as its model.
        ending: whether training has ended early, and why.
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        signals: Signals | None = None,
        unlikelihood: Unlikelihood | None = None,
        lora: TrainedAdapter | None = None,
        kept: KeptWeights | None = None,
        early_stopping: EarlyStopping | None = None,
        **kwargs: Any,
    ) -> None:
        """Take what `Trainer` takes, who listens to signals, and what a repetition costs.

        `lora` is the adapter in `model` that is trained, where not all of it is, `kept` what
        becomes the model of the run, and `early_stopping` says when to end early.

        Raises:
            ModelError: an unlikelihood, and the model computes a loss of its own.
        """
        has_fast_loss = use_fast_loss(model, unlikelihood=unlikelihood)
        self.lora = lora
        if lora is not None:  # the Trainer refuses a quantized model in which it sees no adapter
            model._hf_peft_config_loaded = True
        self.kept = kept or KeptWeights()
        super().__init__(model=model, **kwargs)
        if self.kept.average is not None:
            self.add_callback(UpdateAverage(self.kept.average))
        self.ending = Ending(early_stopping, losses=self.held_out_losses)
        if early_stopping is not None:
            self.add_callback(StopEarly(self.ending.look))
        if lora is not None:  # by which the model itself would save and load in another way
            model._hf_peft_config_loaded = False
        self.head = defer_head(model, self) if has_fast_loss else None
        # Rotation is ours: the stock one counts and removes any folder named like a checkpoint.
        keep, self.args.save_total_limit = self.args.save_total_limit, None
        self.checkpoints = CheckpointSaver(self, keep=keep, num_averaged=self.kept.number)
        self.unlikelihood = unlikelihood
        self.num_tokens_seen = torch.zeros((), dtype=torch.int64, device=self.args.device)
        self.in_optimizer_step = False
        self.seconds_before = 0.0
        self._signals = signals or Signals()
        self._finite = torch.ones((), dtype=torch.bool, device=self.args.device)
        self._changed: frozenset[str] = frozenset()
        self._started: float | None = None
        self._left_open: dict[str, Any] = {}  # by the checkpoint to resume from
        self._evaluation_due = False
        self._is_ending = self._turn_said = False
        self._at_step_end: tuple[torch.Tensor, torch.Tensor] | None = None

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """An optimizer of gptft's own, or the stock Trainer's."""
        if self.optimizer is None:
            trained: Any = self.model if model is None else model
            self.optimizer = make_optimizer(
                trained, self.args, decay_names=self.get_decay_parameter_names(trained)
            )
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        return optimizer

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Count the batch's tokens on the device, without waiting for it, and train on it."""
        self.num_tokens_seen += count_tokens(inputs).to(self.args.device)
        documents = inputs.get(DOCUMENTS)
        inputs = {name: value for name, value in inputs.items() if name != DOCUMENTS}
        borders = self.unlikelihood.within(documents) if self.unlikelihood else nullcontext()
        with borders:
            loss = super().training_step(model, inputs, num_items_in_batch)
        self._finite &= torch.isfinite(loss).all()
        return loss

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The stock loss, without a cache where positions keep documents apart.

        A cache would switch that off silently, and `training.use_cache: true` asks for one. A
        batch that predicts nothing, such as EOS and one token, has a loss of 0, not 0 / 0.
        """
        if "position_ids" in inputs:
            inputs = {**inputs, "use_cache": False}
        if num_items_in_batch is not None:
            num_items_in_batch = torch.as_tensor(num_items_in_batch).clamp(min=1)
        with nullcontext() if self.head is None else self.head.deferred():
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def before_update(self, model: torch.nn.Module, norm: Any) -> None:
        """End training where the loss or the gradient isn't finite.

        Raises:
            RunError: it isn't. A scaler for float16 does its own checks.
        """
        scaler = self.accelerator.scaler
        if scaler is None or not scaler.is_enabled():
            if norm is None:
                norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
                norm = torch.stack(norms).norm() if norms else 0.0
            finite = torch.isfinite(torch.as_tensor(norm, device=self._finite.device)).all()
            if not bool(finite & self._finite):
                self.checkpoints.wait()
                raise RunError(
                    f"Training diverged in step {self.state.global_step + 1:,}: the loss or its "
                    f"gradient is not a finite number (gradient norm {float(norm):g}). The weights "
                    f"were not touched and nothing was saved. {self._way_back()}"
                )
        self.in_optimizer_step = True

    def _way_back(self) -> str:
        if self.checkpoints.last is None:
            return "Lower training.learning_rate, or raise training.warmup_steps."
        return (
            f"Last good checkpoint: {self.checkpoints.last.path}. Resume from it with --resume, a "
            "lower training.learning_rate and --allow-change training.learning_rate."
        )

    def total_tokens_seen(self) -> int:
        """Real tokens trained on so far by all processes together."""
        return int(self.accelerator.gather(self.num_tokens_seen.reshape(1)).sum())

    def measure(self, dataset: Dataset[torch.Tensor]) -> Measured:
        """Loss over every predicted token of `dataset`; see `measure_loss`."""
        is_alone = self.args.world_size == 1  # several processes stop together, between two steps
        return measure_loss(
            self, dataset, should_stop=lambda: is_alone and self._signals.stop is not None
        )

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the validation part, log it and tell the callbacks.

        Beside a moving average the weights that aren't kept are measured, too.
        """
        chosen: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        with self.kept.held():
            measured = self.measure(chosen)
        metrics = {
            f"{metric_key_prefix}_loss": measured.loss,
            f"{metric_key_prefix}_perplexity": measured.perplexity,
        }
        if (others := self.kept.others) is not None:
            name, held = others
            with held:
                metrics[f"{metric_key_prefix}_{name}_loss"] = self.measure(chosen).loss
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def between_steps(self, log_save_evaluate: Callable[[], None]) -> None:
        """Do what is due between two steps, and what signals have asked for."""
        self.in_optimizer_step = False
        if self._is_ending and not float(self.state.epoch or 0).is_integer():
            return  # the stock loop takes the end of the run for the end of an epoch
        self.checkpoints.wait_if_done()
        is_due = False
        try:
            log_save_evaluate()
        except EvaluationStoppedError:  # the process that resumes from here evaluates first
            self.control.should_evaluate, is_due = False, self.control.should_save
            self._evaluation_due, self.checkpoints.saved_step = True, None
        stop, save = self._agree_on_signals()
        if stop or save:
            self.save_now(is_due=is_due)
            self._signals.save = False
        if stop:
            self.control.should_training_stop = self._is_ending = True
        self._at_step_end = (self.num_tokens_seen.clone(), self.loss_sum.clone())

    def _agree_on_signals(self) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and to save."""
        asked = (self._signals.stop is not None, self._signals.save)
        if self.args.world_size == 1:
            return asked
        flags = torch.tensor(asked, dtype=torch.int32, device=self.args.device)
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        if flags[0] and self._signals.stop is None:
            self._signals.stop = self._signals.told_by_others()
        return bool(flags[0]), bool(flags[1])

    def save_now(self, *, is_due: bool = False) -> None:
        """Save, unless this very step is saved already, and wait until it is on the disk.

        Args:
            is_due: whether the settings ask for a checkpoint of this step, too.
        """
        if self.checkpoints.saved_step != self.state.global_step:
            self.write_checkpoint(is_due=is_due)
        self.checkpoints.wait()

    def say_turn(self, notify: Notify, *, was_said: bool) -> SayTurn:
        """What tells `notify` once a run that it gets worse on held-out text."""
        self._turn_said = was_said
        return SayTurn(notify, checkpoints=self.checkpoints_dir, was_said=was_said, said=self._said)

    def _said(self) -> None:
        self._turn_said = True

    def write_checkpoint(self, *, is_due: bool = True) -> None:
        """Write a checkpoint, with all that the stock state leaves out."""
        elapsed = 0.0 if self._started is None else time.perf_counter() - self._started
        notes = {
            "num_tokens_seen": self.total_tokens_seen(),
            "loss_sum": float(self.accelerator.gather(self.loss_sum.reshape(1)).mean()),
            "last_logged": self.last_logged_step,
            "evaluation_due": self._evaluation_due,
            **self.ending.as_notes(),
            "turn_said": self._turn_said,
            "due": is_due,
            "seconds": self.seconds_before + elapsed,
        }
        with self.kept.raw():
            self.checkpoints.write(notes)

    @property
    def num_bytes_beside(self) -> int:
        """The moving average's."""
        return self.kept.num_bytes

    def add_to_checkpoint(self, folder: Path) -> None:
        """Write the moving average beside the weights."""
        self.kept.save(folder)

    def after_restore(self, folder: Path) -> None:
        """Take up the moving average that belongs to the weights."""
        self.kept.load(folder)

    def wait_for_commit(self) -> None:
        """Wait until the checkpoint that was written last can be loaded by all processes."""
        self.checkpoints.wait()
        self.accelerator.wait_for_everyone()  # only the first has one to wait for

    def undo_step(self) -> None:
        """Forget what was counted of a step that was not finished."""
        if self._at_step_end is not None:
            self.num_tokens_seen, self.loss_sum = self._at_step_end

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the stock Trainer does, and wait for the last checkpoint."""
        self._started = time.perf_counter()
        try:
            outcome = super().train(*args, **kwargs)
            self.checkpoints.wait()
        finally:
            self.checkpoints.close()
        return outcome

    def resume_from(self, checkpoint: Checkpoint, *, changed: frozenset[str]) -> None:
        """Take up what was counted; `train` itself loads the rest.

        Args:
            checkpoint: a valid one.
            changed: settings that were others when it was made, such as training.learning_rate.
        """
        self.checkpoints.last, self.checkpoints.saved_step = checkpoint, checkpoint.step
        self._changed = changed
        self._left_open = notes = checkpoint.notes
        self.args.eval_on_start = False  # of the run, not of this process
        self.seconds_before = float(notes.get("seconds", 0.0))
        if self.is_world_process_zero():
            self.num_tokens_seen += int(notes.get("num_tokens_seen", 0))

    def load_finished(self, checkpoint: Checkpoint) -> None:
        """Load weights and state of a checkpoint after which no step is left."""
        self.ending.is_memorized = bool(checkpoint.notes.get("memorized"))
        self.load_checkpoint(checkpoint.path)
        self._evaluate_if_due()
        if checkpoint.step < self.state.max_steps:
            self.ending.look()
        if self.args.load_best_model_at_end:
            self.load_best()

    @property
    def model_step(self) -> int:
        """The step that the model is of once training has ended: the last, or the best one's."""
        best = self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best is not None:
            return int(Path(best).name.removeprefix("checkpoint-"))
        return self.state.global_step

    def held_out_losses(self) -> list[tuple[int, float]]:
        """The evaluations of the run so far: steps and losses."""
        logged = self.state.log_history
        return [(int(row["step"]), row["eval_loss"]) for row in logged if "eval_loss" in row]

    def load_optimizer(self, load: Callable[[], None]) -> None:
        """Load optimizer and schedule, and apply the settings that were allowed to change."""
        optimizer: Any = self.optimizer
        load_with_changes(optimizer, self.lr_scheduler, load, args=self.args, changed=self._changed)

    def before_epoch(self) -> None:
        """Take up what the checkpoint had left open."""
        if "last_logged" in self._left_open:
            self.loss_sum += self._left_open["loss_sum"]
            self.last_logged_step = self._left_open["last_logged"]
        self._evaluate_if_due()
        if self.control.should_training_stop and self.control.should_save:
            self.write_checkpoint()  # as the process would have that was interrupted there

    def _evaluate_if_due(self) -> None:
        left_open, self._left_open = self._left_open, {}
        last = self.checkpoints.last
        if left_open.get("evaluation_due") and self.evaluate_and_compare() and last is not None:
            self.state.best_model_checkpoint = str(last.path)
