"""A model and blocks -> the loss over every predicted token, on all processes together."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from gptft.errors import RunError
from gptft.training.dataset import DOCUMENTS, IGNORED
from gptft.training.trainer_adapter import TrainerAdapter

_ROWS = 256  # tokens of a block whose logits are made at a time


class EvaluationStoppedError(Exception):
    """A signal came during an evaluation."""


@dataclass(frozen=True)
class Measured:
    """How well a model predicts a text.

    Attributes:
        loss: mean negative log-likelihood a predicted token, in nats.
        num_tokens: tokens predicted: all but the first of each block, and of each document where
            documents are masked from each other.
        num_bytes: bytes of UTF-8 that these tokens stand for; None where that wasn't counted.
    """

    loss: float
    num_tokens: int
    num_bytes: int | None = None

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable between tokenizers; EOS, where it is predicted, costs bits and has no byte."""
        return (
            self.loss * self.num_tokens / math.log(2) / self.num_bytes if self.num_bytes else None
        )


def measure_loss(
    trainer: TrainerAdapter, dataset: Dataset[torch.Tensor], *, should_stop: Callable[[], bool]
) -> Measured:
    """Measure the trainer's model; its mode and the random state are left as they were.

    Args:
        trainer: whose model, batch size, device and processes are used.
        dataset: blocks.
        should_stop: asked before each batch.

    Raises:
        RunError: out of memory.
        EvaluationStoppedError: `should_stop` said so.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    was_training = model.training
    model.eval()
    devices = [trainer.args.device] if trainer.args.device.type == "cuda" else []
    total = torch.zeros((), dtype=torch.float64)
    num_tokens = 0
    try:
        # A loader draws a number as it begins, which training must not miss or gain.
        with torch.random.fork_rng(devices=devices):
            for batch in trainer.get_eval_dataloader(dataset):
                if should_stop():
                    raise EvaluationStoppedError
                losses = row_losses(trainer, model, batch)
                nll, counts = trainer.accelerator.gather_for_metrics(losses)  # a tuple of (B,)
                total += nll.cpu().double().sum()  # on the CPU: MPS has no float64
                num_tokens += int(counts.sum())
    except torch.OutOfMemoryError as error:
        batch_size = trainer.args.per_device_eval_batch_size
        way = "Lower data.block_size" if batch_size == 1 else "Lower it"
        raise RunError(
            f"Out of memory while measuring with training.per_device_eval_batch_size: {batch_size}."
            f" {way}, or take a smaller model."
        ) from error
    finally:
        model.train(was_training)
    return Measured(float(total) / max(num_tokens, 1), num_tokens)


def row_losses(
    trainer: TrainerAdapter, model: PreTrainedModel, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed loss, float32, and predicted tokens of each block of a batch, both of shape (B,)."""
    batch, head = trainer.to_device(batch), trainer.head
    inputs = {name: batch[name] for name in batch if name not in ("labels", DOCUMENTS)}
    targets = batch["labels"][:, 1:]  # (B, T - 1)
    sums = []
    with torch.no_grad(), trainer.accelerator.autocast():
        with nullcontext() if head is None else head.deferred():
            outputs = model(**inputs, use_cache=False).logits  # (B, T, V), or (B, T, C)
        for row, target in zip(outputs, targets, strict=True):
            total = torch.zeros((), dtype=torch.float32, device=row.device)
            for start in range(0, len(target), _ROWS):  # all logits would be held twice
                few, wanted = row[:-1][start : start + _ROWS], target[start : start + _ROWS]
                logits = few if head is None else head.logits(few)
                total += torch.nn.functional.cross_entropy(
                    logits.float(), wanted, ignore_index=IGNORED, reduction="sum"
                )
            sums.append(total)
    return torch.stack(sums), (targets != IGNORED).sum(dim=1)
