"""`gptft merge`: a base's weights with an adapter's, by the formula; what can't be is said."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from gptft import api
from gptft.errors import ConfigError, RunError
from tests.models.adapter_maker import make_adapter, make_base, stock_base, stock_logits
from tests.training.test_unmerged import POEM, call, done

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

LAYERS = {"gpt2": ["c_attn", "c_fc"], "llama": ["q_proj", "down_proj"]}
IDS = torch.arange(5, 25)[None]
TRAIN = (
    "train poem.txt --model base --max-steps 2 --use-cpu --block-size 16 --learning-rate 0.02 "
    "--save-strategy no"
)


@pytest.fixture
def here(in_tmp: Path, tiny_model_dir: Path) -> Path:
    make_base("gpt2", in_tmp / "base", tokenizer_of=tiny_model_dir)
    (in_tmp / "poem.txt").write_text(POEM, encoding="utf-8")
    return in_tmp


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {kind: make_base(kind, folder / kind, tokenizer_of=tiny_model_dir) for kind in LAYERS}


def logits(folder: Path) -> torch.Tensor:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


def by_formula(base: Path, folder: Path, scale: float) -> dict[str, torch.Tensor]:
    """W + scale * alpha / r * B A, of every layer that the adapter's file names."""
    weights = load_file(base / "model.safetensors")
    stored = load_file(folder / "adapter_model.safetensors")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    rank = config["r"] ** 0.5 if config["use_rslora"] else config["r"]
    for name, down in stored.items():
        if not name.endswith("lora_A.weight"):
            continue
        added = stored[name.replace("lora_A", "lora_B")] @ down * (config["lora_alpha"] / rank)
        own = name.removeprefix("base_model.model.").replace("lora_A.", "")
        own = own if own in weights else own.removeprefix("transformer.")
        weights[own] += scale * (added.T if config["fan_in_fan_out"] else added)
    return weights


@pytest.mark.parametrize("scale", [1.0, 0.7, -0.5, 2.0])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "r": 4}], ids=["lora", "rslora"])
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_are_those_of_the_formula(
    bases: dict[str, Path], tmp_path: Path, kind: str, settings: dict[str, Any], scale: float
) -> None:
    base = bases[kind]
    folder = make_adapter(
        base, tmp_path / "adapter", target_modules=LAYERS[kind], fan_in_fan_out=kind == "gpt2",
        **settings,
    )  # fmt: skip
    merged = api.merge(str(folder), tmp_path / "out", scale=scale)
    expected = by_formula(base, folder, scale)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in found)
    assert merged.apart is not None
    assert merged.apart < 1e-5
    if scale == 1:
        theirs = stock_logits(base, folder, IDS)
        assert float((logits(tmp_path / "out") - theirs).abs().max()) <= 1e-5 * float(
            theirs.abs().max()
        )


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True}, {"peft_type": "IA3", "feedforward_modules": ["c_fc"]},
        {"modules_to_save": ["ln_f"]}, {"peft_type": "LOHA"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_of_other_kinds_weights_are_moved_towards_the_merged_ones(
    bases: dict[str, Path], tmp_path: Path, settings: dict[str, Any], scale: float
) -> None:
    kind = "llama" if settings.get("peft_type") == "LOHA" else "gpt2"
    base = bases[kind]
    folder = make_adapter(base, tmp_path / "a", target_modules=LAYERS[kind], **settings)
    whole = api.merge(str(folder), tmp_path / "whole")
    assert whole.apart is not None
    assert whole.apart < 1e-5
    merged = api.merge(str(folder), tmp_path / "out", scale=scale)
    assert (merged.apart is None) == (scale != 1)
    start, end, found = (
        load_file(one / "model.safetensors") for one in (base, tmp_path / "whole", tmp_path / "out")
    )
    changed = {name for name in start if not torch.equal(start[name], end[name])}
    assert changed
    for name in found:
        line = start[name] + scale * (end[name] - start[name])
        assert torch.allclose(found[name], line, atol=1e-6), name


@pytest.mark.parametrize("merge", ["false", "true"])
def test_a_run_is_merged_with_all_that_a_model_has(here: Path, merge: str) -> None:
    done(f"{TRAIN} --set lora.r=2 --set lora.merge={merge} --out run")
    done(f"{TRAIN} --set lora.r=2 --out other")
    said = done("merge run --out made/model-1")
    assert "merged into base, in float32. Its logits differ from those of the adapter" in said
    ours, theirs = (
        load_file(folder / "model.safetensors")
        for folder in (here / "made" / "model-1", here / "other" / "model")
    )
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    names = {path.name for path in (here / "made" / "model-1").iterdir()}
    wanted = {path.name for path in (here / "other" / "model").iterdir()}
    assert names == wanted
    config, other = (
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for folder in (here / "made" / "model-1", here / "other" / "model")
    )
    assert config == other
    assert "library_name: transformers" in (here / "made/model-1/README.md").read_text("utf-8")
    own = "generate {} -p Буря --max-new-tokens 5 --strategy greedy --cpu"
    assert done(own.format("made/model-1")) == done(own.format("other"))
    half = json.loads(done("merge run/adapter --out half --scale 0.5 --json"))
    assert (half["scale"], half["base"]) == (0.5, "base")
    card = (here / "half" / "README.md").read_text("utf-8")
    assert "merged into it at scale 0.5" in card
    assert not [path for path in here.rglob(".*") if "partial" in path.name]


def test_new_tokens_are_whole_at_any_scale(here: Path) -> None:
    done(f"{TRAIN} --set lora.merge=false --set tokenizer.add_tokens=[мглою] --out run")
    done("merge run --out half --scale 0.5")
    done("merge run --out whole")
    tokenizer = AutoTokenizer.from_pretrained("half")
    (place,) = tokenizer("мглою").input_ids
    half, whole = (
        stock_base(Path(name)).get_input_embeddings().weight for name in ("half", "whole")
    )
    assert torch.equal(half[place], whole[place])
    assert len(half) == len(tokenizer)


def test_a_base_is_merged_as_it_was_trained_on(here: Path) -> None:
    """With the config_overrides of the run."""
    override = "--set model.config_overrides.activation_function=relu"
    done(f"{TRAIN} --set lora.r=2 {override} --out run")
    done("merge run --out out")
    assert json.loads(Path("out/config.json").read_text("utf-8"))["activation_function"] == "relu"
    ours, theirs = logits(Path("out")), logits(Path("run/model"))
    assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "merge tuned --out out",
            "tuned is a run without an adapter: .* model is in tuned/model",
        ),
        ("merge base --out out", "base is a model and no adapter: there is nothing to merge"),
        ("merge stopped --out out", "stopped/adapter is missing. Train it to the end first"),
        ("merge adapter --out full", "full isn't empty; nothing in it was touched"),
        ("merge adapter --out poem.txt", "poem.txt is a file"),
        ("merge adapter --out poem.txt/a", "can't be made: poem.txt is a file"),
        ("merge adapter --out out --scale 0", "--scale must be a number up to 10 other than 0"),
        ("merge adapter --out out --scale nan", "--scale must be a number up to 10"),
        ("merge adapter --out out --scale -11", "not -11"),
        ("merge nowhere --out out", "nowhere"),
        ("merge lost --out out", r"an adapter \(LoRA, rank 8\) of gone, which can't be had"),
    ],
)
def test_what_cant_be_merged_is_one_line(here: Path, command: str, said: str) -> None:
    import re

    make_adapter(Path("base"), Path("adapter"), target_modules=["c_attn"])
    shutil.copytree("adapter", "lost")
    stored = json.loads(Path("lost/adapter_config.json").read_text("utf-8"))
    stored["base_model_name_or_path"] = "gone"
    Path("lost/adapter_config.json").write_text(json.dumps(stored), encoding="utf-8")
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine", encoding="utf-8")
    facts: dict[str, Any] = {"state": "done", "config": {"model": {"name": "base"}}}
    for name, lora in (("tuned", {}), ("stopped", {"lora": {"r": 8}})):
        Path(name).mkdir()
        config = {**facts["config"], **lora}
        Path(name, "run.json").write_text(json.dumps({**facts, "config": config}), "utf-8")
    refused = call(command)
    assert getattr(refused.exception, "exit_code", None) == 2, repr(refused.exception)
    message = str(refused.exception)
    assert re.search(said, message), message
    assert "\n" not in message.strip()
    assert not Path("out").exists()
    assert sorted(os.listdir("full")) == ["mine.txt"]


@pytest.mark.parametrize(
    "kind", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("x")]
)
def test_what_cant_be_written_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, kind: Exception
) -> None:
    make_adapter(Path("base"), Path("adapter"), target_modules=["c_attn"])

    def fail(self: Any, folder: str, **kwargs: Any) -> None:
        Path(folder).mkdir(parents=True)
        raise kind

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", fail)
    Path("out").mkdir()
    with pytest.raises(RunError, match=r"out can't be written: .*Nothing was written"):
        api.merge("adapter", Path("out"))
    assert sorted(os.listdir(".")) == ["adapter", "base", "out", "poem.txt"]


def test_a_full_disk_is_said_before_anything_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapter(Path("base"), Path("adapter"), target_modules=["c_attn"])
    monkeypatch.setattr("gptft.runs.disk.free_bytes", lambda folder: 1000)
    with pytest.raises(RunError, match=r"Disk full: out needs .* name a folder on a larger disk"):
        api.merge("adapter", Path("out"))
    assert not Path("out").exists()


def test_a_merge_into_a_folder_of_a_run_that_has_no_model(here: Path) -> None:
    done(f"{TRAIN} --set lora.r=2 --set lora.merge=false --out run")
    done("merge run --out run/model")
    done("runs verify run")
    assert done("score run Буря --cpu --summary")
    with pytest.raises(ConfigError, match="isn't empty"):
        api.merge("run", Path("run/model"))
