"""The benchmarks call what is there: a change of ours breaks none of them unseen."""

import ast
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import ROOT

BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))


def loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A benchmark as a module, its neighbours importable as for a script."""
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_every_name_of_ours_that_a_benchmark_imports_is_there(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in found:
        if node.module is not None and node.module.split(".")[0] == "gptft":
            for name in node.names:
                module = importlib.import_module(node.module)
                whole = f"{node.module}.{name.name}"
                assert hasattr(module, name.name) or importlib.util.find_spec(whole), whole


def test_resuming_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = loaded(ROOT / "benchmarks" / "checkpoints.py", monkeypatch)
    early, late = checkpoints.resume_seconds(tmp_path, steps=(2, 4), runs=1)
    assert 0 < early < 60
    assert 0 < late < 60
