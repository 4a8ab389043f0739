"""What both READMEs and the pages of docs/ with commands say must be so."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from typer.main import get_command

from gptft.api import load_config
from gptft.cli.app import COMMANDS, app
from gptft.config.sweep import read_sweep
from tests.conftest import ROOT

DOORS = ("README.md", "README.ru.md")
PAGES = (*DOORS, *(f"docs/{name}.md" for name in ("training", "commands", "preferences")))


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: the language and the text of each."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """The gptft commands of blocks, of lines with code, and of the first column of tables."""
    text = "\n".join(block for _, block in blocks(page))
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^(?:\$ )?(gptft .*)$", text, flags=re.MULTILINE)
    found = [line.split("  #")[0].strip() for line in found]
    return found + re.findall(r"`(gptft (?:train|generate|tokeni\w+|prepare) [^`]*)`", prose)


@pytest.mark.parametrize(
    "command", sorted({command for page in PAGES for command in commands(page)})
)
def test_every_command_is_one_that_parses(command: str):
    group = get_command(app)
    words = shlex.split(command)[1:]
    context = group.make_context("gptft", words, resilient_parsing=False)
    name, found, rest = group.resolve_command(context, words)  # type: ignore[attr-defined]
    assert found is not None, name
    while hasattr(found, "commands"):
        if not rest or rest[0] not in found.commands:
            rest = ["list", *rest]  # gptft runs [DIR]
        found = found.commands[rest[0]]
        rest = rest[1:]
    found.make_context(found.name, rest, parent=context)


def test_the_pages_show_commands():
    for page in PAGES:
        assert len(commands(page)) >= 4, page


def test_every_command_has_a_row_in_its_page():
    rows = re.findall(r"^\| `gptft ([\w-]+)", text_of("docs/commands.md"), flags=re.MULTILINE)
    assert {*rows} == {*COMMANDS}


def test_the_config_and_the_sweep_in_the_docs_are_right(tmp_path: Path):
    found = [block for language, block in blocks("docs/training.md") if language == "yaml"]
    path, sweep = tmp_path / "my.yaml", tmp_path / "sweep.yaml"
    for file, text in zip((path, sweep), found, strict=True):
        file.write_text(text, encoding="utf-8")
    assert [run.name for run in read_sweep(sweep)][0::4] == [
        "learning_rate=0.001,seed=1",
        "data.block_size=256,learning_rate=0.0005",
    ]
    config = load_config(path)
    assert config.generation["strategy"] == "nucleus"


@pytest.mark.parametrize("page", DOORS)
def test_every_link_and_make_target_is_there(page: str):
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text_of(page)):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([\w-]+)`?", text_of(page)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_both_languages_show_the_same():
    english, russian = (
        [(language, re.sub(r"  #.*", "", block)) for language, block in blocks(page)]
        for page in DOORS
    )
    assert english == russian
    code = [re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text_of(page), flags=re.S | re.M))
            for page in DOORS]  # fmt: skip
    assert {*code[0]} <= {*code[1]}
    assert numbers(DOORS[0]) == numbers(DOORS[1])


def numbers(page: str) -> Counter[str]:
    """How often each number stands on a page, 1,024 and 1024, 7.5 and 7,5 alike."""
    text = re.sub(r"(\d),(\d{3})\b", r"\1\2", text_of(page))
    return Counter(re.findall(r"\d+(?:\.\d+)?", re.sub(r"(\d),(\d)", r"\1.\2", text)))


def test_they_link_to_each_other_and_are_short():
    for page, other in (DOORS, DOORS[::-1]):
        assert f"]({other})" in text_of(page)
        assert text_of(page).count("\n") < 200


@pytest.mark.parametrize("page", DOORS)
def test_the_pictures_are_small_and_described(page: str):
    found = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text_of(page))
    assert len(found) == 4
    for described, picture in found:
        assert len(described) > 20
        assert 5_000 < (ROOT / picture).stat().st_size < 200_000
    drawn = (ROOT / "docs" / "pictures" / "terminal.svg").read_text(encoding="utf-8")
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")  # no foreign font


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README leaves it before its first command."""
    folder = tmp_path_factory.mktemp("stranger")
    copies = [
        line.split()[1:]
        for language, block in blocks("README.md")
        for line in block.splitlines()
        if line.startswith("cp ")
    ]
    assert copies
    for source, target in copies:
        shutil.copy(ROOT / source, folder / target)
    return folder


def shown() -> Iterator[tuple[str, list[str]]]:
    """Each command of the README that shows what it prints, and the lines of that."""
    for language, block in blocks("README.md"):
        if language == "console":
            command, _, output = block.removeprefix("$ ").partition("\n")
            yield command, [line for line in output.splitlines() if line not in ("", "...")]


def shape(text: str) -> str:
    """What is printed without what a machine or the width of a terminal changes: figures, bars."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r|[\u2588-\u258f]", "", text)
    return " ".join(re.sub(r"[<>]?\d[\d,.]*%?", "#", text).split())


def on_a_terminal(words: list[str], *, place: Path) -> str:
    """What a command prints on a terminal of 100 columns, which is all that it may say."""
    pty = pytest.importorskip("pty")
    environment = {**os.environ, "GPTFT_CACHE": str(place / "cache"), "COLUMNS": "100"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "gptft", *words],
        cwd=place, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env={**environment, "TERM": "xterm-256color"},
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        with suppress(OSError):  # Linux ends a terminal that nobody has open any more with EIO
            while part := os.read(ours, 65536):
                said += part
    os.close(ours)
    text = said.decode()
    assert process.returncode == 0, text
    return text


def test_the_readme_shows_what_its_commands_print(place: Path):
    """In its order: a later command needs the run that an earlier one made."""
    ran = 0
    for command, lines in shown():
        printed = shape(on_a_terminal(shlex.split(command)[1:], place=place))
        for line in lines:
            assert shape(line) in printed, f"{command}: {line}\nnot in:\n{printed}"
            printed = printed.partition(shape(line))[2]
        ran += 1
    assert ran == 3
