"""What decides a run's memory, time and disk: the sizes of its model and batch, and its length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class BatchSizes:
    """What of a run's memory depends on its batch, in bytes.

    Attributes:
        kept: of a batch of any size, such as the weights' copies in bfloat16.
        kept_a_block: what autograd keeps of a block until it has its gradient.
        logits_a_row: of the logits of a token, of which `logits_rows` are there at once.
        logits_rows: None where those of all tokens are.
        beside_a_token: of hidden states' gradients at the output layer.
    """

    kept: int
    kept_a_block: int
    logits_a_row: int
    logits_rows: int | None
    beside_a_token: int

    def activations(self, batch: int) -> int:
        """What autograd keeps of so many blocks."""
        return self.kept + batch * self.kept_a_block

    def logits(self, batch: int, block_size: int) -> int:
        """What the output layer takes for so many blocks."""
        tokens = batch * block_size
        rows = tokens if self.logits_rows is None else min(tokens, self.logits_rows)
        return rows * self.logits_a_row + tokens * self.beside_a_token


@dataclass(frozen=True)
class Sizes:
    """What decides a run's memory and time.

    Attributes:
        device: cpu, cuda or mps.
        parameters: of the model, without an adapter's.
        trained: parameters that are trained.
        libraries: bytes of the process before it has a model; 0 where a GPU's memory is meant.
        loading: bytes beside the weights while they are read.
        weights: bytes of all weights, trained or not.
        gradients: bytes.
        optimizer: bytes of its state.
        average: bytes of the moving average.
        batch: what depends on the batch; None where that couldn't be found out.
        checkpointed: the same with activation checkpointing, where it is off.
        batch_size: blocks in a batch.
        accumulation: batches in a step, of a process.
        processes: that share a step.
        block_size: tokens in a block.
        flops_a_block: operations of a block in training; None where that couldn't be found out.
        model_bytes: of the trained model on disk.
        saved_bytes: of a checkpoint on disk.
    """

    device: str
    parameters: int
    trained: int
    libraries: int
    loading: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    batch: BatchSizes | None
    checkpointed: BatchSizes | None
    batch_size: int
    accumulation: int
    processes: int
    block_size: int
    flops_a_block: int | None
    model_bytes: int
    saved_bytes: int

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Sizes":
        """What `as_json` made of it."""
        parts = {
            name: BatchSizes(**stored[name]) if stored[name] else None
            for name in ("batch", "checkpointed")
        }
        return cls(**{**stored, **parts})

    def peak(self, batch: int | None = None) -> int | None:
        """The most memory at once, in bytes, with so many blocks in a batch."""
        if self.batch is None:
            return None
        batch = self.batch_size if batch is None else batch
        steady = self.libraries + self.weights + self.average
        step = self.gradients + self.optimizer + self._of_batch(self.batch, batch)
        return steady + max(self.loading, step)

    def _of_batch(self, sizes: BatchSizes, batch: int) -> int:
        return sizes.activations(batch) + sizes.logits(batch, self.block_size)


@dataclass(frozen=True)
class Length:
    """How long a run is.

    Attributes:
        blocks: of the training split.
        tokens_an_epoch: of the training text.
        tokens: that are trained on.
        steps: updates of the weights.
        epochs: times that the text is seen.
        evaluations: of held-out text, while it trains.
        validation_tokens: of an evaluation.
        checkpoints: that are written.
        checkpoints_kept: of them, at once, one being written among them.
    """

    blocks: int
    tokens_an_epoch: int
    tokens: int
    steps: int
    epochs: float
    evaluations: int
    validation_tokens: int
    checkpoints: int
    checkpoints_kept: int


@dataclass(frozen=True)
class Measured:
    """Two steps of a run, made in a process of their own.

    Attributes:
        peak_bytes: of that process, or allocated on its GPU; None where the system doesn't tell.
        batch_seconds: forward and backward of a batch.
        update_seconds: of the optimizer, once a step.
        forward_seconds: of a token that is only measured.
        start_seconds: until the first step.
        cpu_seconds: of the processor, of a step.
    """

    peak_bytes: int | None
    batch_seconds: float
    update_seconds: float
    forward_seconds: float
    start_seconds: float
    cpu_seconds: float
