"""transformers' `Trainer`, with an exact evaluation and no pickles of ours.

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

from gptft.training.dataset import IGNORED, count_tokens


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

    Attributes:
        num_tokens_seen: real tokens trained on so far by this process, as a 0-d tensor.
    """

    def __init__(self, *, model: PreTrainedModel, **kwargs: Any) -> None:
        """Take what `Trainer` takes."""
        if getattr(model, "loss_type", None) is None:
            model.loss_type = "ForCausalLM"
        super().__init__(model=model, **kwargs)
        self.num_tokens_seen = torch.zeros((), dtype=torch.int64, device=self.args.device)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Count the batch's tokens on the device, without waiting for it, and train on it."""
        self.num_tokens_seen += count_tokens(inputs).to(self.args.device)
        return super().training_step(model, inputs, *args, **kwargs)

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

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save as the stock Trainer does, less its pickle of the arguments."""
        super()._save(output_dir, state_dict)
        folder = Path(str(output_dir or self.args.output_dir))
        (folder / "training_args.bin").unlink(missing_ok=True)
