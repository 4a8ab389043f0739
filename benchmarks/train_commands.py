"""`gptft train` as it comes beside run_clm.py's Trainer: tokens a second, peak memory, first loss.

    python benchmarks/train_commands.py [--rows gpt2,smollm] [--rounds 3] [--peer PATH]

Each row is a shape of model with random weights, a block, a batch, and settings of ours; both sides
train on the same text in processes of their own, in turn, with two threads. gptft gets nothing but
the model, the text, the block, the batch and what the row names; run_clm its own defaults. Prints
the medians of the rounds as ratios, and exits with 1 where a goal of a row is missed.

`--peer` is the script that runs the other side, by default `../shared/bench/peer_train.py`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GPT2: dict[str, Any] = {"model_type": "gpt2"}
SMOLLM: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49_152,
    "max_position_embeddings": 2048, "tie_word_embeddings": True,
}  # fmt: skip
FLOAT32 = {"bf16": False}


@dataclass(frozen=True)
class Row:
    """A shape, what both sides are told of it, and what is to be reached.

    Attributes:
        model: fields of its config; None for pico.
        ours, theirs: settings of `training` for each side.
        stored: the dtype of its file for ours; the other side's is always float32.
        least_speed, most_memory: of the other side's.
    """

    model: dict[str, Any] | None
    block: int
    batch: int
    least_speed: float
    most_memory: float | None = None
    ours: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)
    stored: str = "float32"
    steps: int = 5


ROWS = {
    "gpt2": Row(GPT2, 1024, 1, 2.0, 0.6, FLOAT32),
    "gpt2-no-dropout": Row(
        {**GPT2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, 1024, 1, 1.0, 1.0,
        FLOAT32,
    ),
    "gpt2-short": Row(GPT2, 64, 8, 1.0, 1.0, FLOAT32),
    "gpt2-bf16": Row(GPT2, 1024, 1, 4.0, 0.6),
    "gpt2-stored-bf16": Row(GPT2, 1024, 1, 2.0, 0.6, FLOAT32, stored="bfloat16"),
    "smollm": Row(SMOLLM, 1024, 1, 1.2, 0.92, FLOAT32),
    "smollm-checkpointing": Row(
        SMOLLM, 1024, 1, 0.9, 0.65, {**FLOAT32, "activation_checkpointing": True}
    ),
    "pico": Row(None, 1024, 1, 1.5, None, steps=12),
    "pico-float32": Row(None, 1024, 1, 1.0, None, FLOAT32, steps=12),
}  # fmt: skip


def make_model(row: Row, folder: Path, *, dtype: str) -> Path:
    """A model of the row's shape with pico's tokenizer, the same weights at each call."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    pico = ROOT / "gptft" / "models" / "pico"
    if row.model is None:
        return pico
    torch.manual_seed(0)
    settings = dict(row.model)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(settings.pop("model_type"), **settings)
    )
    tokenizer = AutoTokenizer.from_pretrained(pico)
    for name in ("bos_token_id", "eos_token_id"):
        setattr(model.config, name, tokenizer.eos_token_id)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_text(path: Path, *, num_tokens: int) -> None:
    """So many tokens of text, made of the poems that come with gptft."""
    poems = "\n\n".join(
        poem.read_text(encoding="utf-8") for poem in sorted(ROOT.glob("data/pushkin/*.txt"))
    )
    path.write_text((poems * (1 + 5 * num_tokens // len(poems)))[: 4 * num_tokens], "utf-8")


def run(command: list[str]) -> tuple[str, float]:
    """The output of a command, and the peak memory of its process in MB."""
    peak = Path(tempfile.mkstemp()[1])
    code = (
        "import resource, subprocess, sys; "
        "done = subprocess.run(sys.argv[2:], capture_output=True, text=True); "
        "open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss));"
        "print(done.stdout); sys.stderr.write(done.stderr[-3000:]); sys.exit(done.returncode)"
    )
    environment = {
        **os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, str(peak), *command],
        capture_output=True, text=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    megabytes = float(peak.read_text()) / 1024
    peak.unlink()
    return done.stdout, megabytes


def ours(row: Row, model: Path, text: Path, folder: Path) -> dict[str, float]:
    """Tokens a second over all steps but the first, peak memory and first loss of `gptft train`."""
    run_dir = folder / "run"
    training = {
        "max_steps": row.steps, "per_device_train_batch_size": row.batch, "logging_steps": 1,
        "save_strategy": "no", **row.ours,
    }  # fmt: skip
    config = {
        "model": {"name": "pico" if row.model is None else str(model)},
        "data": {"train": str(text), "block_size": row.block}, "training": training,
    }  # fmt: skip
    path = folder / "config.yaml"  # of which JSON is a part
    path.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-m", "gptft", "train", str(path), "--overwrite"]
    _, peak = run([*command, "--set", f"training.output_dir={run_dir}"])
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [entry for entry in map(json.loads, lines) if "tokens_per_second" in entry]
    seconds = sum(1 / entry["tokens_per_second"] for entry in steps[1:])
    return {"speed": len(steps[1:]) / seconds, "peak": peak, "loss": steps[0]["loss"]}


def theirs(row: Row, model: Path, text: Path, peer: Path) -> dict[str, float]:
    """The same of the other side; its loss is that of its first logged step."""
    settings = [f"{name}={json.dumps(value)}" for name, value in row.theirs.items()]
    command = [sys.executable, str(peer), "run_clm", str(model), str(text), str(row.block)]
    out, peak = run([*command, str(row.batch), str(row.steps), *settings])
    found = json.loads(out.strip().splitlines()[-1])
    return {"speed": found["tokens_per_s"], "peak": peak}


def compare(name: str, row: Row, *, rounds: int, peer: Path) -> bool:
    """Run a row, print it, and tell whether its goals are reached."""
    own, other = list[dict[str, float]](), list[dict[str, float]]()
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        model = make_model(row, folder / "model", dtype="float32")
        stored = model
        if row.stored != "float32":
            stored = make_model(row, folder / "stored", dtype=row.stored)
        write_text(folder / "text.txt", num_tokens=4 * row.block * row.batch)
        for _ in range(rounds):
            other.append(theirs(row, model, folder / "text.txt", peer))
            own.append(ours(row, stored, folder / "text.txt", folder))
    speed = statistics.median(a["speed"] / b["speed"] for a, b in zip(own, other, strict=True))
    memory = statistics.median(a["peak"] / b["peak"] for a, b in zip(own, other, strict=True))
    mine = {key: statistics.median(one[key] for one in own) for key in ("speed", "peak")}
    is_reached = speed >= row.least_speed and memory <= (row.most_memory or memory)
    print(
        f"{name:22} {speed:5.2f} times the speed (>= {row.least_speed:.2f})  "
        f"{memory:5.2f} of the memory (<= {row.most_memory or float('inf'):.2f})  "
        f"{mine['speed']:6,.0f} tokens/s  {mine['peak']:6,.0f} MB  "
        f"first loss {own[0]['loss']:.4f}  {'' if is_reached else 'MISSED'}",
        flush=True,
    )
    return is_reached


def main() -> int:
    """Run the rows that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(ROWS), help="names, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", type=Path, default=ROOT.parent / "shared/bench/peer_train.py")
    arguments = parser.parse_args()
    reached = [
        compare(name, ROWS[name], rounds=arguments.rounds, peer=arguments.peer)
        for name in arguments.rows.split(",")
    ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
