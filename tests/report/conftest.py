import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

# 1,980 tokens + 12 EOS = 3 blocks x 512 + a tail of 200 + 256 held out.
LEDGER: dict[str, Any] = {
    "files": 12,
    "skipped_files": 1,
    "documents": 12,
    "empty_documents": 0,
    "bytes": 12_000,
    "characters": 6_800,
    "tokens": 1_980,
    "num_eos": 12,
    "block_size": 512,
    "num_blocks": 3,
    "tail_tokens": 200,
    "dropped_tokens": 0,
    "validation_documents": 2,
    "validation_blocks": 0,
    "validation_tail_tokens": 256,
    "validation_dropped_tokens": 0,
    "vocab_size": 8192,
    "eos_token_id": 0,
    "tail": "keep",
    "files_on_disk": {"train.arrow": 3_600},
}

FACTS: dict[str, Any] = {
    "gptft": "0.1.0",
    "created": "2025-01-02T03:04:05+00:00",
    "state": "done",
    "config": {
        "model": {"name": "pico", "config_overrides": {}, "dtype": "auto", "save_dtype": "auto"},
        "data": {"train": ["data/pushkin"], "validation": 0.1, "seed": 42},
        "training": {
            "output_dir": "/home/somebody/runs/poems",
            "num_train_epochs": 40,
            "learning_rate": 1e-3,
            "hub_token": "hf_secret",
        },
        "samples": {"prompts": ["Мороз и солнце;"], "steps": 20},
        "generation": {"strategy": "greedy", "max_new_tokens": 40},
    },
    "data": {"store": "0123456789abcdef0123456789abcdef", "ledger": LEDGER},
    "seed": 42,
    "dtype": "float32",
    "num_parameters": 4_439_040,
    "threads": 2,
    "world_size": 1,
    "versions": {"python": "3.11.7", "torch": "2.8.0+cpu"},
    "finished": "2025-01-02T03:05:05+00:00",
    "result": {
        "steps": 40,
        "seconds": 61.5,
        "num_tokens": 69_440,
        "tokens_per_second": 1129.1,
        "train": {
            "loss_before": 5.0,
            "loss_after": 1.0,
            "perplexity_before": 148.413,
            "perplexity_after": 2.718,
            "num_tokens": 1_732,
        },
        "validation": {
            "loss_before": 5.5,
            "loss_after": 4.5,
            "perplexity_before": 244.692,
            "perplexity_after": 90.017,
            "num_tokens": 255,
        },
        "samples": [{"prompt": "Мороз и солнце;", "before": " до", "after": " после"}],
    },
}

METRICS: list[dict[str, Any]] = [
    {"step": 10, "epoch": 10.0, "loss": 4.0, "learning_rate": 1e-3, "grad_norm": 2.0},
    {"step": 20, "epoch": 20.0, "loss": 3.0, "learning_rate": 7.5e-4, "grad_norm": 1.5},
    {"step": 20, "epoch": 20.0, "eval_loss": 4.6, "eval_perplexity": 99.48},
    {"step": 30, "epoch": 30.0, "loss": 2.0, "learning_rate": 5e-4, "grad_norm": 1.2},
    {"step": 40, "epoch": 40.0, "loss": 1.0, "learning_rate": 2.5e-4, "grad_norm": 1.0},
    {"step": 40, "epoch": 40.0, "eval_loss": 4.5, "eval_perplexity": 90.017},
]

SAMPLES: list[dict[str, Any]] = [
    {"step": 0, "prompt": "Мороз и солнце;", "continuation": " до"},
    {"step": 20, "prompt": "Мороз и солнце;", "continuation": " между"},
    {"step": 40, "prompt": "Мороз и солнце;", "continuation": " после"},
]

MakeRun = Callable[..., Path]


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`values` with `changes` in it, dictionaries merged and whatever is `...` left out."""
    result = dict(values)
    for name, change in changes.items():
        if change is ...:
            result.pop(name, None)
        elif isinstance(change, dict) and isinstance(values.get(name), dict):
            result[name] = merged(values[name], change)
        else:
            result[name] = change
    return result


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder by hand: `make_run(name, metrics=[...], samples=[...], fact=...)`."""

    def make(
        name: str = "poems",
        *,
        metrics: Sequence[dict[str, Any]] | None = METRICS,
        samples: Sequence[dict[str, Any]] | None = SAMPLES,
        **changes: Any,
    ) -> Path:
        run_dir = tmp_path / name
        (run_dir / "model").mkdir(parents=True)
        model = {"model_type": "gpt2", "n_positions": 1024, "vocab_size": 8192, "dtype": "float32"}
        (run_dir / "model" / "config.json").write_text(json.dumps(model), encoding="utf-8")
        facts = json.dumps(merged(FACTS, changes), ensure_ascii=False)
        (run_dir / "run.json").write_text(facts, encoding="utf-8")
        for file, rows in (("metrics.jsonl", metrics), ("samples.jsonl", samples)):
            if rows is not None:
                lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                # A lone surrogate becomes the very escape that JSON has for it.
                (run_dir / file).write_bytes(lines.encode("utf-8", "backslashreplace"))
        return run_dir

    return make
