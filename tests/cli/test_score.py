"""`gptft score`: where the text comes from, what is printed, and how mistakes are told."""

import io
import json
import math
import shutil
import sys

import pytest
import torch
from rich.cells import cell_len
from transformers import AutoModelForCausalLM

from gptft.cli import main
from tests.cli.test_predict import on_a_terminal
from tests.conftest import SENTENCES

TEXT = SENTENCES[0]


class Stdin(io.TextIOWrapper):
    """Standard input that holds `raw`, and is a terminal if told so."""

    def __init__(self, raw: bytes, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(raw), encoding="utf-8")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def cli(monkeypatch, capsys, tiny_model_dir):
    """Runs `gptft score` in this process: (exit code, stdout, stderr)."""

    def run(*args, stdin=b"", terminal=False, model=tiny_model_dir):
        monkeypatch.setattr(sys, "argv", ["gptft", "score", str(model), "--cpu", *args])
        monkeypatch.setattr(sys, "stdin", Stdin(stdin, terminal=terminal))
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return run


def joined(out):
    """The text that `score --json` printed the tokens of."""
    return b"".join(bytes.fromhex(token["bytes"]) for token in json.loads(out)["tokens"]).decode()


def test_a_table_and_the_numbers_of_the_whole_off_a_terminal(cli):
    code, out, err = cli(TEXT)
    assert (code, err) == (0, "")
    table, summary = out.split("\n\n")
    head, *rows = [line.split("\t") for line in table.split("\n")]
    assert head == ["token", "id", "probability", "rank", "bits", "runners-up"]
    assert {len(row) for row in rows} == {6}
    assert summary.startswith("perplexity ")
    assert " bits per byte, " in summary
    assert f"{len(rows)} tokens, {len(TEXT.encode())} bytes" in summary
    assert "The first token is scored after <|endoftext|>." in summary


def test_json(cli, tiny_model_dir):
    code, out, err = cli("--json", TEXT)
    values = json.loads(out)
    assert (code, err) == (0, "")
    assert values["model"] == str(tiny_model_dir)
    assert joined(out) == TEXT
    bits = sum(token["bits"] for token in values["tokens"])
    assert values["bits_per_byte"] == pytest.approx(bits / len(TEXT.encode()))
    assert values["perplexity"] == pytest.approx(2 ** (bits / len(values["tokens"])))
    first = values["tokens"][0]
    assert first["bits"] == pytest.approx(-math.log2(first["probability"]))
    assert len(first["runners_up"]) == 5


def test_the_summary_alone(cli):
    out, alone = cli(TEXT)[1], cli("--summary", TEXT)
    assert alone == (0, out.split("\n\n")[1], "")
    whole, summary = (
        json.loads(cli("--json", TEXT)[1]),
        json.loads(cli("--json", "--summary", TEXT)[1]),
    )
    assert whole.pop("tokens")
    assert summary == whole


def test_a_text_of_many_tokens_says_that_there_is_a_summary(cli, monkeypatch):
    monkeypatch.setattr("gptft.cli.score._MANY_TOKENS", 3)
    assert cli(TEXT)[2].endswith(" tokens follow; --summary leaves them out.\n")
    assert cli("--summary", TEXT)[2] == ""


def test_where_the_text_comes_from(cli, tmp_path):
    path = tmp_path / "poem.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.encode() + b"\r\n")
    assert joined(cli("--json", "--file", str(path))[1]) == TEXT + "\r\n"
    assert joined(cli("--json", stdin=f"{TEXT}\n".encode())[1]) == TEXT + "\n"
    assert joined(cli("--json", "Буря", "мглою", stdin=b"pipe")[1]) == "Буря мглою"


def test_a_text_longer_than_the_context(cli):
    code, out, _ = cli(" ".join(SENTENCES * 2))
    assert code == 0
    assert "Longer than the model's context of 64: beyond it each token is scored after at" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([TEXT, "--file", "poem.txt"], "TEXT and --file are both given"),
        (["--file", "nowhere.txt"], "nowhere.txt can't be read: No such file"),
        (["--file", "."], "can't be read: Is a directory"),
        ([""], "The text is empty"),
        ([], "The text is empty"),
        (["a\udcffb"], "Character 2 of the text is U+DCFF"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(cli, in_tmp, args, message):
    code, out, err = cli(*args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_standard_input_that_is_not_text(cli):
    code, out, err = cli(stdin=b"ab\xff\xfe")
    assert (code, out) == (2, "")
    assert "Standard input is not text in UTF-8: byte 0xff at offset 2" in err
    assert err.count("\n") == 1


def test_nothing_on_a_terminal_says_what_to_do(cli):
    code, out, err = cli(terminal=True)
    assert (code, out) == (2, "")
    assert err.startswith("error: There is no text.")
    assert all(way in err for way in ("gptft score", "--file", "standard input"))


def test_a_text_where_the_model_s_name_belongs(cli, in_tmp):
    code, out, err = cli(model="Мороз и солнце", terminal=True)
    assert (code, out) == (2, "")
    assert err.startswith("error: Мороз и солнце: no such folder or file")


@pytest.mark.parametrize("columns", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_the_text_itself_on_a_terminal(tiny_model_dir, columns):
    args = ("score", str(tiny_model_dir), "--cpu", "Буря мглою\nнебо 😀")
    lines = on_a_terminal(*args, columns=columns)
    assert max(map(cell_len, lines)) <= columns
    assert "≥50%" in lines[0]
    assert "Буря мглою↵" in lines
    assert "небо 😀" in lines
    assert any(line.startswith("perplexity ") for line in lines)


def test_another_model_beside_it(cli, tiny_model_dir, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_model_dir, other)
    values = json.loads(cli("--json", "--with", str(other), TEXT)[1])
    assert values["same_tokens"] is True
    assert values["gained_bits"] == [0.0] * len(values["tokens"])
    assert values["other"]["model"] == str(other)
    assert values["other"]["tokens"] == values["tokens"]
    code, out, err = cli("--with", str(other), TEXT)
    assert (code, err) == (0, "")
    table, summary = out.split("\n\n")
    head, *rows = [line.split("\t") for line in table.split("\n")]
    assert head == ["token", "id", "probability", "rank", "bits", "other bits", "runners-up"]
    assert [row[4] for row in rows] == [row[5] for row in rows]
    assert summary.count("perplexity ") == 2
    assert summary.endswith(f"{tiny_model_dir} needs 0.00 bits fewer than {other}.\n")
    short = json.loads(cli("--json", "--summary", "--with", str(other), TEXT)[1])
    assert "tokens" not in short
    assert "tokens" not in short["other"]
    assert "gained_bits" not in short


def test_a_model_with_other_tokens(cli, tiny_model_dir):
    code, out, _ = cli("--with", "pico", TEXT)
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("# ")] == [
        f"# {tiny_model_dir}", "# pico",
    ]  # fmt: skip
    assert f"{tiny_model_dir} and pico cut the text into different tokens, so only" in out
    values = json.loads(cli("--json", "--with", "pico", TEXT)[1])
    assert (values["same_tokens"], values["gained_bits"]) == (False, None)
    assert [values["other"]["model"], values["other"]["num_bytes"]] == ["pico", len(TEXT.encode())]


@pytest.mark.parametrize("columns", [40, pytest.param(100, marks=pytest.mark.slow)])
def test_what_differs_most_on_a_terminal(tiny_model_dir, changed_dir, columns):
    args = ("score", str(changed_dir), "--cpu", "--with", str(tiny_model_dir), TEXT)
    lines = on_a_terminal(*args, columns=columns)
    assert max(map(cell_len, lines)) <= columns
    at = next(n for n, line in enumerate(lines) if line.endswith("  gained"))
    gains = [abs(float(line.split()[-1].replace("−", "-"))) for line in lines[at + 1 : at + 11]]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0.5


@pytest.fixture(scope="module")
def changed_dir(tiny_model_dir, tmp_path_factory):
    """The tiny model with its weights moved."""
    folder = tmp_path_factory.mktemp("changed")
    shutil.copytree(tiny_model_dir, folder, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.3 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def test_a_page_of_it(cli, tmp_path):
    page, poem = tmp_path / "page.html", tmp_path / "poem.txt"
    poem.write_text(TEXT, encoding="utf-8")
    code, out, err = cli("--summary", "--file", str(poem), "--html", str(page), "--lang", "en")
    assert (code, err) == (0, f"Written: {page}\n")
    assert "runners-up" in page.read_text(encoding="utf-8")  # whatever is printed
    code, out, err = cli("--file", str(poem), "--html", str(poem))
    assert (code, out) == (2, "")
    assert "it is read by this very command" in err
    page.write_text("mine", encoding="utf-8")
    assert cli(TEXT, "--html", str(page))[0] == 2
    assert cli(TEXT, "--html", str(page), "--overwrite")[0] == 0


def test_a_model_beside_it_that_is_none(cli, in_tmp):
    code, out, err = cli("--with", "nowhere", TEXT)
    assert (code, out) == (2, "")
    assert err.startswith("error: nowhere: no such folder")
