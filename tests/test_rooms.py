"""The rooms of docs/design.md: imports point to lower rooms alone, no circles, torch by room."""

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.conftest import ROOT

PACKAGE = ROOT / "gptft"
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the ground floor up; docs/design.md draws the same list.
ROOMS = (
    "version",
    "errors",
    "panics",
    "inputs",
    "files",
    "console",
    "text",
    "terminal",
    "config",
    "models",
    "documents",
    "tokenization",
    "inspection",
    "data",
    "runs",
    "training",
    "decoding",
    "analysis",
    "report",
    "playground",
    "api",
    "cli",
)
# Modules of the root that start the program; nothing imports them.
ENTRIES = {"__init__", "__main__"}
HEAVY = {"torch", "transformers", "accelerate", "datasets", "peft"}
MAY_LOAD_TORCH = {"models", "training", "decoding", "analysis", "playground"}
COMMANDS_WITHOUT_TORCH = (
    ["--help"],
    ["--version"],
    ["tokenize", "--help"],
    ["tokenize", "Мороз"],
    ["tokenizer", "--help"],
    ["info", "--help"],
    ["info", "pico", "--text", "Мороз"],
    ["prepare", "--help"],
    ["config", "check", "configs/quickstart.yaml"],
    ["config", "schema"],
    ["runs", "."],
    ["strategies"],
    ["generate", "--help"],
    ["train", "--help"],
)


def name_of(path: Path) -> str:
    """`gptft/data/store.py` -> `data.store`; a package's `__init__` has the package's name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}


def imports(path: Path, *, top_level: bool = False) -> Iterator[tuple[str, str | None]]:
    """What a file imports: a module, and the name taken from it, if any."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            assert node.module
            yield from ((node.module, alias.name) for alias in node.names)


def own_imports(path: Path, *, top_level: bool = False) -> set[str]:
    """The modules of gptft that a file imports; wherever the import stands, unless told."""
    found = set()
    for module, name in imports(path, top_level=top_level):
        if module.split(".")[0] != "gptft":
            continue
        inside = module.removeprefix("gptft").removeprefix(".")
        deeper = f"{inside}.{name}".removeprefix(".")
        found.add(deeper if deeper in NAMES else inside or "__init__")
    return found - {name_of(path)}


def room_of(name: str) -> str:
    return name.split(".")[0]


def test_every_module_is_in_a_room_of_the_list():
    assert {room_of(name) for name in NAMES} <= {*ROOMS, *ENTRIES}


def test_there_is_no_utils_and_no_common():
    assert not [path for path in MODULES if path.stem in ("utils", "common", "helpers", "misc")]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_room_imports_only_rooms_below_it(name: str):
    if room_of(name) in ENTRIES:
        return
    height = ROOMS.index(room_of(name))
    others = {room_of(other) for other in own_imports(NAMES[name])} - {room_of(name)}
    assert others <= set(ROOMS[:height])


def circles() -> list[list[str]]:
    """Import circles, also inside a room, also for types alone (Tarjan's components)."""
    edges = {name: own_imports(path) & set(NAMES) for name, path in NAMES.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in edges[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            at = stack.index(name)
            circle, stack[at:] = stack[at:], []
            if len(circle) > 1:
                found.append(sorted(circle))

    for name in edges:
        if name not in index:
            visit(name)
    return found


def test_no_module_imports_itself_around_a_circle():
    assert circles() == []


def test_no_room_holds_more_than_a_quarter_of_the_lines():
    lines: dict[str, int] = {}
    for name, path in NAMES.items():
        count = path.read_text(encoding="utf-8").count("\n")
        lines[room_of(name)] = lines.get(room_of(name), 0) + count
    assert max(lines.values()) <= sum(lines.values()) / 4


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Every function of a file and its lines; a command's options aren't counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            begin = node.body[0].lineno if path.parent.name == "cli" else node.lineno
            yield node.name, (node.end_lineno or begin) - begin + 1


@pytest.mark.parametrize("name", sorted(NAMES))
def test_no_module_is_over_400_lines_and_no_function_over_60(name: str):
    path = NAMES[name]
    assert path.read_text(encoding="utf-8").count("\n") <= 400
    assert {function: lines for function, lines in functions(path) if lines > 60} == {}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_torch_is_imported_only_where_it_may(name: str):
    top = {module.split(".")[0] for module, _ in imports(NAMES[name], top_level=True)}
    if room_of(name) not in MAY_LOAD_TORCH:
        assert not top & HEAVY


@pytest.mark.parametrize("name", sorted(name for name in NAMES if room_of(name) == "cli"))
def test_a_command_loads_its_work_when_it_is_called(name: str):
    light = {"cli", "errors", "panics", "inputs", "console", "version", "terminal"}
    # Options are made of these; they load no library.
    light |= {"config.settings", "config.numbers", "config.flags", "decoding.strategies"}
    top = own_imports(NAMES[name], top_level=True)
    assert {other for other in top if not {other, room_of(other)} & light} == set()


@pytest.mark.parametrize("command", COMMANDS_WITHOUT_TORCH, ids=" ".join)
def test_light_commands_never_load_torch(command: list[str]):
    script = (
        "import sys; from gptft.cli import main\n"
        f"sys.argv = ['gptft', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "loaded = {'torch', 'transformers', 'accelerate', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_wheel_has_every_file_that_git_tracks(tmp_path: Path):
    """A line in .gitignore that is too wide would leave a room out of both."""
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "gptft"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    on_disk = {path.relative_to(ROOT).as_posix() for path in MODULES}
    assert {name for name in tracked if name.endswith(".py")} == on_disk
    built = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path)))
    sources = ("gptft/models/pico/recipes/", "gptft/models/pico/HISTORY.md")
    packed = {name for name in tracked if not name.startswith(sources)}
    with zipfile.ZipFile(built) as wheel:
        assert {name for name in wheel.namelist() if name.startswith("gptft/")} == packed
