"""The Russian page -> a Jupyter notebook that shows and runs the same."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.conftest import ROOT
from tests.tutorial.pages import FOLDER, PAGES, Command, File, parts, read

NOTEBOOK = ROOT / "docs" / "gptft.ipynb"
INSTALL = "%pip install gptft"
_COMMENT = re.compile(r"^<!-- .* -->\n", flags=re.MULTILINE)
_IMAGE = re.compile(r"!\[([^\]]+)\]\(([^)]+\.png)\)")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]+\)")


def make() -> str:
    """The notebook as JSON, with the outputs of the page."""
    notebook = {
        "cells": [{"id": f"cell-{at}", **cell} for at, cell in enumerate(_cells())],
        "metadata": {
            "colab": {"name": NOTEBOOK.name, "provenance": []},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


def code(notebook: str) -> list[str]:
    """The code cells of a notebook, in order."""
    cells = json.loads(notebook)["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def block_of_cell(source: str) -> Command | File | None:
    """What a code cell does, without a kernel; None for the cell that installs.

    Raises:
        ValueError: it does anything else.
    """
    if source == INSTALL:
        return None
    if source.startswith("!"):
        return Command(source[1:], "")
    magic, _, text = source.partition("\n")
    if not magic.startswith("%%writefile "):
        raise ValueError(f"not a cell of ours: {source}")
    return File(magic.removeprefix("%%writefile "), f"{text}\n")


def _cells() -> Iterator[dict[str, Any]]:
    page = list(parts(read(PAGES[0])))
    for at, part in enumerate(page):
        if at == 1:
            yield _code_cell(INSTALL)
        if isinstance(part, Command):
            yield _code_cell(f"!{part.line}", shown=part.shown)
        elif isinstance(part, File):
            yield _code_cell(f"%%writefile {part.name}\n{part.text.removesuffix(chr(10))}")
        elif text := _prose(part):
            yield {"cell_type": "markdown", "metadata": {}, "source": _lines(text)}


def _code_cell(source: str, *, shown: str = "") -> dict[str, Any]:
    output = {"name": "stdout", "output_type": "stream", "text": _lines(shown)}
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [output] if shown else [],
        "source": _lines(source),
    }


def _prose(text: str) -> str:
    """Markdown that stands alone: pictures inside, no links to files beside the page."""
    text = _LINK.sub(r"\1", _COMMENT.sub("", text))
    return _IMAGE.sub(_embedded, text).strip("\n")


def _embedded(found: re.Match[str]) -> str:
    picture = base64.b64encode((FOLDER / found[2]).read_bytes()).decode()
    return f"![{found[1]}](data:image/png;base64,{picture})"


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
