"""Arguments whose batch takes too much memory -> those of a smaller one, with the same steps."""

from transformers import TrainingArguments


def smaller_batch(args: TrainingArguments) -> dict[str, int]:
    """The fields that change: as many blocks a step, in smaller batches.

    Args:
        args: with more than one block a batch.
    """
    batch = args.per_device_train_batch_size
    by = next(n for n in range(2, batch + 1) if batch % n == 0)  # so that steps stay the same
    return {
        "per_device_train_batch_size": batch // by,
        "gradient_accumulation_steps": args.gradient_accumulation_steps * by,
    }
