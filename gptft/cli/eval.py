"""`gptft eval`: models and documents -> how well each predicts them, side by side."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from gptft.cli.options import (
    DTYPE,
    AsJson,
    DtypeName,
    Lang,
    OverwritePage,
    UseCpu,
    print_result,
    progress_bar,
)
from gptft.console import notice, result, result_json
from gptft.errors import ConfigError


def eval(
    models: Annotated[
        list[str],
        Argument(
            metavar="MODEL...",
            help="Runs or model folders, .gguf files, hub ids, or pico.",
            show_default=False,
        ),
    ],
    data: Annotated[
        list[str],
        Option(
            "--data",
            "-d",
            metavar="PATH",
            help="A file, a folder, a glob, hub:NAME, or - for standard input; repeatable.",
        ),
    ] = [],
    overrides: Annotated[
        list[str],
        Option(
            "--set",
            metavar="data.KEY=VALUE",
            help="How texts are read, such as data.text_field=body; repeatable.",
        ),
    ] = [],
    window: Annotated[
        int | None,
        Option(metavar="N", min=1, help="Tokens read at once; the model's context by default."),
    ] = None,
    stride: Annotated[
        int | None,
        Option(metavar="N", min=1, help="Tokens it moves on by; half the window by default."),
    ] = None,
    eos: Annotated[
        bool, Option("--eos", help="Have EOS predicted after each document, too.")
    ] = False,
    hardest: Annotated[
        int, Option(metavar="N", min=0, help="Documents to show that a model finds hardest.")
    ] = 5,
    seed: Annotated[int, Option(metavar="N", min=0, help="Draws documents for intervals.")] = 0,
    tasks: Annotated[
        str | None,
        Option(
            metavar="NAMES",
            help="Tasks of lm-evaluation-harness instead of --data: hellaswag,arc_easy.",
        ),
    ] = None,
    limit: Annotated[
        int | None, Option(metavar="N", min=1, help="Questions of each task; all by default.")
    ] = None,
    dtype: Annotated[DtypeName, DTYPE] = "auto",
    use_cpu: UseCpu = False,
    html: Annotated[Path | None, Option(metavar="FILE", help="Write it as a page, too.")] = None,
    lang: Lang = None,
    overwrite: OverwritePage = False,
    as_json: AsJson = False,
) -> None:
    """Measure models on documents: bits a byte, loss, calibration, the hardest ones.

    Several models are put side by side, each compared with the first; bits a byte can be compared
    whatever their tokenizers, perplexity only under one.
    """
    from gptft import api
    from gptft.analysis.evaluate.view import evaluation_view, notes, task_view

    if tasks is not None:
        if data or html is not None:
            raise ConfigError(
                "--tasks measures on the harness's own texts, and goes with neither --data nor "
                "--html. Give one of them."
            )
        names = [name.strip() for name in tasks.split(",")]
        figures = api.evaluate_tasks(models, names, limit=limit, dtype=dtype, use_cpu=use_cpu)
        print_result(figures, task_view, as_json=as_json)
        return
    if limit is not None:
        raise ConfigError("--limit is of --tasks. Leave it out.")
    if not data:
        raise ConfigError(
            "There is no text to measure on. Name one: gptft eval pico --data my-texts"
        )
    found = api.evaluate(
        models, data, overrides=overrides, window=window, stride=stride, counts_eos=eos,
        num_hardest=hardest, seed=seed, html=html, lang=lang, overwrite=overwrite, dtype=dtype,
        use_cpu=use_cpu, bar=progress_bar, notify=notice,
    )  # fmt: skip
    if as_json:
        result_json(found)
        return
    result(evaluation_view(found))
    for sentence in notes(found):
        notice(sentence)
