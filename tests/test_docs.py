"""What docs/design.md and CONTRIBUTING.md name is there."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_rooms import ROOMS

DOCS = [ROOT / name for name in ("CONTRIBUTING.md", "README.md", "README.ru.md")]
DOCS += sorted((ROOT / "docs").rglob("*.md"))
DOCS += sorted((ROOT / "gptft" / "models" / "pico").glob("*.md"))
PATH = re.compile(
    r"`((?:gptft|docs|tests|benchmarks|configs|training|models|decoding|config)/[^`*<> ]+)`"
)


def test_design_lists_the_rooms_in_their_order():
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = design.split("## Rooms")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE)) == ROOMS


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_every_path_and_link_is_there(path: Path):
    text = path.read_text(encoding="utf-8")
    for name in PATH.findall(text):
        assert any((folder / name).exists() for folder in (ROOT, ROOT / "gptft")), name
    for link in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
        assert (path.parent / link).exists(), link
