"""A config on standard input -> what its run will take, on standard output: a process of its own.

`gptft plan` starts it once to predict, on tensors without contents, and once more to make steps if
that was asked for and fits: memory is counted of a process that does what `gptft train` does and
nothing else, and what doesn't fit ends this process and not the command. It writes a line of JSON:
what was found out, or an error.
"""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptft.config.sections import Config
from gptft.console import loading_libraries
from gptft.errors import GptftError
from gptft.files import as_json
from gptft.models.free_memory import free_memory, resident_memory

if TYPE_CHECKING:
    from gptft.runs.plan_sizes import Measured, Sizes

_LOADED = ("analysis.evaluate.general", "decoding.engine", "decoding.recite", "api.training")


def main() -> None:
    """Answer the one request on standard input."""
    started = time.perf_counter()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asked = json.load(sys.stdin)
    config = Config.model_validate(asked["config"])
    try:
        _answer(config, asked, started=started)
    except GptftError as error:
        _say(error={"problems": error.problems, "exit_code": error.exit_code})


def _answer(config: Config, asked: Mapping[str, Any], *, started: float) -> None:
    _load_what_training_loads()
    from transformers.utils import logging as transformers_logging

    from gptft.training.train import prepare_process

    prepare_process(config)
    transformers_logging.set_verbosity_error()  # a run keeps what they say in its folder
    store_dir, run_dir = Path(asked["store_dir"]), Path(asked["run_dir"])
    if asked["what"] == "measured":
        _say(measured=_measure(config, store_dir, started=started))
        return
    from gptft.training.planning.predict import predict
    from gptft.training.planning.timing import flops_a_second

    libraries = resident_memory() or 0
    found = predict(config, store_dir=store_dir, run_dir=run_dir, libraries=libraries)
    rate = flops_a_second(is_mixed=found.is_mixed) if asked["timed"] else None
    _say(predicted={**vars(found), "free": _free(found.sizes), "flops_a_second": rate})


def _measure(config: Config, store_dir: Path, *, started: float) -> "Measured":
    """Steps of the run, in a folder that goes with them."""
    from gptft.training.planning.timing import time_steps
    from gptft.training.setup import set_up
    from gptft.training.signals import Signals

    training = {n: v for n, v in config.training.items() if n != "stop_when_memorized"}
    with tempfile.TemporaryDirectory() as folder:
        setup = set_up(
            config.model_copy(update={"training": training}), store_dir=store_dir,
            run_dir=Path(folder) / "run", signals=Signals(),
        )  # fmt: skip
        return time_steps(setup, started=started)


def _load_what_training_loads() -> None:
    """What `gptft train` has in memory beside a model."""
    from importlib import import_module

    with loading_libraries():
        for name in _LOADED:
            import_module(f"gptft.{name}")


def _free(sizes: "Sizes | None") -> int | None:
    """Bytes that are free where the model is to be."""
    if sizes is not None and sizes.device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    free = free_memory()
    return None if free is None else free + (resident_memory() or 0)  # this process goes


def _say(**said: Any) -> None:
    sys.stdout.write(json.dumps(as_json(said)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
