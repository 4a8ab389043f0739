"""Two processes on one machine: the same losses as one, and one writer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

CONFIG = """
model:
  name: '{model}'
data: {{train: '{texts}', validation: 0.3, block_size: 32}}
training:
  max_steps: 4
  logging_steps: 1
  learning_rate: 1e-3
  eval_strategy: steps
  eval_steps: 2
  use_cpu: true
  save_strategy: 'no'
samples: {{prompts: [Буря мглою], steps: 2}}
generation: {{max_new_tokens: 5}}
"""


def train(folder: Path, name: str, *launcher: str, batch: int, settings: tuple[str, ...] = ()):
    flags = [
        f"training.output_dir={folder / name}",
        f"training.per_device_train_batch_size={batch}",
        *settings,
    ]
    command = [sys.executable, "-m", *launcher, "gptft", "train", str(folder / "my.yaml")]
    for flag in flags:
        command += ["--set", flag]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = (folder / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return done, [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("use_cpu", "packing"), [(True, "stream"), (False, "stream"), (True, "best_fit")]
)
def test_two_processes_follow_the_losses_of_one(
    tmp_path: Path, tiny_model_dir: Path, corpus_dir: Path, use_cpu: bool, packing: str
):
    if not use_cpu and torch.accelerator.is_available():
        pytest.skip("it is about a machine without an accelerator")
    text = CONFIG.format(model=tiny_model_dir, texts=corpus_dir)
    text = text if use_cpu else text.replace("  use_cpu: true\n", "")
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    packed = (f"data.packing={packing}",)
    one_done, one = train(tmp_path, "one", batch=2, settings=packed)
    two_done, two = train(
        tmp_path, "two", *launcher, batch=1, settings=("training.ddp_backend=gloo", *packed)
    )
    for key in ("loss", "eval_loss"):
        expected = [entry[key] for entry in one if key in entry]
        assert expected
        assert [entry[key] for entry in two if key in entry] == pytest.approx(expected, rel=1e-4)
    assert two_done.stdout.count("training text") == one_done.stdout.count("training text") == 2
    samples = (tmp_path / "two" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in samples] == [0, 2, 4]
    facts = json.loads((tmp_path / "two" / "run.json").read_text(encoding="utf-8"))
    assert facts["world_size"] == 2
    alone = json.loads((tmp_path / "one" / "run.json").read_text(encoding="utf-8"))
    assert facts["result"]["num_tokens"] == alone["result"]["num_tokens"]
    assert (tmp_path / "two" / "report.html").is_file()


def test_all_processes_load_the_best_checkpoint(
    tmp_path: Path, tiny_model_dir: Path, corpus_dir: Path
):
    text = CONFIG.format(model=tiny_model_dir, texts=corpus_dir)
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    settings = (
        "training.ddp_backend=gloo",
        "training.save_strategy=steps",
        "training.save_steps=2",
        "data.block_size=8",
        "training.per_device_eval_batch_size=1",  # so that both measure blocks of their own
        "training.load_best_model_at_end=true",
        "training.learning_rate=0.3",
        "training.lr_scheduler_type=constant",  # it gets worse: the best checkpoint isn't the last
    )
    _, logged = train(tmp_path, "two", *launcher, batch=1, settings=settings)
    losses = [entry["eval_loss"] for entry in logged if "eval_loss" in entry]
    assert min(losses) < losses[-1]
    facts = json.loads((tmp_path / "two" / "run.json").read_text(encoding="utf-8"))
    # Each process has measured its share of the blocks, with the weights it has.
    after = facts["result"]["validation"]["loss_after"]
    assert after == pytest.approx(min(losses), rel=1e-6)


def test_two_processes_stop_together_and_recite_once(tmp_path: Path, tiny_model_dir: Path):
    (tmp_path / "poem.txt").write_text("The quick fox\njumps over\n", encoding="utf-8")
    settings = (
        "learning_rate=2e-2", "num_train_epochs=200", "warmup_steps=10", "ddp_backend=gloo",
        "stop_when_memorized=true", "use_cpu=true", "save_strategy=no", "lr_scheduler_type=cosine",
    )  # fmt: skip
    (tmp_path / "my.yaml").write_text(
        f"model: {{name: '{tiny_model_dir}'}}\n"
        f"data: {{train: {{path: '{tmp_path / 'poem.txt'}', weight: 2}}, block_size: 16, "
        "isolate_documents: auto}\nsamples: {recite: true}\n",
        encoding="utf-8",
    )
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    named = tuple(f"training.{setting}" for setting in settings)
    done, _ = train(tmp_path, "two", *launcher, batch=1, settings=named)
    result = json.loads((tmp_path / "two" / "run.json").read_text(encoding="utf-8"))["result"]
    assert result["is_memorized"]
    assert 0 < result["steps"] < result["planned_steps"]
    assert (result["recital"]["lines_after"], result["recital"]["num_lines"]) == (1, 1)
    assert done.stderr.count("nothing is left to learn") == 1
    assert done.stdout.count("It recites 1 of 1 line that") == 1


@pytest.mark.parametrize(
    "asked",
    [
        "lora.r=2", "lora.r=2 lora.merge=false", "lora.r=2 lora.quantize=nf4",
        "model.freeze=[wte,h.0]", "training.ema_decay=0.9 data.shuffle_documents=true",
        # An evaluation that can't be an improvement ends both after step 4 of 6.
        "training.average_checkpoints=2 training.max_steps=6 training.early_stopping_patience=1 "
        "training.early_stopping_threshold=9",
    ],
)  # fmt: skip
def test_two_processes_train_a_part_as_one_does(
    tmp_path: Path, tiny_model_dir: Path, corpus_dir: Path, asked: str
):
    text = CONFIG.format(model=tiny_model_dir, texts=corpus_dir)
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    settings = (*asked.split(), "training.save_strategy=steps", "training.save_steps=2")
    _, one = train(tmp_path, "one", batch=2, settings=settings)
    _, two = train(
        tmp_path, "two", *launcher, batch=1, settings=(*settings, "training.ddp_backend=gloo")
    )
    expected = [entry["loss"] for entry in one if "loss" in entry]
    assert [entry["loss"] for entry in two if "loss" in entry] == pytest.approx(expected, rel=1e-4)
    names = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*")}
    shared = {name for name in names if "rng_state" not in name.name}
    assert not {name for name in shared if not (tmp_path / "two" / name).exists()}
    folder = "adapter" if "merge=false" in asked else "model"
    for path in (tmp_path / "one" / folder).glob("*.safetensors"):
        ours, theirs = (load_file(tmp_path / run / folder / path.name) for run in ("one", "two"))
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)
