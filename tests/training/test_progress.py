"""What a run shows and logs while it trains."""

import json
import time
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from transformers import TrainerControl, TrainerState

from gptft.console import stage
from gptft.training.progress import RunLog
from tests.terminal.screen import Screen
from tests.training.conftest import Run
from tests.training.folders import rows as rows_of

ARGS: Any = SimpleNamespace(world_size=1)
LOGS = {"loss": 3.175, "grad_norm": 0.8125, "learning_rate": 1e-4}
EVIL = "\x1b[2J\x1b]0;title\x07\r" + "солнце 漢字\u202e\n" * 12 + "END"


def state(step: int = 12, num_steps: int = 1000) -> TrainerState:
    made = TrainerState()
    made.max_steps, made.global_step = num_steps, step
    return made


def test_tokens_a_second_are_those_of_all_processes(tmp_path: Path, monkeypatch: Any):
    clock, seen = iter((0.0, 2.0)), iter((0, 300))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    log = RunLog(
        tmp_path / "metrics.jsonl",
        console=Console(quiet=True),
        num_tokens_seen=lambda: next(seen),
    )
    args: Any = SimpleNamespace(world_size=4)
    state, control = TrainerState(), TrainerControl()
    log.on_train_begin(args, state, control)
    log.on_log(args, state, control, {"loss": 1.0})
    row = json.loads((tmp_path / "metrics.jsonl").read_text(encoding="utf-8"))
    assert row["tokens_per_second"] == 600.0  # 4 processes, each 300 tokens in 2 seconds


def log_on(console: Console, folder: Path, **options: Any) -> RunLog:
    return RunLog(folder / "metrics.jsonl", console=console, num_tokens_seen=lambda: 0, **options)


def terminal(width: int, height: int = 24) -> tuple[Screen, Console]:
    screen = Screen(width)
    return screen, Console(file=screen, force_terminal=True, width=width, height=height)


@pytest.mark.parametrize("width", [20, 40, 60, 200])
def test_a_terminal_of_any_width_has_all_figures(tmp_path: Path, width: int):
    screen, console = terminal(width)
    log, control = log_on(console, tmp_path), TrainerControl()
    log.on_train_begin(ARGS, state(), control)
    log.on_log(ARGS, state(), control, {**LOGS})
    log.on_log(ARGS, state(), control, {"eval_loss": 3.5, "eval_perplexity": 33.1})
    with stage("Continuing the prompts of samples"):
        shown = "\n".join(line.plain for line in log.lines(width))
    log.show_samples(["Мороз и "], [EVIL], step=12)
    log.close()
    for words in ("12/1,000", "left -:--:--", "loss 3.175", "held out 3.500", "lr 1.0e-04"):
        assert words in shown
    assert "Continuing the pr" in shown
    assert screen.widest <= width
    assert screen.is_cursor_shown
    lines = screen.lines()
    assert lines[0] == "--- sample at step 12:"[:width].rstrip() or width < 22
    assert "END" in "\n".join(lines)  # all of it, above the view
    assert "12/1,000" in "\n".join(lines[lines.index("END") + 1 :])
    assert "took" in "\n".join(lines)


def test_off_a_terminal_each_log_step_and_each_sample_is_a_line(tmp_path: Path):
    console = Console(file=StringIO(), width=100_000, soft_wrap=True)
    log, control = log_on(console, tmp_path), TrainerControl()
    log.on_train_begin(ARGS, state(), control)
    log.on_log(ARGS, state(), control, {**LOGS})
    log.show_samples(["[bold]a", "b\nc"], [EVIL, "x" * 9999], step=12)
    log.close()
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "step 12/1,000  loss 3.175  lr 1.0e-04  grad norm 0.812  0 tokens/s"
    assert lines[1].startswith("sample at step 12: [bold]a → «\\x1b[2J")
    assert lines[2].startswith("sample at step 12: b↵c → «xxxx")
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 3
    assert max(map(cell_len, lines)) < 1_000


def test_bits_a_byte_are_logged_where_bytes_are_known(tmp_path: Path):
    log, control = log_on(Console(quiet=True), tmp_path, bits_per_nat=0.5), TrainerControl()
    log.on_train_begin(ARGS, state(), control)
    log.on_log(ARGS, state(), control, {"eval_loss": 3.5, "eval_perplexity": 33.1})
    log.on_log(ARGS, state(), control, {**LOGS})
    rows = rows_of(tmp_path / "metrics.jsonl")
    assert [row.get("eval_bits_per_byte") for row in rows] == [1.75, None]


def test_bits_a_byte_while_training_are_those_of_the_figures_at_its_end(run: Run):
    result = run(data={"validation": 0.5}, training={"eval_strategy": "steps", "eval_steps": 3})
    rows = rows_of(result.run_dir / "metrics.jsonl")
    found = [row["eval_bits_per_byte"] for row in rows if "eval_loss" in row]
    assert result.validation is not None
    assert found == [pytest.approx(result.validation.bits_per_byte_after, rel=1e-6)]


def test_the_view_costs_a_thousand_steps_a_second_less_than_a_twentieth(tmp_path: Path):
    """A step's callbacks take less than 25 µs of its 1,000, and four drawings a second 25 ms."""
    _, console = terminal(200)
    log, control, at = log_on(console, tmp_path), TrainerControl(), state(0, 100_000)
    log.on_train_begin(ARGS, at, control)
    for _ in range(3_000):
        log.on_log(ARGS, at, control, {**LOGS}) if _ % 10 == 0 else None
    log.show_samples(["Мороз"], [EVIL], step=12)
    steps, drawings = [], []
    for _ in range(5):
        begun = time.thread_time()
        for _ in range(1_000):
            log.on_step_begin(ARGS, at, control)
            log.on_step_end(ARGS, at, control)
        steps.append((time.thread_time() - begun) / 1_000)
        begun = time.thread_time()
        console.render_lines(log.view)
        drawings.append(time.thread_time() - begun)
    log.close()
    assert min(steps) < 25e-6
    assert min(drawings) * 4 < 25e-3


def test_a_resumed_run_shows_the_losses_of_before(tmp_path: Path):
    log, at = log_on(Console(quiet=True), tmp_path), state()
    at.log_history = [{"loss": 4.0, "step": 1}, {"eval_loss": 3.0, "step": 1}, {"loss": 2.0}]
    log.on_train_begin(ARGS, at, TrainerControl())
    shown = [line.plain for line in log.lines(80)]
    assert "loss 2.000  held out 3.000" in shown
    assert "█▁ loss" in shown


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"should_evaluate": True, "should_save": True}, "measuring held-out text"),
        ({"should_save": True}, "saving a checkpoint"),
        ({}, ""),
    ],
)
def test_what_comes_after_a_step_is_named(tmp_path: Path, flags: dict[str, bool], words: str):
    log, control = log_on(Console(quiet=True), tmp_path), TrainerControl()
    log.on_train_begin(ARGS, state(), control)
    log.on_step_begin(ARGS, state(), control)
    for name in flags:
        setattr(control, name, True)
    log.on_step_end(ARGS, state(), control)
    assert log.lines(80)[0].plain.endswith(f"left -:--:--{words and '  '}{words}")
    log.on_evaluate(ARGS, state(), control)
    log.on_save(ARGS, state(), control)
    assert log.lines(80)[0].plain.endswith("left -:--:--")


def test_samples_are_shown_as_they_come(run: Run, monkeypatch: pytest.MonkeyPatch):
    shown: list[Any] = []
    show = RunLog.show_samples

    def spy(log: RunLog, prompts: Any, texts: Any, *, step: int) -> None:
        shown.append((step, [*prompts], [*texts]))
        show(log, prompts, texts, step=step)

    monkeypatch.setattr(RunLog, "show_samples", spy)
    run(samples={"prompts": ["Буря", "The"], "steps": 1})
    wanted = ["Буря", "The"], [" <- Буря", " <- The"]
    assert shown == [(1, *wanted), (2, *wanted)]
