"""`lora`: an adapter is trained and its base isn't; it is resumed to the bit and merged exactly."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gptft import api
from gptft.config.sections import Config
from gptft.errors import ConfigError, GptftError
from gptft.models.hub import find_model
from gptft.models.load import load_for_inference
from gptft.report.model_card import model_card
from gptft.runs.read import read_run
from gptft.training.run import Resume
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts

# Of stock peft 0.21 beside transformers 5.23.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

KINDS = ("gpt2", "llama", "qwen2", "gpt_neox")
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "dropout": 0.1},
    "rslora": {"r": 4, "use_rslora": True},
    "dora": {"r": 4, "use_dora": True},
}
TRAINING = {
    "max_steps": 6, "save_strategy": "steps", "save_steps": 2, "learning_rate": 0.01,
    "use_cpu": True,
}  # fmt: skip


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.arange(5, 25)[None]).logits
    return found


# Each kind and each variant in the quick tests, all pairs of them in the slow ones.
QUICK = {
    ("gpt2", "lora"), ("gpt2", "rslora"), ("gpt2", "dora"), ("llama", "lora"), ("qwen2", "rslora"),
    ("gpt_neox", "dora"),
}  # fmt: skip
PAIRS = [
    pytest.param(kind, variant, marks=[] if (kind, variant) in QUICK else pytest.mark.slow)
    for kind in KINDS
    for variant in VARIANTS
]


@pytest.mark.parametrize(("kind", "variant"), PAIRS)
def test_an_adapter_is_trained_cut_off_and_resumed(
    run: Run, bases: Callable[[str], Path], tmp_path: Path, kind: str, variant: str
) -> None:
    base = bases(kind)
    asked: dict[str, Any] = {
        "model": {"name": str(base)}, "lora": VARIANTS[variant], "training": TRAINING,
    }  # fmt: skip
    whole = run("whole", **asked)
    with Cut(after=5):
        run("cut", **asked)
    run("cut", **asked, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)
    ours, cut = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")
        for name in ("whole", "cut")
    )
    assert ours.keys() == cut.keys()
    assert all(torch.equal(ours[name], cut[name]) for name in ours)
    assert any(float(one.abs().max()) > 0 for name, one in ours.items() if "lora_B" in name)

    # The adapter on its base, by stock peft; the merged model, by stock transformers.
    stock = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    untouched = logits(stock.eval())
    adapted = PeftModel.from_pretrained(stock, str(whole.run_dir / "adapter")).eval()
    expected = logits(adapted)
    assert float((expected - untouched).abs().max()) > 1e-3
    merged = AutoModelForCausalLM.from_pretrained(whole.run_dir / "model", dtype=torch.float32)
    names = [*merged.state_dict()]
    assert not any("lora" in name for name in names)
    scale = float(expected.abs().max())
    assert float((logits(merged.eval()) - expected).abs().max()) <= 1e-5 * scale
    ours_again = load_for_inference(str(whole.run_dir / "adapter"), device=torch.device("cpu"))
    assert float((logits(ours_again) - expected).abs().max()) <= 1e-5 * scale


def test_a_checkpoint_holds_the_adapter_alone(
    run: Run, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    said: list[str] = []
    run(
        "x", model={"name": str(bases("gpt2"))}, lora={"r": 2}, training=TRAINING,
        notify=said.append,
    )  # fmt: skip
    checkpoint = tmp_path / "x" / "checkpoints" / "checkpoint-6"
    names = {path.name for path in checkpoint.iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    stored = json.loads((checkpoint / "adapter_config.json").read_text(encoding="utf-8"))
    assert stored["base_model_name_or_path"] == str(bases("gpt2"))
    assert stored["target_modules"] == sorted(stored["target_modules"])
    known = facts(tmp_path / "x")
    stock = AutoModelForCausalLM.from_pretrained(bases("gpt2"))
    held = sum(one.numel() for one in load_file(checkpoint / "adapter_model.safetensors").values())
    assert known["num_trained"] == held
    own = sum(p.numel() for p in stock.parameters())
    assert known["num_parameters"] == own
    assert any(f"an adapter of {held:,} beside {own:,} parameters" in line for line in said)
    assert "was fine-tuned by an adapter of" in model_card(read_run(tmp_path / "x"))


def test_the_base_itself_isnt_touched(run: Run, bases: Callable[[str], Path]) -> None:
    """What isn't a target is, after merging, the base's to the bit."""
    base = bases("llama")
    lora = {"r": 2, "target_modules": ["q_proj"], "layers": [1]}
    found = run("x", model={"name": str(base)}, lora=lora, training=TRAINING)
    before, after = (
        load_file(folder / "model.safetensors") for folder in (base, found.run_dir / "model")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"model.layers.1.self_attn.q_proj.weight"}


def test_the_best_adapter_is_kept(run: Run, bases: Callable[[str], Path], tmp_path: Path) -> None:
    training = {
        **TRAINING, "eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True,
        "learning_rate": 1.0, "save_total_limit": 1,
    }  # fmt: skip
    found = run(
        "x", model={"name": str(bases("llama"))}, lora={"r": 2}, training=training,
        data={"validation": 0.3},
    )  # fmt: skip
    losses = {
        row["step"]: row["eval_loss"]
        for row in map(json.loads, (found.run_dir / "metrics.jsonl").read_text().splitlines())
        if "eval_loss" in row
    }
    best = min(losses, key=lambda step: losses[step])
    kept = load_file(found.run_dir / "adapter" / "adapter_model.safetensors")
    stored = load_file(
        found.run_dir / "checkpoints" / f"checkpoint-{best}" / "adapter_model.safetensors"
    )
    assert all(torch.equal(kept[name], stored[name]) for name in kept)


def test_new_tokens_are_trained_and_saved(run: Run, bases: Callable[[str], Path]) -> None:
    base = bases("gpt2")  # its head is its embeddings
    found = run(
        "x", model={"name": str(base)}, lora={"r": 2}, training=TRAINING,
        tokenizer={"add_tokens": ["Мороз", "солнце"]},
    )  # fmt: skip
    stored = load_file(found.run_dir / "adapter" / "adapter_model.safetensors")
    deltas = [one for name, one in stored.items() if "trainable_tokens" in name]
    assert [one.shape[0] for one in deltas] == [2]
    merged = AutoModelForCausalLM.from_pretrained(found.run_dir / "model", dtype=torch.float32)
    embeddings = merged.get_input_embeddings().weight
    assert embeddings is merged.get_output_embeddings().weight
    old = load_file(base / "model.safetensors")["transformer.wte.weight"]
    assert torch.equal(embeddings[: len(old)], old)  # only the new rows have learned
    applied = load_for_inference(
        find_model(str(found.run_dir / "adapter")), device=torch.device("cpu")
    )
    apart = float((logits(applied) - logits(merged.eval())).abs().max())
    assert apart <= 1e-5 * float(logits(merged).abs().max())


@pytest.mark.parametrize(
    "whole", [(), ("embed_tokens",), ("lm_head",), ("embed_tokens", "lm_head")]
)
def test_a_head_of_its_own_learns_new_tokens_too(
    run: Run, bases: Callable[[str], Path], whole: tuple[str, ...]
) -> None:
    base = bases("llama")
    found = run(
        "x", model={"name": str(base)}, lora={"r": 2, "modules_to_save": [*whole]},
        training=TRAINING, tokenizer={"special_tokens": ["<|end|>", "<|user|>"]},
    )  # fmt: skip
    merged = AutoModelForCausalLM.from_pretrained(found.run_dir / "model", dtype=torch.float32)
    old = load_file(base / "model.safetensors")
    for name, module in (("model.embed_tokens", merged.get_input_embeddings()),
                         ("lm_head", merged.get_output_embeddings())):  # fmt: skip
        known = len(old[f"{name}.weight"])
        is_whole = name.rpartition(".")[2] in whole
        assert len(module.weight) == known + 2
        assert torch.equal(module.weight[:known], old[f"{name}.weight"]) != is_whole
    if "lm_head" not in whole:
        stored = load_file(found.run_dir / "adapter" / "adapter_model.safetensors")
        (delta,) = [one for name, one in stored.items() if "lm_head.token_adapter" in name]
        assert delta.shape == (2, 32)
        start = merged.get_output_embeddings().weight[-2:] - delta
        assert not torch.allclose(start, merged.get_output_embeddings().weight[-2:])
    applied = load_for_inference(
        find_model(str(found.run_dir / "adapter")), device=torch.device("cpu")
    )
    apart = float((logits(applied) - logits(merged.eval())).abs().max())
    assert apart <= 1e-5 * float(logits(merged).abs().max())


def test_tokens_alone_of_embeddings_that_are_trained_whole(
    run: Run, bases: Callable[[str], Path]
) -> None:
    lora = {"r": 2, "modules_to_save": ["embed_tokens"], "trainable_token_indices": [5]}
    with pytest.raises(ConfigError, match=r"^lora.trainable_token_indices names single tokens"):
        run("x", model={"name": str(bases("llama"))}, lora=lora, training=TRAINING)


@pytest.mark.parametrize(
    "changed", [{"r": 4}, {"alpha": 4.0}, {"target_modules": ["c_attn"]}, None]
)
def test_a_run_of_another_adapter_isnt_resumed(
    run: Run, bases: Callable[[str], Path], changed: dict[str, Any] | None
) -> None:
    asked: dict[str, Any] = {"model": {"name": str(bases("gpt2"))}, "training": TRAINING}
    with Cut(after=3):
        run("x", **asked, lora={"r": 2})
    other = {} if changed is None else {"lora": {"r": 2, **changed}}
    with pytest.raises(GptftError, match=r"lora\.|lora"):
        run("x", **asked, **other, resume=Resume())


@pytest.mark.parametrize(
    ("kind", "lora", "said"),
    [
        ("llama", {"target_modules": ["c_attn"]}, "no linear layer c_attn. It has .*q_proj"),
        ("gpt2", {"layers": [9]}, "lora"),
        ("gpt2", {"modules_to_save": ["wte"]}, "shares its weights"),
        ("gpt2", {"modules_to_save": ["lm_head"]}, "shares its weights"),
        ("gpt2", {"trainable_token_indices": [100_000]}, "no id 100,000"),
    ],
)
def test_what_doesnt_fit_is_one_line_before_anything_is_written(
    run: Run, bases: Callable[[str], Path], tmp_path: Path, kind: str, lora: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        run("x", model={"name": str(bases(kind))}, lora=lora, training=TRAINING)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "lora",
    [
        {"r": 0}, {"r": 1.5}, {"alpha": -1.0}, {"alpha": float("nan")}, {"dropout": 1.0},
        {"target_modules": []}, {"layers": [-1]}, {"layers": [1, 1]}, {"rank": 8},
        {"bias": "some"}, {"use_dora": "perhaps"}, {"target_modules": ["a", "a"]},
        {"quantize": "int8", "use_dora": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_setting_is_refused_where_it_is_read(lora: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({"lora": lora})


def test_a_new_model_has_no_adapter() -> None:
    with pytest.raises(ValidationError, match="can't both be given"):
        Config.model_validate(
            {
                "model": {"from_scratch": {"model_type": "gpt2"}}, "tokenizer": {"name": "pico"},
                "lora": {},
            }
        )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("llama", {}, ""),
        ("llama", {"lora.target_modules": "[q_proj, v_proj]"}, ""),
        ("llama", {"lora.target_modules": "[c_attn]"}, "no c_attn. It has .*q_proj"),
        ("gpt2", {"lora.layers": "[1]"}, ""),
        ("gpt2", {"lora.layers": "[9]"}, "no layer 9; the last one is 1"),
        ("gpt2", {"lora.modules_to_save": "[wte]"}, "shares its weights"),
        ("gpt2", {"lora.trainable_token_indices": "[999]"}, "no id 999"),
        ("gpt2", {"training.fsdp": "full_shard"}, "lora"),
        ("gpt2", {"lora.rank": "4"}, "rank"),
    ],
    ids=str,
)
def test_config_check_says_what_training_would(
    bases: Callable[[str], Path], corpus_dir: Path, tmp_path: Path, kind: str,
    settings: dict[str, str], said: str,
) -> None:  # fmt: skip
    path = tmp_path / "run.yaml"
    path.write_text(
        f"model: {{name: {bases(kind)}}}\nlora: {{r: 2}}\n"
        f"data: {{train: {corpus_dir}, block_size: 32}}\n"
        f"training: {{output_dir: {tmp_path / 'run'}, use_cpu: true, max_steps: 1}}\n",
        encoding="utf-8",
    )
    overrides = [f"{name}={value}" for name, value in settings.items()]
    if not said:
        assert api.check_config(path, overrides=overrides)
        return
    with pytest.raises(ConfigError, match=said):
        api.check_config(path, overrides=overrides)


def test_losses_are_those_of_stock_peft(run: Run, bases: Callable[[str], Path]) -> None:
    """The loss of the first step is the base's: an adapter begins as nothing."""
    base = bases("llama")
    asked: dict[str, Any] = {"model": {"name": str(base)}, "training": {**TRAINING, "max_steps": 1}}
    plain, adapted = run("plain", **asked), run("adapted", **asked, lora={"r": 2})
    first = [facts(one.run_dir)["before"]["train"]["loss"] for one in (plain, adapted)]
    assert first[0] == first[1]
    shutil.rmtree(plain.run_dir)
