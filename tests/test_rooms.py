"""The rooms of docs/design.md: who may import whom, read off the source."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "gptft"
MODULES = sorted(PACKAGE.rglob("*.py"))

TOKEN_VIEWS = ("corpus.measure", "corpus.measure_view", "corpus.piece_view", "corpus.pieces")
DECODING_TABLES = ("decoding.strategies", "decoding.settings")
# Room -> what it may import of the others, wherever the import stands.
ALLOWED = {
    "config": {"config"},
    "corpus": {"corpus", "config", "models.source", "models.hub"},
    "models": {"models", "config.suggest"},
    "training": {"training", "models", "config", "corpus.store", "corpus.ledger"},
    "decoding": {"decoding", "models", "config", "corpus.pieces"},
    "novelty": {"novelty", "corpus", "config", "models.source", "training.run_folder"},
    "report": {
        "report",
        "models.source",
        "corpus.ledger",
        *TOKEN_VIEWS,
        "decoding.comparison_rows",
        "decoding.comparison_view",
        *DECODING_TABLES,
    },
    "cli": {
        "cli",
        "config",
        "corpus",
        "models",
        "training",
        "decoding",
        "novelty",
        "report",
        "console",
    },
}
MAY_IMPORT_DATASETS = "corpus/hub_texts.py"  # inside functions, for hub: sources alone
HEAVY = {"torch", "transformers", "accelerate", "datasets", "peft"}
LIGHT = ("config", "corpus", "novelty", "report")
LIGHT_MODULES = (
    "models/source.py",
    "models/hub.py",
    *(
        f"decoding/{name}.py"
        for name in (
            "strategies",
            "settings",
            "strategy_view",
            "templates",
            "prompts",
            "candidates",
            "measures",
            "comparison_rows",
            "comparison_entries",
            "comparison_view",
        )
    ),
    "training/checkpoints.py",
    "training/run_folder.py",
    "training/runs.py",
)


def imported(path: Path, *, top_level: bool = False) -> set[str]:
    """Names of the modules a file imports; those of its top level alone, if asked."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_there_is_no_utils_and_no_common():
    assert not [path for path in MODULES if path.stem in ("utils", "common", "helpers", "misc")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_it_may(path: Path):
    room = path.relative_to(PACKAGE).parts[0]
    if room not in ALLOWED:
        return
    inside = {name.removeprefix("gptft.") for name in imported(path) if name.startswith("gptft.")}
    rooms = {name for name in inside if name.split(".")[0] in ALLOWED or name == "console"}
    wrong = {
        name
        for name in rooms
        if not any(
            name == ok or name.startswith(f"{ok}.") or ok.startswith(f"{name}.")
            for ok in ALLOWED[room]
        )
    }
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_light_rooms_never_import_torch_and_commands_only_inside_functions(path: Path):
    name = path.relative_to(PACKAGE).as_posix()
    if name.split("/")[0] in LIGHT or name in LIGHT_MODULES:
        allowed = {"datasets"} if name == MAY_IMPORT_DATASETS else set()
        assert not {module.split(".")[0] for module in imported(path)} & HEAVY - allowed
    if name.startswith("cli/"):
        top = {module for module in imported(path, top_level=True) if module.startswith("gptft.")}
        light = ("gptft.cli", "gptft.errors", "gptft.console", "gptft.__version__")
        light += ("gptft.config.generation_fields",)  # options are made of it; it loads no library
        assert all(module.startswith(light) for module in top)
