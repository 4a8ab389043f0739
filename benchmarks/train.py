"""One training step on a CPU: stock, with the loss in one pass, with freed memory kept, with both.

    python benchmarks/train.py [--dtype bfloat16] [--batch 16] [--block 256] [--runs 7] [--gpt2]

A new Llama of pico's width with a vocabulary of 8,192 learns random tokens by torch's AdamW, each
way in a process of its own, since memory once kept stays kept; `--gpt2` takes a new GPT-2 of 124 M
parameters instead. bfloat16 is autocast's, where the
CPU has the instructions. Prints the median and the peak memory, and exits with 1 where both
together are slower than stock.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

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


def main() -> int:
    """Measure each way, print, and tell whether ours is the faster one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--batch", type=int, default=16, help="blocks a step")
    parser.add_argument("--block", type=int, default=256, help="tokens a block")
    parser.add_argument("--runs", type=int, default=7, help="steps to take the median of")
    parser.add_argument("--gpt2", action="store_true", help="a GPT-2 of 124 M parameters")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
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
