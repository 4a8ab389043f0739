"""`gptft runs` as a person runs it."""

import io
import json
import os
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from gptft import console
from gptft.cli.app import app
from gptft.errors import ConfigError, GptftError
from gptft.runs.checkpoints import commit_checkpoint
from tests.cli.test_imports import HEAVY, modules_of
from tests.report.conftest import MakeRun
from tests.runs.test_status import add_checkpoint, flip_bit
from tests.runs.test_status import make_run as bare_run


def invoke(*args: str) -> Result:
    return CliRunner().invoke(app, ["runs", *args])


@pytest.fixture
def runs(in_tmp: Path) -> Path:
    """runs/ with a stopped run of two hours ago and a failed one of three minutes ago."""
    folder = in_tmp / "runs"
    poem = bare_run(
        folder / "Стихи",
        {"step": 800, "eval_loss": 3.5},
        {"step": 1200, "eval_loss": 3.75},
        {"step": 1200, "loss": 3.25},
        state="stopped",
        config={"model": {"name": "pico"}, "data": {"train": ["texts/морозы.txt"]}},
        seed=7,
    )
    add_checkpoint(poem, step=1200, max_steps=3000)
    fox = bare_run(folder / "sweep" / "fox", state="failed", error="Training diverged in step 5.")
    for run, age in ((poem, 2 * 3600 + 60), (fox, 3 * 60 + 5)):
        for file in run.iterdir():
            os.utime(file, (time.time() - age, time.time() - age))
    return folder


def test_off_a_terminal_a_run_is_a_line_with_tabs(runs: Path):
    lines = [
        "runs/sweep/fox\tfailed\tbase -\tdata -\tstep -\tloss -\theld out -\tbest at -\tseed -\t"
        "saved at -\t3 min\tTraining diverged in step 5.",
        "runs/Стихи\tstopped\tbase pico\tdata морозы.txt\tstep 1,200/3,000\tloss 3.250\t"
        "held out 3.750\tbest at 800\tseed 7\tsaved at 1,200\t2 h",
    ]
    for args in ((), ("runs",), ("list", "runs"), ("runs/",)):
        done = invoke(*args)
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines() == lines
        assert done.stderr == ""
    assert invoke("runs/Стихи").stdout.splitlines() == [lines[1]]


def test_json_has_every_figure(runs: Path):
    for args in (("--json",), ("runs", "--json"), ("--json", "runs")):
        answer = json.loads(invoke(*args).stdout)
        assert answer["unreadable"] == []
        fox, poem = answer["runs"]
        assert (fox["path"], fox["state"]) == ("runs/sweep/fox", "failed")
        assert fox["reason"] == "Training diverged in step 5."
        assert {**poem, **dict.fromkeys(("path", "reason", "seen"))} == {
            "path": None,
            "state": "stopped",
            "reason": None,
            "step": 1200,
            "num_steps": 3000,
            "loss": 3.25,
            "held_out_loss": 3.75,
            "best_step": 800,
            "checkpoint": 1200,
            "base": "pico",
            "data": "морозы.txt",
            "seed": 7,
            "seen": None,
        }


ON_A_TERMINAL = {
    60: "stopped 1,200/3,000 3.250 3.750 2 h",
    84: "stopped pico морозы.txt 1,200/3,000 3.250 3.750 2 h",
    110: "stopped pico морозы.txt 1,200/3,000 3.250 3.750 800 7 1,200 2 h",
}


@pytest.mark.parametrize("width", [20, 40, *ON_A_TERMINAL])
def test_on_a_terminal_it_fits(runs: Path, monkeypatch: pytest.MonkeyPatch, width: int):
    bare_run(runs / ("long-" * 12) / "deep", {"step": 7, "loss": 1.0}, state="stopped")
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(console, "stdout", lambda: terminal)
    assert invoke().exit_code == 0
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    if width in ON_A_TERMINAL:
        [poem] = [line.split() for line in lines if line.strip().startswith("Стихи ")]
        assert poem == ["Стихи", *ON_A_TERMINAL[width].split()]
    assert "diverged in" in " ".join(lines)


def test_a_column_that_no_run_has_a_value_for_is_left_out(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
):
    bare_run(in_tmp / "runs" / "my", {"step": 7, "loss": 1.0}, state="stopped")
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(console, "stdout", lambda: terminal)
    assert invoke().exit_code == 0
    assert screen.getvalue().splitlines()[0].split() == ["runs/", "state", "step", "loss", "age"]


def test_control_characters_in_names_and_reasons_are_shown(in_tmp: Path):
    bare_run(in_tmp / "runs" / "a\x1b[2J\nb", state="failed", error="\x1b]0;x\x07 full")
    done = invoke()
    assert done.stdout.startswith(r"runs/a\x1b[2J\nb" "\tfailed")
    assert done.stdout.rstrip().endswith(r"\x1b]0;x\x07 full")
    assert json.loads(invoke("--json").stdout)["runs"][0]["path"] == "runs/a\x1b[2J\nb"


def test_no_folder_is_exit_2_and_no_runs_is_a_sentence(in_tmp: Path):
    missing = invoke()
    assert isinstance(missing.exception, ConfigError)
    assert str(missing.exception).startswith("runs: no such folder.")
    (in_tmp / "runs").mkdir()
    empty = invoke()
    assert (empty.exit_code, empty.stdout) == (0, "No runs in runs. `gptft train` makes one.\n")
    assert json.loads(invoke("--json").stdout) == {"runs": [], "unreadable": []}
    (in_tmp / "file").write_text("", encoding="utf-8")
    assert isinstance(invoke("file").exception, ConfigError)
    assert isinstance(invoke("verify", "runs").exception, ConfigError)


def test_a_folder_named_like_a_command_is_listed_by_its_path(in_tmp: Path):
    bare_run(in_tmp / "verify", state="stopped")
    assert invoke("./verify").stdout.startswith("verify\tstopped")
    assert invoke("list", "verify").stdout.startswith("verify\tstopped")


def test_verify_names_every_damaged_file(in_tmp: Path):
    run = bare_run(in_tmp / "my", state="stopped")
    for step in (5, 10):
        staging = run / "checkpoints" / ".staging"
        staging.mkdir(parents=True)
        for name in ("a.bin", "b.bin", "c.bin"):
            (staging / name).write_bytes(b"\0" * 1000)
        commit_checkpoint(staging, run / "checkpoints", step=step, notes={})
    whole = invoke("verify", "my")
    assert whole.exit_code == 0
    assert whole.stdout.splitlines() == [
        "my/checkpoints/checkpoint-10: intact",
        "my/checkpoints/checkpoint-5: intact",
    ]
    assert whole.stderr == "2 checkpoints read: nothing is damaged.\n"
    flip_bit(run / "checkpoints" / "checkpoint-10" / "a.bin")
    (run / "checkpoints" / "checkpoint-10" / "c.bin").unlink()
    damaged = invoke("verify", "my", "my")
    assert damaged.exit_code == 1
    assert damaged.stdout.splitlines() == [
        "my/checkpoints/checkpoint-10: a.bin isn't what was written",
        "my/checkpoints/checkpoint-10: c.bin is missing",
        "my/checkpoints/checkpoint-5: intact",
    ]
    answer = invoke("verify", "--json", "my")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout) == {
        "damaged": 1,
        "verified": [
            {"path": "my", "step": None, "problems": []},
            {
                "path": "my/checkpoints/checkpoint-10",
                "step": 10,
                "problems": ["a.bin isn't what was written", "c.bin is missing"],
            },
            {"path": "my/checkpoints/checkpoint-5", "step": 5, "problems": []},
        ],
    }


def test_listing_and_verifying_load_nothing_heavy(runs: Path):
    assert modules_of("runs", cwd=runs.parent) & HEAVY == set()
    assert modules_of("runs", "verify", "runs/sweep", cwd=runs.parent) & HEAVY == set()
    assert modules_of("runs", "show", "runs/sweep/fox", cwd=runs.parent) & HEAVY == set()
    assert "jinja2" not in modules_of("runs", "show", "runs/sweep/fox", cwd=runs.parent)


def test_show_writes_the_report_and_the_curves_elsewhere(make_run: MakeRun, in_tmp: Path):
    run = make_run()
    before = sorted(path.name for path in run.iterdir())
    done = invoke("show", str(run), "--html", "page.html", "--svg", "curves", "--lang", "en")
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[:3] == [
        "Written: page.html",
        "Written: curves/loss.svg",
        "Written: curves/learning_rate.svg",
    ]
    assert "Before and after" in Path("page.html").read_text(encoding="utf-8")
    for name, title in (("loss", "loss by step"), ("learning_rate", "learning rate by step")):
        tree = ElementTree.parse(Path("curves") / f"{name}.svg")
        assert tree.getroot().tag.endswith("svg")
        assert f"poems: {title}" in "".join(tree.getroot().itertext())
    assert sorted(path.name for path in run.iterdir()) == before
    assert invoke("show", str(run), "--html", "page.html").exit_code == 0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--html", "taken.html"), 2, "taken.html isn't overwritten: it isn't a page of gptft."),
        (("--html", "none/page.html"), 1, "none/page.html can't be written: No such file"),
        (("--html", "runs/fox/report.html"), 2, "it is the report of a run"),
        (("--svg", "taken.html"), 2, "--svg taken.html is a file. Name another folder."),
        (("--svg", "a\nb" * 200), 2, "File name too long"),
        (("--svg", "curves"), 1, "runs/fox has logged no loss: there is no curve to draw."),
    ],
)
def test_where_nothing_can_be_written_is_said(
    in_tmp: Path, args: tuple[str, ...], code: int, said: str
):
    bare_run(in_tmp / "runs" / "fox", state="failed")
    (in_tmp / "runs" / "fox" / "report.html").write_text("", encoding="utf-8")
    (in_tmp / "taken.html").write_text("mine", encoding="utf-8")
    done = invoke("show", "runs/fox", *args)
    assert isinstance(done.exception, GptftError)
    assert done.exception.exit_code == code
    assert said in str(done.exception)


def test_show_has_json_and_says_what_got_worse(make_run: MakeRun):
    run = make_run(result={"validation": {"loss_after": 4.4}})  # where 4.5 was logged
    done = invoke("show", str(run), "--json")
    shown = json.loads(done.stdout)
    assert shown["curves"]["held-out loss"][-1] == [40, 4.4]
    assert shown["status"]["held_out_loss"] == 4.4
    assert shown["settings"]["training.num_train_epochs"] == "40"
    assert shown["remarks"] == []
    bad = make_run("bad", result={"train": {"loss_after": 9.0}})
    done = invoke("show", str(bad))
    assert "The model got worse on the very text it was trained on" in done.stderr


def test_compare_prints_writes_a_page_and_has_json(make_run: MakeRun, in_tmp: Path):
    for name, rate in (("a", 1e-3), ("b", 1e-4)):
        make_run(f"runs/{name}", config={"training": {"learning_rate": rate}})
    done = invoke("compare", "runs/a", "runs/b", "--html", "page.html", "--lang", "en")
    assert done.exit_code == 0, done.output
    assert done.stderr == "Written: page.html\n"
    assert "training.learning_rate\t0.001\t0.0001" in done.stdout.splitlines()
    assert "2 runs side by side" in Path("page.html").read_text(encoding="utf-8")
    shown = json.loads(invoke("compare", "runs", "--json").stdout)
    assert [one["path"] for one in shown["runs"]] == ["runs/a", "runs/b"]
    assert shown["settings"] == {"training.learning_rate": ["0.001", "0.0001"]}
    assert isinstance(invoke("compare", "runs/a", "--html", "x.html").exception, ConfigError)
    assert not Path("x.html").exists()
    assert modules_of("runs", "compare", "runs", cwd=in_tmp) & {*HEAVY, "jinja2"} == set()
