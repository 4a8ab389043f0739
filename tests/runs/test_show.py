"""One run as `gptft runs show` has it: finished, at work, killed, failed, damaged."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gptft.errors import ConfigError
from gptft.files import as_json
from gptft.runs.settings import given_settings
from gptft.runs.show import show_run
from gptft.runs.show_view import run_view
from tests.report.conftest import MakeRun
from tests.runs.test_status import held
from tests.runs.test_status import make_run as bare_run


def on_screen(run_dir: Path, *, width: int | None = None) -> str:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=width is not None, width=width or 100_000)
    terminal.print(run_view(show_run(run_dir)))
    return screen.getvalue()


def weightless(run_dir: Path) -> Path:
    """A run made by hand with a model whose size is right."""
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    weights = len(header).to_bytes(8, "little") + header + b"\0"
    (run_dir / "model" / "model.safetensors").write_bytes(weights)
    return run_dir


def test_a_run_that_is_done(make_run: MakeRun):
    shown = show_run(weightless(make_run()))
    assert shown.status.state == "done"
    assert shown.curves == {
        "training loss": [(10, 4.0), (20, 3.0), (30, 2.0), (40, 1.0)],
        "held-out loss": [(0, 5.5), (20, 4.6), (40, 4.5)],
    }
    assert shown.settings == {
        "data.train": "[data/pushkin]",
        "data.validation": "0.1",
        "training.num_train_epochs": "40",
        "training.learning_rate": "0.001",
        "training.hub_token": "(set, not shown)",
        "samples.prompts": "[Мороз и солнце;]",
        "samples.steps": "20",
        "generation.strategy": "greedy",
        "generation.max_new_tokens": "40",
    }
    assert shown.samples == [{"prompt": "Мороз и солнце;", "step": 40, "continuation": " после"}]
    plain = on_screen(shown.status.path).splitlines()
    assert plain[0].startswith(f"{shown.status.path}: done, step 40, loss 1.000, held out 4.500")
    assert "training text\t5.000\t1.000\t148.41\t2.72" in plain
    assert "20\t3.000\t4.600" in plain
    assert plain[-1] == "Мороз и солнце; после"
    assert json.loads(json.dumps(as_json(shown)))["status"]["state"] == "done"


def test_general_texts_and_bits_a_byte_are_shown_where_they_were_measured(make_run: MakeRun):
    bits = {"bits_per_byte_before": 1.25, "bits_per_byte_after": 1.5}
    general = {"en": {"loss_before": 3.0, "loss_after": 3.5, **bits}}
    lines = on_screen(make_run(result={"general": general})).splitlines()
    assert "general text, English\t3.000\t3.500\t-\t-\t1.250\t1.500" in lines
    assert "held out\t5.500\t4.500\t244.69\t90.02\t-\t-" in lines


def test_documents_whose_loss_fell_least_are_named(make_run: MakeRun):
    least = [{"start": "<b>\x1b[2J\n" * 30, "num_tokens": 9, "loss_before": 6.5, "loss_after": 6.0}]
    said = {"num_measured": 12, "median_fall": 3.25, "least": least}
    run_dir = make_run(result={"documents": said})
    [head, row] = [
        line for line in on_screen(run_dir).splitlines() if "fell by" in line or "<b>" in line
    ]
    assert head.startswith("loss fell least (3.250 is the middle of 12 documents)\t")
    assert row.endswith("\t6.500\t6.000\t0.500")
    assert "\x1b" not in row
    assert as_json(show_run(run_dir))["documents"] == said


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_on_a_terminal_nothing_is_wider(make_run: MakeRun, width: int):
    text = on_screen(make_run(config={"data": {"train": ["x" * 300]}}), width=width)
    assert "•" in text
    assert "○" in text
    plain = Console(file=io.StringIO()).render_str("").from_ansi(text)
    assert max(line.cell_len for line in plain.split("\n")) <= width


def test_what_is_shown_changes_nothing_in_the_run(make_run: MakeRun):
    run_dir = make_run()

    def state() -> dict[str, Any]:
        return {
            str(path): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(run_dir.rglob("*"))
            if path.is_file()
        }

    before = state()
    on_screen(run_dir)
    assert state() == before


def test_a_run_at_work_and_one_that_was_killed(tmp_path: Path):
    rows = ({"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, '{"step": 3, "lo')
    folder = bare_run(tmp_path / "my", *rows, state="running")
    with held(folder):
        assert ": running, step 2, loss 2.000" in on_screen(folder)
    text = on_screen(folder)
    assert ": stopped, step 2" in text
    assert "no process is at work on it" in text
    assert "Skipped 1 line of the logs that hold nothing (metrics.jsonl:3)." in text


BROKEN_FACTS: list[Any] = [
    '{"state": "do',
    "[]",
    "",
    "\x00",
    '{"state": "done"}',
    '{"state": "done", "config": []}',
    '{"state": "failed", "config": {"model": 3, "data": [], "samples": {"prompts": 7}}}',
    '{"state": "stopped", "config": {"training": {"a": {"b": [1, {"c": null}]}}, "x": 1}}',
    '{"state": "done", "config": {}, "result": {"steps": "many", "train": {"loss_after": "x"}}}',
    '{"state": "done", "config": {}, "result": {"samples": [1, {"prompt": 2}]}, "created": 5}',
]
BROKEN_LOGS = [
    b"",
    b"\xff\xfe{",
    b'{"step": 1, "loss": 2.0}\n{"step": 2, "lo',
    b'{"step": "one", "loss": "two"}\n[]\n7\n',
    b'{"step": 1, "loss": NaN}\n{"step": 2, "loss": 1e999}\n{"step": 3, "loss": -1e308}\n',
    b'{"step": 1, "prompt": "a", "continuation": "\x1b[2J"}\n',
    b'{"step": 10000000000000000000000, "loss": 1.0}\n{"step": -4, "loss": 1.0}\n',
]


@pytest.mark.parametrize("facts", BROKEN_FACTS)
@pytest.mark.parametrize("log", BROKEN_LOGS)
def test_a_damaged_run_is_shown_as_far_as_it_can_be_read(tmp_path: Path, facts: str, log: bytes):
    folder = bare_run(tmp_path / "my")
    (folder / "run.json").write_text(facts, encoding="utf-8")
    (folder / "metrics.jsonl").write_bytes(log)
    (folder / "samples.jsonl").write_bytes(log)
    text = on_screen(folder)
    assert text.startswith(f"{folder}: ")
    assert "\x1b[2J" not in text
    assert on_screen(folder, width=60)
    json.dumps(as_json(show_run(folder)), allow_nan=False)


def test_logs_that_are_no_files_are_named(tmp_path: Path):
    folder = bare_run(tmp_path / "my", state="stopped")
    (folder / "metrics.jsonl").mkdir()
    os.mkfifo(folder / "samples.jsonl")
    problems = show_run(folder).problems
    assert [Path(problem.split(" ")[0]).name for problem in problems] == [
        "metrics.jsonl",
        "samples.jsonl",
    ]
    assert all(problem in on_screen(folder) for problem in problems)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("poem", "poem: no such run. Did you mean runs/poem?"),
        (
            "runs",
            "runs is no run: there is no run.json in it. Below it are runs: name one, such as",
        ),
        ("nothing", "nothing: no such run. `gptft runs` lists those below runs/."),
        ("empty", "empty is no run: there is no run.json in it. Give the folder that"),
        ("text.txt", "text.txt is a file, not a run."),
        ("a" * 300, f"{'a' * 300}: no such run."),
        ("a\0b", "a\0b: no such run."),
    ],
)
def test_what_is_no_run_is_one_line_with_the_way_out(in_tmp: Path, name: str, said: str):
    bare_run(in_tmp / "runs" / "poem", state="stopped")
    (in_tmp / "empty").mkdir()
    (in_tmp / "text.txt").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        show_run(Path(name))
    assert str(caught.value).startswith(said)


def test_settings_as_they_are_in_an_empty_config_are_left_out():
    from gptft.config.sections import Config

    resolved = Config.model_validate({"data": {"train": ["a.txt"]}}).resolved()
    assert given_settings({"config": resolved}) == {"data.train": "[a.txt]"}
    resolved["data"]["seed"] = 7
    resolved["training"]["output_dir"] = "runs/a"
    resolved["model"]["config_overrides"] = {"resid_pdrop": 0.0}
    assert given_settings({"config": resolved}) == {
        "model.config_overrides.resid_pdrop": "0.0",
        "data.train": "[a.txt]",
        "data.seed": "7",
    }
