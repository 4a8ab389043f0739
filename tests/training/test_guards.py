"""What a run refuses to do: train on without sense, memory or room."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from gptft.errors import ConfigError, ModelError, RunError
from gptft.files import as_json
from gptft.training.run import Resume
from gptft.training.samples import SampleWriter
from gptft.training.setup import Setup
from gptft.training.trainer import BlockTrainer
from tests.architectures.models import tiny_model
from tests.training.conftest import Run
from tests.training.folders import assert_same, contents, facts, rows, weights

SAVES = {"save_strategy": "steps", "save_steps": 2}


def spoil_loss(patch: pytest.MonkeyPatch, value: float) -> None:
    """From the fourth step on the loss is `value`."""
    stock = BlockTrainer.compute_loss

    def compute_loss(self: BlockTrainer, *args: Any, **kwargs: Any) -> Any:
        loss = stock(self, *args, **kwargs)
        return loss * value if self.state.global_step >= 3 else loss

    patch.setattr(BlockTrainer, "compute_loss", compute_loss)


def spoil_gradient(patch: pytest.MonkeyPatch, value: float) -> None:
    """From the fourth step on one number of the gradient is `value`; the loss is right."""
    stock = BlockTrainer.training_step

    def training_step(self: BlockTrainer, model: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        loss = stock(self, model, *args, **kwargs)
        if self.state.global_step >= 3:
            (*_, last) = (p for p in model.parameters() if p.grad is not None)
            assert last.grad is not None
            last.grad.view(-1)[-1] = value
        return loss

    patch.setattr(BlockTrainer, "training_step", training_step)


def test_a_model_that_sees_ahead_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    """As of an architecture of which nobody has said that it does: the model itself is asked."""
    monkeypatch.setattr("gptft.models.load.require_trainable", lambda *args, **kwargs: None)
    base = tmp_path / "base"
    tiny_model("bert").save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model_dir / name, base)
    with pytest.raises(ModelError, match=r"base \(bert\) isn't causal.*Take a causal model"):
        run(model={"name": str(base)})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("spoil", "value", "max_grad_norm"),
    [(spoil_loss, math.nan, 1.0), (spoil_gradient, math.inf, 1.0), (spoil_gradient, math.nan, 0.0)],
)
def test_what_is_not_a_number_ends_training_before_it_touches_a_weight(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[..., None],
    value: float,
    max_grad_norm: float,
):
    base = {"max_steps": 6, "max_grad_norm": max_grad_norm, **SAVES}
    whole = run("whole", training=base)
    folder = tmp_path / "run" / "checkpoints" / "checkpoint-2"
    with monkeypatch.context() as patch:
        spoil(patch, value)
        with pytest.raises(RunError, match=r"diverged in step 4: .* not a finite number") as caught:
            run(training=base)
    assert caught.value.exit_code == 1
    assert f"Last good checkpoint: {folder}. Resume from it with --resume" in str(caught.value)
    told = facts(tmp_path / "run")
    assert (told["state"], told["step"], told["error"]) == ("failed", 3, str(caught.value))
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert contents(folder).keys() == contents(whole.run_dir / "checkpoints/checkpoint-2").keys()
    good = (whole.run_dir / "checkpoints/checkpoint-2/model.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == good
    assert not (tmp_path / "run" / "model").exists()
    assert [row["step"] for row in rows(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3]
    run(training=base, resume=Resume())
    assert_same(tmp_path / "run", whole.run_dir)
    assert "error" not in facts(tmp_path / "run")


def test_a_learning_rate_that_blows_up_is_stopped_and_a_lower_one_goes_on(run: Run, tmp_path: Path):
    base = {"max_steps": 6, "save_strategy": "steps", "save_steps": 1, "learning_rate": 1e30}
    with pytest.raises(RunError, match="diverged in step 2") as caught:
        run(training=base)
    assert "checkpoint-1. Resume from it" in str(caught.value)  # its weights are finite, and huge
    with pytest.raises(ConfigError, match=r"learning_rate was 1e\+30 and is 0\.001 now"):
        run(training={**base, "learning_rate": 1e-3}, resume=Resume())
    assert facts(tmp_path / "run")["state"] == "failed"


def test_the_first_step_has_no_checkpoint_to_name(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        BlockTrainer, "compute_loss", lambda *a, **k: torch.tensor(math.nan, requires_grad=True)
    )
    with pytest.raises(RunError, match=r"in step 1: .*Lower training\.learning_rate, or raise"):
        run(training=SAVES)


def test_a_model_that_is_broken_from_the_start_leaves_json_that_can_be_read(
    run: Run, tmp_path: Path, tiny_model_dir: Path
):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model_dir, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["transformer.ln_f.weight"][:] = 3e38  # numbers, whose sums in the head are none
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match="diverged in step 1"):
        run(model={"name": str(broken)})
    told = facts(tmp_path / "run")
    assert told["before"]["train"]["loss"] is None
    with pytest.raises(RunError, match="diverged in step 1"):
        run(model={"name": str(broken)}, resume=Resume())


def test_a_perplexity_beyond_all_numbers_is_null_in_json(
    run: Run, tmp_path: Path, tiny_model_dir: Path
):
    """exp(loss) overflows at 710 nats: embeddings times 100,000 get there."""
    sure = tmp_path / "sure"
    shutil.copytree(tiny_model_dir, sure)
    tensors = load_file(sure / "model.safetensors")
    tensors["transformer.ln_f.weight"] *= 1e5
    save_file(tensors, sure / "model.safetensors", metadata={"format": "pt"})
    result = run(
        model={"name": str(sure)},
        data={"validation": 0.3},
        training={"max_steps": 1, "eval_strategy": "steps", "eval_steps": 1},
    )
    assert result.train.perplexity_before == math.inf
    told = facts(tmp_path / "run")["result"]["train"]
    assert told["loss_before"] > 710
    assert told["perplexity_before"] is None
    assert "Infinity" not in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8")
    json.dumps(as_json(result), allow_nan=False)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_full_disk_is_seen_before_the_first_step(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 10**6, 10**6))
    # 37,760 float32 parameters: 0.15 MB, and two moments of each: 0.45 MB in all.
    with pytest.raises(RunError, match=r"^Disk full: .* MB and has 1\.0 MB left\. ") as caught:
        run(training=SAVES)
    assert "Nothing was trained yet" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_up_is_seen_before_a_save(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    base = {"max_steps": 6, **SAVES}
    whole = run("whole", training=base)
    real = shutil.disk_usage
    folder = tmp_path / "run" / "checkpoints"

    def usage(path: Any) -> Any:
        is_full = (folder / "checkpoint-2").is_dir()
        return Usage(10**9, 10**9 - 1000, 1000) if is_full else real(path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", usage)
        with pytest.raises(RunError, match=r"^Disk full: .*has 0\.0 MB left\. ") as caught:
            run(training=base)
    assert f"Last good checkpoint: {folder / 'checkpoint-2'}." in str(caught.value)
    assert facts(tmp_path / "run")["state"] == "failed"
    assert [path.name for path in folder.iterdir()] == ["checkpoint-2"]
    run(training=base, resume=Resume())
    assert_same(tmp_path / "run", whole.run_dir)


def small_memory(patch: pytest.MonkeyPatch, *, rows_at_most: int, from_call: int = 0) -> None:
    """From some forward pass on, training takes no more rows at a time than that."""
    stock = GPT2LMHeadModel.forward
    calls = 0

    def forward(self: GPT2LMHeadModel, input_ids: Any = None, **kwargs: Any) -> Any:
        nonlocal calls
        calls += self.training
        if self.training and calls > from_call and len(input_ids) > rows_at_most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return stock(self, input_ids, **kwargs)

    patch.setattr(GPT2LMHeadModel, "forward", forward)


@pytest.mark.parametrize(
    ("from_call", "step", "settings"),
    [
        (0, 0, {"max_steps": 5}),
        # In a later step, between two checkpoints.
        pytest.param(3, 3, {"max_steps": 5}, marks=pytest.mark.slow),
        # The second half of the third step: half its gradient is there already.
        (4, 2, {"max_steps": 5, "gradient_accumulation_steps": 2}),
        pytest.param(2, 2, {"max_steps": -1, "num_train_epochs": 3}, marks=pytest.mark.slow),
    ],
)
def test_out_of_memory_goes_on_with_smaller_batches_that_train_the_same(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    from_call: int,
    step: int,
    settings: dict[str, Any],
):
    base = {"auto_batch": True, **SAVES, **settings}
    accumulation = settings.get("gradient_accumulation_steps", 1)
    small = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4 * accumulation}
    data = {"block_size": 16}  # 10 blocks: batches of 4, 4 and 2
    expected = run("small", data=data, training={**base, **small})
    said: list[str] = []
    with monkeypatch.context() as patch:
        small_memory(patch, rows_at_most=1, from_call=from_call)
        result = run(
            "large",
            data=data,
            training={**base, "per_device_train_batch_size": 4},
            notify=said.append,
        )
    told = [line for line in said if line.startswith("Out of memory")]
    assert told == [
        f"Out of memory with 4 blocks a batch: continuing with 2 and gradient_accumulation_steps "
        f"{2 * accumulation}, which trains the same.",
        f"Out of memory with 2 blocks a batch: continuing with 1 and gradient_accumulation_steps "
        f"{4 * accumulation}, which trains the same.",
    ]
    losses = [row["loss"] for row in rows(tmp_path / "large" / "metrics.jsonl")]
    assert losses == pytest.approx(
        [row["loss"] for row in rows(tmp_path / "small" / "metrics.jsonl")], rel=1e-6
    )
    assert result.num_tokens == expected.num_tokens
    assert result.steps == expected.steps
    assert result.train.loss_after == pytest.approx(expected.train.loss_after, rel=1e-6)
    changes = [
        (c["field"], c["old"], c["new"], c["step"]) for c in facts(tmp_path / "large")["changes"]
    ]
    assert changes == [
        ("training.gradient_accumulation_steps", accumulation, 2 * accumulation, step),
        ("training.per_device_train_batch_size", 4, 2, step),
        ("training.gradient_accumulation_steps", 2 * accumulation, 4 * accumulation, step),
        ("training.per_device_train_batch_size", 2, 1, step),
    ]
    assert facts(tmp_path / "large")["state"] == "done"


def test_out_of_memory_frees_the_moments_before_the_next_model_is_loaded(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    stock, held = Setup.release, []

    def release(self: Setup) -> None:
        def size() -> int:
            return sum(s["exp_avg"].numel() for s in self.trainer.optimizer.state.values())

        held.append(size())
        stock(self)
        held.append(size())

    monkeypatch.setattr(Setup, "release", release)
    small_memory(monkeypatch, rows_at_most=1, from_call=3)
    run(training={"auto_batch": True, "max_steps": 5})
    assert held[0] > 0
    assert held[1:] == [0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, r"^Out of memory with 2 blocks a batch\. Set training\.auto_batch: true, or take a"),
        (
            {"auto_batch": True, "per_device_train_batch_size": 1},
            r"^Out of memory with 1 blocks? a batch\. Lower data\.block_size, or take a smaller",
        ),
    ],
)
def test_out_of_memory_is_one_sentence_where_nothing_else_helps(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any, said: str
):
    small_memory(monkeypatch, rows_at_most=0)
    with pytest.raises(RunError, match=said) as caught:
        run(training=settings)
    assert caught.value.exit_code == 1
    assert facts(tmp_path / "run")["state"] == "failed"


def test_out_of_memory_in_the_first_sample_does_not_ask_for_what_is_set(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def sample(self: SampleWriter, model: Any) -> list[str]:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(SampleWriter, "sample", sample)
    with pytest.raises(RunError, match=r"2 blocks a batch\. Lower data\.block_size, or take"):
        run(training={"auto_batch": True})
    assert not (tmp_path / "run").exists()


def test_out_of_memory_while_measuring_names_the_batch_of_that(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stock = GPT2LMHeadModel.forward

    def forward(self: GPT2LMHeadModel, input_ids: Any = None, **kwargs: Any) -> Any:
        if input_ids.numel() > 12:  # of the probe
            raise torch.OutOfMemoryError
        return stock(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(GPT2LMHeadModel, "forward", forward)
    with pytest.raises(RunError, match=r"measuring with training\.per_device_eval_batch_size: 32"):
        run(training={"auto_batch": True})
    assert not (tmp_path / "run").exists()


def test_out_of_memory_with_a_few_tokens_is_the_models(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def forward(self: GPT2LMHeadModel, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(GPT2LMHeadModel, "forward", forward)
    with pytest.raises(
        RunError, match=r"Out of memory with .*tiny\d+ and a few tokens\. Take a sm"
    ):
        run(training={"auto_batch": True})
    assert not (tmp_path / "run").exists()


def test_a_refused_run_leaves_no_folder_behind(run: Run, tmp_path: Path):
    with pytest.raises(ConfigError, match="needs a validation part"):
        run("new/deep/run", training={"eval_strategy": "epoch"})
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="needs a validation part"):
        run("mine", training={"eval_strategy": "epoch"})
    assert list((tmp_path / "mine").iterdir()) == []


def test_half_written_files_of_a_killed_process_are_in_nobodys_way(run: Run, tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".run.json.partial").write_text("{", encoding="utf-8")
    (folder / ".lock").write_text("", encoding="utf-8")
    run()
    (folder / ".metrics.jsonl.partial").write_text("{", encoding="utf-8")
    first = weights(folder)
    run(overwrite=True)
    assert weights(folder) == first


@pytest.mark.parametrize("moved", [1, 4])
def test_a_run_that_was_being_set_aside_is_still_a_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
):
    """The process dies after each of the renames of --overwrite: the model is never lost."""
    run(training=SAVES)
    kept = weights(tmp_path / "run")
    stock, calls = Path.rename, 0

    def rename(self: Path, target: Any) -> Path:
        nonlocal calls
        if self.parent == tmp_path / "run":
            calls += 1
            if calls == moved:
                raise KeyboardInterrupt
        return stock(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        try:
            run(training=SAVES, overwrite=True)
        except KeyboardInterrupt:
            found = [path.read_bytes() for path in (tmp_path / "run").rglob("model.safetensors")]
            assert kept in found
    run(training=SAVES, overwrite=True)
    assert weights(tmp_path / "run") == kept
    assert not (tmp_path / "run" / "earlier").exists()
