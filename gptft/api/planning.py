"""A config -> what its run will take, before it begins: what `gptft plan` does."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from gptft.api.check import check_file, check_samples
from gptft.config.load import ConfigFile
from gptft.console import Notify, silent, stage
from gptft.data.prepare import prepare_blocks
from gptft.documents.scan import Progress
from gptft.errors import ConfigError, RunError
from gptft.files import free_bytes
from gptft.inputs import expand_user
from gptft.runs.plan import RunPlan, plan_run
from gptft.runs.plan_sizes import Length, Measured, Sizes

_SURE = 0.9  # of the free memory: a prediction below it is worth a try


def plan(
    file: ConfigFile,
    *,
    run_dir: Path,
    measure: bool = True,
    progress: Callable[[], AbstractContextManager[Progress | None]] = nullcontext,
    notify: Notify = silent,
) -> RunPlan:
    """Find out what `train` will take with the same config, and write nothing but the blocks.

    Args:
        file: see `read_config`.
        run_dir: where the run would go, unless training.output_dir says.
        measure: make a few steps of it, in a process of their own; else all is by arithmetic.
        progress: makes what is told (stage, bytes done, bytes in all) while texts are prepared.
        notify: told in a sentence what happens next.

    Raises:
        GptftError: anything that `train` would refuse before its first step.
    """
    checked = check_file(file)
    for sentence in checked.notices:
        notify(sentence)
    with progress() as told:
        prepared = prepare_blocks(checked.plan, progress=told, notify=notify)
    check_samples(checked, file, store_dir=prepared.path)
    run_dir = expand_user(checked.config.training.get("output_dir") or run_dir)
    asked = {
        "config": checked.config.resolved(), "store_dir": str(prepared.path.resolve()),
        "run_dir": str(run_dir), "timed": not measure,
    }  # fmt: skip
    with stage("Counting what the run takes"):
        predicted = _ask("predicted", asked)
    if predicted is None:
        raise RunError("The process that counts what the run takes was ended.")
    measured, is_tried = None, measure and _may_fit(predicted)
    if is_tried:
        with stage("Making three steps of the run"):
            measured = _ask("measured", asked)
    why = "the process was ended" if is_tried else "it doesn't fit, or nearly"
    no_step = f"No step was made: {why}." if measure and measured is None else None
    return _as_plan(predicted, measured, run_dir=run_dir, no_step=no_step)


def _may_fit(predicted: Mapping[str, Any]) -> bool:
    """Whether steps are worth a try: they fit, or nobody knows."""
    if predicted["sizes"] is None:
        return False
    peak, free = Sizes.from_json(predicted["sizes"]).peak(), predicted["free"]
    return peak is None or free is None or peak <= _SURE * free


def _as_plan(
    predicted: Mapping[str, Any],
    measured: Mapping[str, Any] | None,
    *,
    run_dir: Path,
    no_step: str | None,
) -> RunPlan:
    unknown = tuple(predicted["unknown"])
    if predicted["sizes"] is None:
        raise RunError(*unknown)
    return plan_run(
        Sizes.from_json(predicted["sizes"]),
        Length(**predicted["length"]),
        run_dir=run_dir,
        free=predicted["free"],
        free_disk=free_bytes(run_dir),
        measured=None if measured is None else Measured(**measured),
        flops_a_second=predicted["flops_a_second"],
        unknown=unknown if no_step is None else (*unknown, no_step),
    )


def _ask(what: str, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the process of `plan_worker` says when asked for it; None where it died before.

    Raises:
        GptftError: what it found wrong with the run.
    """
    # This very gptft, and no module that happens to lie in the working folder (-P).
    ours = str(Path(__file__).parents[2])
    paths = os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gptft.api.plan_worker"],
        env={**os.environ, "PYTHONPATH": paths},
        input=json.dumps({**asked, "what": what}), stdout=subprocess.PIPE, text=True,
        encoding="utf-8", check=False,
    )  # fmt: skip
    said: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line)
    if error := said.get("error"):
        kind = ConfigError if error["exit_code"] == ConfigError.exit_code else RunError
        raise kind(*error["problems"])
    found: dict[str, Any] | None = said.get(what)
    return found
