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
        said = _ask("predicted", asked)
    if (predicted := said.get("predicted")) is None:
        raise RunError(f"The process that counts ended with code {said['code']}.")
    if predicted["sizes"] is None:
        raise RunError(*predicted["unknown"])
    sizes, free, unknown = Sizes.from_json(predicted["sizes"]), predicted["free"], []
    peak, measured = sizes.peak(), None
    if measure and peak is not None and free is not None and peak > _SURE * free:
        unknown.append("No step was made: it doesn't fit, or nearly.")
    elif measure:
        with stage("Making three steps of the run"):
            measured = _ask("measured", asked).get("measured")
        if measured is None:
            unknown.append("No step was made: the process was ended.")
    return plan_run(
        sizes,
        Length(**predicted["length"]),
        run_dir=run_dir,
        free=free,
        free_disk=free_bytes(run_dir),
        measured=None if measured is None else Measured(**measured),
        flops_a_second=predicted["flops_a_second"],
        unknown=(*predicted["unknown"], *unknown),
    )


def _ask(what: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the process of `plan_worker` says when asked for it, if it lived to, and its exit code.

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
    said: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    if error := said.get("error"):
        kind = ConfigError if error["exit_code"] == ConfigError.exit_code else RunError
        raise kind(*error["problems"])
    return {**said, "code": done.returncode}
