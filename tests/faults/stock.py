"""The stock Trainer under the same kills: what it leaves is what gptft is measured by.

In: a lab. Out: trials; a broken promise here is a figure, not a failure of ours.
"""

import hashlib
import os
import random
import re
import signal
import time
from pathlib import Path

from tests.faults import harness
from tests.faults.harness import KEPT, STEPS, Lab, Trial


def stock_kills(lab: Lab, *, kills: int, seed: int) -> list[Trial]:
    """Kill plain `Trainer` runs once each, at a random moment, and resume them as it offers."""
    reference = lab.folder / f"stock-reference-{seed}"
    started = time.perf_counter()
    whole = harness.fork(lambda: _train(lab, reference), reference.with_suffix(".log"))
    seconds = time.perf_counter() - started
    if whole.code:
        raise RuntimeError(whole.said)
    trials: list[Trial] = []
    dice = random.Random(f"stock/{seed}")
    while len(trials) < kills:
        folder = lab.folder / f"stock-{seed}-{len(trials)}"
        log = folder.with_suffix(".log")
        moment = dice.uniform(0, seconds)
        ended = harness.fork(
            lambda f=folder: _train(lab, f), log, meanwhile=lambda pid, m=moment: _kill(pid, m)
        )
        if ended.code != -signal.SIGKILL:
            continue
        trial = Trial(folder.name, counts={"kills": 1})
        again = harness.fork(lambda f=folder: _train(lab, f), log)
        if again.code:
            trial.broken.append(
                _without_numbers(f"resume failed: {harness.last_line(again.said)}", folder)
            )
            trial.counts["failed"] = 1
        elif _digest(folder) != _digest(reference):
            trial.broken.append("ended with other weights")
            trial.counts["different"] = 1
        trials.append(trial)
    return trials


def _kill(pid: int, moment: float) -> None:
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)  # a process that has ended stays until it is waited for


def _without_numbers(said: str, folder: Path) -> str:
    """One sentence for all that failed alike."""
    return re.sub(r"checkpoint-\d+", "checkpoint-N", said.replace(str(folder), "RUN"))


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def _train(lab: Lab, folder: Path) -> int:
    from transformers import Trainer, TrainingArguments

    from gptft.data.store import BlockStore
    from gptft.models.new import new_model
    from gptft.training.dataset import BlockDataset, collate_blocks

    stores = [path.parent for path in Path(os.environ["GPTFT_CACHE"]).rglob("tokenizer")]
    store = BlockStore(stores[0])
    sizes = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64}
    model = new_model(sizes, vocab_size=store.max_token_id() + 1, eos_token_id=0, seed=7)
    checkpoints = folder / "checkpoints"
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(checkpoints),
            max_steps=STEPS,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            learning_rate=1e-3,
            save_steps=1,
            save_total_limit=KEPT,
            logging_steps=1,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            seed=7,
        ),
        data_collator=collate_blocks,
        train_dataset=BlockDataset(store),
    )
    trainer.train(resume_from_checkpoint=any(checkpoints.glob("checkpoint-*")))
    trainer.save_model(str(folder / "model"))
    return 0
