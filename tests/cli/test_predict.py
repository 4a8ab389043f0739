"""`gptft predict`: what is printed where, and how mistakes are told."""

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios

import pytest
from rich.cells import cell_len

from gptft.cli import main

PROMPT = "Буря мглою"


@pytest.fixture
def cli(monkeypatch, capsys, tiny_model_dir):
    """Runs `gptft predict` in this process: (exit code, stdout, stderr)."""

    def run(*args, model=tiny_model_dir):
        monkeypatch.setattr(sys, "argv", ["gptft", "predict", str(model), "--cpu", *args])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return run


def test_a_line_with_tabs_a_token_off_a_terminal(cli):
    code, out, err = cli("-p", PROMPT, "--top", "4")
    assert (code, err) == (0, "")
    about, head, *rows = out.splitlines()[0], out.splitlines()[2], *out.splitlines()[3:]
    assert about == PROMPT
    assert head.split("\t") == ["token", "id", "probability"]
    assert len(rows) == 4
    values = [float(row.split("\t")[2]) for row in rows]
    assert values == sorted(values, reverse=True)


def test_settings_cut(cli):
    code, out, err = cli("-p", PROMPT, "--set", "generation.top_k=3", "--top", "5")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[2].startswith("top_k 3 keeps 3 of ")
    assert [line.split("\t")[4] for line in lines[4:]] == ["", "", "", "top_k", "top_k"]


def test_a_config_s_settings(cli, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("generation:\n  top_p: 0.5\n  temperature: 2\n", encoding="utf-8")
    _, out, _ = cli("-p", PROMPT, "--config", str(path), "--json")
    values = json.loads(out)
    assert values["settings"]["top_p"] == 0.5
    assert [kept["name"] for kept in values["steps"][0]["kept"]] == ["temperature", "top_p"]


def test_json(cli, tiny_model_dir):
    code, out, err = cli("-p", PROMPT, "--steps", "3", "--top", "2", "--json")
    values = json.loads(out)
    assert (code, err) == (0, "")
    assert (values["model"], values["prompt"]) == (str(tiny_model_dir), PROMPT)
    assert len(values["steps"]) <= 3
    assert values["steps"][0]["text"] == PROMPT
    assert len(values["steps"][0]["rows"]) == 2
    assert PROMPT in out  # readable, not \u0411


def test_two_models(cli, tiny_model_dir, tmp_path):
    shutil.copytree(tiny_model_dir, tmp_path / "copy")
    _, out, _ = cli("-p", PROMPT, "--with", str(tmp_path / "copy"))
    head, *rows = [line.split("\t") for line in out.splitlines() if "\t" in line]
    assert head == ["token", "id", "probability", str(tmp_path / "copy")]
    assert all(row[2] == row[3] for row in rows)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "There is no prompt. Give one: -p"),
        (["-p", "a\udcffb"], "is not UTF-8 text"),
        (["-p", PROMPT * 30], "doesn't fit the model's context of 64"),
        (["-p", PROMPT, "--with", "no/such/model"], "no/such/model: no such folder or file"),
        (["-p", PROMPT, "--with", "pico"], "can't be compared token by token"),
        (["-p", PROMPT, "--set", "generation.top_q=1"], "generation.top_q is not a setting"),
        (["-p", PROMPT, "--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(cli, in_tmp, args, message):
    code, out, err = cli(*args)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_no_such_model(cli, in_tmp):
    code, out, err = cli("-p", PROMPT, model="no/such/model")
    assert (code, out) == (2, "")
    assert err.startswith("error: no/such/model: no such folder or file")


@pytest.mark.parametrize("args", [["-p", PROMPT, "--steps", "0"], ["-p", PROMPT, "--top", "x"]])
def test_what_typer_refuses(cli, args):
    code, out, _ = cli(*args)
    assert (code, out) == (2, "")


def on_a_terminal(*args, columns):
    """The result that `gptft` prints on a terminal so wide: lines without colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    forced = ("COLUMNS", "LINES", "NO_COLOR", "_TYPER_FORCE_DISABLE_TERMINAL")
    env = {key: value for key, value in os.environ.items() if key not in forced}
    process = subprocess.Popen(
        [sys.executable, "-m", "gptft", *args],
        stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env={**env, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    printed = b""
    while chunk := _read(ours):
        printed += chunk
    os.close(ours)
    assert process.wait() == 0
    return re.sub("\x1b\\[[0-9;]*m", "", printed.decode()).replace("\r\n", "\n").split("\n")


def _read(terminal):
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""


def test_bars_on_a_narrow_terminal(tiny_model_dir):
    args = ("predict", str(tiny_model_dir), "--cpu", "-p", PROMPT, "--set", "generation.top_k=3")
    lines = on_a_terminal(*args, columns=40)
    assert max(map(cell_len, lines)) <= 40
    assert sum("█" in line for line in lines) >= 3
    assert any("top_k" in line for line in lines[-4:])


def test_a_page_of_it(cli, tmp_path):
    page = tmp_path / "page.html"
    code, out, err = cli("-p", PROMPT, "--html", str(page))
    assert (code, err) == (0, f"Written: {page}\n")
    assert out == cli("-p", PROMPT)[1]
    page.write_text("mine", encoding="utf-8")
    code, out, err = cli("-p", PROMPT, "--html", str(page))
    assert (code, out) == (2, "")
    assert "isn't overwritten: it isn't a page of gptft" in err
    assert cli("-p", PROMPT, "--html", str(page), "--overwrite")[0] == 0


@pytest.mark.parametrize("kind", ["config", "folder"])
def test_a_page_takes_no_other_s_place(cli, tmp_path, kind):
    path = tmp_path / "x.yaml"
    path.write_text("generation:\n  top_p: 0.5\n", encoding="utf-8")
    target = path if kind == "config" else tmp_path
    code, out, err = cli("-p", PROMPT, "--config", str(path), "--html", str(target))
    assert (code, out) == (2, "")
    assert "isn't overwritten: it is" in err
