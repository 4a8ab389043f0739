import json
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.decoding.strategies import SETTINGS, STRATEGIES
from gptft.errors import ConfigError


def run(*args):
    return CliRunner().invoke(app, ["strategies", *args])


def words(text):
    return " ".join(text.split())


class TestList:
    def test_every_strategy_is_there_with_what_it_does(self):
        result = run()
        assert result.exit_code == 0
        assert result.stderr == ""
        begun = re.findall(r"^(\w+)\s", result.stdout, flags=re.MULTILINE)
        assert begun[: len(STRATEGIES)] == [*STRATEGIES]
        for row in STRATEGIES.values():
            assert words(f"{row.name} {row.description}") in words(result.stdout)
        assert "gptft strategies NAME shows one" in result.stdout

    def test_json_holds_every_setting_with_its_type_range_and_default(self):
        rows = {row["name"]: row for row in json.loads(run("--json").stdout)}
        assert [*rows] == [*STRATEGIES]
        nucleus = {setting["name"]: setting for setting in rows["nucleus"]["settings"]}
        assert nucleus["top_p"] == {
            "name": "top_p",
            "type": "float",
            "range": "above 0, at most 1",
            "default": 0.9,
            "description": SETTINGS["top_p"].description,
        }
        assert rows["context_aware"]["needs"] == ["context"]


class TestDetails:
    @pytest.mark.parametrize("name", STRATEGIES)
    def test_shows_all_there_is_to_know(self, name):
        row = STRATEGIES[name]
        result = run(name)
        assert result.exit_code == 0
        text = words(result.stdout)
        assert result.stdout.startswith(f"{name}\n")
        assert words(row.description) in text
        assert words(f"Source: {row.source}") in text
        assert (f"Needs {' or '.join(row.needs)}." in text) is bool(row.needs)
        assert (words(f"Doesn't go with {row.conflicts}.") in text) is bool(row.conflicts)
        assert ("One prompt at a time" in text) is bool(row.single)
        table, shared = text.split("And what others take, too: ")
        for setting in row.takes:
            assert re.search(rf"\b{setting}\b", table if setting in row.own else text)
        assert "max_new_tokens" in table
        assert set(shared.rstrip(".").split(", ")) == set(row.takes) - set(row.own)

    def test_a_row_says_default_type_range_and_meaning(self):
        line = next(ln for ln in run("nucleus").stdout.splitlines() if ln.startswith("top_p"))
        assert line.split()[:2] == ["top_p", "0.9"]
        assert "number, above 0" in words(line)
        nothing = next(ln for ln in run("regex").stdout.splitlines() if ln.startswith("regex\t"))
        assert nothing.split()[1] == "-"

    def test_several_have_an_empty_line_between(self):
        both = run("beam", "greedy").stdout
        assert both == run("beam").stdout + "\n" + run("greedy").stdout
        rows = json.loads(run("beam", "greedy", "--json").stdout)
        assert [row["name"] for row in rows] == ["beam", "greedy"]

    @pytest.mark.parametrize("args", [["nuclues"], ["beam", "nuclues"], ["nuclues", "--json"]])
    def test_a_misspelt_one_is_guessed_and_nothing_is_shown(self, args):
        result = run(*args)
        assert isinstance(result.exception, ConfigError)
        assert "Did you mean nucleus?" in str(result.exception)
        assert result.stdout == ""


def test_no_heavy_library_is_loaded(tmp_path):
    for name in ("torch", "transformers"):
        poisoned = tmp_path / f"{name}.py"
        poisoned.write_text(f"raise SystemExit('{name} was imported')", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "gptft", "strategies", "nucleus"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0
    assert done.stdout.decode().startswith("nucleus\n")
