"""What is predicted of a run, without memory for its model, is what the run then has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from gptft.config.sections import Config
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.errors import ConfigError
from gptft.models.free_memory import _within_limit, free_memory, peak_memory, resident_memory
from gptft.training.planning.kept import kept_of_batch
from gptft.training.planning.predict import Predicted, predict
from gptft.training.planning.timing import time_steps
from gptft.training.setup import Setup, set_up
from gptft.training.signals import Signals

Planned = Callable[..., tuple[Predicted, Setup]]

_SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96,
    "vocab_size": 100,
}  # fmt: skip
ARCHITECTURES = {
    "gpt2": {
        "n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 100, "resid_pdrop": 0.0,
        "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0,
    },
    "llama": {**_SMALL, "num_key_value_heads": 2},
    "qwen3": {**_SMALL, "num_key_value_heads": 2, "head_dim": 16},
    "gpt_neox": {**_SMALL, "bos_token_id": 0, "eos_token_id": 0},
    "bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4, "vocab_size": 100},
}  # fmt: skip


def saved_by_autograd(model: PreTrainedModel, *, rows: int, length: int) -> int:
    """What a real forward pass keeps, storages counted once."""
    own = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    ids = torch.randint(1, 100, (rows, length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model.train()(input_ids=ids, use_cache=False).logits
    sizes = {place: one.untyped_storage().nbytes() for place, one in kept.items()}
    del logits
    return sum(size for place, size in sizes.items() if place not in own)


@pytest.mark.parametrize("name", [*ARCHITECTURES])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_is_kept_of_a_batch_is_counted_without_computing_it(name: str, attention: str) -> None:
    if (name, attention) == ("bloom", "sdpa"):
        pytest.skip("transformers has none")
    config = AutoConfig.for_model(name, **ARCHITECTURES[name])
    config._attn_implementation = attention
    expected = saved_by_autograd(AutoModelForCausalLM.from_config(config), rows=3, length=40)
    mode = FakeTensorMode()
    with mode:
        model = AutoModelForCausalLM.from_config(config)
    found = kept_of_batch(
        model, mode, rows=3, length=40, is_isolated=False, autocast=None, head=None
    )
    assert found.num_bytes == pytest.approx(expected, rel=0.001)


def test_operations_are_those_of_the_layers() -> None:
    config = AutoConfig.for_model("llama", **_SMALL)
    mode = FakeTensorMode()
    with mode:
        model = AutoModelForCausalLM.from_config(config)
    found = kept_of_batch(
        model, mode, rows=2, length=10, is_isolated=False, autocast=None, head=None
    )
    a_token = 3 * (4 * 32 * 32 + 3 * 32 * 96) + 32 * 100
    scores = 3 * 2 * (2 * 32 * 10 * 10)  # half of them, 2 operations each, and as many of values
    assert found.flops == 2 * 20 * a_token + scores


@pytest.fixture
def planned(tmp_path: Path, tiny_model_dir: Path, corpus_dir: Path) -> Planned:
    """What is predicted of a run on the tiny texts, and the run itself, set up."""

    def plan(**sections: dict[str, Any]) -> tuple[Predicted, Setup]:
        config = Config.model_validate(
            {
                "model": {"name": str(tiny_model_dir)},
                **sections,
                "data": {"train": [str(corpus_dir)], "block_size": 16, **sections.get("data", {})},
                "training": {"use_cpu": True, "max_steps": 2, **sections.get("training", {})},
            }
        )
        store_dir = prepare_blocks(plan_packing(config)).path
        found = predict(config, store_dir=store_dir, run_dir=tmp_path / "run", libraries=0)
        setup = set_up(config, store_dir=store_dir, run_dir=tmp_path / "run", signals=Signals())
        return found, setup

    return plan


@pytest.mark.parametrize(
    "training",
    [
        {"max_steps": 7},
        {"max_steps": -1, "num_train_epochs": 2},
        {"max_steps": -1, "num_train_epochs": 2.5, "per_device_train_batch_size": 1},
        {"max_steps": -1, "num_train_epochs": 3, "per_device_train_batch_size": 3,
         "gradient_accumulation_steps": 2},
        {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 3,
         "dataloader_drop_last": True},
        {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 1000},
    ],
)  # fmt: skip
def test_steps_and_epochs_are_the_trainers(planned: Planned, training: dict[str, Any]) -> None:
    found, setup = planned(training=training)
    assert (found.length.steps, found.length.epochs) == setup.length()
    assert found.length.blocks == len(setup.store)
    assert found.length.tokens == round(setup.length()[1] * setup.store.num_tokens)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"lora": {"r": 4}},
        {"model": {"freeze": ["wte", "h.0"]}},
        {"tokenizer": {"add_tokens": ["Буря", "кроет"]}},
        {"tokenizer": {"add_tokens": ["Буря", "кроет"]}, "lora": {"r": 2}},
    ],
    ids=["all", "lora", "freeze", "tokens", "tokens and lora"],
)
def test_parameters_are_those_of_the_model(
    planned: Planned, tiny_model_dir: Path, sections: dict[str, Any]
) -> None:
    if "model" in sections:
        sections = {"model": {"name": str(tiny_model_dir), **sections["model"]}}
    found, setup = planned(**sections)
    assert found.sizes is not None
    assert found.sizes.parameters == setup.num_parameters
    assert found.sizes.trained == setup.num_trained
    assert found.sizes.gradients == 4 * setup.num_trained
    held = sum(one.nbytes for one in (*setup.model.parameters(), *setup.model.buffers()))
    assert found.sizes.weights == held


@pytest.mark.parametrize(
    "training",
    [
        {}, {"optim": "adamw_torch"}, {"optim": "sgd"}, {"optim": "adafactor"}, {"optim": "muon"},
        {"optim": "sgd", "optim_args": "momentum=0.9"}, {"optim": "lion_32bit"},
    ],
    ids=str,
)  # fmt: skip
def test_the_optimizers_state_is_counted(planned: Planned, training: dict[str, Any]) -> None:
    if training.get("optim") == "lion_32bit":
        pytest.importorskip("bitsandbytes")
    found, setup = planned(training={**training, "save_strategy": "no"})
    assert found.sizes is not None
    setup.trainer.train()
    assert setup.trainer.optimizer is not None
    states = setup.trainer.optimizer.state.values()
    real = sum(
        one.nbytes for state in states for one in state.values() if isinstance(one, torch.Tensor)
    )
    assert found.sizes.optimizer == real


def test_a_moving_average_is_a_copy_of_what_is_trained(planned: Planned) -> None:
    found, setup = planned(training={"ema_decay": 0.9})
    assert found.sizes is not None
    assert found.sizes.average == 4 * setup.num_trained


@pytest.mark.parametrize("training", [{}, {"save_only_model": True}], ids=["whole", "model"])
def test_a_checkpoint_takes_what_the_run_reckons_with(
    planned: Planned, training: dict[str, Any]
) -> None:
    found, setup = planned(training=training)
    assert found.sizes is not None
    assert found.sizes.saved_bytes == pytest.approx(setup.trainer.checkpoints.num_bytes(), rel=0.01)


def test_checkpointing_keeps_less(planned: Planned) -> None:
    plain, _ = planned()
    less, _ = planned(training={"activation_checkpointing": True})
    assert plain.sizes is not None
    assert less.sizes is not None
    assert less.sizes.batch == plain.sizes.checkpointed
    assert less.sizes.batch is not None
    assert plain.sizes.batch is not None
    assert less.sizes.batch.kept_a_block < plain.sizes.batch.kept_a_block


@pytest.mark.parametrize(
    ("training", "saves", "kept", "evaluations"),
    [
        ({"save_strategy": "no"}, 0, 0, 0),
        ({"max_steps": 10, "save_steps": 4}, 3, 3, 0),
        ({"max_steps": 10, "save_steps": 2, "save_total_limit": 2}, 5, 3, 0),
        ({"max_steps": -1, "num_train_epochs": 3, "save_strategy": "epoch"}, 3, 3, 0),
        ({"max_steps": 10, "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "no"},
         0, 0, 3),
    ],
)  # fmt: skip
def test_what_is_written_on_the_way_is_counted(
    planned: Planned, training: dict[str, Any], saves: int, kept: int, evaluations: int
) -> None:
    found, _ = planned(training=training, data={"validation": 0.5})
    length = found.length
    assert (length.checkpoints, length.checkpoints_kept, length.evaluations) == (
        saves, kept, evaluations,
    )  # fmt: skip


def test_steps_are_timed_and_nothing_is_saved(planned: Planned, tmp_path: Path) -> None:
    _, setup = planned(training={"gradient_accumulation_steps": 3, "save_steps": 1})
    measured = time_steps(setup, started=0.0)
    assert measured.batch_seconds > 0
    assert measured.update_seconds > 0
    assert measured.forward_seconds > 0
    assert (measured.peak_bytes or 0) > 10**8
    assert not [*(tmp_path / "run").rglob("checkpoint-*")]


def test_a_mistake_is_no_unknown(planned: Planned) -> None:
    with pytest.raises(ConfigError, match=r"target_modules"):
        planned(lora={"target_modules": ["nothing"]})


def test_memory_of_a_container_counts(tmp_path: Path) -> None:
    assert (free_memory() or 0) > 0
    assert (resident_memory() or 0) <= (peak_memory() or 0)
    (tmp_path / "memory.max").write_text("max\n")
    assert _within_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("active_file 50\ninactive_file 200\n")
    assert _within_limit(tmp_path) == 500
