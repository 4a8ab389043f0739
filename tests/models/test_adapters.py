"""Adapters of peft as bases: what they compute is stock peft's, and what doesn't fit is said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from gptft.errors import ModelError
from gptft.models.adapters import adapter_facts, adapters_checksum, kind_of
from gptft.models.hub import find_model
from gptft.models.load import load_for_inference, load_for_training
from gptft.models.present import find_weights
from gptft.tokenization.auto import load_auto_tokenizer
from gptft.tokenization.tokenizer import load_tokenizer
from tests.models.adapter_maker import (
    SIZES,
    make_adapter,
    make_base,
    stock_base,
    stock_logits,
)
from tests.models.gguf_writer import write_gguf
from tests.models.hub_server import Hub
from tests.models.test_gguf import TOKENIZER as GGUF_TOKENIZER
from tests.models.test_gguf import make as make_for_gguf

CPU = torch.device("cpu")
IDS = torch.arange(24).reshape(2, 12) * 7 % 300
LAYERS = {
    "gpt2": ["c_attn", "c_fc"],
    "llama": ["q_proj", "down_proj"],
    "qwen3": ["q_proj", "down_proj"],
    "gpt_neox": ["query_key_value", "dense_4h_to_h"],
}
EMBEDDINGS = {
    "gpt2": "wte",
    "llama": "embed_tokens",
    "qwen3": "embed_tokens",
    "gpt_neox": "embed_in",
}
IS_TIED = {"gpt2": True, "llama": False, "qwen3": True, "gpt_neox": False}

Make = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> dict[str, Path]:
    """A folder of each kind."""
    folder = tmp_path_factory.mktemp("bases")
    return {kind: make_base(kind, folder / kind, tokenizer_of=tiny_model_dir) for kind in SIZES}


@pytest.fixture
def make(bases: dict[str, Path], tmp_path: Path) -> Make:
    """Make an adapter of a base; both folders come back."""

    def made(kind: str, name: str = "adapter", **settings: Any) -> tuple[Path, Path]:
        settings = {"target_modules": LAYERS[kind], **settings}
        return bases[kind], make_adapter(bases[kind], tmp_path / name, **settings)

    return made


@pytest.fixture
def plain(make: Make) -> Path:
    """An adapter of the GPT-2."""
    return make("gpt2", fan_in_fan_out=True)[1]


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def off(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, as a share of the largest logit."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def change_config(folder: Path, **fields: Any) -> None:
    path = folder / "adapter_config.json"
    stored = {**json.loads(path.read_text(encoding="utf-8")), **fields}
    path.write_text(json.dumps(stored), encoding="utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def check_both(base: Path, folder: Path, tmp_path: Path, *, rows: int | None = None) -> None:
    """Applied it computes what stock peft's model does; merged almost, and is a plain model."""
    theirs = stock_logits(base, folder, IDS, rows=rows)
    bare = logits_of(stock_base(base))
    common = min(theirs.shape[-1], bare.shape[-1])
    assert off(bare[..., :common], theirs[..., :common]) > 0.01, "the adapter changes nothing"
    applied = load_for_inference(str(folder), device=CPU)
    assert torch.equal(logits_of(applied), theirs)
    assert type(applied) is type(stock_base(base))
    assert not applied.training
    merged = load_for_training(str(folder))
    assert off(logits_of(merged), theirs) <= 1e-5
    bare_shapes = {name: one.shape for name, one in stock_base(base).named_parameters()}
    assert bare_shapes.keys() <= {name for name, _ in merged.named_parameters()}
    assert all(weight.requires_grad for weight in merged.parameters())
    merged.save_pretrained(tmp_path / "saved")
    assert off(logits_of(stock_base(tmp_path / "saved")), theirs) <= 1e-5
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    assert not [name for name in stored if "lora" in name or "base_layer" in name]


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all linear layers": {"target_modules": "all-linear"},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "biases": {"bias": "all", "target_modules": "all-linear"},
    "ranks of their own": {"rank_pattern": {"c_attn|q_proj|query_key_value": 3}},
    "PiSSA": {"init_lora_weights": "pissa"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", SIZES)
def test_lora_is_what_stock_peft_makes_of_it(
    make: Make, tmp_path: Path, kind: str, variant: str
) -> None:
    check_both(*make(kind, fan_in_fan_out=kind == "gpt2", **VARIANTS[variant]), tmp_path)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("gpt2", {"layers_to_transform": 1, "layers_pattern": "h", "alpha_pattern": {"c_fc": 3}}),
        ("gpt2", {"target_modules": r".*\.h\.1\..*c_attn"}),
        ("gpt2", {"target_modules": "all-linear", "exclude_modules": ["c_fc"]}),
        ("llama", {"layers_to_transform": [1], "rank_pattern": {"q_proj": 4}}),
        ("llama", {"init_lora_weights": "olora"}),
        ("llama", {"init_lora_weights": "gaussian", "lora_dropout": 0.5}),
        ("llama", {"target_parameters": ["q_proj.weight"], "target_modules": []}),
        ("llama", {"task_type": None}),
    ],
)
def test_settings_of_lora(make: Make, tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    check_both(*make(kind, **settings), tmp_path)


KINDS: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 10, "init_r": 4, "target_r": 2}, "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 16}, "DELORA": {}, "FOURIERFT": {}, "GRALORA": {}, "HIRA": {},
    "HRA": {"r": 4}, "IA3": {"feedforward_modules": ["down_proj"]},
    "LN_TUNING": {"target_modules": ["input_layernorm"]}, "LOHA": {}, "LOKR": {},
    "MISS": {"r": 8}, "OFT": {"oft_block_size": 4, "r": 0}, "RANDLORA": {},
    "ROAD": {"group_size": 16}, "SHIRA": {"r": 4},
    "TRAINABLE_TOKENS": {"target_modules": ["embed_tokens"], "token_indices": [3, 7]},
    "VBLORA": {"vector_length": 16, "num_vectors": 32}, "VERA": {"save_projection": False, "r": 16},
}  # fmt: skip


@pytest.mark.parametrize("peft_type", KINDS)
def test_other_kinds_that_change_weights(make: Make, tmp_path: Path, peft_type: str) -> None:
    check_both(*make("llama", peft_type=peft_type, **KINDS[peft_type]), tmp_path)


@pytest.mark.parametrize("peft_type", ["IA3", "VERA", "LN_TUNING", "FOURIERFT"])
def test_other_kinds_on_the_layers_of_gpt2(make: Make, tmp_path: Path, peft_type: str) -> None:
    settings: dict[str, Any] = {"IA3": {"feedforward_modules": ["c_fc"]}}.get(peft_type, {})
    targets = ["ln_1"] if peft_type == "LN_TUNING" else LAYERS["gpt2"]
    check_both(*make("gpt2", peft_type=peft_type, target_modules=targets, **settings), tmp_path)


@pytest.mark.parametrize("kind", SIZES)
def test_embeddings_that_were_trained(make: Make, tmp_path: Path, kind: str) -> None:
    name = EMBEDDINGS[kind]
    base, folder = make(kind, modules_to_save=[name])
    check_both(base, folder, tmp_path)
    # The head stays as it was, and so has weights of its own.
    merged = load_for_training(str(folder))
    assert merged.config.tie_word_embeddings is False
    assert merged.get_output_embeddings().weight is not merged.get_input_embeddings().weight


@pytest.mark.parametrize("where", ["embeddings", "head"])
@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_lora_of_one_of_two_ties_leaves_the_other(
    make: Make, tmp_path: Path, kind: str, where: str
) -> None:
    target = EMBEDDINGS[kind] if where == "embeddings" else "lm_head"
    check_both(*make(kind, target_modules=[target]), tmp_path)


@pytest.mark.parametrize("kind", SIZES)
def test_single_tokens_that_were_trained_leave_the_tie(
    make: Make, tmp_path: Path, kind: str
) -> None:
    base, folder = make(kind, trainable_token_indices=[7, 14])
    check_both(base, folder, tmp_path)
    merged = load_for_training(str(folder))
    head, embeddings = merged.get_output_embeddings(), merged.get_input_embeddings()
    assert (head.weight is embeddings.weight) is IS_TIED[kind] is merged.config.tie_word_embeddings


@pytest.mark.parametrize("more", [-4, 3])
@pytest.mark.parametrize(
    "how",
    [
        {"modules_to_save": ["EMBEDDINGS", "lm_head"]},
        {},  # peft saves the embeddings by itself then
    ],
    ids=["modules to save", "by itself"],
)
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3"])
def test_as_many_embeddings_as_in_training(
    make: Make, tmp_path: Path, kind: str, how: dict[str, Any], more: int
) -> None:
    rows = 320 + more
    settings = {
        name: [EMBEDDINGS[kind] if one == "EMBEDDINGS" else one for one in value]
        for name, value in how.items()
    }
    base, folder = make(kind, rows=rows, **settings)
    check_both(base, folder, tmp_path, rows=rows)
    assert load_for_training(str(folder)).config.vocab_size == rows


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_rows_of_new_tokens_that_were_trained(make: Make, tmp_path: Path, kind: str) -> None:
    base, folder = make(kind, rows=323, trainable_token_indices=[320, 321, 322])
    check_both(base, folder, tmp_path, rows=323)


def test_a_longer_tokenizer_beside_the_adapter_is_its_own(
    plain: Path, bases: dict[str, Path]
) -> None:
    assert load_tokenizer(str(plain)).vocab_size == 320  # the base's
    tokenizer = load_auto_tokenizer(str(bases["gpt2"]))
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(plain)
    assert load_auto_tokenizer(str(plain)).convert_tokens_to_ids("<two>") == 321
    ours = load_tokenizer(str(plain))
    assert (ours.vocab_size, ours.num_embeddings, ours.context) == (322, 322, 64)
    model = load_for_training(str(plain))
    rows = model.get_input_embeddings().weight
    assert len(rows) == model.config.vocab_size == 322
    assert torch.allclose(rows[321], rows[:320].mean(dim=0), atol=1e-6)


def test_a_tokenizer_without_its_settings_takes_the_bases_eos(
    plain: Path, tiny_model_dir: Path
) -> None:
    shutil.copy(tiny_model_dir / "tokenizer.json", plain)
    eos = load_tokenizer(str(tiny_model_dir)).require_eos()
    assert load_tokenizer(str(plain)).require_eos() == eos
    text = "Буря мглою 42"
    assert load_auto_tokenizer(str(plain))(text).input_ids == (
        load_auto_tokenizer(str(tiny_model_dir))(text).input_ids
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_16_bits_it_is_merged_before_it_is_rounded(plain: Path, dtype: Any) -> None:
    exact = load_for_training(str(plain)).state_dict()
    rounded = load_for_training(str(plain), dtype=dtype)
    assert rounded.dtype == getattr(torch, dtype)
    for name, weight in rounded.state_dict().items():
        assert torch.equal(weight, exact[name].to(rounded.dtype)), name


def test_applied_in_16_bits_it_is_stock_pefts(bases: dict[str, Path], plain: Path) -> None:
    theirs = stock_logits(bases["gpt2"], plain, IDS, dtype=torch.bfloat16)
    ours = load_for_inference(str(plain), device=CPU, dtype="bfloat16")
    assert ours.dtype == torch.bfloat16
    assert torch.equal(logits_of(ours), theirs)


def test_pickled_weights_are_those_of_safetensors(plain: Path) -> None:
    expected = logits_of(load_for_inference(str(plain), device=CPU))
    path = plain / "adapter_model.safetensors"
    torch.save(load_file(path), plain / "adapter_model.bin")
    path.unlink()
    assert torch.equal(logits_of(load_for_inference(str(plain), device=CPU)), expected)
    facts = adapter_facts(plain)
    assert facts.parameters == 8 * (32 + 96 + 32 + 128) * 2


def test_a_pickle_that_calls_something_is_not_opened(plain: Path, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "harm",)

    (plain / "adapter_model.safetensors").unlink()
    torch.save({"weight": Harmful()}, plain / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"adapter_model\.bin would call"):
        load_for_inference(str(plain), device=CPU)
    assert not (tmp_path / "harm").exists()


# Where the base is.


@pytest.mark.parametrize("place", ["absolute", "current folder", "adapter's folder", "above it"])
def test_a_base_by_its_path(
    plain: Path, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    expected = logits_of(load_for_inference(str(plain), device=CPU))
    named = {"absolute": str(bases["gpt2"]), "above it": "../base"}.get(place, "base")
    where = {"adapter's folder": plain / "base", "current folder": plain / "here" / "base"}
    if place != "absolute":
        shutil.copytree(bases["gpt2"], where.get(place, plain.parent / "base"))
    if place == "current folder":
        monkeypatch.chdir(plain / "here")
    change_config(plain, base_model_name_or_path=named)
    assert torch.equal(logits_of(load_for_inference(str(plain), device=CPU)), expected)


def test_a_base_that_is_a_run(plain: Path, bases: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "runs" / "poem"
    shutil.copytree(bases["gpt2"], run / "model")
    (run / "run.json").write_text("{}", encoding="utf-8")
    change_config(plain, base_model_name_or_path=str(run))
    files = find_model(str(plain))
    assert (files.folder, files.adapters, files.name) == (run / "model", (plain,), str(plain))


def test_the_bundled_model_as_a_base(tmp_path: Path) -> None:
    from gptft.models.source import resolve_model

    pico = resolve_model("pico")
    assert pico is not None
    folder = make_adapter(pico, tmp_path / "a", target_modules=["q_proj"], r=2)
    assert adapter_facts(folder).base == "pico"  # and not where it is here, as peft writes it
    change_config(folder, base_model_name_or_path="pico", revision=None)
    model = load_for_inference(str(folder), device=CPU)
    assert torch.equal(logits_of(model), stock_logits(pico, folder, IDS))


def test_an_adapter_of_an_adapter(make: Make, bases: dict[str, Path], tmp_path: Path) -> None:
    _, inner = make("llama", "inner")
    load_for_training(str(inner)).save_pretrained(tmp_path / "merged")
    outer = make_adapter(tmp_path / "merged", tmp_path / "outer", target_modules=["q_proj"], r=4)
    theirs = stock_logits(tmp_path / "merged", outer, IDS)
    change_config(outer, base_model_name_or_path=str(inner))
    assert find_model(str(outer)).adapters == (inner, outer)
    assert torch.equal(logits_of(load_for_inference(str(outer), device=CPU)), theirs)
    assert off(logits_of(load_for_training(str(outer))), theirs) <= 1e-5


@pytest.mark.parametrize("length", [1, 2, 3])
def test_adapters_in_a_circle(plain: Path, tmp_path: Path, length: int) -> None:
    for number in range(length):
        shutil.copytree(plain, tmp_path / str(number))
        following = str(tmp_path / str((number + 1) % length))
        change_config(tmp_path / str(number), base_model_name_or_path=following)
    for find in (find_model, find_weights):
        with pytest.raises(ModelError, match="is an adapter whose base is in the end itself"):
            find(str(tmp_path / "0"))


def test_a_base_that_is_gone(plain: Path) -> None:
    change_config(plain, base_model_name_or_path="/nowhere/llama")
    for find in (find_model, find_weights):
        with pytest.raises(ModelError) as caught:
            find(str(plain))
        said = str(caught.value)
        assert f"{plain} is an adapter (LoRA, rank 8) of /nowhere/llama, which can't be had" in said
        assert f"base_model_name_or_path in {plain / 'adapter_config.json'}" in said
        assert "\n" not in said


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("is_pickled", [False, True])
def test_adapter_and_base_on_the_hub(
    hub: Hub, plain: Path, bases: dict[str, Path], is_pickled: bool
) -> None:
    expected = logits_of(load_for_inference(str(plain), device=CPU))
    repository = hub.add("somebody/gpt2", contents(bases["gpt2"]))
    repository.tags["v1"] = repository.branches.pop("main")  # nothing else can be had
    change_config(plain, base_model_name_or_path="somebody/gpt2", revision="v1")
    weights = plain / "adapter_model.safetensors"
    if is_pickled:
        torch.save(load_file(weights), plain / "adapter_model.bin")
        weights.unlink()
    hub.add("somebody/lora", contents(plain))
    # The check asks, and fetches nothing.
    assert find_weights("somebody/lora") is None
    assert load_tokenizer("somebody/lora").vocab_size == 320
    assert not [name for name in hub.fetched() if name.endswith((".safetensors", ".bin"))]
    model = load_for_inference("somebody/lora", device=CPU)
    assert torch.equal(logits_of(model), expected)
    asked = len(hub.asked)
    files = find_weights("somebody/lora")
    assert files is not None
    assert len(files.adapters) == 1
    assert len(hub.asked) == asked


def test_a_base_on_the_hub_that_is_not_there(hub: Hub, plain: Path) -> None:
    change_config(plain, base_model_name_or_path="somebody/gone")
    said = refused(plain)
    assert f"{plain} is an adapter (LoRA, rank 8) of somebody/gone, which can't be had" in said


def test_a_model_on_the_hub_with_an_adapters_config_is_a_model(
    hub: Hub, plain: Path, bases: dict[str, Path]
) -> None:
    hub.add("somebody/both", {**contents(plain), **contents(bases["gpt2"])})
    assert find_model("somebody/both", with_weights=False).adapters == ()
    assert find_model("somebody/both").adapters == ()


def test_a_tokenizer_beside_an_adapter_needs_no_base(plain: Path, tiny_model_dir: Path) -> None:
    shutil.copy(tiny_model_dir / "tokenizer.json", plain)
    change_config(plain, base_model_name_or_path="/nowhere/llama")
    assert load_tokenizer(str(plain)).vocab_size == 320


# What can't be applied.


def refused(folder: Path) -> str:
    """The one line that both the check and loading say."""
    with pytest.raises(ModelError) as checked:
        find_weights(str(folder))
    with pytest.raises(ModelError) as loaded:
        load_for_inference(str(folder), device=CPU)
    assert str(checked.value) == str(loaded.value)
    assert "\n" not in str(loaded.value)
    return str(loaded.value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "it puts vectors before each text and changes no weight"),
        ({"peft_type": "P_TUNING"}, "it puts vectors before each text and changes no weight"),
        ({"peft_type": "LOAR"}, "peft_type is LOAR, and gptft applies LORA, ADALORA"),
        ({"peft_type": "LOAR"}, "Did you mean LORA?"),
        ({"peft_type": "XLORA"}, "peft_type is XLORA, and gptft applies"),
        ({"peft_type": None}, "peft_type is null"),
        ({"peft_type": ["LORA"]}, "peft_type is [LORA]"),
        ({"task_type": "SEQ_CLS"}, "task_type is SEQ_CLS: it wasn't trained to predict"),
        ({"task_type": 3}, "task_type is 3"),
        ({"init_lora_weights": "pissa_niter_4"}, "is pissa_niter_4, which changes the base's"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is loftq"),
        ({"init_lora_weights": {"a": 1}}, "init_lora_weights is {a: 1}"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "asks for a model that repeats layers"),
        ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "asks for layers of Megatron"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens asks for"),
        ({"r": 10**9}, "r is 1000000000, and a rank is a whole number from 0 to 65,536"),
        ({"r": -1}, "r is -1, and a rank"),
        ({"rank_pattern": {"c_attn": 10**9}}, "c_attn is 1000000000, and a rank"),
        ({"r": 64}, "says rank 64, and the adapter's weights have rank 8"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path is null. Write"),
        ({"base_model_name_or_path": ""}, "base_model_name_or_path is ''. Write"),
        ({"base_model_name_or_path": ["a"]}, "base_model_name_or_path is [a]. Write"),
        ({"base_model_name_or_path": "a" * 5000}, "which can't be had"),
        ({"base_model_name_or_path": "a/" * 300}, "which can't be had"),
        ({"base_model_name_or_path": "a\0b"}, "which can't be had"),
        ({"base_model_name_or_path": "\n"}, "base_model_name_or_path is '\\n'. Write"),
        ({"base_model_name_or_path": "~nobody_here/x"}, "which can't be had"),
        ({"revision": 5}, "revision is 5, and a branch, tag or commit"),
    ],
)
def test_a_config_that_can_not_be_applied(
    plain: Path, fields: dict[str, Any], expected: str
) -> None:
    change_config(plain, **fields)
    assert expected in refused(plain)


@pytest.mark.parametrize("content", ["", "[1]", "{", "null", '"LORA"', "\ud83d"[:0] + "{]"])
def test_a_config_that_is_no_object(plain: Path, content: str) -> None:
    (plain / "adapter_config.json").write_text(content, encoding="utf-8")
    assert str(plain / "adapter_config.json") in refused(plain)


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": ["nothing_of_this_name"]},
        {"target_modules": 5},
        {"lora_alpha": "much"},
        {"lora_dropout": "much"},
        {"bias": "some"},
        {"r": "eight"},
        {"r": 0},
        {"rank_pattern": [3]},
        {"target_modules": "(["},
    ],
)
def test_a_config_that_peft_refuses_is_one_line(plain: Path, fields: dict[str, Any]) -> None:
    change_config(plain, **fields)
    for load in (load_for_training, lambda name: load_for_inference(name, device=CPU)):
        with pytest.raises(ModelError) as caught:
            load(str(plain))
        assert "\n" not in str(caught.value)
        assert str(plain) in str(caught.value)


@pytest.mark.parametrize(
    ("peft_type", "settings", "fields"),
    [
        ("LORA", {}, {"lora_alpha": float("nan")}),
        ("LORA", {}, {"lora_alpha": float("inf")}),
        ("LORA", {}, {"lora_alpha": -1e308}),
        ("FOURIERFT", {}, {"scaling": None}),
        ("FOURIERFT", {}, {"scaling": "much"}),
        ("FOURIERFT", {}, {"scaling": float("inf")}),
        ("VBLORA", KINDS["VBLORA"], {"topk": 10**9}),
        ("VBLORA", KINDS["VBLORA"], {"topk": 1.5}),
        ("OFT", KINDS["OFT"], {"num_cayley_neumann_terms": None}),
    ],
)
def test_what_only_shows_when_it_computes_is_one_line(
    make: Make, peft_type: str, settings: dict[str, Any], fields: dict[str, Any]
) -> None:
    _, folder = make("llama", peft_type=peft_type, **settings)
    change_config(folder, **fields)
    for load in (load_for_training, lambda name: load_for_inference(name, device=CPU)):
        with pytest.raises(ModelError) as caught:
            load(str(folder))
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize("highest", [10**12, 300_000])
def test_tokens_far_beyond_the_base_take_no_memory(plain: Path, highest: int) -> None:
    change_config(plain, trainable_token_indices=[5, highest])
    with pytest.raises(ModelError, match=rf"made for tokens up to id {highest:,}, and its base"):
        load_for_inference(str(plain), device=CPU)


def test_a_tokenizer_of_another_base_takes_no_memory(plain: Path, tiny_model_dir: Path) -> None:
    stored = json.loads((tiny_model_dir / "tokenizer.json").read_text(encoding="utf-8"))
    stored["added_tokens"][-1]["id"] = 9_000_000
    (plain / "tokenizer.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(ModelError, match="made for tokens up to id 9,000,000, and its base"):
        load_for_inference(str(plain), device=CPU)


def test_settings_of_a_newer_peft_and_of_other_code_are_left_out(
    plain: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    expected = logits_of(load_for_inference(str(plain), device=CPU))
    change_config(
        plain,
        setting_of_tomorrow=True,
        auto_mapping={"base_model_class": "Evil", "parent_library": "evil"},
        megatron_core="evil",
        runtime_config={"ephemeral_gpu_offload": True},
    )
    assert torch.equal(logits_of(load_for_inference(str(plain), device=CPU)), expected)


FIRST = "base_model.model.transformer.h.0.attn.c_attn"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.pop(f"{FIRST}.lora_B.weight"), "it lacks 1 weight, transformer.h.0.attn."),
        (lambda t: t.update({f"{FIRST}.extra": torch.ones(3)}), "1 weight of it have no place"),
        (
            lambda t: t.update({"base_model.model.transformer.h.1.mlp.x.lora_A.weight": t.pop(
                f"{FIRST}.lora_A.weight")}),
            "transformer.h.1.mlp.x.lora_A.weight for one",
        ),
        (
            lambda t: t.update({f"{FIRST}.lora_A.weight": torch.full((8, 32), torch.nan)}),
            "holds 256 values of 256 that are NaN or infinite",
        ),
        (lambda t: t[f"{FIRST}.lora_A.weight"].fill_(torch.inf), "that are NaN or infinite"),
        (
            lambda t: t.update({f"{FIRST}.lora_A.weight": torch.ones(4, 32)}),
            "is (4, 32) in the adapter and (8, 32) by its config and the base",
        ),
    ],
)  # fmt: skip
def test_weights_that_are_missing_or_have_no_place(
    plain: Path, change: Callable[[dict[str, torch.Tensor]], Any], expected: str
) -> None:
    change_weights(plain, change)
    for load in (load_for_training, lambda name: load_for_inference(name, device=CPU)):
        with pytest.raises(ModelError) as caught:
            load(str(plain))
        assert expected in str(caught.value)


def test_an_adapter_of_another_kind_of_base(make: Make, bases: dict[str, Path]) -> None:
    _, folder = make("llama")
    change_config(folder, base_model_name_or_path=str(bases["gpt2"]))
    said = refused(folder)
    assert "doesn't fit its base: the base has none of the layers that it changes" in said
    assert "It was made for another base." in said


@pytest.mark.parametrize("kind", SIZES)
def test_an_adapter_of_a_wider_base(
    make: Make, tmp_path: Path, tiny_model_dir: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = make(kind)
    monkeypatch.setitem(SIZES, kind, {**SIZES[kind], WIDTHS.get(kind, "hidden_size"): 64})
    wider = make_base(kind, tmp_path / "wider", tokenizer_of=tiny_model_dir)
    change_config(folder, base_model_name_or_path=str(wider))
    assert "doesn't fit its base: for " in refused(folder)


WIDTHS = {"gpt2": "n_embd"}


@pytest.mark.parametrize("kind", SIZES)
def test_an_adapter_of_a_deeper_base(
    make: Make, tmp_path: Path, tiny_model_dir: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = make(kind)
    depth = "n_layer" if kind == "gpt2" else "num_hidden_layers"
    monkeypatch.setitem(SIZES, kind, {**SIZES[kind], depth: 1})
    flatter = make_base(kind, tmp_path / "flatter", tokenizer_of=tiny_model_dir)
    change_config(folder, base_model_name_or_path=str(flatter))
    said = refused(folder)
    assert "it changes layer 1, counted from 0, and the base has 1 layer." in said


@pytest.mark.parametrize("size", [0, 4, 1000])
def test_weights_that_are_cut_off(plain: Path, size: int) -> None:
    path = plain / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match="adapter"):
        find_weights(str(plain)) if size < 1000 else load_for_training(str(plain))


def test_a_folder_without_the_weights(plain: Path) -> None:
    (plain / "adapter_model.safetensors").unlink()
    assert "no weights of it, adapter_model.safetensors" in refused(plain)


def test_one_that_can_only_be_applied(make: Make) -> None:
    base, folder = make("llama", lora_bias=True)
    applied = load_for_inference(str(folder), device=CPU)
    assert torch.equal(logits_of(applied), stock_logits(base, folder, IDS))
    with pytest.raises(ModelError, match=r"the adapter can't be merged: .*has no bias\.$"):
        load_for_training(str(folder))


def test_without_peft_the_way_to_it_is_said(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptft.models.adapters.find_spec", lambda name: None)
    assert 'Install it: pip install "gptft[lora]"' in refused(plain)


def test_a_model_with_an_adapter_beside_it_is_a_model(plain: Path, tiny_model_dir: Path) -> None:
    shutil.copytree(tiny_model_dir, plain, dirs_exist_ok=True)
    assert find_model(str(plain)).adapters == ()


def test_loading_leaves_the_random_state(plain: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_for_inference(str(plain), device=CPU)
    assert torch.equal(torch.rand(3), expected)


# What it says of itself.


def test_what_loading_says(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = json.loads((plain / "adapter_config.json").read_text())["base_model_name_or_path"]
    load_for_inference(str(plain), device=CPU)
    load_for_training(str(plain))
    said = "".join(capsys.readouterr().err.split())
    for done in ("applied as it is.", "merged into its weights."):
        words = f"{plain}: an adapter (LoRA, rank 8) of {base}; {done}"
        assert said.count("".join(words.split())) == 1


def test_facts_are_of_the_headers(plain: Path) -> None:
    facts = adapter_facts(plain)
    assert (facts.kind, facts.rank, facts.targets) == ("LoRA", 8, ("c_attn", "c_fc"))
    assert facts.parameters == 8 * (32 + 96 + 32 + 128) * 2
    assert facts.bytes_on_disk == (plain / "adapter_model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"peft_type": "LORA"}, "LoRA"),
        ({"peft_type": "LORA", "r": 16, "use_rslora": True}, "rsLoRA, rank 16"),
        ({"peft_type": "LORA", "r": True}, "LoRA"),
        ({"peft_type": "IA3", "r": None}, "IA3"),
        ({"peft_type": "NEW"}, "NEW"),
        ({}, "of no kind"),
    ],
)
def test_the_words_for_a_kind(stored: dict[str, Any], expected: str) -> None:
    assert kind_of(stored) == expected


def test_the_checksum_changes_with_what_is_computed(plain: Path) -> None:
    files = find_model(str(plain))
    first = adapters_checksum(files)
    targets = json.loads((plain / "adapter_config.json").read_text())["target_modules"]
    change_config(plain, target_modules=targets[::-1], peft_version="9")
    assert adapters_checksum(files) == first
    change_config(plain, lora_alpha=3)
    second = adapters_checksum(files)
    change_weights(plain, lambda tensors: tensors[f"{FIRST}.lora_A.weight"].add_(1))
    assert len({first, second, adapters_checksum(files)}) == 3


def test_the_bundled_model_of_another_installation_is_this_ones(plain: Path) -> None:
    change_config(plain, base_model_name_or_path="/opt/old/site-packages/gptft/models/pico")
    assert find_model(str(plain)).config["model_type"] == "llama"


# Bases in other files than one model.safetensors.


@pytest.mark.parametrize("how", ["pickled", "parts", "bfloat16", "wrapped"])
@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_a_base_in_other_files(make: Make, tmp_path: Path, kind: str, how: str) -> None:
    base, folder = make(kind)
    model = stock_base(base, torch.bfloat16 if how == "bfloat16" else torch.float32)
    other = tmp_path / "other"
    shutil.copytree(base, other, ignore=shutil.ignore_patterns("*.safetensors"))
    model.save_pretrained(other, max_shard_size="60KB" if how == "parts" else "1GB")
    path = other / "model.safetensors"
    if how == "pickled":
        torch.save(model.state_dict(), other / "pytorch_model.bin")
        path.unlink()
    elif how == "wrapped":
        weights = {f"_orig_mod.{name}": one for name, one in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})
    change_config(folder, base_model_name_or_path=str(other))
    assert find_weights(str(folder)) is not None
    model.float().save_pretrained(tmp_path / "plain")
    theirs = stock_logits(tmp_path / "plain", folder, IDS)
    applied = load_for_inference(str(folder), device=CPU, dtype="float32")
    assert torch.equal(logits_of(applied), theirs)
    assert off(logits_of(load_for_training(str(folder))), theirs) <= 1e-5


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_gguf_file_as_a_base(tmp_path: Path, kind: str) -> None:
    model = make_for_gguf(kind)
    model.save_pretrained(tmp_path / "stock")
    write_gguf(model, tmp_path / "base.gguf", tokenizer=GGUF_TOKENIZER)
    folder = make_adapter(tmp_path / "stock", tmp_path / "a", target_modules=LAYERS[kind])
    theirs = stock_logits(tmp_path / "stock", folder, IDS)
    change_config(folder, base_model_name_or_path="../base.gguf")
    assert find_weights(str(folder)) is not None
    assert off(logits_of(load_for_inference(str(folder), device=CPU)), theirs) <= 1e-5
    assert off(logits_of(load_for_training(str(folder))), theirs) <= 1e-5
    tokens = load_tokenizer(str(folder)).backend.encode("Буря мглою", add_special_tokens=False)
    expected = load_tokenizer(str(tmp_path / "base.gguf")).backend
    assert tokens.ids == expected.encode("Буря мглою", add_special_tokens=False).ids
    assert load_auto_tokenizer(str(folder))("Буря мглою").input_ids == tokens.ids


@pytest.mark.parametrize("kind", ["qwen3_moe", "mixtral"])
@pytest.mark.parametrize("targets", [["q_proj", "o_proj"], "experts"])
def test_experts(tmp_path: Path, tiny_model_dir: Path, monkeypatch: Any, kind: str, targets: Any):
    sizes = {**SIZES["llama"], "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    sizes["num_local_experts" if kind == "mixtral" else "num_experts"] = 4
    monkeypatch.setitem(SIZES, kind, sizes)
    base = make_base(kind, tmp_path / "base", tokenizer_of=tiny_model_dir)
    named = {"target_modules": targets}
    if targets == "experts":
        named = {"target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj"]}
    folder = make_adapter(base, tmp_path / "a", **named)
    assert find_weights(str(folder)) is not None
    check_both(base, folder, tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_merge_that_computes_something_else_is_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """As peft 0.18 merged VeRA and FourierFT into the layers of GPT-2."""
    from peft.tuners.lora.layer import Linear

    _, folder = make(kind)
    delta = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda *args: 1.1 * delta(*args))
    with pytest.raises(ModelError, match="makes another model of it than the adapter on its base"):
        load_for_training(str(folder))


def test_a_base_that_is_elsewhere_is_refused(plain: Path) -> None:
    from gptft.models.adapted import merge_adapter

    base = stock_base(find_model(str(plain)).folder).to("meta")
    with pytest.raises(ModelError, match="this process hasn't all weights of its base"):
        merge_adapter(base, plain)
