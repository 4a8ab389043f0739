"""A checkpoint gives back every weight, wherever the run is and whatever its tensors are called."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from gptft.errors import RunError
from gptft.models.restore import check_restorable, restore_weights
from gptft.training.run import Resume
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, rows

HEADS = {"num_attention_heads": 4, "num_hidden_layers": 2, "hidden_size": 32}
EXPERTS = {**HEADS, "num_key_value_heads": 2, "intermediate_size": 48}
# Architectures whose tensors have other names, or other shapes, in a file than in memory.
CONVERTED: dict[str, dict[str, Any]] = {
    "gpt_neox": {**HEADS, "intermediate_size": 48},
    "mixtral": {**EXPERTS, "num_local_experts": 4},
    "qwen3_moe": {
        **EXPERTS,
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "num_experts_per_tok": 2,
    },
    "olmoe": {**EXPERTS, "num_experts": 4, "num_experts_per_tok": 2},
}
BEST: dict[str, Any] = {
    "data": {"validation": 0.5},
    "training": {
        "max_steps": 8, "learning_rate": 0.05, "eval_strategy": "steps", "eval_steps": 2,
        "save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True,
    },
}  # fmt: skip


def new(model_type: str, tokenizer: Path) -> dict[str, Any]:
    """The sections of a new model, with a tokenizer that is there."""
    sizes = {"model_type": model_type, **CONVERTED[model_type]}
    return {"model": {"from_scratch": sizes}, "tokenizer": {"name": str(tokenizer)}}


def small(model_type: str, *, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, vocab_size=96, **CONVERTED[model_type])
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


@pytest.mark.parametrize("model_type", CONVERTED)
def test_a_run_resumes_to_the_same_weights(
    run: Run, tiny_model_dir: Path, tmp_path: Path, model_type: str
):
    sections = new(model_type, tiny_model_dir)
    training = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    whole = run("whole", training=training, **sections)
    with Cut(after=5):
        run("cut", training=training, **sections)
    run("cut", training=training, **sections, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)


@pytest.mark.parametrize("model_type", CONVERTED)
def test_the_best_weights_are_those_that_were_measured(
    run: Run, tiny_model_dir: Path, model_type: str
):
    result = run(**BEST, **new(model_type, tiny_model_dir))
    evaluated = [r["eval_loss"] for r in rows(result.run_dir / "metrics.jsonl") if "eval_loss" in r]
    assert evaluated[-1] > min(evaluated)  # the last weights aren't the best
    assert result.validation is not None
    assert result.validation.loss_after == pytest.approx(min(evaluated), rel=1e-6)


def test_a_run_that_was_moved_keeps_its_best_model(run: Run, tmp_path: Path):
    whole = run("whole", **BEST)
    with Cut(after=7):
        run("here", **BEST)
    (tmp_path / "there").mkdir()
    moved = (tmp_path / "here").rename(tmp_path / "there" / "moved")
    states = {path: path.read_text() for path in moved.glob("checkpoints/*/trainer_state.json")}
    assert any('"checkpoints/checkpoint-2"' in state for state in states.values())
    assert not any(str(tmp_path) in state for state in states.values())
    run("there/moved", **BEST, resume=Resume())
    assert_same(moved, whole.run_dir)


def test_a_state_with_the_path_of_another_machine_is_understood(run: Run, tmp_path: Path):
    whole = run("whole", **BEST)
    with Cut(after=7):
        run("cut", **BEST)
    newest = tmp_path / "cut" / "checkpoints" / "checkpoint-6"
    state = json.loads((newest / "trainer_state.json").read_text())
    state["best_model_checkpoint"] = "/elsewhere/runs/cut/checkpoints/checkpoint-2"
    reseal(newest, "trainer_state.json", json.dumps(state))
    run("cut", **BEST, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)


def reseal(checkpoint: Path, name: str, text: str) -> None:
    """Write a file of a checkpoint as an older gptft would have, its manifest with it."""
    from gptft.runs.checkpoints import commit_checkpoint

    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    staging = shutil.copytree(checkpoint, checkpoint.parent / ".old")
    (staging / "MANIFEST.json").unlink()
    (staging / name).write_text(text)
    commit_checkpoint(staging, checkpoint.parent, step=manifest["step"], notes=manifest["notes"])


def test_a_best_checkpoint_that_is_gone_is_an_error_before_training(run: Run, tmp_path: Path):
    with Cut(after=7):
        run("cut", **BEST)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "checkpoint-2")
    with pytest.raises(RunError, match=r"checkpoint-2 was the best checkpoint and isn't there"):
        run("cut", **BEST, resume=Resume())
    last = {**BEST, "training": {**BEST["training"], "load_best_model_at_end": False}}
    assert run("cut", **last, resume=Resume()).steps == 8


def test_a_best_checkpoint_that_is_damaged_is_an_error_and_the_last_weights_are_kept(
    run: Run, tmp_path: Path
):
    with Cut(after=7):
        run("cut", **BEST)
    file = tmp_path / "cut" / "checkpoints" / "checkpoint-2" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"checkpoint-2, the best checkpoint, can't be used: model"):
        run("cut", **BEST, resume=Resume())
    assert (tmp_path / "cut" / "checkpoints" / "checkpoint-8").is_dir()
    last = {**BEST, "training": {**BEST["training"], "load_best_model_at_end": False}}
    assert run("cut", **last, resume=Resume()).steps == 8


@pytest.mark.parametrize("model_type", CONVERTED)
def test_every_tensor_is_restored_bit_for_bit(model_type: str, tmp_path: Path):
    saved, other = small(model_type), small(model_type, seed=1)
    saved.save_pretrained(tmp_path)
    assert not load_file(tmp_path / "model.safetensors").keys() <= saved.state_dict().keys()
    addresses = {name: tensor.data_ptr() for name, tensor in other.named_parameters()}
    check_restorable(saved, tmp_path)
    restore_weights(other, tmp_path)
    assert {name: tensor.data_ptr() for name, tensor in other.named_parameters()} == addresses
    for name, tensor in saved.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


@pytest.mark.parametrize("change", ["lost", "renamed", "added", "flipped", "cut"])
def test_tensors_that_do_not_restore_a_model_are_an_error(tmp_path: Path, change: str):
    model = small("gpt_neox")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bias = "gpt_neox.layers.1.attention.dense.bias"
    if change in ("lost", "renamed"):
        tensor = tensors.pop(bias)
        tensors |= {} if change == "lost" else {bias.replace("dense", "danse"): tensor}
    elif change == "added":
        tensors["gpt_neox.layers.2.attention.dense.bias"] = tensors[bias].clone()
    elif change == "flipped":
        tensors[bias] = tensors[bias].clone()
        tensors[bias][0] = 1.0
    else:
        tensors[bias] = tensors[bias][:-1].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match="don't restore this GPTNeoX"):
        check_restorable(model, tmp_path)
    if change != "flipped":  # a whole file of other weights is what restoring is for
        with pytest.raises(RunError, match="don't restore this GPTNeoXForCausalLM"):
            restore_weights(model, tmp_path)


def test_a_checkpoint_that_could_not_be_restored_ends_the_run_when_it_is_written(
    run: Run, tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As transformers would save it if its conversion forgot a tensor."""
    stock = PreTrainedModel.save_pretrained

    def forgetful(model: PreTrainedModel, folder: str, *args: Any, **kwargs: Any) -> None:
        stock(model, folder, *args, **kwargs)
        file = Path(folder, "model.safetensors")
        tensors = load_file(file)
        del tensors["embed_out.weight"]
        save_file(tensors, file, metadata={"format": "pt"})

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", forgetful)
    training = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    with pytest.raises(RunError, match=r"lm_head\.weight among them"):
        run(training=training, **new("gpt_neox", tiny_model_dir))
    assert not list((tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
