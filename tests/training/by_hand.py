"""Training as a few lines of torch do it, to hold runs to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gptft.data.store import BlockStore
from gptft.files import default_cache_dir
from tests.training.folders import facts

# A run that `steps_by_hand` repeats: blocks in their order, two a step, one learning rate.
PLAINLY = {
    "max_grad_norm": 0, "lr_scheduler_type": "constant", "train_sampling_strategy": "sequential",
}  # fmt: skip


def blocks_of(run_dir: Path, split: str = "train") -> list[torch.Tensor]:
    """The blocks that a run trained on, or measured."""
    folder = default_cache_dir() / "blocks" / facts(run_dir)["data"]["store"]
    store = BlockStore(folder, split=split)
    return [torch.from_numpy(store[i].astype("int64")) for i in range(len(store))]


def steps_by_hand(
    model: Any,
    optimizer: torch.optim.Optimizer,
    blocks: list[torch.Tensor],
    *,
    steps: int,
    before: Callable[[int], None] = lambda step: None,
    after: Callable[[int], None] = lambda step: None,
) -> None:
    """Train on two blocks a step; `before` and `after` are called with each step, from 0."""
    batches = [blocks[i : i + 2] for i in range(0, len(blocks), 2)]
    for step in range(steps):
        batch = batches[step % len(batches)]
        losses = [
            torch.nn.functional.cross_entropy(
                model(one[None]).logits[0, :-1], one[1:], reduction="sum"
            )
            for one in batch
        ]
        optimizer.zero_grad()
        loss = torch.stack(losses).sum() / sum(len(one) - 1 for one in batch)
        loss.backward()  # type: ignore[no-untyped-call]
        before(step)
        optimizer.step()
        after(step)


def mean_loss(model: Any, blocks: list[torch.Tensor]) -> float:
    """By log-softmax in float64, over every predicted token."""
    total, num = 0.0, 0
    with torch.no_grad():
        for block in blocks:
            logits = model(block[None]).logits[0, :-1].double()
            picked = logits.log_softmax(-1).gather(1, block[1:, None])
            total, num = total - float(picked.sum()), num + len(block) - 1
    return total / num
