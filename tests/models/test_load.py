import json
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from gptft.errors import ConfigError, ModelError
from gptft.models.load import (
    context_of,
    load_auto_tokenizer,
    load_for_inference,
    load_for_training,
)
from gptft.models.new import new_model
from gptft.tokenization.tokenizer import load_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def bfloat16_dir(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """The tiny model as most hub models are stored."""
    folder = tmp_path / "bf16"
    shutil.copytree(tiny_model_dir, folder)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16
    return folder


def test_training_is_in_float32_whatever_the_file_holds(bfloat16_dir: Path):
    assert load_for_training(str(bfloat16_dir)).dtype == torch.float32
    assert load_for_training(str(bfloat16_dir), dtype="bfloat16").dtype == torch.bfloat16


def test_a_cpu_without_bfloat16_generates_in_float32(
    bfloat16_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    for native, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(
            "gptft.models.precision.has_native_bfloat16", lambda device, native=native: native
        )
        assert load_for_inference(str(bfloat16_dir), device=CPU).dtype == dtype
    asked = load_for_inference(str(bfloat16_dir), device=CPU, dtype="float16")
    assert asked.dtype == torch.float16
    assert not asked.training


def test_overrides_change_the_config_and_unknown_ones_are_errors(tiny_model_dir: Path):
    model = load_for_training(str(tiny_model_dir), config_overrides={"resid_pdrop": 0.5})
    assert model.config.resid_pdrop == 0.5
    with pytest.raises(ConfigError, match=r"config_overrides\.resid_drop .* mean resid_pdrop\?"):
        load_for_training(str(tiny_model_dir), config_overrides={"resid_drop": 0.5})


def test_a_new_model_has_the_sizes_asked_for_and_the_tokenizers_ids():
    sizes = {"model_type": "gpt2", "n_layer": 3, "n_embd": 8, "n_head": 2, "n_positions": 16}
    model = new_model(sizes, vocab_size=300, eos_token_id=7, seed=1)
    assert (model.config.n_layer, model.config.vocab_size) == (3, 300)
    assert (model.config.eos_token_id, model.config.pad_token_id) == (7, 7)
    assert context_of(model) == 16
    same = new_model(sizes, vocab_size=300, eos_token_id=7, seed=1)
    other = new_model(sizes, vocab_size=300, eos_token_id=7, seed=2)
    weights = [m.state_dict()["transformer.wte.weight"] for m in (model, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_new_llama_too():
    sizes = {
        "model_type": "llama",
        "num_hidden_layers": 1,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
    }
    model = new_model(sizes, vocab_size=300, eos_token_id=0, seed=1)
    assert context_of(model) == 32


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"model_type": "gtp2"}, "knows no 'gtp2'"),
        ({"model_type": "gpt2", "n_layers": 2}, "from_scratch.n_layers is not a field"),
        ({"model_type": "gpt2", "vocab_size": 5}, "fewer than the tokenizer's 300 ids"),
        ({"model_type": "gpt2", "n_embd": 7, "n_head": 2}, "gpt2 refuses it"),
        ({"model_type": "gpt2", "n_layer": "many"}, "gpt2 refuses it"),
    ],
)
def test_sizes_that_make_no_model_are_one_line(sizes: dict[str, object], said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        new_model(sizes, vocab_size=300, eos_token_id=0, seed=1)
    assert "\n" not in str(caught.value)


def test_broken_weights_are_named(tiny_model_dir: Path, tmp_path: Path):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_model_dir, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="its weights can't be read"):
        load_for_training(str(folder))
    weights.unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load_for_training(str(folder))
    (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="its config can't be read"):
        load_for_training(str(folder))
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="its tokenizer can't be read"):
        load_auto_tokenizer(str(folder))


def with_json(tiny_model_dir: Path, folder: Path, name: str, **fields: object) -> Path:
    """A copy of the tiny model with some fields of a file changed."""
    shutil.copytree(tiny_model_dir, folder)
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "content",
    [
        "{broken",
        "[]",
        '{"num_beams": 1, "num_return_sequences": 5}',
        '{"watermarking_config": {"a": 1}}',
        '{"max_new_tokens": -5}',
        '{"cache_implementation": "nope"}',
    ],
)
def test_a_generation_config_that_cannot_be_used_is_left_out_and_said(
    tiny_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
):
    """It is never in force: it must not keep a model from being used."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "generation_config.json").write_text(content, encoding="utf-8")
    for load in (load_for_training, partial(load_for_inference, device=CPU)):
        model = load(str(folder))
        said = capsys.readouterr().err
        assert f"{folder}/generation_config.json can't be used, and is left out: " in said
        assert model.generation_config.eos_token_id == model.config.eos_token_id
        model.generation_config.save_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("fields", "weight"),
    [
        (
            {"n_positions": 2},
            r"transformer.wpe.weight is \(64, \d+\) in the file and \(2, \d+\) by",
        ),
        ({"n_positions": 65}, r"wpe.weight is \(64, \d+\) in the file and \(65, \d+\) by"),
        ({"n_inner": 8}, r"transformer.h.0.mlp.c_fc.bias is \(\d+,\) in the file and \(8,\) by"),
    ],
)
def test_a_config_that_does_not_fit_its_weights_names_one_with_both_shapes(
    tiny_model_dir: Path, tmp_path: Path, fields: dict[str, object], weight: str
):
    folder = with_json(tiny_model_dir, tmp_path / "model", "config.json", **fields)
    said = rf"its config.json doesn't fit its weights: .*{weight} the config\."
    with pytest.raises(ModelError, match=said):
        load_for_training(str(folder))
    with pytest.raises(ModelError, match=said):
        load_for_training(str(tiny_model_dir), config_overrides=fields)


@pytest.mark.parametrize("longest", ["x", [1], {"a": 1}, True])
def test_a_longest_text_that_is_no_number_is_refused_before_a_run(
    tiny_model_dir: Path, tmp_path: Path, longest: object
):
    """A run over such a tokenizer ended with a model that encodes nothing."""
    folder = with_json(
        tiny_model_dir, tmp_path / "model", "tokenizer_config.json", model_max_length=longest
    )
    with pytest.raises(ModelError) as caught:
        load_auto_tokenizer(str(folder))
    assert str(caught.value) == (
        f"{folder}/tokenizer_config.json: model_max_length must be a number, not {longest!r}."
    )


@pytest.mark.parametrize("kept", ["model", "adapter"])  # a run that isn't merged has no model
@pytest.mark.parametrize("template", [None, "{{ messages }}"])
def test_a_checkpoint_is_not_to_get_the_tokenizer_that_it_lacks(
    tiny_model_dir: Path, tmp_path: Path, kept: str, template: str | None
):
    """With another file in it, it counts as damaged, and --resume skips it."""
    run = tmp_path / "my run"
    checkpoint = run / "checkpoints" / "checkpoint-8"
    shutil.copytree(tiny_model_dir, run / kept)
    if template is not None:
        (run / kept / "chat_template.jinja").write_text(template, encoding="utf-8")
    shutil.copytree(tiny_model_dir, checkpoint, ignore=shutil.ignore_patterns("tokenizer*"))
    (checkpoint / "MANIFEST.json").write_text("{}", encoding="utf-8")
    for load in (load_auto_tokenizer, load_tokenizer):
        with pytest.raises(ModelError) as caught:
            load(str(checkpoint))
        command = str(caught.value).splitlines()[-1]
        assert "stay as it is for --resume" in str(caught.value)
    files = {path.name for path in checkpoint.iterdir()}
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert {path.name for path in checkpoint.iterdir()} == files
    tokenizer = load_auto_tokenizer(str(tmp_path / "my run-checkpoint-8"))
    assert tokenizer.eos_token_id is not None
    assert tokenizer.chat_template == template


def test_a_word_that_a_library_does_not_know_is_said_to_be_one(
    tiny_model_dir: Path, tmp_path: Path
):
    folder = with_json(
        tiny_model_dir, tmp_path / "model", "config.json", activation_function="nope"
    )
    with pytest.raises(ModelError, match="can't be read: 'nope' is unknown or missing"):
        load_for_training(str(folder))


def test_a_hub_model_without_the_hub_is_one_line():
    with pytest.raises(ModelError, match="no such folder here") as caught:
        load_for_training("nobody/no-such-model")
    assert "\n" not in str(caught.value)


def test_a_cached_hub_model_is_used_without_the_network(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A folder laid out as the hub client's cache: refs name a commit, snapshots hold it."""
    repo = tmp_path / "models--someone--tiny"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("c0ffee", encoding="utf-8")
    shutil.copytree(tiny_model_dir, repo / "snapshots" / "c0ffee")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = load_for_training("someone/tiny")
    assert model.config.n_layer == 2
    assert len(load_auto_tokenizer("someone/tiny")) == load_tokenizer("someone/tiny").vocab_size
    (repo / "snapshots" / "c0ffee" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="can't be had from the model hub"):
        load_for_training("someone/tiny")


def test_a_folders_own_code_is_never_run(tiny_model_dir: Path, tmp_path: Path):
    import json

    folder = tmp_path / "remote"
    shutil.copytree(tiny_model_dir, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.EvilConfig"}
    config["model_type"] = "evil"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'pwned')!r}, 'w').close()\n", encoding="utf-8"
    )
    with pytest.raises(ModelError):
        load_for_training(str(folder))
    assert not (tmp_path / "pwned").exists()


def test_the_ids_are_those_of_tokenizer_json_even_where_transformers_rebuilds_it(
    tiny_model_dir: Path, tmp_path: Path
):
    """A digit splitter under a GPT-2 class, as in SmolLM2, must cut the same in every room."""
    import json

    folder = tmp_path / "digits"
    shutil.copytree(tiny_model_dir, folder)
    stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    stored["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, stored["pre_tokenizer"]],
    }
    (folder / "tokenizer.json").write_text(json.dumps(stored), encoding="utf-8")
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["tokenizer_class"] = "GPT2Tokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    text = "в 1837 году, 42 раза"
    expected = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    tokenizer = load_auto_tokenizer(str(folder))
    assert tokenizer(text, add_special_tokens=False).input_ids == expected
    assert load_tokenizer(str(folder)).backend.encode(text).ids == expected
    assert tokenizer.eos_token == "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again(text, add_special_tokens=False).input_ids == expected


def test_missing_weights_are_never_made_up(tiny_model_dir: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "holey"
    shutil.copytree(tiny_model_dir, folder)
    weights = load_file(folder / "model.safetensors")
    holey = {name: tensor for name, tensor in weights.items() if ".h.1." not in name}
    save_file(holey, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks \d+ of the weights"):
        load_for_training(str(folder))
    with pytest.raises(ModelError, match=r"model\.config_overrides changes its sizes"):
        load_for_training(str(tiny_model_dir), config_overrides={"n_layer": 3})


def test_the_way_attention_is_computed_can_be_chosen(tiny_model_dir: Path):
    sizes = {"model_type": "llama", "hidden_size": 16, "num_attention_heads": 2}
    new = new_model(
        {**sizes, "intermediate_size": 16, "attn_implementation": "eager"},
        vocab_size=20,
        eos_token_id=0,
        seed=0,
    )
    assert new.config._attn_implementation == "eager"
    loaded = load_for_training(
        str(tiny_model_dir), config_overrides={"attn_implementation": "eager"}
    )
    assert loaded.config._attn_implementation == "eager"
    assert load_for_training(str(tiny_model_dir)).config._attn_implementation == "sdpa"
    with pytest.raises(ConfigError, match="egaer"):
        new_model({**sizes, "attn_implementation": "egaer"}, vocab_size=20, eos_token_id=0, seed=0)


@pytest.mark.parametrize("tied", [True, False])
def test_an_end_of_text_that_is_padding_too_is_learned_as_an_input(tied: bool):
    model = new_model(
        {
            "model_type": "llama",
            "hidden_size": 16,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "tie_word_embeddings": tied,
        },
        vocab_size=20,
        eos_token_id=3,
        seed=0,
    )
    assert model.config.pad_token_id == 3
    embeddings = model.get_input_embeddings().weight
    assert embeddings[3].detach().any()
    model(input_ids=torch.tensor([[3, 5]])).logits[0, 1, 7].backward()
    assert embeddings.grad[3].any()
