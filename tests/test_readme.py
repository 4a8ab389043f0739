"""What README.md says must be so."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from gptft.api import load_config
from gptft.cli.app import app
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\w*\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("  #")[0].strip()
    for line in re.findall(r"^gptft .*$", "\n".join(BLOCKS), flags=re.MULTILINE)
] + re.findall(r"^\| `(gptft [^`]*)`", README, flags=re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
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


def test_the_readme_shows_commands():
    assert len(COMMANDS) >= 8


def test_the_config_in_the_readme_is_right(tmp_path: Path):
    [text] = [block for block in BLOCKS if "training:" in block]
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    assert config.generation["strategy"] == "nucleus"


def test_every_link_and_make_target_is_there():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)$", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
