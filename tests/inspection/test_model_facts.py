"""What `gptft info` tells of a model: counted by hand, or by stock transformers."""

import json
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM

from gptft.errors import ModelError
from gptft.inspection import model_words as words
from gptft.inspection.info_view import draw_boxes, info_view
from gptft.inspection.known_models import KNOWN_MODELS, KnownModel
from gptft.inspection.model_facts import ModelFacts, model_facts
from gptft.models.anatomy import read_anatomy
from gptft.models.model_files import ModelFiles
from tests.conftest import ROOT
from tests.models.gguf_writer import write_gguf
from tests.models.test_gguf import SIZES, TOKENIZER, make

PICO = ROOT / "gptft/models/pico"


@pytest.fixture
def pico(tmp_path: Path) -> Path:
    """A copy of the bundled model that may be changed."""
    return Path(shutil.copytree(PICO, tmp_path / "pico"))


def change(folder: Path, file: str = "config.json", **fields: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def build(facts: ModelFacts) -> dict[str, str]:
    return dict(words.build_rows(facts))


def test_of_the_bundled_model() -> None:
    """By hand: 7 layers of 256, 2 heads of 128, SwiGLU of 672, 8,192 tied embeddings, float16."""
    facts = model_facts("pico", text="Мороз и солнце")
    block = {"attention": 4 * 256 * 256, "feed_forward": 3 * 256 * 672, "norms": 2 * 256}
    assert facts.parameters is not None
    assert facts.needs is not None
    assert facts.parameters.block == block
    assert facts.parameters.parts == {
        "embeddings": 8192 * 256,
        "attention": 7 * block["attention"],
        "feed_forward": 7 * block["feed_forward"],
        "norms": 7 * 512 + 256,
    }
    total = 7_548_672
    assert facts.parameters.total == facts.parameters.active == total
    assert facts.parameters.tied is True
    assert facts.bytes_on_disk == (PICO / "model.safetensors").stat().st_size
    assert facts.needs.weights == 2 * total
    assert facts.needs.full_training == 16 * total
    assert facts.needs.cache_per_token == 2 * 7 * 2 * 128 * 4
    assert facts.needs.forward_flops == 2 * total
    assert facts.needs.training_flops == 6 * total
    lora = 7 * 16 * (4 * (256 + 256) + 3 * (256 + 672))
    assert facts.needs.lora_parameters == lora
    assert facts.needs.lora_training == 4 * total + 16 * lora
    assert facts.text is not None
    assert facts.text.num_bytes == len("Мороз и солнце".encode())
    assert facts.card.licence == "apache-2.0"
    assert facts.unknown == ()


def as_model(known: KnownModel) -> int:
    """The parameters of a model of these sizes, on torch's meta device."""
    sizes = {"num_hidden_layers": known.layers, "hidden_size": known.width}
    sizes |= {"num_attention_heads": known.heads, "vocab_size": known.vocab_size}
    kind = {"GPT-1": "openai-gpt", "SmolLM2-135M": "llama"}.get(known.name, "gpt2")
    if kind == "llama":
        sizes |= {"intermediate_size": 1536, "num_key_value_heads": known.kv_heads}
    else:
        sizes["n_positions"] = known.context
    ids = dict.fromkeys(("bos_token_id", "eos_token_id"), 0)
    config = AutoConfig.for_model(kind, tie_word_embeddings=True, **sizes, **ids)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize("known", KNOWN_MODELS, ids=lambda known: known.name)
def test_published_models_have_the_parameters_of_their_sizes(known: KnownModel) -> None:
    assert as_model(known) == known.parameters


# Of the models' own pages and code, as their `source` names them.
PUBLISHED = {
    "GPT-1": (2018, 12, 768, 12, 512, 40_478),
    "GPT-2": (2019, 12, 768, 12, 1024, 50_257),
    "GPT-2 medium": (2019, 24, 1024, 16, 1024, 50_257),
    "GPT-2 large": (2019, 36, 1280, 20, 1024, 50_257),
    "GPT-2 XL": (2019, 48, 1600, 25, 1024, 50_257),
    "GPT-3": (2020, 96, 12_288, 96, 2048, 50_257),
    "ruGPT-3 small": (2020, 12, 768, 12, 2048, 50_264),
    "ruGPT-3 medium": (2020, 24, 1024, 16, 2048, 50_257),
    "ruGPT-3 large": (2020, 24, 1536, 16, 2048, 50_257),
    "ruGPT-3 XL": (2021, 24, 2048, 16, 2048, 50_264),
    "SmolLM2-135M": (2024, 30, 576, 9, 8192, 49_152),
}


def test_published_models_have_the_figures_of_their_sources() -> None:
    known = {
        one.name: (one.year, one.layers, one.width, one.heads, one.context, one.vocab_size)
        for one in KNOWN_MODELS
    }
    assert known == PUBLISHED
    assert all(one.source for one in KNOWN_MODELS)


HEADS = {
    "each its own": ({}, "MHA", None),
    "in groups": ({"num_attention_heads": 4, "num_key_value_heads": 2}, "GQA", None),
    "one for all": ({"num_attention_heads": 4, "num_key_value_heads": 1}, "MQA", None),
    "a compressed vector": ({"kv_lora_rank": 16}, "MLA", None),
    "a window": ({"model_type": "mistral", "sliding_window": 512}, "MHA", 512),
    "a window that isn't used": (
        {"model_type": "qwen2", "sliding_window": 512, "use_sliding_window": False}, "MHA", None,
    ),
    "a window of no layer": (
        {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 512,
         "layer_types": ["full_attention"] * 7}, "MHA", None,
    ),
    "a window of some": (
        {"model_type": "gemma3_text", "sliding_window": 512,
         "layer_types": ["sliding_attention"] * 6 + ["full_attention"]}, "MHA", 512,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_heads_and_windows(name: str) -> None:
    changed, kind, window = HEADS[name]
    anatomy = read_anatomy({**json.loads((PICO / "config.json").read_text()), **changed}, {})
    assert anatomy.attention == kind
    assert anatomy.window == window


POSITIONS = {
    "gpt2": ({}, None),  # its code has them, and only a header shows the table
    "llama": ({}, "rotary"),
    "gpt_neox": ({}, "rotary"),
    "gptj": ({}, "rotary"),
    "bloom": ({}, "alibi"),
    "falcon": ({}, "rotary"),
    "mamba": ({}, "none"),
    "xglm": ({}, "sinusoidal"),
    "xlnet": ({}, "relative"),
    "no-such-type": ({}, None),
    "of-no-class": ({"rope_theta": 1e4}, "rotary"),
}


@pytest.mark.parametrize("kind", POSITIONS)
def test_positions_are_told_or_left_out(kind: str) -> None:
    fields, expected = POSITIONS[kind]
    assert read_anatomy({"model_type": kind, **fields}, {}).positions == expected


def test_falcon_with_alibi() -> None:
    assert read_anatomy({"model_type": "falcon", "alibi": True}, {}).positions == "alibi"


ODD: dict[str, dict[str, Any]] = {
    "nothing known": {"model_type": "no-such-type"},
    "no type": {"model_type": None},
    "a type that is no text": {"model_type": ["llama"]},
    "sizes that are none": {"num_hidden_layers": "7", "hidden_size": -1, "num_attention_heads": 0},
    "a truth for a size": {"num_hidden_layers": True, "vocab_size": False},
    "ids that are none": {"eos_token_id": ["a", None], "bos_token_id": -1, "pad_token_id": 1.5},
    "layers of no kind": {"layer_types": [1, None]},
    "an escape sequence": {"hidden_act": "\x1b[2J" * 40},
    "a part that is none": {"text_config": []},
    "more digits than are shown": {
        "hidden_size": 10**4000,
        "num_hidden_layers": 10**4000,
        "max_position_embeddings": 10**4200,
        "eos_token_id": 10**4000,
    },
    "thousands of kinds": {"layer_types": [f"{n}" * 50 for n in range(10_000)]},
    "a type as long as a page": {"model_type": "a" * 5_000},
    "a type that is a path": {"model_type": "../../etc/passwd"},
    "ties that are no truth": {"tie_word_embeddings": "yes"},
    "heads that don't divide": {"num_attention_heads": 7, "head_dim": None},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_configs_leave_out_what_cant_be_known(name: str, pico: Path) -> None:
    change(pico, **ODD[name])
    facts = model_facts(str(pico))
    shown = draw_boxes(words.boxes(facts), 40)
    rows = [*words.build_rows(facts), *words.needs_rows(facts), *words.special_rows(facts)]
    assert facts.parameters is not None
    assert facts.parameters.total == 7_548_672
    assert {cell_len(line) for line in shown if line.strip("│ ")} == {40}
    cells = [cell for row in [*rows, shown] for cell in row]
    assert not [cell for cell in cells if not cell.isprintable() or len(cell) > 1500]


SPECIAL = {
    "both agree": (0, "both agree"),
    "a list with it": ([5, 0], "both agree"),
    "another": (5, "config.json says 5"),
    "nothing": (None, "only the tokenizer"),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_ids_in_tokenizer_and_config(name: str, pico: Path) -> None:
    said, verdict = SPECIAL[name]
    change(pico, eos_token_id=said)
    rows = {row[0]: row for row in words.special_rows(model_facts(str(pico)))}
    assert rows["eos"][1:] == ("<|endoftext|>", "0", verdict)


def test_without_weights_the_config_is_built(pico: Path) -> None:
    (pico / "model.safetensors").unlink()
    facts, own = model_facts(str(pico)), model_facts("pico")
    assert facts.counted_from == "config"
    assert facts.parameters == own.parameters
    assert facts.bytes_on_disk is None
    assert build(facts)["weights"] == "none here"


def test_a_damaged_header_is_told_and_the_config_counted(pico: Path) -> None:
    (pico / "model.safetensors").write_bytes(b"\0" * 100)
    facts = model_facts(str(pico))
    assert facts.parameters is not None
    assert facts.parameters.total == 7_548_672
    assert "model.safetensors can't be read" in facts.unknown[0]


HEADERS = {
    "no JSON": b"[",
    "a list": b"[]",
    "a negative side": b'{"a": {"shape": [-1, 2], "dtype": "F32"}}',
    "an infinite side": b'{"a": {"shape": [1e400], "dtype": "F32"}}',
    "a side of many digits": b'{"a": {"shape": [1' + b"0" * 400 + b'], "dtype": "F32"}}',
    "many sides": b'{"a": {"shape": [' + b"9, " * 5000 + b'9], "dtype": "F32"}}',
    "no shape": b'{"a": {"dtype": "F32"}}',
    "no dtype": b'{"a": {"shape": [1]}}',
    "a dtype that is a list": b'{"a": {"shape": [1], "dtype": ["F32"]}}',
    "a tensor that is none": b'{"a": 5}',
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_none_is_told(name: str, pico: Path) -> None:
    header = HEADERS[name]
    (pico / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    facts = model_facts(str(pico))
    assert facts.counted_from == "config"
    assert facts.parameters == model_facts("pico").parameters
    assert "model.safetensors can't be read" in facts.unknown[0]


INDEXES = {
    "another file": {"a": "nope.safetensors", "b": "x.safetensors"},
    "a path": {"a": "../x", "b": "x.safetensors"},
    "a list": [1],
    "a list for a file": {"a": ["x.safetensors"]},
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_names_what_isnt_there_is_told(name: str, pico: Path) -> None:
    (pico / "model.safetensors").rename(pico / "x.safetensors")
    index = {"weight_map": INDEXES[name]}
    (pico / "model.safetensors.index.json").write_text(json.dumps(index))
    facts = model_facts(str(pico))
    assert facts.counted_from == "config"
    assert facts.parameters == model_facts("pico").parameters
    assert not ModelFiles("m", pico).has_weights


def test_quantized_weights_are_counted_as_the_config_builds_them(pico: Path) -> None:
    change(pico, quantization_config={"quant_method": "gptq", "bits": 4})
    facts = model_facts(str(pico))
    assert facts.counted_from == "config"
    assert facts.parameters == model_facts("pico").parameters
    assert build(facts)["weights"].startswith("quantized (gptq), float16, 15.1 MB")


def test_a_billion_layers_without_weights_are_not_built(pico: Path) -> None:
    (pico / "model.safetensors").unlink()
    change(pico, num_hidden_layers=10**9)
    facts = model_facts(str(pico))
    assert facts.parameters is None
    assert "no model in use" in facts.unknown[0]
    assert draw_boxes(words.boxes(facts), 60)


def test_pickled_weights_are_counted_by_the_config(pico: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(pico / "model.safetensors"), pico / "pytorch_model.bin")
    (pico / "model.safetensors").unlink()
    facts = model_facts(str(pico))
    assert facts.parameters == model_facts("pico").parameters
    assert facts.bytes_on_disk == (pico / "pytorch_model.bin").stat().st_size


def test_weights_kept_twice_count_once(pico: Path) -> None:
    """As Mistral's repositories have them, in the form of its own library besides."""
    shutil.copy(pico / "model.safetensors", pico / "consolidated.safetensors")
    facts = model_facts(str(pico))
    assert facts.bytes_on_disk == (PICO / "model.safetensors").stat().st_size


CARDS = {
    "---\nlicense: mit\n---\n": ("mit", None),
    "---\nlicense: other\nlicense_name: qwen\nbase_model: [a/b, c/d]\n---": ("qwen", "a/b, c/d"),
    "---\r\nlicense: mit\r\nbase_model: a/b\r\n---\r\n# A": ("mit", "a/b"),
    "\ufeff---\nlicense: mit\n---\n": ("mit", None),
    "# No front matter": (None, None),
    "---\nlicense: mit\n": (None, None),
    "---\nlicense: [\n---\n": (None, None),
    "---\nlicense: 5\nbase_model: {a: b}\n---\n": (None, None),
    "": (None, None),
}


@pytest.mark.parametrize("card", CARDS)
def test_licence_and_base_are_the_cards(card: str, pico: Path) -> None:
    (pico / "README.md").write_text(card, encoding="utf-8", newline="")
    found = model_facts(str(pico)).card
    assert (found.licence, found.base) == CARDS[card]


def test_without_a_config_it_is_no_model(pico: Path) -> None:
    (pico / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json, which says what model it is"):
        model_facts(str(pico))


def test_without_a_tokenizer_only_a_text_is_refused(pico: Path) -> None:
    (pico / "tokenizer.json").unlink()
    assert "holds no tokenizer" in model_facts(str(pico)).unknown[0]
    with pytest.raises(ModelError, match="holds no tokenizer"):
        model_facts(str(pico), text="Мороз")


@pytest.mark.parametrize("width", [12, 24, 40, 60])
def test_the_drawing_fits(width: int) -> None:
    lines = draw_boxes(words.boxes(model_facts("pico")), width)
    assert {cell_len(line) for line in lines if line.strip("│ ")} == {width}
    if width == 60:
        assert "│ │ 256 → 672 → 256, silu, gated                 516,096 │ │" in lines


def test_a_comparison_has_each_row_once() -> None:
    own = model_facts("pico")
    for _, rows in words.comparison([own, own]):
        assert len({row[0] for row in rows}) == len(rows)
        assert all(row[1] == row[2] for row in rows)


@pytest.mark.parametrize("kind", SIZES)
def test_of_a_gguf_file_the_header_is_enough(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "cache"))
    model = make(kind)
    path = write_gguf(model, tmp_path / "m.gguf", tokenizer=TOKENIZER, type_of=lambda name: "F16")
    facts = model_facts(str(path))
    model.save_pretrained(tmp_path / "folder")
    own = model_facts(str(tmp_path / "folder"))
    assert facts.parameters == own.parameters
    assert facts.anatomy.gated == own.anatomy.gated
    assert facts.anatomy.attention == own.anatomy.attention
    assert facts.bytes_on_disk == path.stat().st_size
    assert "float16" in facts.dtypes


@pytest.mark.parametrize("width", [40, 80, 120])
def test_what_others_were_trained_on_is_told_at_any_width(width: int) -> None:
    console = Console(width=width, force_terminal=True, file=StringIO(), color_system=None)
    console.print(info_view([model_facts("pico")]))
    lines = console.file.getvalue().splitlines()
    shown = " ".join(" ".join(lines).split())
    assert max(map(cell_len, lines)) <= width
    assert "WebText" in shown
    assert ("What they were trained on" in shown) == (width < 100)
