"""Arguments and the number of blocks -> how long a run is, and what it writes on the way."""

import math
from typing import Any

from transformers import TrainingArguments

from gptft.runs.plan_sizes import Length


def length_of(
    args: TrainingArguments, *, num_blocks: int, num_tokens: int, validation_tokens: int
) -> Length:
    """How long a run of so many blocks is.

    Args:
        args: of the run.
        num_blocks: of the training split.
        num_tokens: in them.
        validation_tokens: of an evaluation.
    """
    batch = args.per_device_train_batch_size * args.world_size
    batches = num_blocks / batch
    batches = int(batches) if args.dataloader_drop_last else math.ceil(batches)
    steps_an_epoch = max(math.ceil(batches / args.gradient_accumulation_steps), 1)
    steps = args.max_steps
    if steps <= 0:
        steps = math.ceil(args.num_train_epochs * steps_an_epoch)
    epochs = steps / steps_an_epoch
    num_saves = _times(args.save_strategy, args.save_steps, steps, epochs, also_last=True)
    evaluations = _times(args.eval_strategy, args.eval_steps, steps, epochs, also_last=False)
    if args.save_strategy == "best":
        num_saves = evaluations
    limit = args.save_total_limit or num_saves
    kept = min(limit + 1, num_saves) if num_saves else 0  # one is written before one goes
    return Length(
        blocks=num_blocks,
        tokens_an_epoch=num_tokens,
        tokens=round(epochs * num_tokens),
        steps=steps,
        epochs=epochs,
        evaluations=evaluations,
        validation_tokens=validation_tokens,
        checkpoints=num_saves,
        checkpoints_kept=kept,
    )


def _times(
    strategy: Any, every: float | None, steps: int, epochs: float, *, also_last: bool
) -> int:
    """How often something is done in a run."""
    if strategy == "epoch":
        return math.ceil(epochs)
    if strategy != "steps" or not every:
        return 0
    every = math.ceil(every * steps) if every < 1 else int(every)
    times = math.ceil(steps / every) if also_last else steps // every
    return int(times)
