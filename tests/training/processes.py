"""`gptft` in real processes, started from one that has imported everything already.

A child runs the command line as `python -m gptft` does, less the seconds of importing. A slowdown
makes one phase last, and says on stderr when it begins.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gptft.cli
import gptft.cli.app
import gptft.cli.train
import gptft.data.prepare
import gptft.decoding.engine
import gptft.report.html
import gptft.report.model_card
import gptft.training.checkpoint_saving as saving
import gptft.training.evaluation as evaluation
import gptft.training.run as runs
import gptft.training.setup as setups
import gptft.training.trainer as trainers

_PATIENCE = 60.0
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.training.processes"])


class Command:
    """A `gptft` that is at work."""

    def __init__(
        self,
        *args: str,
        log: Path,
        slow: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; `slow` names a slowdown, `log` takes what it says on both streams."""
        self._log = log
        log.write_text("", encoding="utf-8")
        wanted = {**os.environ, **(environment or {})}
        self._process = _context.Process(target=_child, args=(args, str(log), slow, wanted))
        self._process.start()

    @property
    def said(self) -> str:
        """What it has said so far."""
        return self._log.read_text(encoding="utf-8")

    def wait_for(self, words: str, *, after: str = "") -> "Command":
        """Wait until it has said something, behind something else where that is given."""
        until = time.monotonic() + _PATIENCE
        while words not in (self.said.partition(after)[2] if after else self.said):
            assert self._process.is_alive(), self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.01)
        return self

    def send(self, number: int) -> "Command":
        """Send a signal."""
        os.kill(self._process.pid or 0, number)
        return self

    def exit_code(self) -> int:
        """Wait for its end."""
        self._process.join(_PATIENCE)
        assert self._process.exitcode is not None, self.said
        return self._process.exitcode

    def stop(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.join()


def _child(args: tuple[str, ...], log: str, slow: str | None, wanted: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(wanted)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup, or in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if slow is not None:
        SLOW[slow]()
    sys.argv = ["gptft", *args]
    try:
        gptft.cli.main()
    finally:
        sys.stdout.flush()


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _before(owner: Any, name: str, words: str, seconds: float, *, after: int = 0) -> None:
    """Say something and sleep before the calls of a function, from the `after`-th on."""
    stock = getattr(owner, name)
    calls = 0

    def slow(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            _say(words)
            time.sleep(seconds)
        return stock(*args, **kwargs)

    setattr(owner, name, slow)


def _stuck_in_the_optimizer() -> None:
    stock = trainers.BlockTrainer._get_grad_norm

    def half(self: Any, *args: Any, **kwargs: Any) -> Any:
        norm = stock(self, *args, **kwargs)
        if self.state.global_step == 3:
            next(self.model.parameters()).data.zero_()
            _say("half updated")
            time.sleep(_PATIENCE)
        return norm

    trainers.BlockTrainer._get_grad_norm = half  # type: ignore[method-assign]


def _evaluations() -> None:
    stock = trainers.BlockTrainer.evaluate

    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 4:
            _before(evaluation, "row_losses", "evaluating", 0.5)
        return stock(self, *args, **kwargs)

    trainers.BlockTrainer.evaluate = evaluate  # type: ignore[method-assign]


def _calls(num_iterations: int) -> None:
    """Make the second step one long call of a library, in which Python can't take a signal."""
    stock, calls = trainers.BlockTrainer.training_step, 0

    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:  # of the second step, the first batch
            _say("calling")
            hashlib.pbkdf2_hmac("sha256", b"", b"", num_iterations)
            _say("called")
        return stock(*args, **kwargs)

    trainers.BlockTrainer.training_step = step  # type: ignore[method-assign]


SLOW: dict[str, Callable[[], None]] = {
    "steps": lambda: _before(trainers.BlockTrainer, "training_step", "stepping", 0.1),
    "long steps": lambda: _before(trainers.BlockTrainer, "training_step", "stepping", 0.6),
    "preparing": lambda: _before(gptft.data.prepare, "prepare_blocks", "preparing", _PATIENCE),
    "loading": lambda: _before(setups, "load_base", "loading", _PATIENCE),
    "measuring": lambda: _before(evaluation, "row_losses", "measuring", _PATIENCE),
    "evaluating": _evaluations,
    "committing": lambda: _before(saving, "commit_checkpoint", "committing", 0.5),
    "finishing": lambda: _before(runs.TrainingRun, "finish", "finishing", _PATIENCE),
    "writing": lambda: _before(runs, "save_model", "writing", 0.5),
    "long call": lambda: _calls(2_000_000),
    "endless call": lambda: _calls(2**31 - 1),
    "optimizer": _stuck_in_the_optimizer,
}
