"""What `gptft plan` says of a run beside what `gptft train` takes: memory and time.

    python benchmarks/plan.py [--only NAME]

New models of 10 to 60 M parameters are planned, each by `gptft plan` with and without measuring,
and then trained by `gptft train`, a process each. Memory is the peak of that process; time is that
of a step. Exits with 1 where a
measured plan is off by more than 15 % of memory or 20 % of time.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_MEMORY, MOST_TIME = 0.15, 0.20  # off
_WORDS, _STEPS = 3_000, 12


@dataclass(frozen=True)
class Case:
    """A run: sizes of a new model, settings of its training, sections besides."""

    model: dict[str, Any]
    training: dict[str, Any]
    block_size: int
    sections: dict[str, Any] = field(default_factory=dict)


_LLAMA = {
    "model_type": "llama", "hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6,
    "num_key_value_heads": 2, "intermediate_size": 1024, "vocab_size": 16384,
}  # fmt: skip
CASES = {
    "GPT-2, float32, 8 x 256": Case(
        {"model_type": "gpt2", "n_embd": 384, "n_layer": 6, "n_head": 6, "vocab_size": 8192},
        {"per_device_train_batch_size": 8, "bf16": False}, 256,
    ),
    "GPT-2, large vocabulary, average, 2 x 1,024 x 2": Case(
        {"model_type": "gpt2", "n_embd": 512, "n_layer": 8, "n_head": 8, "vocab_size": 50257},
        {
            "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "ema_decay": 0.99,
        }, 1024,
    ),
    "Llama, float32, 4 x 512": Case(
        _LLAMA, {"per_device_train_batch_size": 4, "bf16": False}, 512,
    ),
    "Qwen3, Muon, 8 x 256": Case(
        {**_LLAMA, "model_type": "qwen3", "head_dim": 64, "hidden_size": 512},
        {"per_device_train_batch_size": 8, "optim": "muon"}, 256,
    ),
    "GPT-NeoX, recomputed, 4 x 512": Case(
        {
            "model_type": "gpt_neox", "hidden_size": 512, "num_hidden_layers": 8,
            "num_attention_heads": 8, "intermediate_size": 2048, "vocab_size": 16384,
        },
        {"per_device_train_batch_size": 4, "activation_checkpointing": True}, 512,
    ),
    "Llama, LoRA, float32, 4 x 512": Case(
        _LLAMA, {"per_device_train_batch_size": 4, "bf16": False}, 512, {"lora": {"r": 8}},
    ),
}  # fmt: skip


def main() -> int:
    """Run the cases, and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    only = parser.parse_args().only
    rows, off = [], False
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(_text(), encoding="utf-8")
        for name, case in CASES.items():
            if only in name:
                row, is_off = _row(name, case, text, Path(folder))
                rows.append(row)
                off |= is_off
                print(row, flush=True)
    return int(off)


def _text() -> str:
    """Words by chance, as many as some blocks take: all are measured before and after."""
    chance = random.Random(0)
    syllables = ["ра", "ле", "ми", "но", "ту", "сы", "ве", "до", "ка", "пи"]
    words = ("".join(chance.choices(syllables, k=chance.randint(1, 4))) for _ in range(_WORDS))
    return " ".join(words)


def _row(name: str, case: Case, text: Path, folder: Path) -> tuple[str, bool]:
    config = folder / "config.yaml"
    base = None
    if "lora" in case.sections:  # an adapter needs a base
        _write(config, case, text, folder / "base", steps=1, sections={})
        _run("train", str(config))
        base = folder / "base"
    _write(config, case, text, folder / "run", steps=_STEPS, sections=case.sections, base=base)
    told = json.loads(_run("plan", str(config), "--json", "--no-measure")[0])
    measured = json.loads(_run("plan", str(config), "--json")[0])
    _, peak, cpu = _run("train", str(config), "--overwrite")
    run = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    real = run["result"]["seconds"] / run["result"]["steps"]
    cells = [
        ("memory", measured["memory"]["peak_bytes"], peak, 1e6),
        ("by arithmetic", told["memory"]["peak_bytes"], peak, 1e6),
        ("at its start", run["plan"]["predicted"]["peak_bytes"] or 0, peak, 1e6),
        ("step", measured["time"]["step_seconds"], real, 1),
        ("step by arithmetic", told["time"]["step_seconds"], real, 1),
    ]
    said = [f"{what} {a / u:,.2f} / {b / u:,.2f} ({a / b - 1:+.1%})" for what, a, b, u in cells]
    step = measured["time"]["step_seconds"]
    is_off = abs(cells[0][1] / peak - 1) > MOST_MEMORY or abs(step / real - 1) > MOST_TIME
    parts = {k: round(v / 1e6) for k, v in told["memory"].items() if k.endswith("bytes") and v}
    return f"{name}: {told['parameters']:,} | " + " | ".join(
        said
    ) + f" | cpu {cpu:.0f} s {parts}", is_off


def _write(
    config: Path, case: Case, text: Path, run_dir: Path, *, steps: int, sections: dict[str, Any],
    base: Path | None = None,
) -> None:  # fmt: skip
    values: dict[str, Any] = {
        "data": {"train": str(text), "block_size": case.block_size},
        "training": {
            **case.training, "max_steps": steps, "save_strategy": "no",
            "output_dir": str(run_dir), "use_cpu": True,
        },
        **sections,
    }  # fmt: skip
    if base is None:
        values |= {"model": {"from_scratch": case.model}, "tokenizer": {"name": "pico"}}
    else:
        values |= {"model": {"name": str(base)}}
    config.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def _run(*words: str) -> tuple[str, int, float]:
    """What a command prints, the most memory that it had, and the processor's seconds."""
    with subprocess.Popen(
        [sys.executable, "-m", "gptft", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        said = process.stderr.read() if process.stderr is not None else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"gptft {' '.join(words)} failed:\n{said.decode()}")
    return printed.decode(), usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
