"""What a tokenizer doesn't keep of a text is measured on it, and said once."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.tokenization.losses import loss_notice
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer

TEXT = "Мороз и солнце; день чудесный!\nЕщё ты дремлешь, друг прелестный."


def wordpiece(*, lower: bool) -> Tokenizer:
    letters = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
    letters += letters.upper()
    tokens = ["[UNK]", "<|endoftext|>", *letters, *(f"##{one}" for one in letters), *";!,."]
    backend = Tokenizer(models.WordPiece({t: n for n, t in enumerate(tokens)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    if lower:
        backend.normalizer = normalizers.Lowercase()
    return backend


def of(backend: Tokenizer) -> TextTokenizer:
    return TextTokenizer(backend, {"unk_token": "[UNK]"}, None, "mine")


@pytest.mark.parametrize(
    ("lower", "text", "lost"),
    [
        (True, TEXT, "capitals, line breaks"),
        (False, TEXT, "line breaks"),
        (True, "Мороз", "capitals"),
        (False, "мороз  и\tсолнце", "spaces"),
        (False, "мороз № 5", "characters it doesn't know"),
    ],
)
def test_what_is_lost_is_named(lower: bool, text: str, lost: str) -> None:
    said = loss_notice(of(wordpiece(lower=lower)), text)
    assert said is not None
    assert f"The tokenizer of mine doesn't keep this text ({lost}" in said


def test_an_example_is_the_first_line_that_differs() -> None:
    said = loss_notice(of(wordpiece(lower=True)), "мороз\nДень чудесный!\nДруг")
    assert said is not None
    assert "of «День чудесный!» it makes «день чудесный!»" in said


@pytest.mark.parametrize("text", [TEXT, "", "a\u0301  b\r\n\t№", "👩‍👩‍👧 \ufffd"])
def test_of_one_by_bytes_nothing_is_said(text: str) -> None:
    assert loss_notice(load_tokenizer("pico"), text) is None


def test_of_wordpiece_whose_text_survives_nothing_is_said() -> None:
    assert loss_notice(of(wordpiece(lower=False)), "Мороз и солнце!") is None


@pytest.mark.parametrize("command", ["config check", "train"])
@pytest.mark.parametrize(("name", "is_said"), [("wordpiece", 1), ("pico", 0)])
@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_of_a_new_model_it_is_said_once(
    in_tmp: Path, command: str, name: str, is_said: int, suffix: str
) -> None:
    Path("wordpiece").mkdir()
    wordpiece(lower=True).save("wordpiece/tokenizer.json")
    tokens = {"eos_token": "<|endoftext|>", "unk_token": "[UNK]"}
    Path("wordpiece/tokenizer_config.json").write_text(json.dumps(tokens), encoding="utf-8")
    text = TEXT * 4
    content = text if suffix == ".txt" else json.dumps({"text": text}, ensure_ascii=False)
    Path(f"poem{suffix}").write_text(content, encoding="utf-8")
    config = {
        "model": {"from_scratch": {"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 8}},
        "tokenizer": {"name": name},
        "data": {"train": f"poem{suffix}", "block_size": 32},
        "training": {"max_steps": 1, "use_cpu": True, "save_strategy": "no"},
    }
    Path("my.yaml").write_text(json.dumps(config), encoding="utf-8")
    done = CliRunner().invoke(app, [*command.split(), "my.yaml"])
    assert done.exit_code == 0, repr(done.exception)
    assert done.stderr.count("doesn't keep this text (capitals, line breaks") == is_said
