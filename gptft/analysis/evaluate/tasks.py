"""Models and names of tasks -> what lm-evaluation-harness measures, where it is installed."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gptft.analysis.evaluate.results import TaskFigure
from gptft.console import loading_libraries, stage
from gptft.decoding.loaded_model import open_model
from gptft.errors import ConfigError, RunError
from gptft.models.precision import DtypeName


def require_harness() -> None:
    """See that lm-evaluation-harness is installed.

    Raises:
        ConfigError: it isn't.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError(
            '--tasks takes the package lm-eval. Install it: pip install "gptft[eval]"'
        )


def measure_tasks(
    model_names: Sequence[str],
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    dtype: DtypeName = "auto",
    use_cpu: bool = False,
) -> list[TaskFigure]:
    """Measure models on tasks of lm-evaluation-harness, with its own defaults.

    Args:
        model_names: at least one.
        tasks: by the harness's names, or YAML files of tasks.
        limit: questions of each task; all if not given.
        dtype: of the weights.
        use_cpu: run on the CPU even if an accelerator is available.

    Raises:
        ConfigError: the harness isn't installed, no task is named, or it knows none of that name.
        ModelError: a model can't be found or read.
        RunError: the harness fails, as where it can't fetch a dataset.
    """
    require_harness()
    if not tasks or not all(tasks):
        raise ConfigError("--tasks names no task. Give some: --tasks hellaswag,arc_easy")
    manager = _known(tasks)
    found: list[TaskFigure] = []
    for name in model_names:
        with stage(f"Loading {name}"):
            model, tokenizer = open_model(name, dtype=dtype, use_cpu=use_cpu)
        found += _figures(name, _run(model, tokenizer, tasks, manager=manager, limit=limit))
    return found


def _known(tasks: Sequence[str]) -> Any:
    """The harness's list of tasks, all of these among them; a YAML file is one, too."""
    with _quiet_stdout(), loading_libraries():
        from lm_eval.tasks import TaskManager

        manager = TaskManager()
    unknown = [name for name in tasks if name not in manager.all_tasks and not Path(name).is_file()]
    if unknown:
        near = get_close_matches(unknown[0], manager.all_tasks, n=3)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(
            f"--tasks: lm-evaluation-harness knows no task {' and none '.join(unknown)}.{meant} "
            "`lm_eval ls tasks` lists them; a YAML file of a task is taken, too."
        )
    return manager


def _run(
    model: Any, tokenizer: Any, tasks: Sequence[str], *, manager: Any, limit: int | None
) -> Any:
    try:
        with _quiet_stdout():
            from lm_eval import simple_evaluate
            from lm_eval.models.huggingface import HFLM

            return simple_evaluate(
                # A model that is open: a run, a .gguf file or an adapter is as gptft reads it.
                model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1),
                tasks=list(tasks), task_manager=manager, limit=limit, log_samples=False,
            )  # fmt: skip
    except Exception as error:  # the harness, its tasks and datasets raise anything
        said = " ".join(str(error).split()) or type(error).__name__
        raise RunError(
            f"lm-evaluation-harness can't measure {', '.join(tasks)}: {said[:500]}"
        ) from error


def _quiet_stdout() -> AbstractContextManager[object]:
    """What the harness prints goes to stderr: stdout is the result's."""
    return redirect_stdout(sys.stderr)


def _figures(name: str, results: Any) -> Iterator[TaskFigure]:
    by_task = results["results"] if isinstance(results, Mapping) else {}
    shots = results.get("n-shot", {}) if by_task else {}
    for task, values in by_task.items():
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            # Beside metrics the harness keeps the number of samples, which has no filter.
            if not filtered or metric.endswith("_stderr") or not is_number:
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            yield TaskFigure(
                model=name,
                task=task,
                num_fewshot=shots.get(task),
                metric=metric if filtered == "none" else f"{metric},{filtered}",
                value=float(value),
                standard_error=float(error) if isinstance(error, int | float) else None,
            )
