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
from gptft.config.sections import Config
from gptft.console import Notify, silent, stage
from gptft.data.prepare import prepare_blocks
from gptft.documents.scan import Progress
from gptft.errors import ConfigError, GptftError, RunError
from gptft.files import free_bytes
from gptft.inputs import expand_user
from gptft.runs.plan import RunPlan, plan_run
from gptft.runs.plan_sizes import Length, Measured, Sizes


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
    doing = "Making two steps of the run" if measure else "Counting what the run takes"
    with stage(doing):
        said = _ask(checked.config, store_dir=prepared.path, run_dir=run_dir, measure=measure)
    return _as_plan(said, run_dir=run_dir, measure=measure)


def _as_plan(said: Mapping[str, Any], *, run_dir: Path, measure: bool) -> RunPlan:
    predicted, measured = said["predicted"], said.get("measured")
    unknown = [*predicted["unknown"]]
    if predicted["sizes"] is None:
        raise RunError(*unknown)
    sizes, free = Sizes.from_json(predicted["sizes"]), predicted["free"]
    if measure and measured is None:
        peak = sizes.peak()
        is_too_much = peak is not None and free is not None and not said.get("died")
        why = "it doesn't fit, or nearly" if is_too_much else "the process was ended"
        unknown.append(f"No step was made: {why}.")
    return plan_run(
        sizes,
        Length(**predicted["length"]),
        run_dir=run_dir,
        free=free,
        free_disk=free_bytes(run_dir),
        measured=None if measured is None else Measured(**measured),
        flops_a_second=predicted["flops_a_second"],
        unknown=tuple(unknown),
    )


def _ask(config: Config, *, store_dir: Path, run_dir: Path, measure: bool) -> dict[str, Any]:
    """What the process of `plan_worker` says, by what it is about.

    Raises:
        GptftError: what it found wrong with the run.
        RunError: it died before it said anything.
    """
    asked = {
        "config": config.resolved(), "store_dir": str(store_dir.resolve()),
        "run_dir": str(run_dir), "measure": measure,
    }  # fmt: skip
    # This very gptft, and no module that happens to lie in the working folder (-P).
    ours = str(Path(__file__).parents[2])
    paths = os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gptft.api.plan_worker"],
        env={**os.environ, "PYTHONPATH": paths},
        input=json.dumps(asked), stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    said: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line)
    if error := said.get("error"):
        kind = ConfigError if error["exit_code"] == ConfigError.exit_code else RunError
        raise kind(*error["problems"])
    if "predicted" not in said:
        raise GptftError(f"The process that counts ended with code {done.returncode}.")
    return said | {"died": bool(done.returncode)}
