"""Every command that takes a model takes an adapter of peft."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.models.load import load_for_training
from tests.models.adapter_maker import make_adapter, make_base, stock_base

POEM = "Буря мглою небо кроет, вихри снежные крутя;\n" * 12
TRAIN = (
    "train poem.txt --max-steps 2 --use-cpu --block-size 16 --save-strategy steps --save-steps 1"
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with a base, and with adapters of it that differ in the seed alone."""
    folder = tmp_path_factory.mktemp("adapters")
    base = make_base("gpt2", folder / "base", tokenizer_of=tiny_model_dir)
    for number in (0, 1):
        name = f"adapter{number}"
        made = make_adapter(base, folder / name, target_modules=["c_attn", "c_fc"], seed=number)
        path = made / "adapter_config.json"
        stored = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**stored, "base_model_name_or_path": "../base"}))
    return folder


@pytest.fixture
def here(in_tmp: Path, kept: Path) -> Path:
    shutil.copytree(kept, in_tmp, dirs_exist_ok=True)
    Path("poem.txt").write_text(POEM, encoding="utf-8")
    return in_tmp


def call(command: str) -> Any:
    return CliRunner().invoke(app, command.split())


def done(command: str) -> str:
    answer = call(command)
    assert answer.exit_code == 0, answer.output + repr(answer.exception)
    return str(answer.stdout)


@pytest.mark.parametrize(
    "command",
    [
        "generate adapter0 -p Буря --max-new-tokens 8",
        "score adapter0 Буря",
        "predict adapter0 -p Буря",
    ],
)
def test_what_generates_is_the_adapter_and_not_its_base(here: Path, command: str) -> None:
    shutil.copytree("base", "merged")
    load_for_training("adapter0").save_pretrained("merged")
    ours = done(command)
    assert ours == done(command.replace("adapter0", "merged"))
    assert ours != done(command.replace("adapter0", "base"))


def test_what_is_measured_is_the_adapter_and_not_its_base(here: Path) -> None:
    shutil.copytree("base", "merged")
    load_for_training("adapter0").save_pretrained("merged")
    found = json.loads(done("eval adapter0 merged base --data poem.txt --cpu --json"))
    adapter, merged, base = (one["bits_per_byte"] for one in found["models"])
    assert adapter == pytest.approx(merged, rel=1e-5)
    assert adapter != pytest.approx(base, rel=1e-3)


def test_tokens_are_the_bases(here: Path) -> None:
    command = "tokenize Буря --json --model"
    ours, theirs = (json.loads(done(f"{command} {name}")) for name in ("adapter0", "base"))
    assert ours["tokens"] == theirs["tokens"]
    assert done("tokenize --audit --model adapter0") == done("tokenize --audit --model base")


def test_info_tells_the_adapter_beside_its_base(here: Path) -> None:
    facts, base = (json.loads(done(f"info {name} --json")) for name in ("adapter0", "base"))
    facts, base = (one["models"][0] if "models" in one else one for one in (facts, base))
    size = (here / "adapter0" / "adapter_model.safetensors").stat().st_size
    assert facts["adapter"] == {
        "kind": "LoRA", "rank": 8, "base": "../base", "targets": ["c_attn", "c_fc"],
        "parameters": 8 * (32 + 96 + 32 + 128) * 2, "bytes_on_disk": size,
    }  # fmt: skip
    assert base["adapter"] is None
    assert facts["parameters"] == base["parameters"]
    said = " ".join(done("info adapter0").split())
    assert "LoRA, rank 8, for c_attn, c_fc; 4,608 parameters" in said
    assert "all else here is of its base, ../base" in said


def test_training_starts_from_the_merged_model(here: Path) -> None:
    done("config check poem.txt --set model.name=adapter0")
    merged = load_for_training("adapter0").state_dict()
    done(f"{TRAIN} --model adapter0 --learning-rate 0 --warmup-steps 0")
    trained = stock_base(here / "runs" / "poem" / "model").state_dict()
    assert trained.keys() == merged.keys()
    assert all(torch.equal(trained[name], merged[name]) for name in trained)
    card = (here / "runs" / "poem" / "model" / "README.md").read_text(encoding="utf-8")
    assert "- Base model: `adapter0`, an adapter (LoRA, rank 8) of `base`, merged into it." in card
    assert done("generate runs/poem -p Буря --max-new-tokens 3")


def test_a_run_is_resumed_from_its_own_adapter_alone(here: Path) -> None:
    done(f"{TRAIN} --model adapter0")
    shutil.copy("adapter1/adapter_model.safetensors", "adapter0")
    more = f"{TRAIN.replace('--max-steps 2', '--max-steps 3')} --model adapter0 --resume --extend"
    refused = call(more)
    assert getattr(refused.exception, "exit_code", None) == 2
    assert str(refused.exception).startswith("model.adapter was ")
    assert "\n" not in str(refused.exception)


def test_models_to_be_averaged_may_be_adapters(here: Path) -> None:
    done("config check poem.txt --set model.name=adapter0 --set model.average_with=[adapter1]")
    states = [load_for_training(name).state_dict() for name in ("adapter0", "adapter1")]
    mean = load_for_training("adapter0", average_with=[("adapter1", 1.0)]).state_dict()
    for name, weight in mean.items():
        assert torch.allclose(weight, (states[0][name] + states[1][name]) / 2, atol=1e-7)


def test_adapters_of_other_shapes_are_not_averaged(here: Path) -> None:
    make_adapter(Path("base"), Path("more"), target_modules=["c_attn"], rows=325)
    from gptft.errors import ModelError

    with pytest.raises(ModelError, match=r"wte\.weight is \(325, 32\) there and \(320, 32\) here"):
        load_for_training("adapter0", average_with=[("more", 1.0)])


COMMANDS = {
    "train": "train poem.txt --model adapter0 --max-steps 1",
    "config check": "config check poem.txt --set model.name=adapter0",
    "average": "config check poem.txt --set model.name=base --set model.average_with=[adapter0]",
    "generate": "generate adapter0 -p x",
    "draft": "generate base -p x --strategy assisted --assistant-model adapter0",
    "score": "score adapter0 x",
    "eval": "eval adapter0 --data poem.txt",
    "predict": "predict adapter0 -p x",
}
TOKENIZING = {
    "tokenize": "tokenize x --model adapter0",
    "prepare": "prepare poem.txt --set model.name=adapter0",
    "info": "info adapter0",
}


@pytest.mark.parametrize("command", [*COMMANDS, *TOKENIZING])
def test_a_base_that_is_gone_is_named_in_one_line(here: Path, command: str) -> None:
    if command in ("average", "draft"):
        shutil.copytree("base", "other")
    shutil.rmtree("other" if command in ("average", "draft") else "base")
    path = here / "adapter0" / "adapter_config.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**stored, "base_model_name_or_path": "/nowhere/gpt2"}))
    failed = call({**COMMANDS, **TOKENIZING}[command]).exception
    assert getattr(failed, "exit_code", None) == 2, repr(failed)
    assert "adapter0 is an adapter (LoRA, rank 8) of /nowhere/gpt2, which can't be had" in str(
        failed
    )
    assert "\n" not in str(failed)
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_without_peft_every_command_says_how_to_install_it(
    here: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptft.models.adapters.find_spec", lambda name: None)
    failed = call(COMMANDS[command]).exception
    assert getattr(failed, "exit_code", None) == 2, repr(failed)
    assert 'takes the package peft. Install it: pip install "gptft[lora]"' in str(failed)
    assert not Path("runs").exists()


def test_tokens_and_facts_need_no_peft(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptft.models.adapters.find_spec", lambda name: None)
    for command in TOKENIZING.values():
        done(command)
