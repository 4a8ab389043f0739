"""Stand-ins for wandb, trackio and TensorBoard's writer: each writes down what it is given."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

_CALLS = """
import json, os, types
run = None
def note(call, *args, **kwargs):
    with open(os.environ["CALLS"], "a", encoding="utf-8") as calls:
        calls.write(json.dumps([call, args, kwargs], default=lambda o: vars(o)) + "\\n")
class Config(dict):
    def update(self, *args, **kwargs): pass
config = Config()
"""
_WANDB = """
from types import SimpleNamespace as Object
import wandb.sdk
__version__ = "0.31.0"
api = Object(api_key=None)
class Table:
    def __init__(self, columns, data): self.columns, self.data = columns, data
def init(**kwargs):
    global run
    run = Object(id="x", name="x", url="x", summary={}, _label=lambda **k: None)
    names = ("WANDB_MODE", "WANDB_DIR", "WANDB_SILENT", "WANDB_RUN_ID", "WANDB_RESUME")
    note("init", **kwargs, **{name: os.environ.get(name) for name in names})
def log(values, **kwargs): note("log", values)
def finish(): pass
"""
_TRACKIO = """
__version__ = "0.43.0"
class _Var:
    def get(self): return None
context_vars = types.SimpleNamespace(current_space_id=_Var(), current_project=_Var())
def init(**kwargs): note("init", **kwargs, TRACKIO_DIR=os.environ.get("TRACKIO_DIR"))
def log(values): note("log", values)
def finish(): note("finish")
def freeze(**kwargs): raise AssertionError("made public")
sync = freeze
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put them on the path; returns the file that their calls are written to."""
    for path, text in {
        "wandb/__init__.py": _CALLS + _WANDB,
        "wandb/sdk/__init__.py": "",
        "wandb/sdk/lib/__init__.py": "",
        "wandb/sdk/lib/config_util.py": "class ConfigError(Exception): pass\n",
        "trackio.py": _CALLS + _TRACKIO,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    calls = folder / "calls.jsonl"
    monkeypatch.setenv("CALLS", str(calls))
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("wandb", "trackio"):
            monkeypatch.delitem(sys.modules, name)
    for name in [*os.environ]:
        if name.startswith(("WANDB", "TRACKIO", "TENSORBOARD")):
            monkeypatch.delenv(name)
    return calls


def calls_of(path: Path, name: str) -> list[Any]:
    """What was given to one of their functions: its arguments and keywords."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [given[0] if given else keywords for call, given, keywords in found if call == name]
