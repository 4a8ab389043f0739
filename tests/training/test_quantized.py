"""`lora.quantize`: an adapter learns on a quantized base, is resumed, and merged into the base."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from gptft import api
from gptft.config.lora import LoraConfig
from gptft.errors import ConfigError, GptftError
from gptft.models.adapted import few_logits
from gptft.models.load import load_for_training
from gptft.models.lora import add_adapter
from gptft.models.quantized import keep_as_loaded, num_weights, quantized_loading
from gptft.runs.verify import model_problem
from gptft.training.run import Resume
from tests.models.adapter_maker import make_adapter, make_base, stock_logits
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts, rows

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CPU = torch.device("cpu")
TRAINING = {
    "max_steps": 8, "save_strategy": "steps", "save_steps": 2, "learning_rate": 0.02,
    "use_cpu": True,
}  # fmt: skip


LINEAR = {
    "gpt2": ("c_attn", "c_proj", "c_fc", "c_proj"),
    "llama": ("q", "k", "v", "o", "gate", "up", "down"),
    "qwen3": ("q", "k", "v", "o", "gate", "up", "down"),
    "gpt_neox": ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"),
}


def by_formula(layer: Any) -> torch.Tensor:
    """A layer's weights: int8 by the largest of each row, 4 bits by the paper's 16 values."""
    weight = layer.weight
    if weight.dtype == torch.int8:
        scales = layer.state.SCB if weight.SCB is None else weight.SCB  # where a forward puts them
        return weight.data.float() * scales[:, None] / 127
    state = weight.quant_state
    packed = weight.data.flatten()
    places = torch.stack([packed >> 4, packed & 15], dim=1).flatten().long()
    blocks = state.code[places].split(state.blocksize)
    scaled = [block * scale for block, scale in zip(blocks, state.absmax, strict=True)]
    return torch.cat(scaled).reshape(state.shape)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("bases")

    def base(kind: str) -> Path:
        if not (folder / kind).exists():
            make_base(kind, folder / kind, tokenizer_of=tiny_model_dir)
        return folder / kind

    return base


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_an_adapter_learns_is_cut_off_resumed_and_merged(
    run: Run, bases: Callable[[str], Path], tmp_path: Path, kind: str, quantize: str
) -> None:
    base, said = bases(kind), list[str]()
    asked: dict[str, Any] = {
        "model": {"name": str(base)}, "lora": {"r": 4, "quantize": quantize}, "training": TRAINING,
        "data": {"validation": 0.3},
    }  # fmt: skip
    whole = run("whole", **asked, notify=said.append)
    figures = facts(whole.run_dir)["result"]["train"]
    assert figures["loss_after"] < figures["loss_before"] - 0.05
    with Cut(after=5):
        run("cut", **asked)
    run("cut", **asked, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)
    ours, cut = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")
        for name in ("whole", "cut")
    )
    assert all(torch.equal(ours[name], cut[name]) for name in ours)

    checkpoint = tmp_path / "whole" / "checkpoints" / "checkpoint-8"
    held = load_file(checkpoint / "adapter_model.safetensors")
    known = facts(whole.run_dir)
    assert held.keys() == ours.keys()
    assert known["num_trained"] == sum(one.numel() for one in held.values())
    stock = AutoModelForCausalLM.from_pretrained(base)
    assert known["num_parameters"] == sum(one.numel() for one in stock.parameters())
    assert any(f"parameters ({quantize}) in float32" in line for line in said)

    # The model is the base as it was with the adapter, and no quantized one.
    merged = AutoModelForCausalLM.from_pretrained(whole.run_dir / "model").eval()
    assert not hasattr(merged.config, "quantization_config")
    assert {one.dtype for one in merged.parameters()} == {torch.float32}
    ids = torch.arange(5, 25)[None]
    expected = stock_logits(base, whole.run_dir / "adapter", ids)
    with torch.no_grad():
        apart = (merged(ids).logits - expected).abs().max()
    assert float(apart) <= 1e-5 * float(expected.abs().max())
    assert 0 < known["merged_apart"] < (0.5 if quantize == "nf4" else 0.1)
    assert any(f"from those of the {quantize} model that was trained" in line for line in said)
    assert model_problem(whole.run_dir, known) is None


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3", "gpt_neox"])
def test_a_quantized_base_is_near_the_base_and_stays_as_it_is(
    bases: Callable[[str], Path], kind: str, quantize: Any
) -> None:
    """However it is evaluated before it is trained."""
    base = bases(kind)
    loading = quantized_loading(quantize, device=CPU, name="base")
    model = load_for_training(str(base), loading=loading)
    keep_as_loaded(model)
    plain = load_for_training(str(base))
    assert num_weights(model) == num_weights(plain) == sum(p.numel() for p in plain.parameters())
    model.eval()
    first = few_logits(model)
    weights, layers = dict(plain.named_modules()), 0
    for name, layer in model.named_modules():
        if type(layer).__name__ not in ("Linear4bit", "Linear8bitLt"):
            continue
        layers += 1
        expected = weights[name].weight.detach()
        if isinstance(weights[name], Conv1D):
            expected = expected.T
        apart = float((by_formula(layer) - expected).norm() / expected.norm())
        assert 0 < apart < (0.12 if quantize == "nf4" else 0.02), name
    assert layers == len(LINEAR[kind]) * 2
    kept = {name: one.clone() for name, one in model.state_dict().items()}
    for _ in range(3):
        assert torch.equal(few_logits(model), first)
    after = model.state_dict()
    assert after.keys() == kept.keys()
    assert all(torch.equal(after[name], kept[name]) for name in kept)


def test_documents_are_kept_apart_on_a_quantized_base(
    run: Run, bases: Callable[[str], Path]
) -> None:
    lora = {"r": 2, "quantize": "nf4", "merge": False}
    found = run(
        "x", model={"name": str(bases("llama"))}, lora=lora, training={**TRAINING, "max_steps": 1},
        data={"isolate_documents": True},
    )  # fmt: skip
    assert not (found.run_dir / "model").exists()
    assert rows(found.run_dir / "metrics.jsonl")


def test_nothing_is_said_at_each_layer(
    run: Run, bases: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    for quantize in ("nf4", "int8"):
        lora = {"r": 2, "quantize": quantize}
        run(quantize, model={"name": str(bases("gpt2"))}, lora=lora, training=TRAINING)
    said = "".join(capfd.readouterr())
    assert "MatMul8bitLt" not in said
    assert "kernels" not in said


def test_a_command_says_nothing_of_a_package_that_it_doesnt_use(tmp_path: Path) -> None:
    """transformers imports peft, and peft bitsandbytes, which speaks of a third one."""
    done = subprocess.run(
        [sys.executable, "-m", "gptft", "score", "pico", "Буря", "--cpu", "--summary"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert "kernels" not in done.stderr


@pytest.mark.parametrize("changed", [{"quantize": "int8"}, {}])
def test_a_run_on_another_base_isnt_resumed(
    run: Run, bases: Callable[[str], Path], changed: dict[str, Any]
) -> None:
    asked: dict[str, Any] = {"model": {"name": str(bases("gpt2"))}, "training": TRAINING}
    with Cut(after=3):
        run("x", **asked, lora={"r": 2, "quantize": "nf4"})
    with pytest.raises(GptftError, match=r"lora\.quantize was nf4"):
        run("x", **asked, lora={"r": 2, **changed}, resume=Resume())


def _check(base: Path, corpus: Path, folder: Path, *overrides: str) -> Any:
    path = folder / "run.yaml"
    path.write_text(
        f"model: {{name: {base}}}\nlora: {{r: 2, quantize: nf4}}\n"
        f"data: {{train: {corpus}, block_size: 32}}\n"
        f"training: {{output_dir: {folder / 'run'}, use_cpu: true, max_steps: 1}}\n",
        encoding="utf-8",
    )
    return api.check_config(path, overrides=overrides)


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("quantize", ["nf4", "int8", "null"])
def test_config_check_says_what_is_trained_and_held(
    bases: Callable[[str], Path], corpus_dir: Path, tmp_path: Path, kind: str, quantize: Any
) -> None:
    said = _check(bases(kind), corpus_dir, tmp_path, f"lora.quantize={quantize}").found()
    loading = quantized_loading(quantize, device=CPU, name="x") if quantize != "null" else None
    model = load_for_training(str(bases(kind)), loading=loading)
    total = num_weights(model)
    adapter = add_adapter(model, LoraConfig(r=2), base_name="x", seed=1)
    start = f"Trained: an adapter of {adapter.num_trained:,} beside {total:,} parameters"
    assert start in said
    if quantize == "null":
        return
    about = re.search(rf"which take about ([\d.,]+) (kB|MB) in {quantize}\.", said)
    assert about is not None, said
    base = [one for name, one in model.named_parameters() if "lora_" not in name]
    held = sum(one.numel() * one.element_size() for one in base)
    states = [one.quant_state for one in base if getattr(one, "quant_state", None) is not None]
    held += sum(4 * state.absmax.numel() for state in states)
    expected = float(about[1].replace(",", "")) * {"kB": 1e3, "MB": 1e6}[about[2]]
    assert expected == pytest.approx(held, rel=0.06)


def test_what_cant_be_quantized_is_one_line(
    run: Run, bases: Callable[[str], Path], corpus_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base = bases("gpt2")
    assert _check(base, corpus_dir, tmp_path)
    adapter = make_adapter(base, tmp_path / "adapter", target_modules=["c_attn"])
    lora = {"r": 2, "quantize": "nf4"}
    with pytest.raises(ConfigError, match=r"is an adapter, and can't be quantized\. Merge it"):
        _check(adapter, corpus_dir, tmp_path)
    with pytest.raises(GptftError, match=r"is an adapter, and can't be quantized"):
        run("x", model={"name": str(adapter)}, lora=lora, training=TRAINING)
    with pytest.raises(ConfigError, match=r"can't be compiled while it is trained on"):
        _check(base, corpus_dir, tmp_path, "training.torch_compile=true")
    with pytest.raises(ConfigError, match="int8"):
        _check(base, corpus_dir, tmp_path, "lora.quantize=int4")
    for room in ("lora_check", "quantized"):
        monkeypatch.setattr(
            f"gptft.models.{room}.find_spec", lambda name: None if name == "bitsandbytes" else name
        )
    wanted = r'takes the package bitsandbytes\. Install it: pip install "gptft\[quantize\]"'
    with pytest.raises(ConfigError, match=wanted) as caught:
        _check(base, corpus_dir, tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(GptftError, match=wanted):
        run("x", model={"name": str(base)}, lora=lora, training=TRAINING)
    assert not (tmp_path / "x").exists()


def test_a_model_of_large_activations_is_causal_in_8_bits(tmp_path: Path) -> None:
    import transformers

    from gptft.models.causal_probe import check_causal
    from tests.framed import LLAMA, write_model

    path = write_model(tmp_path / "large", LLAMA)
    how = transformers.BitsAndBytesConfig(load_in_8bit=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(path, quantization_config=how)
    check_causal(model, name="large")
    assert all(m.state.threshold == 6 for m in model.modules() if hasattr(m, "state"))
