"""Warnings of libraries are kept in the run's log.txt, off the terminal and not for ever."""

import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import logging as transformers_logging

from gptft.errors import ConfigError
from gptft.training import library_log as module
from gptft.training.library_log import library_log
from gptft.training.run import Resume
from gptft.training.trainer import BlockTrainer
from tests.training.conftest import Run

SAYINGS = {
    "transformers": lambda text: transformers_logging.get_logger("transformers.x").warning(text),
    "torch": lambda text: logging.getLogger("torch.nn").warning(text),
    "datasets": lambda text: logging.getLogger("datasets.load").warning(text),
    "a logger of nobody": lambda text: logging.getLogger("nobody.x").warning(text),
    "the root": lambda text: logging.getLogger().warning(text),
    "warnings": lambda text: shown_warning(text),
}


def shown_warning(text: str) -> None:
    """As Python shows a warning; in tests it would be an error."""
    with warnings.catch_warnings():
        warnings.showwarning(UserWarning(text), UserWarning, "x.py", 1)


@pytest.fixture(autouse=True)
def _loggers():
    """With a handler of its own, as datasets has it."""
    own = logging.StreamHandler(sys.stderr)
    logging.getLogger("datasets").addHandler(own)
    yield
    assert own in logging.getLogger("datasets").handlers
    logging.getLogger("datasets").removeHandler(own)


@pytest.mark.parametrize("source", SAYINGS)
def test_whoever_warns_it_is_in_the_file_and_not_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], source: str
):
    said: list[str] = []
    with library_log(tmp_path, notify=said.append) as log:
        SAYINGS[source]("before")
        assert not (tmp_path / "log.txt").exists()
        log.open()
        SAYINGS[source]("after\nmore")
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 WARNING \S+: "
    assert re.fullmatch(f"{stamp}(UserWarning: )?before", lines[0])
    assert re.fullmatch(f"{stamp}(UserWarning: )?after", lines[1])
    assert lines[2:] == ["  more"]
    assert said == [f"2 warnings of the libraries: {tmp_path / 'log.txt'}"]
    assert capfd.readouterr().err == ""


def test_errors_are_shown_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shown: list[Any] = []
    monkeypatch.setattr(module, "notice", shown.append)
    with library_log(tmp_path, notify=lambda sentence: None) as log:
        log.open()
        logging.getLogger("torch.nn").error("broken %d", 7)
        logging.getLogger("torch.nn").warning("so so")
    assert shown == ["torch.nn: broken 7"]
    assert "ERROR torch.nn: broken 7" in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_nothing_is_made_or_said_where_nobody_warns(tmp_path: Path):
    said: list[str] = []
    handlers = {*logging.getLogger("transformers").handlers}
    with library_log(tmp_path, notify=said.append) as log:
        log.open()
        logging.getLogger("torch.nn").debug("fine")
    assert said == []
    assert [*tmp_path.iterdir()] == []
    assert {*logging.getLogger("transformers").handlers} == handlers


def test_what_is_repeated_is_written_ten_times_and_counted(tmp_path: Path):
    said: list[str] = []
    with library_log(tmp_path, notify=said.append) as log:
        log.open()
        for _ in range(1_000):
            logging.getLogger("torch").warning("again")
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 10
    assert lines[-1].endswith("again (said 10 times, and left out from here)")
    assert said[0].startswith("1000 warnings") or said[0].startswith("1,000 warnings")


def test_the_file_is_bounded_also_over_resumptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_LARGEST", 2_000)
    for beginning in "ab":
        with library_log(tmp_path, notify=lambda sentence: None) as log:
            log.open()
            for number in range(100):
                logging.getLogger("torch").warning(f"{beginning} {number} {'я' * 20}")
    text = (tmp_path / "log.txt").read_bytes()
    assert 1_900 < len(text) < 2_100
    assert b"what follows is left out.\n" in text[-60:]
    assert b": b " not in text


def test_a_message_that_cannot_be_formatted_or_written_ends_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "log.txt").mkdir()  # nobody can write there
    with library_log(tmp_path, notify=lambda sentence: None) as log:
        log.open()
        record = logging.LogRecord("torch", logging.WARNING, "x.py", 1, "%d", ("no number",), None)
        odd = logging.LogRecord("torch", logging.WARNING, "x.py", 1, "\ud800", (), None)
        for one in (record, odd):
            log.handle(one)  # past pytest's own handlers, which hand on what they catch
    assert capfd.readouterr().err == ""


def test_a_run_keeps_what_its_libraries_say_and_resuming_appends(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    stock = BlockTrainer.training_step

    def step(trainer: BlockTrainer, *args: Any, **kwargs: Any) -> Any:
        logging.getLogger("torch.optim").warning(f"step {trainer.state.global_step}")
        return stock(trainer, *args, **kwargs)

    monkeypatch.setattr(BlockTrainer, "training_step", step)
    said: list[str] = []
    saving = {"save_strategy": "steps", "save_steps": 1}
    result = run(training={**saving, "max_steps": 2}, notify=said.append)
    run(training={**saving, "max_steps": 3}, resume=Resume(extend=True), notify=said.append)
    text = (result.run_dir / "log.txt").read_text(encoding="utf-8")
    steps = [line[-6:] for line in text.splitlines() if "torch.optim" in line]
    assert steps == ["step 0", "step 1", "step 2"]
    told = [sentence for sentence in said if "of the libraries: " in sentence]
    assert len(told) == 2
    assert all(sentence.endswith(str(result.run_dir / "log.txt")) for sentence in told)


def test_a_run_that_is_refused_leaves_no_log(run: Run, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.block_size: 64"):
        run(data={"block_size": 128})
    assert not (tmp_path / "run").exists()
