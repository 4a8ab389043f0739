"""The whole way of the tutorial, on a folder with the files that ruGPT3's repository has.

Files of 2020: pytorch_model.bin with masks among the weights, vocab.json, merges.txt, no
tokenizer.json, no safetensors, and a config.json whose EOS isn't the tokenizer's.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.tokenization.tokenizer import load_tokenizer
from tests.conftest import ROOT

SPECIAL = {
    "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
    "mask_token": "<mask>",
}  # fmt: skip
PROMPT = 'Определение: "Нейронная сеть" - это'
POEM = ROOT / "data" / "pushkin" / "zimnee-utro.txt"
CONTEXT = 2048


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder shaped as the repository is, with a random model of two layers."""
    made = tmp_path_factory.mktemp("hub") / "rugpt3"
    made.mkdir()
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    texts = [path.read_text(encoding="utf-8") for path in sorted(POEM.parent.glob("*.txt"))]
    trainer = trainers.BpeTrainer(
        vocab_size=3000, special_tokens=[*SPECIAL.values()], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator(texts, trainer)
    backend.model.save(str(made))  # vocab.json and merges.txt
    for name, value in {
        "special_tokens_map.json": SPECIAL,
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", **SPECIAL},
    }.items():
        (made / name).write_text(json.dumps(value), encoding="utf-8")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=backend.get_vocab_size(), n_layer=2, n_head=4, n_embd=64, n_positions=CONTEXT,
        bos_token_id=backend.get_vocab_size() - 1, eos_token_id=backend.get_vocab_size() - 1,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    mask = torch.ones(CONTEXT, CONTEXT, dtype=torch.uint8).tril()[None, None]
    masks = {
        f"transformer.h.{layer}.attn.{name}": value
        for layer in range(2)
        for name, value in (("bias", mask), ("masked_bias", torch.tensor(-1e4)))
    }
    torch.save({**model.state_dict(), **masks}, made / "pytorch_model.bin")
    stored = {**config.to_dict(), "architectures": ["GPT2LMHeadModel"]}
    (made / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    return made


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One cache for all of the way: what is converted once is used from there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GPTFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patched.chdir(ROOT)
        yield


def run(*words: str) -> Any:
    ended = CliRunner().invoke(app, [*words])
    assert ended.exit_code == 0, ended.output + repr(ended.exception)
    return ended


def stock(folder: Path) -> tuple[Any, Any]:
    """The model and tokenizer by transformers alone, which reads the pickle itself."""
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ["Токенизируй меня", PROMPT, "", " ", "Ёж\t\n🙂  е\u0301", "<s> </s> <mask>", "a\x00b"]
)
def test_tokens_are_those_of_transformers(folder: Path, text: str) -> None:
    _, tokenizer = stock(folder)
    theirs = tokenizer(text, split_special_tokens=True, add_special_tokens=False).input_ids
    assert load_tokenizer(str(folder)).backend.encode(text, add_special_tokens=False).ids == theirs


def test_tokens_are_shown(folder: Path) -> None:
    said = run("tokenize", "Токенизируй меня", "--model", str(folder), "--json").stdout
    tokens = json.loads(said)["tokens"]
    assert "".join(token["text"] for token in tokens) == "Токенизируй меня"


def test_greedy_and_beams_are_those_of_transformers(folder: Path) -> None:
    model, tokenizer = stock(folder)
    eos = tokenizer.eos_token_id
    ids = tokenizer(PROMPT, return_tensors="pt")
    for given, theirs in (
        (["--strategy", "greedy"], {}),
        (["--strategy", "beam", "--num-beams", "5"], {"num_beams": 5}),
    ):
        words = ("generate", str(folder), "-p", PROMPT, "--max-new-tokens", "12", "--json")
        ours = json.loads(run(*words, *given).stdout)
        ours = ours[0] if isinstance(ours, list) else ours
        written = model.generate(
            **ids, max_new_tokens=12, do_sample=False, eos_token_id=eos,
            pad_token_id=tokenizer.pad_token_id, **theirs,
        )[0, ids.input_ids.shape[1] :]  # fmt: skip
        theirs_text = tokenizer.decode(written, skip_special_tokens=True)
        assert ours["continuation"] == theirs_text.rstrip("\ufffd")  # half a letter at the end


@pytest.mark.parametrize(
    "given",
    [("--temperature", "1.3"), ("--top-k", "20", "--top-p", "0.8"),
     ("--strategy", "temperature", "--temperature", "1.3", "--top-k", "20", "--top-p", "0.8")],
)  # fmt: skip
def test_the_tutorials_draws(folder: Path, given: tuple[str, ...]) -> None:
    words = ("generate", str(folder), "-p", PROMPT, "--max-new-tokens", "8", "--seed", "1")
    assert PROMPT in run(*words, *given).stdout


def test_the_classic_recipe_learns_the_poem(folder: Path, tmp_path: Path) -> None:
    """Its settings but for the rate, as a random model learns nothing at 1e-5 in 200 steps."""
    recipe = str(ROOT / "configs" / "rugpt3-pushkin.yaml")
    out = tmp_path / "run"
    changed = {
        "model.name": folder, "training.output_dir": out, "training.use_cpu": "true",
        "training.num_train_epochs": 150, "training.gradient_accumulation_steps": 1,
        "training.learning_rate": 0.005,
    }  # fmt: skip
    sets = [word for key, value in changed.items() for word in ("--set", f"{key}={value}")]
    ended = run("train", recipe, *sets)
    said = " ".join(ended.output.split())
    assert said.count("The tokenizer's own EOS is used, </s>, id 2") == 1
    result = json.loads((out / "run.json").read_text(encoding="utf-8"))["result"]
    assert result["train"]["loss_after"] < 0.7 * result["train"]["loss_before"]
    model, tokenizer = stock(out / "model")
    assert model.config.eos_token_id == model.generation_config.eos_token_id == 2
    assert tokenizer.eos_token_id == 2
    text = json.loads(
        run("generate", str(out), "-p", "Мороз и солнце", "--max-new-tokens", "20", "--strategy",
            "greedy", "--json").stdout
    )  # fmt: skip
    text = text[0] if isinstance(text, list) else text
    words = POEM.read_text(encoding="utf-8").split()
    written = text["continuation"].split()
    assert sum(word in words for word in written) > len(written) / 2
