"""transformers' `Trainer`, with an exact evaluation, and checkpoints that survive faults.

In: a model, blocks and `TrainingArguments`. Out: a trained model. Everything not overridden here is
the stock Trainer's.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer
from transformers.trainer_callback import TrainerState

from gptft.errors import RunError
from gptft.training import disk
from gptft.training.checkpoints import (
    STAGING,
    Checkpoint,
    clear_leftovers,
    commit_checkpoint,
    rotate_checkpoints,
)
from gptft.training.dataset import IGNORED, count_tokens
from gptft.training.interrupts import Interrupts

_STATE = "trainer_state.json"


class MeasuringStoppedError(Exception):
    """A signal came while the model was being measured."""


@dataclass(frozen=True)
class Measured:
    """How well a model predicts a text.

    Attributes:
        loss: mean negative log-likelihood a predicted token, in nats.
        num_tokens: tokens predicted: all but the first of each block, and of each document where
            documents are isolated.
    """

    loss: float
    num_tokens: int

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


class BlockTrainer(Trainer):
    """A Trainer that weighs every predicted token alike, in training and in evaluation.

    The stock one averages the losses of batches in evaluation, so that a short last block counts as
    much as a full one. In training it divides a GPT-2's loss by all tokens of a batch, though the
    first of each block is never predicted: it looks for "ForCausalLM" in the class name, and
    GPT2LMHeadModel has none (transformers 5.23, `PreTrainedModel.loss_type`). On a 20-token poem
    that is 5 % off.

    A checkpoint is written into a staging folder, checked, and appears by one rename; only then are
    older ones removed. Between two steps signals are answered. A gradient or loss that isn't finite
    ends training before it touches the weights.

    Attributes:
        num_tokens_seen: real tokens trained on so far by this process, as a 0-d tensor.
        last_checkpoint: the newest one known to be whole, or None.
        in_optimizer_step: whether the weights may be half updated.
    """

    def __init__(
        self, *, model: PreTrainedModel, interrupts: Interrupts | None = None, **kwargs: Any
    ) -> None:
        """Take what `Trainer` takes, and who listens to signals."""
        if getattr(model, "loss_type", None) is None:
            model.loss_type = "ForCausalLM"
        super().__init__(model=model, **kwargs)
        self.num_tokens_seen = torch.zeros((), dtype=torch.int64, device=self.args.device)
        self.last_checkpoint: Checkpoint | None = None
        self._interrupts = interrupts or Interrupts()
        self._finite = torch.ones((), dtype=torch.bool, device=self.args.device)
        self._is_staging = False
        # Rotation is ours: the stock one counts and removes any folder named like a checkpoint.
        self._keep, self.args.save_total_limit = self.args.save_total_limit, None
        self._retuned = False
        self._saved_step: int | None = None
        self.in_optimizer_step = False

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Count the batch's tokens on the device, without waiting for it, and train on it."""
        self.num_tokens_seen += count_tokens(inputs).to(self.args.device)
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._finite &= torch.isfinite(loss).all()
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        """The stock norm, and a last look before the optimizer's step.

        Raises:
            RunError: it isn't finite, or a loss wasn't. A scaler for float16 does its own checks.
        """
        norm: Any = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        scaler = getattr(self.accelerator, "scaler", None)
        if scaler is not None and scaler.is_enabled():
            self.in_optimizer_step = True
            return norm
        if norm is None:
            norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
            norm = torch.stack(norms).norm() if norms else 0.0
        finite = torch.isfinite(torch.as_tensor(norm, device=self._finite.device)).all()
        if not bool(finite & self._finite):
            raise RunError(
                f"Training diverged in step {self.state.global_step + 1:,}: the loss or its "
                f"gradient is not a finite number (gradient norm {float(norm):g}). The weights "
                f"were not touched and nothing was saved. {self._way_back()}"
            )
        self.in_optimizer_step = True
        return norm

    def _way_back(self) -> str:
        if self.last_checkpoint is None:
            return "Lower training.learning_rate, or raise training.warmup_steps."
        return (
            f"{self.last_checkpoint.path} is good; go on from it with --resume, a lower "
            "training.learning_rate and --allow-change training.learning_rate."
        )

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The stock loss, without a cache where positions keep documents apart.

        A cache would switch that off without a word, and `training.use_cache: true` asks for one. A
        batch that predicts nothing, an isolated tail of EOS and one token say, has a loss of 0, not
        0 / 0.
        """
        if "position_ids" in inputs:
            inputs = {**inputs, "use_cache": False}
        if num_items_in_batch is not None:
            num_items_in_batch = torch.as_tensor(num_items_in_batch).clamp(min=1)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def total_tokens_seen(self) -> int:
        """Real tokens trained on so far by all processes together."""
        return int(self.accelerator.gather(self.num_tokens_seen.reshape(1)).sum())

    def measure(self, dataset: Dataset[torch.Tensor]) -> Measured:
        """Loss over every predicted token of `dataset`, on all processes together."""
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        total = torch.zeros((), dtype=torch.float64)
        num_tokens = 0
        for batch in self.get_eval_dataloader(dataset):
            if self.args.world_size == 1 and self._interrupts.stop is not None:
                raise MeasuringStoppedError
            nll, counts = self._row_losses(model, batch)
            nll, counts = self.accelerator.gather_for_metrics((nll, counts))
            total += nll.sum().cpu()
            num_tokens += int(counts.sum())
        model.train(was_training)
        return Measured(float(total) / max(num_tokens, 1), num_tokens)

    def _row_losses(
        self, model: PreTrainedModel, batch: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed loss and predicted tokens of each row, both of shape (B,)."""
        batch = self._prepare_inputs(batch)
        with torch.no_grad(), self.accelerator.autocast():
            seen = {name: value for name, value in batch.items() if name != "labels"}
            logits = model(**seen, use_cache=False).logits  # (B, T, V)
        targets = batch["labels"][:, 1:]  # (B, T - 1)
        rows = [
            torch.nn.functional.cross_entropy(
                row[:-1].float(), target, ignore_index=IGNORED, reduction="sum"
            )
            for row, target in zip(logits, targets, strict=True)
        ]
        return torch.stack(rows).double(), (targets != IGNORED).sum(dim=1)

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the validation part, log it and tell the callbacks."""
        chosen: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        measured = self.measure(chosen)
        metrics = {
            f"{metric_key_prefix}_loss": measured.loss,
            f"{metric_key_prefix}_perplexity": measured.perplexity,
        }
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """What the stock Trainer does between two steps, and what signals have asked for."""
        self.in_optimizer_step = False
        try:
            super()._maybe_log_save_evaluate(*args, **kwargs)
        except MeasuringStoppedError:  # the figures are lost; what was trained isn't
            model: Any = self.model
            model.train()
        stop, save = self._agree_on_signals()
        if stop or save:
            self.save_checkpoint()
            self._interrupts.save = False
        if stop:
            self.control.should_training_stop = True

    def _agree_on_signals(self) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and to save."""
        asked = (self._interrupts.stop is not None, self._interrupts.save)
        if self.args.world_size == 1:
            return asked
        flags = torch.tensor(asked, dtype=torch.int32, device=self.args.device)
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        if flags[0] and self._interrupts.stop is None:
            self._interrupts.stop = self._interrupts.told_by_others()
        return bool(flags[0]), bool(flags[1])

    def save_checkpoint(self) -> None:
        """Save now, unless this very step is saved already."""
        if self._saved_step != self.state.global_step:
            self._save_checkpoint(self.model, None)

    def _get_output_dir(self, trial: Any) -> str:
        """The stock folder; while a checkpoint is being written, the staging folder in it."""
        folder = super()._get_output_dir(trial)
        return str(Path(folder) / STAGING) if self._is_staging else folder

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint aside, check it, and rename it into place.

        Raises:
            RunError: it can't be written; the older ones are as they were.
        """
        folder = Path(super()._get_output_dir(trial))
        step, notes = self.state.global_step, {"num_tokens_seen": self.total_tokens_seen()}
        is_first = self.is_world_process_zero()
        if is_first:
            folder.mkdir(parents=True, exist_ok=True)
            clear_leftovers(folder)
            disk.check_room(folder, needed=self._checkpoint_bytes(), kept=self._kept())
        self.accelerator.wait_for_everyone()
        self._is_staging = True
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if is_first:
                staging = folder / STAGING
                self._leave_staging(staging / f"checkpoint-{step}", folder)
                self.last_checkpoint = commit_checkpoint(
                    staging / f"checkpoint-{step}", folder, step=step, notes=notes
                )
        except Exception as error:  # torch and safetensors raise types of their own
            if is_first:
                clear_leftovers(folder)
            raise disk.explain(
                error, folder, needed=self._checkpoint_bytes(), kept=self._kept()
            ) from error
        finally:
            self._is_staging = False
        self._saved_step = step
        if is_first:
            best = self.state.best_model_checkpoint
            if self._keep:
                rotate_checkpoints(folder, keep=self._keep, best=Path(best) if best else None)
            clear_leftovers(folder)
        self.accelerator.wait_for_everyone()

    def _leave_staging(self, written: Path, folder: Path) -> None:
        """Let the state name the best checkpoint where it will be."""
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).parent == written.parent:
            self.state.best_model_checkpoint = str(folder / Path(best).name)
            self.state.save_to_json(str(written / _STATE))

    def _kept(self) -> str:
        if self.last_checkpoint is None:
            return "No checkpoint was there before."
        return f"{self.last_checkpoint.path} is good."

    def _checkpoint_bytes(self) -> int:
        """About what a checkpoint takes: weights, and two moments of each that is trained."""
        model = self.accelerator.unwrap_model(self.model)
        weights = sum(int(p.numel() * p.element_size()) for p in model.parameters())
        moments = sum(2 * 4 * int(p.numel()) for p in model.parameters() if p.requires_grad)
        return weights + (0 if self.args.save_only_model else moments) + 1_000_000

    def check_disk(self) -> None:
        """Refuse to begin where no checkpoint and no model would fit.

        Raises:
            RunError: the disk is too full.
        """
        folder = Path(str(self.args.output_dir))
        saves = self.args.save_strategy != "no"
        needed = self._checkpoint_bytes() * (2 if saves else 1)
        if self.is_world_process_zero():
            disk.check_room(folder, needed=needed, kept="Nothing was trained yet.")

    def resume_from(self, checkpoint: Checkpoint, *, retune: bool) -> None:
        """Take up what was counted; `train` itself loads the rest.

        Args:
            checkpoint: a valid one.
            retune: use the learning rate and such of the arguments, not those of the checkpoint.
        """
        self.last_checkpoint, self._saved_step = checkpoint, checkpoint.step
        self._retuned = retune
        if self.is_world_process_zero():
            self.num_tokens_seen += int(checkpoint.notes.get("num_tokens_seen", 0))

    def load_finished(self, checkpoint: Checkpoint) -> None:
        """Load weights and state of a checkpoint after which no step is left."""
        self._load_from_checkpoint(str(checkpoint.path))
        self.state = TrainerState.load_from_json(str(checkpoint.path / _STATE))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The stock loading; the arguments have the last word where they were changed knowingly."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not self._retuned:
            return
        values = self.args
        optimizer: Any = self.optimizer
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"] = values.learning_rate
            group["weight_decay"] = values.weight_decay if group["weight_decay"] else 0.0
            if "betas" in group:
                group["betas"] = (values.adam_beta1, values.adam_beta2)
                group["eps"] = values.adam_epsilon
        schedule: Any = self.lr_scheduler
        if hasattr(schedule, "base_lrs") and hasattr(schedule, "lr_lambdas"):
            schedule.base_lrs = [values.learning_rate for _ in schedule.base_lrs]
            rates = [
                base * rate(schedule.last_epoch)
                for base, rate in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
            ]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            schedule._last_lr = rates

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save as the stock Trainer does, less its pickle of the arguments."""
        super()._save(output_dir, state_dict)
        folder = Path(str(output_dir or self.args.output_dir))
        (folder / "training_args.bin").unlink(missing_ok=True)
