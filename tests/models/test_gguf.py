"""A .gguf file as a base: the model that it was made of, within the precision of its type."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from typer.testing import CliRunner

import gptft.models
from gptft.cli.app import app
from gptft.errors import ModelError
from gptft.models.hub import find_model
from gptft.models.load import load_for_inference, load_for_training
from gptft.models.present import find_weights
from gptft.tokenization.auto import load_auto_tokenizer
from gptft.tokenization.tokenizer import load_tokenizer
from tests.models.gguf_writer import write_gguf

CPU = torch.device("cpu")
IDS = torch.arange(1, 40)[None]
TOKENIZER = json.loads(
    (Path(gptft.models.__file__).parent / "pico" / "tokenizer.json").read_text(encoding="utf-8")
)
_LLAMA = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "head_dim": 16, "rope_theta": 5e4, "rms_norm_eps": 1e-5},
    "llama, untied, wide heads": {**_LLAMA, "head_dim": 32, "tie_word_embeddings": False},
    "llama, tied": {**_LLAMA, "head_dim": 16, "tie_word_embeddings": True},
    "llama, biases": {**_LLAMA, "head_dim": 16, "attention_bias": True, "mlp_bias": True},
    "qwen2": {**_LLAMA, "tie_word_embeddings": True},
    "qwen3": {**_LLAMA, "head_dim": 32},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "n_inner": 96},
    "gpt2, untied": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64, 
                     "tie_word_embeddings": False},
}  # fmt: skip
EXACT = 0.0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose place is known."""
    monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make(kind: str, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model whose weights, biases and norms are all random, of values that `dtype` has."""
    config = AutoConfig.for_model(
        kind.partition(",")[0], vocab_size=8192, eos_token_id=0, bos_token_id=0, **SIZES[kind]
    )
    torch.manual_seed(3)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        weight.data.normal_(0, 0.1 if weight.dim() > 1 else 0.3)
        weight.data = weight.data.to(dtype).float()
    model.tie_weights()
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def apart(model: Any, other: Any) -> float:
    return float((logits(model) - logits(other)).abs().max())


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize(
    ("stored", "dtype"), [("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)]
)
def test_plain_values_are_the_originals(
    kind: str, stored: str, dtype: torch.dtype, tmp_path: Path, cache: Path
) -> None:
    model = make(kind, dtype=dtype)
    path = write_gguf(model, tmp_path / "a.gguf", tokenizer=TOKENIZER, type_of=lambda name: stored)
    assert find_weights(str(path))
    loaded = load_for_training(str(path))
    assert apart(loaded, model) == EXACT
    assert loaded.config.model_type == model.config.model_type
    ours, theirs = loaded.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    (made,) = cache.glob("weights/*/model.safetensors")
    assert {tensor.dtype for tensor in load_file(made).values()} == {dtype}


@pytest.mark.parametrize("kind", ["llama", "llama, tied", "gpt2"])
def test_q8_0_is_near(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make(kind)
    path = write_gguf(model, tmp_path / "a.gguf", tokenizer=TOKENIZER, type_of=lambda name: "Q8_0")
    loaded = load_for_inference(str(path), device=CPU)
    scale = float(logits(model).std())
    assert 0 < apart(loaded, model) < 0.1 * scale
    said = " ".join(capsys.readouterr().err.split())
    assert "a.gguf (Q8_0, " in said
    assert "was dequantized to safetensors (float32, " in said
    assert "Converting and de-quantizing" not in said  # the bar of a library


def q4_k_blocks(rows: int, columns: int, *, seed: int) -> np.ndarray:
    """Blocks of Q4_K of any content: scales in float16, 6-bit scales and minima, 4-bit values.

    Source: ggml-quants.h, block_q4_K: d, dmin, scales[12], qs[128]; 144 bytes for 256 values.
    """
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (rows, columns // 256, 144), dtype=np.uint8)
    scales = random.uniform(1e-4, 1e-3, (rows, columns // 256, 2)).astype(np.float16)
    blocks[..., :4] = scales.view(np.uint8).reshape(rows, columns // 256, 4)
    return blocks.reshape(rows, -1)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_q4_k_is_what_ggufs_own_package_makes_of_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = {
        "llama": {"hidden_size": 256, "intermediate_size": 256},
        "gpt2": {"n_embd": 256, "n_inner": 256},
    }
    monkeypatch.setitem(SIZES, kind, {**SIZES[kind], **wide[kind]})
    model = make(kind)
    names = {"llama": ["attn_q", "attn_k", "ffn_down"], "gpt2": ["attn_qkv", "ffn_up", "ffn_down"]}
    places = [f"blk.{layer}.{name}.weight" for layer in range(2) for name in names[kind]]
    rows = {"attn_k": 32, "attn_qkv": 768}
    packed = {
        place: q4_k_blocks(
            rows.get(place.split(".")[2], 256 if kind == "gpt2" or "ffn" in place else 64),
            256,
            seed=i,
        )
        for i, place in enumerate(places)
    }
    path = write_gguf(model, tmp_path / "a.gguf", tokenizer=TOKENIZER, packed=packed)
    loaded = load_for_inference(str(path), device=CPU).state_dict()
    ours = {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_qkv": "attn.c_attn",
        "ffn_up": "mlp.c_fc", "ffn_down": "mlp.down_proj" if kind == "llama" else "mlp.c_proj",
    }  # fmt: skip
    for place, blocks in packed.items():
        _, layer, name, _ = place.split(".")
        values = torch.from_numpy(gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q4_K))
        if name in ("attn_q", "attn_k"):
            values = turned_back(values, 4 if name == "attn_q" else 2)
        prefix = "model.layers" if kind == "llama" else "transformer.h"
        held = loaded[f"{prefix}.{layer}.{ours[name]}.weight"]
        assert torch.equal(held, values if kind == "llama" else values.T), place


def turned_back(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """The rows of queries or keys in the order that transformers turns them in."""
    pairs = tensor.reshape(heads, len(tensor) // heads // 2, 2, *tensor.shape[1:])
    return pairs.swapaxes(1, 2).reshape(tensor.shape)


class TestOnce:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_gguf(make("llama"), tmp_path / "a.gguf", tokenizer=TOKENIZER)

    def test_a_second_use_opens_the_converted_file(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = logits(load_for_inference(str(path), device=CPU))
        assert "From now on" in capsys.readouterr().err
        monkeypatch.setattr("gptft.models.dequantized._write", None)
        monkeypatch.setattr("gptft.models.kept.file_checksum", None)
        monkeypatch.setattr("gptft.models.gguf_files.find_spec", lambda name: None)
        assert torch.equal(logits(load_for_inference(str(path), device=CPU)), first)
        assert "From now on" not in capsys.readouterr().err

    def test_a_file_that_changed_is_read_anew(self, path: Path) -> None:
        load_for_training(str(path))
        other = make("llama, biases")
        write_gguf(other, path, tokenizer=TOKENIZER)
        assert apart(load_for_training(str(path)), other) == EXACT

    def test_the_package_is_named_where_it_is_missing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gptft.models.gguf_files.find_spec", lambda name: None)
        with pytest.raises(
            ModelError, match=r'package gguf. Install it: pip install "gptft\[gguf\]"'
        ):
            find_model(str(path))

    def test_a_folder_that_cannot_hold_it_is_one_line(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").write_text("x", encoding="utf-8")
        monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "file"))
        with pytest.raises(ModelError, match=r"Set GPTFT_CACHE to a folder that can hold it"):
            find_model(str(path))


def test_its_tokenizer_is_the_one_that_gptft_shows(tmp_path: Path) -> None:
    path = write_gguf(
        make("llama"), tmp_path / "a.gguf", tokenizer=TOKENIZER,
        more=lambda writer: writer.add_chat_template("{{ messages[0]['content'] }}!"),
    )  # fmt: skip
    theirs, ours = load_auto_tokenizer(str(path)), load_tokenizer(str(path))
    for text in ("Буря мглою небо кроет", " don't  stop\n12,345 😀", ""):
        assert theirs.encode(text, add_special_tokens=False) == ours.backend.encode(text).ids
    assert (theirs.eos_token, theirs.eos_token_id) == ("<|endoftext|>", 0)
    assert theirs.model_max_length == 128
    assert theirs.apply_chat_template([{"content": "Hi"}], tokenize=False) == "Hi!"
    assert find_model(str(path)).vocabulary == TOKENIZER["model"]["vocab"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "scales positions (yarn)"),
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR), "positions (linear)"),
        (
            lambda w: w.add_tensor("rope_freqs.weight", np.ones(8, np.float32)),
            "by its own rope_freqs",
        ),
        (lambda w: w.add_expert_count(8), "is a mixture of experts"),
        (lambda w: w.add_sliding_window(64), "attends to a sliding window"),
        (lambda w: w.add_key_length(32), "turns 16 of the 32 numbers of a head"),
    ],
)
def test_what_no_config_says_is_refused(more: Any, said: str, tmp_path: Path) -> None:
    path = write_gguf(make("llama"), tmp_path / "a.gguf", tokenizer=TOKENIZER, more=more)
    with pytest.raises(ModelError) as caught:
        find_weights(str(path))
    assert said in str(caught.value)
    assert "Take the folder with safetensors that it was made of." in str(caught.value)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3_scales_its_positions_as_the_original(factor: float, tmp_path: Path) -> None:
    """The factors are those of transformers' own frequencies, plain over scaled."""
    scaling = {
        "rope_type": "llama3", "rope_theta": 5e5, "factor": factor, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    plain = {"rope_type": "default", "rope_theta": 5e5}
    sizes = {**_LLAMA, "head_dim": 64, "max_position_embeddings": 16384, "vocab_size": 8192}
    turns, models = {}, {}
    for name, rope in {"plain": plain, "scaled": scaling}.items():
        config = AutoConfig.for_model("llama", **sizes, eos_token_id=0, rope_parameters=rope)
        torch.manual_seed(3)
        models[name] = AutoModelForCausalLM.from_config(config)
        turns[name] = models[name].model.rotary_emb.inv_freq
    factors = (turns["plain"] / turns["scaled"]).float().numpy()
    assert (factors[0], factors[-1]) == (1, factor)
    path = write_gguf(
        models["scaled"], tmp_path / "a.gguf", tokenizer=TOKENIZER,
        more=lambda w: w.add_tensor("rope_freqs.weight", factors),
    )  # fmt: skip
    assert find_model(str(path)).config["rope_parameters"] == scaling
    loaded = load_for_inference(str(path), device=CPU)
    assert apart(loaded, models["scaled"]) == EXACT
    assert apart(loaded, models["plain"]) > 0


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    path = write_gguf(
        make("llama"), tmp_path / "a.gguf", tokenizer=TOKENIZER,
        more=lambda w: w.add_tensor("blk.0.attn_q_norm.weight", np.ones(16, np.float32)),
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"1 tensor that a llama .* no place for, blk\.0\.attn_q_"):
        load_for_training(str(path))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"llama", b"mamba", "of the architecture 'mamba'; gptft reads llama, qwen2"),
        (b"blk.1.", b"blk.2.", "is damaged: its header says 2 layers, and it has 3"),
        (b"llama.block_count", b"llama.block_tnuoc", "llama.block_count is missing in its header"),
        (b"token_embd.weight", b"token_dbme.weight", "token_embd.weight is not in it"),
        (
            b"blk.1.attn_q.weight",
            b"blk.0.attn_q.weight",
            "has the tensor blk.0.attn_q.weight twice",
        ),
    ],
)
def test_a_header_that_fits_no_weights_is_one_line(
    old: bytes, new: bytes, said: str, tmp_path: Path
) -> None:
    path = write_gguf(make("llama"), tmp_path / "a.gguf", tokenizer=TOKENIZER)
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))
    with pytest.raises(ModelError) as caught:
        find_weights(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_says_by_how_much(tmp_path: Path) -> None:
    path = write_gguf(make("gpt2"), tmp_path / "a.gguf", tokenizer=TOKENIZER)
    raw = path.read_bytes()
    for cut in (1, 100, len(raw) // 2):
        path.write_bytes(raw[:-cut])
        with pytest.raises(ModelError, match=r"is cut off: its tensor .* ends [\d,]+ bytes later"):
            find_weights(str(path))


def test_its_weights_of_nan_are_refused_like_any(tmp_path: Path) -> None:
    model = make("llama")
    model.get_input_embeddings().weight.data[5, 5] = float("nan")  # type: ignore[index, union-attr]
    path = write_gguf(model, tmp_path / "a.gguf", tokenizer=TOKENIZER)
    with pytest.raises(ModelError, match=r"embed_tokens.weight holds 1 value of"):
        load_for_training(str(path))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_run_on_it_ends_in_a_folder_that_stock_transformers_opens(
    kind: str, in_tmp: Path
) -> None:
    model = make(kind, dtype=torch.float16)
    write_gguf(model, in_tmp / "base.GGUF", tokenizer=TOKENIZER, type_of=lambda name: "F16")
    Path("poem.txt").write_text("Буря мглою небо кроет,\n" * 40, encoding="utf-8")

    def run(command: str) -> str:
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0, done.output
        return done.stdout

    run("config check poem.txt --set model.name=base.GGUF")
    train = "train poem.txt --model base.GGUF --max-steps 2 --learning-rate 0 --use-cpu"
    run(f"{train} --save-strategy steps --save-steps 1")
    trained: Any = AutoModelForCausalLM.from_pretrained("runs/poem/model")
    assert apart(trained, model) == EXACT  # the rate was 0
    tokenizer = AutoTokenizer.from_pretrained("runs/poem/model")
    ids = load_tokenizer("base.GGUF").backend.encode("Буря мглою").ids
    assert tokenizer.encode("Буря мглою", add_special_tokens=False) == ids
    assert "quantization_config" not in trained.config.to_dict()
    for command in ("generate MODEL -p Буря --max-new-tokens 3", "score MODEL Буря",
                    "predict MODEL -p Буря"):  # fmt: skip
        base, result = (
            run(command.replace("MODEL", name)) for name in ("base.GGUF", "runs/poem/model")
        )
        assert base == result
    mean = f"{train} --overwrite --set model.average_with=[runs/poem/model]"
    if kind == "gpt2":
        run(mean)
    run(f"{train} --overwrite --max-steps 3".replace("--max-steps 2", ""))


def test_a_file_that_is_not_here_is_never_looked_up() -> None:
    with pytest.raises(ModelError, match=r"typo\.gguf: no such folder or file"):
        find_weights("typo.gguf")


STRANGE: list[Any] = ["x", [1, 2], -1, 3, 0.5, float("nan"), 10**9, None]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("strange", STRANGE, ids=repr)
def test_a_header_of_strange_values_is_refused_or_right(
    kind: str, strange: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptft.models import gguf_files, gguf_header

    path = write_gguf(make(kind), tmp_path / "a.gguf", tokenizer=TOKENIZER)
    pairs, tensors = gguf_header.read_gguf(path)
    for key in [*(key for key in pairs if key.startswith(kind)), "llama.attention.key_length"]:
        changed = {**pairs, key: strange}
        if strange is None:
            changed.pop(key)
        monkeypatch.setattr(gguf_files, "read_gguf", lambda path, c=changed: (c, tensors))
        with suppress(ModelError):  # any other error fails
            load_for_training(str(path))
        monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / f"cache-{key}"))
