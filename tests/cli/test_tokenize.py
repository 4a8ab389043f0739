"""`gptft tokenize`: where the text comes from, what is printed, and how mistakes are told."""

import fcntl
import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

import gptft.models
from gptft.cli import main
from gptft.tokenization.tokenizer import load_tokenizer, save_tokenizer
from gptft.tokenization.trainers import train_bpe
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
        "characters_per_word": 14 / 3,
        "bytes_per_word": 26 / 3,
        "lossless": True,
        "num_partial": 0,
        "one_token_each": {"words": 3, "characters": 14, "bytes": 26},
        "context": 1024,
        "context_used": {
            "512": num_tokens / 512,
            "1024": num_tokens / 1024,
            "2048": num_tokens / 2048,
        },
    }
    _, out, _ = cli("Мороз", "и", "солнце")
    assert f"words\t3\t{num_tokens / 3:.2f} tokens each" in out.splitlines()
    assert f"bytes\t26\t{26 / num_tokens:.2f} a token" in out.splitlines()
    assert f"a word\t4.67 characters, 8.67 bytes, {num_tokens / 3:.2f} tokens" in out
    assert f"26 bytes ({26 / num_tokens:.2f}x)" in out


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
    places = ["start", "end", "start_character", "end_character"]
    assert [*tokens[0]] == ["id", "text", "bytes", *places]
    assert [(token["start_character"], token["end_character"]) for token in tokens[-4:]] == [
        (3, 4)
    ] * 4
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
        (["text", "--vocab"], "--vocab is about the tokenizer and takes no text"),
        (["--audit", "--id", "3"], "--vocab and --audit answer different questions"),
        (["text", "--merges", "--html", "x.html"], "--merges doesn't go with --html"),
        (["text", "--bytes", "--compare", "pico"], "--bytes shows one tokenizer, --compare"),
        (
            ["--file", ".", "--bytes"],
            ". may hold many texts; --bytes takes one file of up to 100,000 bytes",
        ),
        (["a", "--compare", "no/such/model"], "no/such/model: no such folder or file"),
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


def on_a_terminal(
    *args: str, columns: int, typed: bytes = b"", code: int = 0, **variables: str
) -> list[str]:
    """The lines `gptft tokenize` prints on a terminal so wide, without colours.

    What is typed is sent a line at a time, each at its prompt, and is seen among the lines.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    forced = ("COLUMNS", "LINES", "_TYPER_FORCE_DISABLE_TERMINAL", "NO_COLOR")
    env = {key: value for key, value in os.environ.items() if key not in forced}
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**env, "TERM": "xterm-256color", **variables},
    )
    os.close(theirs)
    printed = b""
    waiting = typed.splitlines(keepends=True)
    prompts = 0
    last_sent = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 1)[0]:
            if last_sent == b"\x03":  # it came between Python's prompt and its wait for input
                os.write(ours, last_sent)
            continue
        if not (chunk := _read(ours)):
            break
        printed += chunk
        if waiting and printed.count(b"> ") > prompts:
            prompts = printed.count(b"> ")
            last_sent = waiting.pop(0)
            os.write(ours, last_sent)
    else:
        process.kill()
    os.close(ours)
    assert process.wait() == code
    return re.sub("\x1b\\[[?0-9;]*[a-z]", "", printed.decode()).replace("\r", "").split("\n")


# The terminal must be the process's own for Ctrl-C to reach it.
OWN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv = ["gptft", "tokenize", *sys.argv[1:]]
from gptft.cli import main
main()
"""


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


@pytest.mark.parametrize("columns", [40, 100])
def test_pills_on_a_terminal(columns: int) -> None:
    lines = on_a_terminal("Мороз 中 😀", columns=columns)
    assert max(map(cell_len, lines)) <= columns
    rows = lines[: lines.index("")]
    assert len(rows) == (4 if columns == 40 else 2)
    shown, ids = " ".join(rows[::2]), " ".join(rows[1::2]).split()
    assert "⟨f0⟩+⟨9f⟩+⟨98⟩+⟨80⟩=😀" in shown.replace(" +", "+")
    tokens = load_tokenizer("pico").backend.encode("Мороз 中 😀").ids
    assert [int(token_id.removesuffix("*")) for token_id in ids] == tokens
    assert [token_id.endswith("*") for token_id in ids[-4:]] == [True] * 4


def test_without_colours_a_terminal_has_lines_with_tabs() -> None:
    lines = on_a_terminal("Да", columns=80, NO_COLOR="1")
    ids = load_tokenizer("pico").backend.encode("Да").ids
    assert [int(line.split("\t")[0]) for line in lines[: lines.index("")]] == ids


def test_columns_on_a_terminal() -> None:
    text = "Достопримечательность 😀 " + "-" * 64
    lines = on_a_terminal("--bytes", text, columns=40)
    assert max(map(cell_len, lines)) <= 40
    head, *pieces = lines[: lines.index("")]
    assert head.split() == ["id", "byte", "char", "token", "bytes"]
    # The bytes stand in a column of their own, and all are there.
    raws = [line.rstrip().rsplit("  ", 1)[1] for line in pieces]
    found = "".join(raw for raw in raws if re.fullmatch("[0-9a-f ]+", raw))
    assert bytes.fromhex(found).decode() == text
    assert any("└ ⟨80⟩ =" in line for line in pieces)


def test_a_person_types_texts_until_an_empty_line() -> None:
    lines = on_a_terminal(columns=80, typed="Да\nНет\n\n".encode())
    assert lines[0] == "pico (--model takes another). Type a text; an empty line ends."
    shown = "\n".join(lines)
    for word in ("Да", "Нет"):
        ids = load_tokenizer("pico").backend.encode(word).ids
        assert re.search(" *".join(map(str, ids)), shown)
    assert sum(line.startswith("tokens ") for line in lines) == 2


def test_the_end_of_input_ends_it() -> None:
    assert "Traceback" not in "\n".join(on_a_terminal(columns=80, typed=b"\x04"))


def test_typed_texts_may_go_into_a_pipe(cli: Cli) -> None:
    code, out, err = cli("--json", stdin="Да\n\nНет\n".encode(), terminal=True)
    assert (code, joined(out)) == (0, "Да")
    assert err.endswith("an empty line ends.\n> > ")


def test_ctrl_c_ends_it_with_130() -> None:
    lines = on_a_terminal(columns=80, typed=b"a\n\x03", code=130)
    assert "Traceback" not in "\n".join(lines)
    assert sum(line.startswith("tokens ") for line in lines) == 1


def test_bytes_off_a_terminal(cli: Cli) -> None:
    code, out, _ = cli("--bytes", EMOJI)
    assert code == 0
    rows = [line.split("\t") for line in out.split("\n\n")[0].splitlines()]
    assert [row[3:] for row in rows[-2:]] == [["7", "8", "3", "4"], ["8", "9", "3", "4"]]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A tokenizer of bytes and 20 merges."""
    tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=277, min_frequency=2)
    save_tokenizer(tokenizer, tmp_path / "small", model_max_length=64)
    return tmp_path / "small"


def test_tokenizers_side_by_side(cli: Cli, small: Path) -> None:
    text = "Буря мглою"
    code, out, _ = cli(text, "--compare", str(small), "--compare", "pico")
    assert code == 0
    head, *rows = [line.split("\t") for line in out.splitlines()]
    assert head == ["model", "tokens", "tokens a word", "bytes a token", "text"]
    assert [row[0] for row in rows] == ["pico", str(small), "pico"]
    for row in rows:
        num_tokens = len(load_tokenizer(row[0]).backend.encode(text).ids)
        assert row[1:4] == [str(num_tokens), f"{num_tokens / 2:.4g}", f"{19 / num_tokens:.4g}"]
        assert len(row[4].split(" ")) == num_tokens
    code, out, _ = cli(text, "--compare", str(small), "--json")
    first, second = json.loads(out)["comparison"]
    assert (first["model"], second["model"]) == ("pico", str(small))
    assert len(second["tokens"]) == second["num_tokens"] > first["num_tokens"]


def test_a_page(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, out, err = cli("--json", EMOJI, "--html", str(page))
    assert (code, err) == (0, f"Written: {page}\n")
    assert joined(out) == EMOJI
    assert "😀" in page.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("a", "--html", str(tmp_path / "nowhere" / "page.html"))
    assert (code, out) == (1, "")
    assert "page.html can't be written: No such file or directory" in err


def test_merges_of_the_words(cli: Cli) -> None:
    code, out, _ = cli("--merges", "--json", "Да и нет")
    assert code == 0
    ids = load_tokenizer("pico").backend.encode("Да и нет").ids
    found = json.loads(out)
    assert all(str(token_id) in json.dumps(found) for token_id in ids)
    code, out, _ = cli("--merges", "Да")
    assert (code, bool(out)) == (0, True)


def test_the_vocabulary(cli: Cli) -> None:
    code, out, _ = cli("--vocab", "--json")
    assert (code, bool(json.loads(out))) == (0, True)
    token_id = load_tokenizer("pico").backend.encode("Да").ids[-1]
    for look_up in (["--id", str(token_id)], ["--search", "а"], ["--regex", "^а$"]):
        code, out, _ = cli(*look_up, "--limit", "3")
        assert (code, "а" in out) == (0, True)


def test_an_audit_ends_with_1_where_it_finds_faults(cli: Cli, small: Path) -> None:
    code, out, err = cli("--audit")
    assert (code, bool(out), err) == (0, True, "")
    content = json.loads((small / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["dropout"] = 0.5
    (small / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    code, out, err = cli("--audit", "--model", str(small))
    assert (code, "dropped at random" in out, err) == (1, True, "")
    code, out, _ = cli("--audit", "--model", str(small), "--json")
    assert (code, json.loads(out)["faults"]) == (1, 1)


def test_a_folder_is_counted(cli: Cli, corpus_dir: Path, small: Path) -> None:
    code, out, _ = cli("--file", str(corpus_dir), "--json")
    assert code == 0
    counts = json.loads(out)
    backend = load_tokenizer("pico").backend
    num_tokens = sum(len(backend.encode(sentence).ids) for sentence in SENTENCES)
    assert (counts["model"], counts["tokens"]) == ("pico", num_tokens)
    code, out, _ = cli("--file", str(corpus_dir), "--json", "--compare", str(small))
    assert [found["model"] for found in json.loads(out)["comparison"]] == ["pico", str(small)]
    code, out, _ = cli("--file", str(corpus_dir / "*.txt"), "--json")
    assert (code, json.loads(out)["tokens"]) == (0, num_tokens)


def test_several_files_and_large_ones_are_counted(cli: Cli, tmp_path: Path) -> None:
    text = SENTENCES[0] + "\n"
    edge, large = tmp_path / "edge.txt", tmp_path / "large.txt"
    size = len(text.encode())
    edge.write_text(text * (100_000 // size), encoding="utf-8")
    large.write_text(text * (100_000 // size + 1), encoding="utf-8")
    _, out, _ = cli("--json", "-f", str(edge))
    assert joined(out) == edge.read_text(encoding="utf-8")
    for files in (["-f", str(large)], ["-f", str(edge), "-f", str(large)]):
        code, out, _ = cli("--json", *files)
        assert (code, isinstance(json.loads(out)["tokens"], int)) == (0, True)
    code, _, err = cli("--html", str(tmp_path / "x.html"), "-f", str(large))
    assert code == 2
    assert f"large.txt has {large.stat().st_size:,} bytes; --html takes one file of" in err


def test_half_of_a_surrogate_pair_is_refused_in_every_view(cli: Cli) -> None:
    for flags in ([], ["--bytes"], ["--compare", "pico"], ["--json"], ["--merges"]):
        code, out, err = cli("a\udcff", *flags)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert "U+DCFF" in err
