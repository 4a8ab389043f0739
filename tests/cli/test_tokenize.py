"""`gptft tokenize`: where the text comes from, what is printed, and how mistakes are told."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

import gptft.models
from gptft.cli import main
from tests.conftest import SENTENCES

EMOJI = "Да 😀"


class Stdin(io.TextIOWrapper):
    """Standard input that holds `raw`, and is a terminal if told so."""

    def __init__(self, raw: bytes, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(raw), encoding="utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class Cli:
    """Runs the command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(
        self, *args: str, stdin: bytes = b"", terminal: bool = False
    ) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["gptft", "tokenize", *args])
        self.monkeypatch.setattr(sys, "stdin", Stdin(stdin, terminal=terminal))
        with pytest.raises(SystemExit) as exit_:
            main()
        code = exit_.value.code
        captured = self.capsys.readouterr()
        return code if isinstance(code, int) else 0, captured.out, captured.err


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(monkeypatch, capsys)


def joined(out: str) -> str:
    """The text that `tokenize --json` printed the tokens of."""
    return b"".join(bytes.fromhex(token["bytes"]) for token in json.loads(out)["tokens"]).decode()


def test_a_line_a_piece_off_a_terminal(cli: Cli) -> None:
    code, out, err = cli(EMOJI + "\n\t<|endoftext|>")
    assert (code, err) == (0, "")
    pieces, counts = out.split("\n\n")
    rows = [line.split("\t") for line in pieces.split("\n")]
    assert all(len(row) == 3 for row in rows)
    assert bytes.fromhex("".join(row[2] for row in rows)).decode() == EMOJI + "\n\t<|endoftext|>"
    assert rows[-1][1] == ">"
    assert "\N{REPLACEMENT CHARACTER}" not in out
    assert [row[1] for row in rows if row[1] in "↵→"] == ["↵", "→"]
    # The four bytes of 😀, which pico has no token for, hang together.
    emoji = [row[1] for row in rows if row[1][0] in "┌│└"]
    assert emoji == ["┌ ⟨f0⟩", "│ ⟨9f⟩", "│ ⟨98⟩", "└ ⟨80⟩ = 😀"]
    assert counts.splitlines()[0].split() == ["tokens", str(len(rows))]


def test_the_counts(cli: Cli) -> None:
    _, out, _ = cli("--json", "Мороз", "и", "солнце")
    counts = json.loads(out)
    num_tokens = len(counts.pop("tokens"))
    assert counts == {
        "model": "pico",
        "num_tokens": num_tokens,
        "num_words": 3,
        "num_characters": 14,
        "num_bytes": 26,
        "tokens_per_word": num_tokens / 3,
        "tokens_per_character": num_tokens / 14,
        "bytes_per_token": 26 / num_tokens,
        "lossless": True,
    }
    _, out, _ = cli("Мороз", "и", "солнце")
    assert f"words        3  {num_tokens / 3:.2f} tokens each" in out.splitlines()
    assert f"bytes       26  {26 / num_tokens:.2f} a token" in out.splitlines()


def test_json_names_every_token(cli: Cli) -> None:
    code, out, _ = cli("--json", EMOJI)
    tokens = json.loads(out)["tokens"]
    assert code == 0
    assert [token["bytes"] for token in tokens[-4:]] == ["f0", "9f", "98", "80"]
    assert [token["text"] for token in tokens[-4:]] == [None] * 4
    assert [(token["start"], token["end"]) for token in tokens[-4:]] == [
        (5, 6),
        (6, 7),
        (7, 8),
        (8, 9),
    ]
    assert {*tokens[0]} == {"id", "text", "bytes", "start", "end"}
    assert "Да" in out  # readable, not \u0414\u0430


def test_words_are_joined_with_one_space(cli: Cli) -> None:
    _, out, _ = cli("--json", "a", "б ", "c")
    assert joined(out) == "a б  c"


def test_a_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "poem.txt"
    path.write_bytes(b"\xef\xbb\xbf" + SENTENCES[0].encode() + b"\r\n")
    code, out, _ = cli("--json", "--file", str(path))
    assert code == 0
    assert joined(out) == SENTENCES[0] + "\r\n"


@pytest.mark.parametrize("text", [SENTENCES[1] + "\r\n\n", ""])
def test_standard_input(cli: Cli, text: str) -> None:
    code, out, _ = cli("--json", stdin=text.encode())
    assert code == 0
    assert joined(out) == text


def test_words_win_over_an_open_pipe(cli: Cli) -> None:
    _, out, _ = cli("--json", "words", stdin=b"pipe")
    assert joined(out) == "words"


@pytest.mark.parametrize("args", [[""], []])
def test_no_text_at_all_is_no_tokens(cli: Cli, args: list[str]) -> None:
    code, out, err = cli(*args)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["tokens", "0"],
        ["words", "0"],
        ["characters", "0"],
        ["bytes", "0"],
    ]
    _, out, _ = cli("--json", *args)
    assert json.loads(out)["tokens_per_word"] is None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["text", "--file", "poem.txt"], "TEXT and --file are both given"),
        (["--file", "nowhere.txt"], "nowhere.txt can't be read: No such file"),
        (["--file", "."], "can't be read: Is a directory"),
        (["a\udcffb"], "Character 2 of the text is U+DCFF"),
        (["a", "--model", "no/such/model"], "no/such/model: no such folder or file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    cli: Cli, in_tmp: Path, args: list[str], message: str
) -> None:
    code, out, err = cli(*args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_nothing_on_a_terminal_says_what_to_do(cli: Cli) -> None:
    code, out, err = cli(terminal=True)
    assert (code, out) == (2, "")
    assert err.startswith("error: There is no text.")
    assert all(way in err for way in ("gptft tokenize", "--file", "standard input"))


def test_standard_input_that_is_not_text(cli: Cli) -> None:
    code, out, err = cli(stdin=b"ab\xff\xfe")
    assert (code, out) == (2, "")
    assert "Standard input is not text in UTF-8: byte 0xff at offset 2" in err
    assert err.count("\n") == 1


def test_a_tokenizer_that_changes_the_text_is_owned_up_to(cli: Cli, tmp_path: Path) -> None:
    pico = Path(gptft.models.__file__).parent / "pico"
    content = json.loads((pico / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "Lowercase"}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    code, out, err = cli("--model", str(path), "--json", "Да")
    assert code == 0
    assert joined(out) == "да"
    assert json.loads(out)["lossless"] is False
    assert err == (
        f"The tokenizer of {path} doesn't keep this text byte for byte. "
        "Shown is what its tokens spell.\n"
    )


def on_a_terminal(*args: str, columns: int) -> list[str]:
    """The lines `gptft tokenize` prints on a terminal so wide, without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    forced = ("COLUMNS", "LINES", "_TYPER_FORCE_DISABLE_TERMINAL")
    env = {key: value for key, value in os.environ.items() if key not in forced}
    process = subprocess.Popen(
        [sys.executable, "-m", "gptft", "tokenize", *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm"},
    )
    os.close(theirs)
    printed = b""
    while chunk := _read(ours):
        printed += chunk
    os.close(ours)
    assert process.wait() == 0
    return re.sub("\x1b\\[[0-9;]*m", "", printed.decode()).replace("\r\n", "\n").split("\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


@pytest.mark.parametrize("columns", [40, 100])
def test_columns_on_a_terminal(columns: int) -> None:
    text = "Достопримечательность 😀 " + "-" * 64
    lines = on_a_terminal(text, columns=columns)
    assert max(map(cell_len, lines)) <= columns
    pieces = lines[: lines.index("")]
    # The bytes stand in a column of their own, and all are there.
    raws = [line.rstrip().rsplit("  ", 1)[1] for line in pieces]
    assert bytes.fromhex("".join(raws)).decode() == text
    assert any("└ ⟨80⟩ = 😀" in line for line in pieces)
