"""Models and texts -> losses side by side, and a page of them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptft.api.configs import default_config
from gptft.config.data import DataConfig
from gptft.console import Notify, loading_libraries, silent
from gptft.errors import ConfigError
from gptft.models.hub import require_model
from gptft.report.page_file import check_page_path, write_page
from gptft.text.scripts import page_language

if TYPE_CHECKING:
    from gptft.analysis.evaluate.evaluate import Bar
    from gptft.analysis.evaluate.results import Evaluation, TaskFigure
    from gptft.models.precision import DtypeName
    from gptft.text.scripts import PageLanguage

# What of `data:` says how a text is read, and not what is made of it.
READING = (
    "exclude", "encoding", "line_ends", "text_field", "template", "streaming",
    "document_separator", "document_heading",
)  # fmt: skip


def evaluate(
    models: Sequence[str],
    data: Sequence[str],
    *,
    overrides: Sequence[str] = (),
    window: int | None = None,
    stride: int | None = None,
    counts_eos: bool = False,
    num_hardest: int = 5,
    seed: int = 0,
    html: Path | None = None,
    lang: "PageLanguage | None" = None,
    overwrite: bool = False,
    dtype: "DtypeName" = "auto",
    use_cpu: bool = False,
    bar: "Bar" = nullcontext,
    notify: Notify = silent,
) -> "Evaluation":
    """How well models predict documents: loss, bits a byte, intervals, calibration.

    Args:
        models: each pico, a model or run folder, a .gguf file or a hub id.
        data: files, folders, globs, `hub:` datasets, and `-` for standard input.
        overrides: `data.key=value` each, of the settings that say how texts are read.
        window: tokens that are read at once; the model's context if not given.
        stride: tokens by which the window moves on; half of the window if not given.
        counts_eos: whether EOS after each document is predicted, too.
        num_hardest: documents whose text is kept for each model.
        seed: of the resampling.
        html: a page to write, too.
        lang: the page's language; None for that of the hardest documents, else English.
        overwrite: whether the page may replace anything; else only another page of gptft.
        dtype: of the weights.
        use_cpu: run on the CPU even if an accelerator is available.
        bar: opened for each thing that takes long, and told what it is, bytes done, bytes in all.
        notify: told in a sentence what was skipped, written or can't be compared.

    Raises:
        ConfigError: a name or a setting that can't be had, or the page would replace something.
        DataError: a text can't be read, or there is none.
        ModelError: a model can't be found, read or scored with.
        RunError: the page can't be written.
    """
    for name in models:
        require_model(name)  # before the texts are read and the seconds that loading takes
    if html is not None:
        check_page_path(html, inputs=[Path(name) for name in data], overwrite=overwrite)
    reading = _reading(data, overrides)
    asked = {
        "window": window, "stride": stride, "counts_eos": counts_eos, "num_hardest": num_hardest
    }  # fmt: skip
    loading = {"dtype": dtype, "use_cpu": use_cpu}
    found = _measured(models, data, reading, asked, seed=seed, bar=bar, notify=notify, **loading)
    if html is not None:
        from gptft.report.evaluation import evaluation_html

        hardest = "\n".join(text for one in found.models for _, text in one.hardest)
        write_page(html, evaluation_html(found, lang or page_language(hardest)), notify=notify)
    return found


def evaluate_tasks(
    models: Sequence[str],
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    dtype: "DtypeName" = "auto",
    use_cpu: bool = False,
) -> "list[TaskFigure]":
    """What lm-evaluation-harness measures of models, where the package lm-eval is installed.

    Args:
        models: each pico, a model or run folder, a .gguf file or a hub id.
        tasks: by the harness's names.
        limit: questions of each task; all if not given.
        dtype: of the weights.
        use_cpu: run on the CPU even if an accelerator is available.

    Raises:
        ConfigError: the package isn't installed, or no task is named.
        ModelError: a model can't be found or read.
        RunError: the harness fails.
    """
    for name in models:
        require_model(name)
    with loading_libraries():
        from gptft.analysis.evaluate.tasks import measure_tasks
    return measure_tasks(models, tasks, limit=limit, dtype=dtype, use_cpu=use_cpu)


def _measured(
    models: Sequence[str],
    data: Sequence[str],
    reading: DataConfig | None,
    asked: Mapping[str, Any],
    *,
    bar: "Bar",
    notify: Notify,
    **given: Any,
) -> "Evaluation":
    from gptft.analysis.evaluate.corpus import open_corpus

    with bar() as progress:
        corpus = open_corpus(data, reading, progress=progress, notify=notify)
    with loading_libraries():
        from gptft.analysis.evaluate.evaluate import evaluate
        from gptft.analysis.evaluate.measure import Asked
    return evaluate(models, corpus, asked=Asked(**asked), bar=bar, notify=notify, **given)


def _reading(names: Sequence[str], overrides: Sequence[str]) -> DataConfig | None:
    """The settings that texts are read with; None where none is given."""
    if not overrides:
        return None
    for override in overrides:
        name = override.partition("=")[0].strip()
        if name.removeprefix("data.") not in READING or not name.startswith("data."):
            raise ConfigError(
                f"--set {override}: {name} says nothing of how a text is read. Here --set takes "
                f"{', '.join(f'data.{one}' for one in READING)}."
            )
    train: list[Any] = list(names)
    config = default_config(overrides=[f"data.train={json.dumps(train)}", *overrides])
    return config.data
