"""One training step on a CPU: stock, with the loss in one pass, with freed memory kept, with both.

    python benchmarks/train.py [--dtype bfloat16] [--batch 16] [--block 256] [--runs 7] [--gpt2]
    python benchmarks/train.py --lora [--runs 7]

A new Llama of pico's width with a vocabulary of 8,192 learns random tokens by torch's AdamW, each
way in a process of its own, since memory once kept stays kept; `--gpt2` takes a new GPT-2 of 124 M
parameters instead. bfloat16 is autocast's, where the
CPU has the instructions. Prints the median and the peak memory, and exits with 1 where both
together are slower than stock.

`--lora` trains that GPT-2 in float32, one block of 256 tokens a step: all of it by gptft's Trainer,
an adapter by it, and one by plain peft and the stock Trainer. It exits with 1 where the adapter
takes more than 0.6 of a full step's time or 0.55 of its memory, or more than the plain way.
"""

import argparse
import itertools
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

LORA_WAYS = {
    "all weights": "full", "adapter": "lora", "adapter, plain peft and Trainer": "plain",
}  # fmt: skip
MOST_TIME, MOST_MEMORY = 0.6, 0.55  # of full tuning's
NOISE = 1.05  # what two runs of the same differ by
WAYS = {"stock": "", "loss in one pass": "loss", "freed memory kept": "heap", "both": "loss,heap"}


def new_model(*, gpt2: bool) -> Any:
    """A model with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    if gpt2:
        model = GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
        model.loss_type = "ForCausalLM"
        return model
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=256,
            num_hidden_layers=8,
            num_attention_heads=4,
            intermediate_size=704,
            vocab_size=8192,
            tie_word_embeddings=True,
        )
    )


def measure(
    parts: str, *, gpt2: bool, dtype: str, batch: int, block: int, runs: int
) -> tuple[float, float]:
    """Tokens a second and peak memory in MB of this process."""
    import torch

    from gptft.training.loss import use_fast_loss
    from gptft.training.memory_allocator import keep_freed_memory

    if "heap" in parts:
        keep_freed_memory()
    torch.manual_seed(0)
    model = new_model(gpt2=gpt2)
    if "loss" in parts:
        use_fast_loss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids = torch.randint(8192, (batch, block))
    seconds = []
    for _ in range(runs + 2):
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return batch * block / statistics.median(seconds[2:]), peak


def measure_trainer(way: str, *, block: int, runs: int) -> tuple[float, float]:
    """Seconds a step of one block, and peak memory in MB of this process.

    Args:
        way: a value of `LORA_WAYS`.
        block: tokens a step.
        runs: steps to take the median of.
    """
    import tempfile

    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from gptft.config.lora import LoraConfig
    from gptft.models.lora import add_adapter
    from gptft.training.activations import use_fused_activations
    from gptft.training.dataset import collate_blocks
    from gptft.training.memory_allocator import keep_freed_memory
    from gptft.training.trainer import BlockTrainer

    ended: list[float] = []

    class Clock(TrainerCallback):
        """Notes when each step ends."""

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            """Note it."""
            ended.append(time.perf_counter())

    if way != "plain":
        keep_freed_memory()
    torch.manual_seed(0)
    model: Any = new_model(gpt2=True)
    blocks = list(torch.randint(8192, (runs + 3, block)))
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder, use_cpu=True, max_steps=runs + 3, per_device_train_batch_size=1,
            save_strategy="no", report_to="none", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        common: Any = {"args": args, "train_dataset": blocks, "callbacks": [Clock()]}
        trainer: Trainer
        if way == "plain":
            from peft import LoraConfig as Plain
            from peft import get_peft_model

            settings = Plain(
                task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear",
                fan_in_fan_out=True,
            )  # fmt: skip
            trainer = Trainer(
                model=get_peft_model(model, settings),
                data_collator=lambda rows: {
                    "input_ids": torch.stack(rows), "labels": torch.stack(rows),
                },
                **common,
            )  # fmt: skip
        else:
            use_fused_activations(model)  # as `set_up` does
            lora = None
            if way == "lora":
                lora = add_adapter(model, LoraConfig(), base_name="new", seed=0)
            trainer = BlockTrainer(model=model, lora=lora, data_collator=collate_blocks, **common)
        trainer.train()
    seconds = [after - before for before, after in itertools.pairwise(ended[2:])]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return statistics.median(seconds), peak


def compare_lora(*, block: int, runs: int) -> int:
    """Measure each way of `LORA_WAYS`, print, and tell whether the adapter is as cheap as said."""
    found = {}
    for title, way in LORA_WAYS.items():
        flags = ["--lora", "--block", str(block), "--runs", str(runs), "--only", way]
        done = subprocess.run(
            [sys.executable, __file__, *flags], check=True, capture_output=True, text=True
        )
        seconds, peak = map(float, done.stdout.split()[-2:])
        found[way] = seconds, peak
        time_share, memory_share = (one / all_of_it for one, all_of_it in zip(
            found[way], found["full"], strict=True
        ))  # fmt: skip
        print(
            f"{title:34}{seconds:6.2f} s a step ({time_share:.2f})  {peak:6,.0f} MB "
            f"({memory_share:.2f})",
            flush=True,
        )
    (own, own_peak), (full, full_peak), (plain, plain_peak) = (
        found[way] for way in ("lora", "full", "plain")
    )
    is_cheap = own <= MOST_TIME * full and own_peak <= MOST_MEMORY * full_peak
    is_no_worse = own <= NOISE * plain and own_peak <= NOISE * plain_peak
    return 0 if is_cheap and is_no_worse else 1


def main() -> int:
    """Measure each way, print, and tell whether ours is the faster one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--batch", type=int, default=16, help="blocks a step")
    parser.add_argument("--block", type=int, default=256, help="tokens a block")
    parser.add_argument("--runs", type=int, default=7, help="steps to take the median of")
    parser.add_argument("--gpt2", action="store_true", help="a GPT-2 of 124 M parameters")
    parser.add_argument("--lora", action="store_true", help="an adapter beside full tuning")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.lora and arguments.only is not None:
        print(*measure_trainer(arguments.only, block=arguments.block, runs=arguments.runs))
        return 0
    if arguments.lora:
        return compare_lora(block=arguments.block, runs=arguments.runs)
    sizes = {name: getattr(arguments, name) for name in ("dtype", "batch", "block", "runs")}
    if arguments.only is not None:
        print(*measure(arguments.only, gpt2=arguments.gpt2, **sizes))
        return 0
    found = {}
    for title, parts in WAYS.items():
        flags = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
        flags += ["--gpt2"] * arguments.gpt2
        done = subprocess.run(
            [sys.executable, __file__, *flags, "--only", parts],
            check=True,
            capture_output=True,
            text=True,
        )
        found[title], peak = map(float, done.stdout.split()[-2:])
        print(f"{title:20}{found[title]:8,.0f} tokens/s  {peak:6,.0f} MB", flush=True)
    return 0 if found["both"] >= found["stock"] else 1


if __name__ == "__main__":
    sys.exit(main())
