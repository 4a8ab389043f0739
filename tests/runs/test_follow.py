"""A run watched from another process: what is new, when it ends, and that nothing is written."""

import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gptft.console import stdout
from gptft.errors import ConfigError
from gptft.files import keep_json_lines
from gptft.runs import run_folder
from gptft.runs.follow import Update, follow_run
from gptft.runs.follow_view import show_updates
from gptft.runs.run_folder import LOCK, hold, is_held
from tests.runs.test_status import held, make_run

Script = list[Callable[[], object]]

# Runs `gptft runs show RUN --follow`, and says of each file that is opened to be written, and of
# each lock that is taken.
WATCHED = """
import os, sys
def hook(event, args):
    flags = args[2] if event == "open" and isinstance(args[2], int) else 0
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        if isinstance(args[0], str) and not args[0].startswith("/dev/"):
            sys.__stderr__.write(f"WRITES {args[0]}\\n")
    if event in ("fcntl.flock", "fcntl.lockf", "os.remove", "os.rename", "os.mkdir", "os.rmdir"):
        sys.__stderr__.write(f"DOES {event} {args}\\n")
from gptft.cli import main
import gptft.cli.app, gptft.cli.runs, gptft.runs.follow, rich.console
sys.dont_write_bytecode = True
sys.addaudithook(hook)
sys.argv = ["gptft", "runs", "show", sys.argv[1], "--follow"]
main()
"""


def add(run_dir: Path, *rows: dict[str, Any] | str) -> Callable[[], None]:
    """What appends rows to a run's log."""

    def write() -> None:
        with (run_dir / "metrics.jsonl").open("a", encoding="utf-8") as log:
            log.writelines(f"{row if isinstance(row, str) else json.dumps(row)}" for row in rows)

    return write


def row(step: int, loss: float) -> str:
    return json.dumps({"step": step, "loss": loss}) + "\n"


def says(run_dir: Path, **facts: Any) -> Callable[[], object]:
    text = json.dumps({"config": {}, **facts})
    return lambda: (run_dir / "run.json").write_text(text, encoding="utf-8")


def followed(run_dir: Path, script: Script) -> Iterator[Update]:
    """Follow a run; each time nothing is new the next of the script happens."""
    steps = iter(script)
    return follow_run(run_dir, wait=lambda seconds: next(steps)())


def steps_of(update: Update) -> list[Any]:
    return [one.get("step") for one in update.rows]


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[tuple[Path, ExitStack]]:
    """A run that another process holds, and what lets go of it when it is closed."""
    folder = make_run(tmp_path / "my", row(1, 3.0), state="running")
    with ExitStack() as stack:
        stack.enter_context(held(folder))
        yield folder, stack


def test_rows_come_as_they_are_written_until_the_run_ends(at_work: tuple[Path, ExitStack]):
    folder, _ = at_work
    script = [
        lambda: None,
        add(folder, "\n", row(2, 2.5), '{"step": 3, "lo'),
        add(folder, 'ss": 2.0}\n'),
        says(folder, state="done", result={"steps": 3}),
    ]
    updates = [*followed(folder, script)]
    assert [steps_of(one) for one in updates] == [[1], [2], [3], []]
    assert [one.back_to for one in updates] == [None] * 4
    assert [one.shown.status.state for one in updates] == ["running"] * 3 + ["damaged"]


def test_a_run_that_is_resumed_meanwhile_goes_back(at_work: tuple[Path, ExitStack]):
    folder, work = at_work
    log = folder / "metrics.jsonl"
    script = [
        add(folder, "\n", *(row(n, 3 - n / 8) for n in range(2, 6))),
        lambda: keep_json_lines(log, until_step=3),
        add(folder, row(4, 1.0), row(5, 0.5)),
        lambda: log.write_text("", encoding="utf-8"),
        log.unlink,
        add(folder, row(1, 9.0)),
        work.close,
    ]
    updates = [*followed(folder, script)]
    assert [(steps_of(one), one.back_to) for one in updates] == [
        ([1], None),
        ([2, 3, 4, 5], None),
        ([], 3),
        ([4, 5], None),
        ([], 0),
        ([], None),
        ([1], None),
        ([], None),
    ]
    assert updates[-1].shown.status.state == "stopped"


def test_a_folder_that_is_held_and_holds_no_run_yet_is_waited_for(tmp_path: Path):
    folder = tmp_path / "new"
    folder.mkdir()
    with ExitStack() as stack:
        stack.enter_context(held(folder))
        script = [lambda: None, says(folder, state="running"), stack.close]
        updates = [*followed(folder, script)]
    assert [one.shown.status.state for one in updates] == ["running", "stopped"]


def test_a_run_that_nobody_works_on_is_shown_once(tmp_path: Path):
    folder = make_run(tmp_path / "my", row(1, 3.0), state="failed", error="Full.")
    [update] = followed(folder, [])
    assert update.shown.status.reason == "Full."
    with pytest.raises(ConfigError, match="no such run"):
        [*followed(tmp_path / "none", [])]


def test_off_a_terminal_a_row_is_a_line(
    at_work: tuple[Path, ExitStack], capsys: pytest.CaptureFixture[str]
):
    folder, work = at_work
    script = [
        says(folder, state="running", config={"training": {"max_steps": 8}}),
        add(folder, "\n", row(2, 2.5), '{"step": 2, "eval_loss": null}\n', '{"loss": "x"}\n'),
        lambda: keep_json_lines(folder / "metrics.jsonl", until_step=1),
        work.close,
    ]
    stdout.cache_clear()
    show_updates(followed(folder, script), stdout())
    stdout.cache_clear()
    assert capsys.readouterr().out.splitlines() == [
        "step 1\tloss 3.000",
        "step 2/8\tloss 2.500",
        "step 2/8\theld out nan",
        "step -/8\tloss nan",
        "resumed from step 1",
    ]


def watch(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, None])
def test_following_writes_nothing_takes_no_lock_and_ends(
    at_work: tuple[Path, ExitStack], number: int | None
):
    folder, work = at_work
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with watch(folder) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "step 1\tloss 3.000\n"
            after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
            if number is not None:
                process.send_signal(number)
            else:
                add(folder, "\n", row(2, 2.0))()
                assert process.stdout.readline() == "step 2\tloss 2.000\n"
                says(folder, state="failed", error="Disk full.")()
                work.close()
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert after == before
    assert process.returncode == (130 if number is not None else 0), err
    assert "WRITES" not in err
    assert "Traceback" not in err
    if sys.platform == "linux" and number is not None:  # else once, when nobody was found at work
        assert "DOES" not in err
    if number is None:
        assert "failed, step 2" in out


@pytest.mark.parametrize("listed", [True, False])
def test_whether_a_folder_is_held_is_told_without_disturbing_whoever_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool
):
    if not listed:  # as in another container, or on another system
        monkeypatch.setattr(run_folder, "_is_listed", lambda lock: False)
    assert not is_held(tmp_path)
    with held(tmp_path):
        assert is_held(tmp_path)
        os.chmod(tmp_path / LOCK, 0o444)
        assert is_held(tmp_path)
    assert (tmp_path / LOCK).exists()
    assert not is_held(tmp_path)


def test_a_run_begins_while_others_look(tmp_path: Path):
    (tmp_path / LOCK).write_text("", encoding="utf-8")
    with (tmp_path / LOCK).open(encoding="utf-8") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with hold(tmp_path):
            assert is_held(tmp_path)


@pytest.mark.parametrize("width", [20, 80])
def test_on_a_terminal_it_is_drawn_anew(at_work: tuple[Path, ExitStack], width: int):
    folder, work = at_work
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=width, height=24)
    script = [add(folder, "\n", row(2, 2.5)), work.close]
    show_updates(followed(folder, script), terminal)
    drawn = screen.getvalue()
    assert drawn.count("•") > 10
    assert "\x1b[1A\x1b[2K" in drawn  # what was there before is drawn over
    assert drawn.rstrip().endswith("\x1b[2K")  # and nothing is left of it
