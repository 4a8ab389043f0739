"""transformers' `Trainer`, with an exact evaluation, and checkpoints that survive faults.

In: a model, blocks and `TrainingArguments`. Out: a trained model. Everything not overridden here is
the stock Trainer's.
"""

import math
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer
from transformers.trainer_callback import TrainerState

from gptft.config.training_fields import MUON
from gptft.errors import RunError
from gptft.runs import disk
from gptft.runs.checkpoints import (
    STAGING,
    Checkpoint,
    clear_leftovers,
    commit_checkpoint,
    rotate_checkpoints,
)
from gptft.training.dataset import IGNORED, count_tokens
from gptft.training.loss import use_fast_loss
from gptft.training.optimizers.muon import muon_for
from gptft.training.signals import Interrupts
from gptft.training.unlikelihood import Unlikelihood

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

    A checkpoint is written into a staging folder, sealed, and appears by one rename; only then are
    older ones removed. Between two steps signals are answered. A gradient or loss that isn't finite
    ends training before it touches the weights.

    Attributes:
        num_tokens_seen: real tokens trained on so far by this process, as a 0-d tensor.
        last_checkpoint: the newest one known to be whole, or None.
        in_optimizer_step: whether the weights may be half updated.
        seconds_before: trained until the checkpoint this process goes on from.
        unlikelihood: what a repetition costs in training, or None. It is in the loss of a step,
            never in what `measure` gives.
    """

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        interrupts: Interrupts | None = None,
        unlikelihood: Unlikelihood | None = None,
        **kwargs: Any,
    ) -> None:
        """Take what `Trainer` takes, who listens to signals, and what a repetition costs.

        Raises:
            ModelError: an unlikelihood, and the model computes a loss of its own.
        """
        if getattr(model, "loss_type", None) is None:
            model.loss_type = "ForCausalLM"
        use_fast_loss(model, unlikelihood=unlikelihood)
        super().__init__(model=model, **kwargs)
        self.unlikelihood = unlikelihood
        self.num_tokens_seen = torch.zeros((), dtype=torch.int64, device=self.args.device)
        self.last_checkpoint: Checkpoint | None = None
        self._interrupts = interrupts or Interrupts()
        self._finite = torch.ones((), dtype=torch.bool, device=self.args.device)
        self._is_staging = False
        # Rotation is ours: the stock one counts and removes any folder named like a checkpoint.
        self._keep, self.args.save_total_limit = self.args.save_total_limit, None
        self._changed: frozenset[str] = frozenset()
        self._saved_step: int | None = None
        self._committer = ThreadPoolExecutor(max_workers=1)
        self._committing: Future[Checkpoint] | None = None
        self.in_optimizer_step = False
        self.seconds_before = 0.0
        self._started: float | None = None
        self._open: dict[str, Any] = {}  # what the checkpoint to go on from had left open
        self._evaluation_due = False
        self._is_ending = False
        self._at_step_end: tuple[torch.Tensor, torch.Tensor] | None = None

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The stock optimizer, or Muon, which the stock Trainer doesn't have."""
        if self.optimizer is None and self.args.optim == MUON:
            chosen: Any = self.model if model is None else model
            self.optimizer = muon_for(
                chosen,
                lr=self.args.learning_rate,
                weight_decay=self.args.weight_decay,
                decay_names=self.get_decay_parameter_names(chosen),
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
            )
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        return optimizer

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
            self.wait_for_commit()
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
        """Loss over every predicted token of `dataset`, on all processes together.

        Raises:
            RunError: out of memory.
            MeasuringStoppedError: a signal came.
        """
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        try:
            # A loader draws a number as it begins, which training must not miss or gain.
            with torch.random.fork_rng(devices=devices):
                return self._measure(model, dataset)
        except torch.OutOfMemoryError as error:
            batch = self.args.per_device_eval_batch_size
            way = "Lower data.block_size" if batch == 1 else "Lower it"
            raise RunError(
                f"Out of memory while measuring with training.per_device_eval_batch_size: {batch}. "
                f"{way}, or take a smaller model."
            ) from error
        finally:
            model.train(was_training)

    def _measure(self, model: PreTrainedModel, dataset: Dataset[torch.Tensor]) -> Measured:
        total = torch.zeros((), dtype=torch.float64)
        num_tokens = 0
        for batch in self.get_eval_dataloader(dataset):
            if self.args.world_size == 1 and self._interrupts.stop is not None:
                raise MeasuringStoppedError
            nll, counts = self._row_losses(model, batch)
            nll, counts = self.accelerator.gather_for_metrics((nll, counts))
            total += nll.sum().cpu()
            num_tokens += int(counts.sum())
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
        if self._is_ending and not float(self.state.epoch or 0).is_integer():
            return  # the stock loop takes the end of the run for the end of an epoch
        if self._committing is not None and self._committing.done():
            self.wait_for_commit()
        try:
            super()._maybe_log_save_evaluate(*args, **kwargs)
        except MeasuringStoppedError:  # the run that goes on from here measures first
            self.control.should_evaluate = False
            self._evaluation_due, self._saved_step = True, None
        stop, save = self._agree_on_signals()
        if stop or save:
            self.save_checkpoint()
            self._interrupts.save = False
        if stop:
            self.control.should_training_stop = self._is_ending = True
        self._at_step_end = (self.num_tokens_seen.clone(), self._tr_loss.clone())

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
        """Save now, unless this very step is saved already, and wait until it is on the disk."""
        if self._saved_step != self.state.global_step:
            self._save_checkpoint(self.model, None)
        self.wait_for_commit()

    def _get_output_dir(self, trial: Any) -> str:
        """The stock folder; while a checkpoint is being written, the staging folder in it."""
        folder = super()._get_output_dir(trial)
        return str(Path(folder) / STAGING) if self._is_staging else folder

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint aside; a thread seals it and renames it into place meanwhile.

        Training goes on while checksums are made and the disk is waited for. The checkpoint is one
        from the rename on; `wait_for_commit` waits for it, and so does the next save.

        Raises:
            RunError: it, or the one before, can't be written; the older ones are as they were.
        """
        self.wait_for_commit()
        folder = Path(super()._get_output_dir(trial))
        step, notes = self.state.global_step, self._notes()
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
                self._leave_staging(folder / STAGING / f"checkpoint-{step}", folder)
        except Exception as error:  # torch and safetensors raise types of their own
            raise self._save_failed(error, folder) from error
        finally:
            self._is_staging = False
        self._saved_step = step
        if is_first:
            best = self.state.best_model_checkpoint
            self._committing = self._committer.submit(
                self._commit, folder, step=step, notes=notes, best=Path(best) if best else None
            )

    def _notes(self) -> dict[str, Any]:
        """What the stock state leaves out: all that is known at this step and not on the disk."""
        loss_sum = self.accelerator.gather(self._tr_loss.reshape(1)).mean()
        elapsed = 0.0 if self._started is None else time.perf_counter() - self._started
        return {
            "num_tokens_seen": self.total_tokens_seen(),
            "loss_sum": float(loss_sum),
            "last_logged": self._globalstep_last_logged,
            "evaluation_due": self._evaluation_due,
            "seconds": self.seconds_before + elapsed,
        }

    def undo_step(self) -> None:
        """Forget what was counted of a step that was not finished."""
        if self._at_step_end is not None:
            self.num_tokens_seen, self._tr_loss = self._at_step_end

    def _commit(
        self, folder: Path, *, step: int, notes: dict[str, Any], best: Path | None
    ) -> Checkpoint:
        """Seal what was staged, rename it into place, and only then remove older ones."""
        staged = folder / STAGING / f"checkpoint-{step}"
        checkpoint = commit_checkpoint(staged, folder, step=step, notes=notes)
        if self._keep:
            rotate_checkpoints(folder, keep=self._keep, best=best)
        clear_leftovers(folder)
        return checkpoint

    def wait_for_commit(self) -> None:
        """Wait until the checkpoint that was written last is one.

        Raises:
            RunError: it couldn't be sealed; the older ones are as they were.
        """
        committing, self._committing = self._committing, None
        if committing is None:
            return
        try:
            self.last_checkpoint = committing.result()
        except Exception as error:
            self._saved_step = None
            folder = Path(str(self.args.output_dir))
            raise self._save_failed(error, folder) from error

    def _save_failed(self, error: Exception, folder: Path) -> Exception:
        # A disk that is full is so as long as the half-written one is there.
        why = disk.explain(error, folder, needed=self._checkpoint_bytes(), kept=self._kept())
        if self.is_world_process_zero():
            clear_leftovers(folder)
        return why

    def explain_write(self, error: Exception) -> Exception:
        """What a failed write outside of a checkpoint was."""
        folder = Path(str(self.args.output_dir)).parent
        return disk.explain(error, folder, needed=self._checkpoint_bytes(), kept=self._kept())

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as the stock Trainer does, and wait for the last checkpoint."""
        self._started = time.perf_counter()
        try:
            outcome = super().train(*args, **kwargs)
            self.wait_for_commit()
        finally:
            self._committer.shutdown(wait=True)
            self._committer = ThreadPoolExecutor(max_workers=1)
        return outcome

    def _load_best_model(self) -> None:
        """The best one may just be on its way to the disk."""
        self.wait_for_commit()
        super()._load_best_model()

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

    def resume_from(self, checkpoint: Checkpoint, *, changed: frozenset[str]) -> None:
        """Take up what was counted; `train` itself loads the rest.

        Args:
            checkpoint: a valid one.
            changed: settings that were others when it was made, such as training.learning_rate.
        """
        self.last_checkpoint, self._saved_step = checkpoint, checkpoint.step
        self._changed = changed
        self._open = notes = checkpoint.notes
        self.args.eval_on_start = False  # that was then
        self.seconds_before = float(notes.get("seconds", 0.0))
        if self.is_world_process_zero():
            self.num_tokens_seen += int(notes.get("num_tokens_seen", 0))

    def load_finished(self, checkpoint: Checkpoint) -> None:
        """Load weights and state of a checkpoint after which no step is left."""
        self._load_from_checkpoint(str(checkpoint.path))
        self.state = TrainerState.load_from_json(str(checkpoint.path / _STATE))
        self._evaluate_if_due()
        if self.args.load_best_model_at_end and self.state.best_model_checkpoint is not None:
            self._load_best_model()

    def _init_training_state(self, max_steps: int, *args: Any) -> Any:
        """The stock state; how often to log, measure and save is what the settings say today."""
        begun = super()._init_training_state(max_steps, *args)
        self.state.compute_steps(self.args, max_steps)
        return begun

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """A stock epoch, after what the checkpoint had left open."""
        if "last_logged" in self._open:
            self._tr_loss += self._open["loss_sum"]
            self._globalstep_last_logged = self._open["last_logged"]
        self._evaluate_if_due()
        super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _evaluate_if_due(self) -> None:
        left_open, self._open = self._open, {}
        if not left_open.get("evaluation_due"):
            return
        metrics = self._evaluate(None, None)
        is_best = self._determine_best_metric(metrics=metrics, trial=None)
        if is_best and self.last_checkpoint is not None:
            self.state.best_model_checkpoint = str(self.last_checkpoint.path)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The stock loading; the arguments have the last word where they were changed knowingly."""
        fresh: Any = self.optimizer
        decays = [group.get("weight_decay") for group in fresh.param_groups] if fresh else []
        begun = fresh.state_dict() if fresh and self._changed else {}
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not self._changed:
            return
        values = self.args
        optimizer: Any = self.optimizer
        known = begun["param_groups"][0].keys()
        if not known <= optimizer.param_groups[0].keys():  # another optimizer's moments
            optimizer.load_state_dict(begun)
        schedule: Any = self.lr_scheduler
        is_a_function_of_the_step = hasattr(schedule, "base_lrs") and hasattr(
            schedule, "lr_lambdas"
        )
        for group, decay in zip(optimizer.param_groups, decays, strict=True):
            # Another schedule has gone its own way from there, down from a plateau say.
            if is_a_function_of_the_step or "training.learning_rate" in self._changed:
                group["initial_lr"] = group["lr"] = values.learning_rate
            if decay is not None:
                group["weight_decay"] = decay
            if "betas" in group:
                group["betas"] = (values.adam_beta1, values.adam_beta2)
                group["eps"] = values.adam_epsilon
        if is_a_function_of_the_step:
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
