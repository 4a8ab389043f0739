"""`model.freeze`: what is named stays as it is, to the bit; what isn't learns, and is resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gptft import api
from gptft.config.sections import Config
from gptft.errors import ConfigError
from gptft.report.facts import run_facts
from gptft.report.language import Words
from gptft.report.model_card import model_card
from gptft.runs.read import read_run
from gptft.training.run import Resume
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts
from tests.training.test_lora import TRAINING

Bases = Callable[[str], Path]

CASES: dict[str, tuple[str, list[str], Callable[[str], bool]]] = {
    "embeddings": ("gpt2", ["transformer.wte"], lambda name: ".wte." in name),
    "layers": ("gpt2", ["h.0-0", "wpe"], lambda name: ".h.0." in name or ".wpe." in name),
    "all but the last": (
        "llama", ["embed_tokens", "layers.0"],
        lambda name: "embed_tokens" in name or ".layers.0." in name,
    ),
    "a part of each": ("qwen2", ["mlp"], lambda name: ".mlp." in name),
    "all but the head": ("gpt_neox", ["gpt_neox"], lambda name: name.startswith("gpt_neox.")),
    "all but positions": ("gpt2", ["wte", "h", "ln_f"], lambda name: ".wpe." not in name),
}  # fmt: skip


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("optim", ["adamw_torch", "muon"])
def test_what_is_named_stays_to_the_bit(
    run: Run, bases: Bases, tmp_path: Path, case: str, optim: str
) -> None:
    kind, patterns, is_frozen = CASES[case]
    base = bases(kind)
    asked: dict[str, Any] = {
        "model": {"name": str(base), "freeze": patterns},
        "training": {**TRAINING, "optim": optim, "weight_decay": 0.1},
    }
    said: list[str] = []
    whole = run("whole", **asked, notify=said.append)
    before, after = stored(base), stored(whole.run_dir / "model")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not {name for name in changed if is_frozen(name)}
    assert all(is_frozen(name) for name in before.keys() - changed if before[name].any())

    stock = AutoModelForCausalLM.from_pretrained(base)
    total = sum(one.numel() for one in stock.parameters())
    trained = sum(one.numel() for name, one in stock.named_parameters() if not is_frozen(name))
    assert (facts(whole.run_dir)["num_parameters"], facts(whole.run_dir)["num_trained"]) == (
        total, trained,
    )  # fmt: skip
    assert any(f"Training {trained:,} of {total:,} parameters" in line for line in said)

    with Cut(after=5):
        run("cut", **asked)
    run("cut", **asked, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)
    state = torch.load(
        tmp_path / "cut" / "checkpoints" / "checkpoint-6" / "optimizer.pt", weights_only=True
    )
    names = [name for name, _ in stock.named_parameters() if not is_frozen(name)]
    assert sum(len(group["params"]) for group in state["param_groups"]) == len(names)


@pytest.mark.parametrize("reentrant", [True, False])
def test_with_gradient_checkpointing_the_same_is_learned(
    run: Run, bases: Bases, reentrant: bool
) -> None:
    model = {"name": str(bases("llama")), "freeze": ["embed_tokens", "layers.0"]}
    plain = run("plain", model=model, training=TRAINING)
    kept = {"use_reentrant": reentrant}
    training = {
        **TRAINING,
        "activation_checkpointing": True,
        "activation_checkpointing_kwargs": kept,
    }
    other = run("other", model=model, training=training)
    ours, theirs = (stored(one.run_dir / "model") for one in (plain, other))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in ours)


def test_a_weight_that_two_share_is_frozen_in_both_and_counted_once(run: Run, bases: Bases) -> None:
    said: list[str] = []
    found = run(
        "x", model={"name": str(bases("gpt2")), "freeze": ["lm_head"]}, training=TRAINING,
        notify=said.append,
    )  # fmt: skip
    known = facts(found.run_dir)
    stock = AutoModelForCausalLM.from_pretrained(bases("gpt2"))
    frozen = stock.transformer.wte.weight.numel()
    assert known["num_trained"] == known["num_parameters"] - frozen
    assert any("transformer.wte.weight is frozen, too: it shares" in line for line in said)
    name = "transformer.wte.weight"
    assert torch.equal(stored(bases("gpt2"))[name], stored(found.run_dir / "model")[name])


def test_the_report_and_the_card_say_how_much_is_trained(run: Run, bases: Bases) -> None:
    found = run(
        "x", model={"name": str(bases("gpt2")), "freeze": ["wte", "h.0"]}, training=TRAINING
    )
    trained = facts(found.run_dir)["num_trained"]
    read = read_run(found.run_dir)
    assert ("trained of them", f"{trained:,}") in run_facts(read, Words.of("en", "report"))
    assert "of them trained and the others frozen" in model_card(read)


@pytest.mark.parametrize("changed", [["h.1"], ["h.0", "wte"], None])
def test_a_run_that_trains_other_weights_isnt_resumed(
    run: Run, bases: Bases, changed: list[str] | None
) -> None:
    asked: dict[str, Any] = {"name": str(bases("gpt2"))}
    with Cut(after=3):
        run("x", model={**asked, "freeze": ["h.0"]}, training=TRAINING)
    model = asked if changed is None else {**asked, "freeze": changed}
    for allow in ((), ("model.freeze",)):
        with pytest.raises(ConfigError, match=r"model\.freeze was .*no optimizer state"):
            run("x", model=model, training=TRAINING, resume=Resume(allow=allow))


REFUSED = [
    ("gpt2", ["transformer.wtf"], {}, r"transformer\.wtf names nothing .*transformer\.wte\?"),
    ("gpt2", ["h.0-5"], {}, r"h\.0-5 goes beyond the model, which has no h\.2"),
    ("llama", ["wte"], {}, r"It has .*model\.embed_tokens, model\.layers\.0-1"),
    ("gpt2", ["transformer"], {}, "nothing is left to be trained"),
    ("gpt2", ["wte"], {"tokenizer.add_tokens": ["Мороз"]}, "never learn"),
]


@pytest.mark.parametrize(("kind", "patterns", "more", "said"), REFUSED)
def test_what_doesnt_fit_is_one_line_before_anything_is_written(
    run: Run, bases: Bases, tmp_path: Path, kind: str, patterns: Any, more: Any, said: str
) -> None:
    tokenizer = {name.split(".")[1]: value for name, value in more.items()}
    model = {"name": str(bases(kind)), "freeze": patterns}
    with pytest.raises(ConfigError, match=said) as caught:
        run("x", model=model, tokenizer=tokenizer, training=TRAINING)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def _checked(base: Path, corpus: Path, folder: Path, settings: dict[str, Any]) -> str:
    path = folder / "run.yaml"
    path.write_text(
        f"model: {{name: {base}}}\ndata: {{train: {corpus}, block_size: 32}}\n"
        f"training: {{output_dir: {folder / 'run'}, use_cpu: true, max_steps: 1}}\n",
        encoding="utf-8",
    )
    overrides = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    return api.check_config(path, overrides=overrides).found()


@pytest.mark.parametrize(("kind", "patterns", "more", "said"), REFUSED)
def test_config_check_says_what_training_would(
    bases: Bases, corpus_dir: Path, tmp_path: Path, kind: str, patterns: Any, more: Any, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        _checked(bases(kind), corpus_dir, tmp_path, {"model.freeze": patterns, **more})
    assert "run.yaml" in str(caught.value) or "--set" in str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_config_check_counts_what_is_trained(
    bases: Bases, corpus_dir: Path, tmp_path: Path, case: str
) -> None:
    kind, patterns, is_frozen = CASES[case]
    stock = AutoModelForCausalLM.from_pretrained(bases(kind))
    total = sum(one.numel() for one in stock.parameters())
    trained = sum(one.numel() for name, one in stock.named_parameters() if not is_frozen(name))
    found = _checked(bases(kind), corpus_dir, tmp_path, {"model.freeze": patterns})
    assert f"Trained: {trained:,} of {total:,} parameters." in found


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora": {}, "model": {"freeze": ["h.0"]}}, "lora and model.freeze can't both"),
        ({"model": {"freeze": ["h.0"], "from_scratch": {"model_type": "gpt2"}},
          "tokenizer": {"name": "pico"}}, "learned nothing that could be kept"),
        ({"model": {"freeze": ["h..0"]}}, "no name of a module"),
        ({"model": {"freeze": [7]}}, "valid string"),
    ],
)  # fmt: skip
def test_what_cant_be_combined(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(settings)


@pytest.mark.parametrize("other", ["fsdp", "deepspeed"])
def test_divided_weights_arent_frozen(
    bases: Bases, corpus_dir: Path, tmp_path: Path, other: str
) -> None:
    settings = {"model.freeze": ["wte"], f"training.{other}": "full_shard"}
    with pytest.raises(ConfigError, match=r"model\.freeze can't be combined with training\.fsdp"):
        _checked(bases("gpt2"), corpus_dir, tmp_path, settings)
