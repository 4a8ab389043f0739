"""A sample of `make faults`: in a process of its own, which must be clean to fork."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="forks, kills and watches /proc: Linux alone"
)


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `python -m tests.faults --short` found, part by part."""
    path = tmp_path_factory.mktemp("faults") / "figures.json"
    words = [sys.executable, "-m", "tests.faults", "--short", "--jobs", "2", "--json", str(path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert path.is_file(), done.stdout + done.stderr
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_a_killed_run_goes_on_and_ends_bit_identical(figures: dict[str, dict[str, Any]]):
    assert figures["kills"]["broken"] == []
    assert figures["kills"]["kills"] == 6


def test_a_save_survives_every_call_that_fails(figures: dict[str, dict[str, Any]]):
    calls = figures["calls"]
    if "skipped" in calls:
        pytest.skip(calls["skipped"])
    assert calls["broken"] == []
    assert min(calls["disk full"], calls["input/output error"], calls["kill -9"]) >= 3
    assert calls["unseen"] == {}


def test_no_damaged_file_is_taken_for_a_whole_one(figures: dict[str, dict[str, Any]]):
    assert figures["files"]["broken"] == []
    assert figures["files"]["spoiled"] >= 80


def test_a_full_disk_says_so_and_costs_nothing(figures: dict[str, dict[str, Any]]):
    disk = figures["disk"]
    assert disk["broken"] == []
    assert disk["limited"] == 1
    if not disk.get("filled"):
        pytest.skip("this machine doesn't let us mount a small disk; the limit on files was tried")
