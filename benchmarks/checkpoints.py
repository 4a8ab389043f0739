"""What a safe checkpoint costs: a save beside the stock Trainer's, and resuming early and late.

    python benchmarks/checkpoints.py [--runs 6] [--steps 1000]

The save is of a GPT-2 of 124 M parameters with AdamW's moments, 1.5 GB: the stock Trainer writes it
into its folder; gptft writes it aside, and sums, syncs and renames it while training goes on. They
take turns, and in turns at being first; the ratio is of the time that training waits. Printed
beside it is when the checkpoint is committed, and what the disk does with a file of the same size.
Resuming is timed on a tiny model from checkpoints at step 10 and at `--steps`, to the first new
step. Exits with 1 where a limit is missed.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

MAX_SAVE_RATIO = 1.3
MAX_RESUME_RATIO = 1.25  # noise; the promise is 1
_MB = 1 << 20


def model_of(layers: int, width: int, context: int):
    """A GPT-2 of these sizes, new."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_layer": layers, "n_head": max(width // 64, 2), "n_embd": width}
    vocab = 50_257 if width > 64 else 500
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab, n_positions=context, **sizes))


def trainer_of(kind: str, model, folder: Path, *, steps: int = 1, **settings):
    """A stock Trainer or ours over a few blocks of random tokens."""
    import torch
    from transformers import Trainer, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    from gptft.training.dataset import collate_blocks
    from gptft.training.trainer import BlockTrainer

    blocks = [torch.randint(0, 500, (16,)) for _ in range(64)]
    defaults = {"save_strategy": "no", "logging_strategy": "no", "report_to": "none"}
    args = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        **{**defaults, **settings},
    )
    cls = Trainer if kind == "stock" else BlockTrainer
    trainer = cls(model=model, args=args, data_collator=collate_blocks, train_dataset=blocks)
    trainer.remove_callback(PrinterCallback)
    return trainer


def save_seconds(folder: Path, *, runs: int) -> dict[str, list[float]]:
    """Seconds of each save, the two kinds taking turns."""
    model = model_of(12, 768, 1024)
    trainers = {kind: trainer_of(kind, model, folder / kind) for kind in ("stock", "gptft")}
    for trainer in trainers.values():
        trainer.train()
    taken: dict[str, list[float]] = {kind: [] for kind in (*trainers, "gptft, until committed")}
    for number in range(runs + 1):
        order = list(trainers.items())
        for kind, trainer in order[:: -1 if number % 2 else 1]:
            trainer.state.global_step = number + 1
            os.sync()
            started = time.perf_counter()
            trainer._save_checkpoint(model, None)
            saved = time.perf_counter()
            if kind == "gptft":
                trainer.wait_for_commit()
            committed = time.perf_counter()
            if number:  # the first round only warms up
                taken[kind].append(saved - started)
            if number and kind == "gptft":
                taken["gptft, until committed"].append(committed - started)
            shutil.rmtree(folder / kind / f"checkpoint-{number + 1}")
    return taken


def disk_figures(folder: Path, *, megabytes: int) -> dict[str, float]:
    """Seconds to write, sum and sync a file of the size of a checkpoint."""
    path, block = folder / "file", os.urandom(_MB)
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
    written = time.perf_counter()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    summed = time.perf_counter()
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    synced = time.perf_counter()
    path.unlink()
    return {"write": written - started, "sha256": summed - written, "fsync": synced - summed}


def resume_seconds(folder: Path, *, steps: tuple[int, int], runs: int) -> list[float]:
    """Seconds from `train` to the first new step after so many steps, medians, in turns."""
    from transformers import TrainerCallback

    from gptft.runs.checkpoints import newest_valid

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            self.first = time.perf_counter()
            control.should_training_stop = True

    for at in steps:
        settings = {"save_strategy": "steps", "save_steps": at}
        target = folder / f"resume-{at}"
        trainer_of("gptft", model_of(1, 32, 32), target, steps=at, **settings).train()
    taken: dict[int, list[float]] = {at: [] for at in steps}
    for number in range(runs + 1):
        for at in steps:
            target = folder / f"resume-{at}"
            trainer = trainer_of("gptft", model_of(1, 32, 32), target, steps=at + 5)
            trainer.add_callback(clock := Clock())
            started = time.perf_counter()
            checkpoint, _ = newest_valid(target)
            trainer.resume_from(checkpoint, changed=frozenset())
            trainer.train(resume_from_checkpoint=str(checkpoint.path))
            if number:
                taken[at].append(clock.first - started)
    return [statistics.median(values) for values in taken.values()]


def main() -> int:
    """Measure, print, and tell whether the limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where to write; by default a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        disk = disk_figures(folder, megabytes=1_424)
        print("the disk, 1,493 MB: " + ", ".join(f"{k} {v:.2f} s" for k, v in disk.items()))
        taken = save_seconds(folder, runs=arguments.runs)
        medians = {kind: statistics.median(values) for kind, values in taken.items()}
        ratio = medians["gptft"] / medians["stock"]
        for kind, values in taken.items():
            print(f"{kind:<22} save {medians[kind]:.2f} s ({min(values):.2f}-{max(values):.2f})")
        print(f"ratio {ratio:.2f} (at most {MAX_SAVE_RATIO})")
        steps = (10, arguments.steps)
        early, late = resume_seconds(folder, steps=steps, runs=arguments.runs)
    print(f"resume at step 10: {early:.3f} s, at step {arguments.steps:,}: {late:.3f} s")
    return int(ratio > MAX_SAVE_RATIO or late > MAX_RESUME_RATIO * early)


if __name__ == "__main__":
    sys.exit(main())
