"""A model in training and its text -> whether every token of it is memorized, and then a stop.

A text is memorized when each of its tokens that can be known at all has a probability of 0.9 or
more at its place. What is generated greedily from there on is the text: training further changes
the weights and nothing that a reader sees. Finding the first token that is not known costs one
batch, so that looking costs next to nothing before the end.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gptft.data.decided_tokens import Window, windows_of
from gptft.data.store import BlockStore
from gptft.training.dataset import IGNORED
from gptft.training.ending import KNOWN
from gptft.training.signals import Signals
from gptft.training.trainer import BlockTrainer

LONGEST_TEXT = 1_000_000  # tokens; a longer one is not memorized to its last token


def stop_when_memorized(
    trainer: BlockTrainer,
    store: BlockStore,
    signals: Signals,
    *,
    ledger: Mapping[str, Any],
    isolated: bool,
    shifted: bool,
) -> tuple[str, ...]:
    """Have a run end when its text is memorized.

    Args:
        trainer: of the run.
        store: its training split.
        signals: what else ends it.
        ledger: of the store.
        isolated: whether documents of a block don't see each other.
        shifted: whether each epoch cuts the text elsewhere.

    Returns:
        a sentence where the text is too long for that.
    """
    if store.num_tokens > LONGEST_TEXT:
        return (
            f"A text of {store.num_tokens:,} tokens is not memorized to its last one: "
            "training.stop_when_memorized has no effect.",
        )
    eos, bos = int(ledger.get("eos_token_id", -1)), tuple(ledger.get("bos_token_ids", ()))
    windows = windows_of(store, isolated=isolated, shifted=shifted, eos_token_id=eos, bos=bos)
    is_alone = trainer.args.world_size == 1  # several processes stop together, between two steps
    trainer.add_callback(
        StopWhenMemorized(
            trainer, windows, should_stop=lambda: is_alone and signals.stop is not None
        )
    )
    return ()


class StopWhenMemorized(TrainerCallback):
    """Ends training at the end of an epoch, or after an evaluation, if the text is memorized."""

    def __init__(
        self,
        trainer: BlockTrainer,
        windows: Sequence[Window],
        *,
        should_stop: Callable[[], bool],
    ) -> None:
        """Look at `windows` of the training text with the model of `trainer`.

        Args:
            trainer: that this is a callback of.
            windows: see `windows_of`.
            should_stop: asked before each batch: whether something else ends the run now.
        """
        self._trainer, self._windows, self._should_stop = trainer, windows, should_stop
        self._first = 0  # the window that held a token which wasn't known, the last time

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look, unless a signal ended the epoch in its midst."""
        if float(state.epoch or 0).is_integer():
            self._look(args, state, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look."""
        self._look(args, state, control)

    def _look(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> None:
        if self._trainer.ending.is_memorized or not 0 < state.global_step < state.max_steps:
            return
        if self._is_memorized(max(args.per_device_eval_batch_size, 1)):
            self._trainer.ending.is_memorized = control.should_training_stop = True
            if args.save_strategy in ("steps", "epoch"):
                control.should_save = True

    def _is_memorized(self, batch_size: int) -> bool:
        """Whether all windows are known, the one that wasn't looked at first."""
        numbers = [*range(self._first, len(self._windows)), *range(self._first)]
        trainer = self._trainer
        model = trainer.accelerator.unwrap_model(trainer.model)
        was_training = model.training
        model.eval()
        try:
            with trainer.kept.held():
                for start in range(0, len(numbers), batch_size):
                    if self._should_stop():
                        return False
                    batch = numbers[start : start + batch_size]
                    known = _known(trainer, model, [self._windows[number] for number in batch])
                    if False in known:
                        self._first = batch[known.index(False)]
                        return False
        finally:
            model.train(was_training)
        return True


def _known(trainer: BlockTrainer, model: Any, windows: Sequence[Window]) -> list[bool]:
    """Whether each window is memorized, in every process of the run."""
    longest = max(len(window.ids) for window in windows)
    input_ids = torch.zeros((len(windows), longest), dtype=torch.int64)
    labels = torch.full_like(input_ids, IGNORED)
    for row, window in enumerate(windows):
        ids = torch.from_numpy(window.ids.astype("int64"))
        decided = torch.from_numpy(window.decided)
        input_ids[row, : len(ids)] = ids
        labels[row, : len(ids)] = torch.where(decided, ids, IGNORED)
    batch = trainer.to_device({"input_ids": input_ids, "labels": labels})
    with torch.no_grad(), trainer.accelerator.autocast():
        # Padding is on the right, where no real token sees it.
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits  # (B, T, V)
    flags = []
    for row, targets in zip(logits, batch["labels"][:, 1:], strict=True):
        losses = torch.nn.functional.cross_entropy(  # 0 where there is no label
            row[:-1].float(), targets, ignore_index=IGNORED, reduction="none"
        )
        flags.append((losses <= -math.log(KNOWN)).all())
    known = torch.stack(flags)
    if trainer.args.world_size > 1:  # all stop together, and look at the same window next
        known = trainer.accelerator.gather(known[None].to(torch.int32)).all(dim=0)
    return [bool(flag) for flag in known]
