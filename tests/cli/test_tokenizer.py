"""`gptft tokenizer train` and `extend`: what is printed, written, and said of mistakes."""

import errno
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from gptft import console
from gptft.cli import main
from gptft.tokenization.tokenizer import load_tokenizer
from tests.conftest import SENTENCES


class Cli:
    """Runs `gptft tokenizer` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *args: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["gptft", "tokenizer", *args])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = self.capsys.readouterr()
        code = exit_.value.code
        return code if isinstance(code, int) else 0, captured.out, captured.err


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(monkeypatch, capsys)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    documents = [f"{SENTENCES[n % 4]} Непромокаемость {n}." for n in range(60)]
    lines = [json.dumps({"text": document}) for document in documents]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_train(cli: Cli, texts: Path, in_tmp: Path) -> None:
    code, out, err = cli(
        "train", str(texts), "--out", "new", "--vocab-size", "300", "--special", "<|user|>"
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "new: bpe, 300 ids (special: <|endoftext|>, <|user|>)."
    assert lines[1].startswith("Measured on 3 of 60 passages, held out of training (")
    assert [line.split()[0] for line in lines[3:]] == ["new", "pico"]
    config = json.loads(Path("new/tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["model_max_length"] == 1024
    assert load_tokenizer("new").backend.token_to_id("<|user|>") == 1


def test_train_as_json(cli: Cli, texts: Path, in_tmp: Path) -> None:
    args = ["--kind", "wordpiece", "--vocab-size", "200", "--context", "64", "--held-out", "0.5"]
    code, out, _ = cli("train", str(texts), "-o", "new", *args, "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["kind"], said["held_out"], said["passages"]) == ("wordpiece", 30, 60)
    assert said["costs"][0]["lossless"] is False
    assert said["costs"][1]["name"] == "pico"
    assert said["costs"][1]["lossless"] is True


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_fewer_ids_than_asked_for_are_said(cli: Cli, in_tmp: Path, kind: str) -> None:
    Path("a.txt").write_text("ab ab", encoding="utf-8")
    said = "The text gives no more ids, of 300 at most."
    code, out, _ = cli("train", "a.txt", "-o", "new", "--kind", kind, "--vocab-size", "300")
    assert code == 0
    assert said in out.splitlines()
    ids = len(json.loads(Path("new/tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    assert ids < 300


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "The disk is full: {} can't be written (No space left on device). Make r"),
        (errno.EDQUOT, "The disk is full: {} can't be written (Disk quota exceeded). Make room,"),
        (errno.EIO, "{}: Input/output error."),
    ],
)
@pytest.mark.parametrize("command", [("train", "a.txt"), ("extend", "pico", "--add", "ёжик")])
def test_a_disk_that_takes_no_tokenizer_is_one_line(
    cli: Cli, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, command: Any, number: int, said: str
) -> None:
    """A write that fails doesn't say which file it was of."""
    Path("a.txt").write_text("ab ab", encoding="utf-8")

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("gptft.files.os.fsync", fail)
    code, out, err = cli(*command, "-o", "new")
    assert (code, out) == (1, "")
    assert err.startswith("error: " + said.format("new/tokenizer.json"))
    assert [*Path("new").iterdir()] == []


def test_extend(cli: Cli, in_tmp: Path) -> None:
    Path("tokens.txt").write_text(" солнцеворот\n", encoding="utf-8")
    code, out, err = cli("extend", "pico", "-o", "new", "--add", "🦊", "--add-file", "tokens.txt")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "new: 2 tokens added to pico: 🦊, ·солнцеворот.",
        "The model has 8,192 embeddings and needs 8,194: model.resize_token_embeddings(8194), "
        "then train it.",
    ]
    assert load_tokenizer("new").backend.encode("🦊 солнцеворот").ids == [8192, 8193]


def test_extend_by_what_it_learns(cli: Cli, texts: Path, in_tmp: Path) -> None:
    code, out, _ = cli("extend", "pico", "-o", "new", "--learn", str(texts), "--num", "1", "--json")
    assert code == 0
    said = json.loads(out)
    assert said["added"] == {" Непромокаемость": 8192}
    assert said["after"]["tokens"] < said["before"]["tokens"]
    assert (said["embeddings"], said["needed"], said["held_out"]) == (8192, 8193, 3)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "nowhere", "-o", "new"], "nowhere: no such file or folder"),
        (["extend", "pico", "-o", "new"], "There is nothing to add."),
        (["extend", "pico", "-o", "new", "--add", ""], "nothing in it but white space"),
        (["extend", "no/where", "-o", "new", "--add", "x"], "no/where: no such folder"),
        (["extend", "pico", "-o", "new", "--add-file", "no.txt"], "no.txt can't be read"),
        (["extend", "pico", "-o", "new", "--num", "3"], "give both the texts and how many"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    args: list[str], message: str, cli: Cli, in_tmp: Path
) -> None:
    code, out, err = cli(*args)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not Path("new").exists()


def test_a_terminal_of_40_columns(
    cli: Cli, texts: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    narrow = Console(width=40, force_terminal=True, highlight=False)
    monkeypatch.setattr(console, "stdout", lambda: narrow)
    with narrow.capture() as capture:
        code, _, _ = cli("train", str(texts), "-o", "new", "--vocab-size", "300")
    assert code == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capture.get()).splitlines()
    assert max(map(cell_len, lines)) <= 40
    assert any("held out" in line for line in lines)
