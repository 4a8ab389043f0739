"""The same texts give the same tokenizer, in each process anew, or it is said that they don't."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner

from gptft.cli.app import app
from tests.conftest import ROOT

POEMS = ROOT / "data" / "pushkin"


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_in_fresh_processes(tmp_path: Path, kind: str) -> None:
    digests = set()
    for number in range(3):
        out = tmp_path / str(number)
        words = ["-m", "gptft", "tokenizer", "train", str(POEMS), "-o", str(out)]
        words += ["--kind", kind, "--vocab-size", "700", "--special", "<|user|>"]
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        digests.add(hashlib.sha256((out / "tokenizer.json").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_of_wordpiece_no_more_tokens_are_special_than_were_named(tmp_path: Path) -> None:
    words = ["tokenizer", "train", str(POEMS), "-o", str(tmp_path / "a"), "--kind", "wordpiece"]
    done = CliRunner().invoke(app, [*words, "--vocab-size", "700", "--special", "##x"])
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "a" / "tokenizer.json").read_text(encoding="utf-8"))
    special = ["<|endoftext|>", "[UNK]", "##x"]
    assert [one["content"] for one in stored["added_tokens"]] == special
    vocabulary = stored["model"]["vocab"]
    assert sorted(vocabulary.values()) == [*range(len(vocabulary))]
    assert [token for token, number in vocabulary.items() if number < 3] == special
    tokenizer = Tokenizer.from_file(str(tmp_path / "a" / "tokenizer.json"))
    # A character that continues a word is text, also where it is spelled as its token is.
    assert "##а" in vocabulary
    assert "##а" not in tokenizer.encode("##а").tokens
    assert tokenizer.decode(tokenizer.encode("Мороз и солнце").ids) == "Мороз и солнце"


def test_of_unigram_it_is_said(tmp_path: Path) -> None:
    words = ["tokenizer", "train", str(POEMS), "-o", str(tmp_path / "a"), "--vocab-size", "400"]
    done = CliRunner().invoke(app, [*words, "--kind", "unigram"])
    assert done.stderr.count("Unigram training isn't repeatable") == 1
    done = CliRunner().invoke(app, [*words[:4], str(tmp_path / "b"), *words[5:]])
    assert done.exit_code == 0, done.output
    assert "repeatable" not in done.stderr
