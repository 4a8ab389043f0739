"""`gptft train`: text and a base model -> a run folder with a tuned model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gptft.cli.options import (
    AsJson,
    ConfigFile,
    Overrides,
    progress_bar,
)
from gptft.terminal.draw import Table
from gptft.terminal.words import count

if TYPE_CHECKING:
    from gptft.training.result import TrainResult


def train(
    config_file: ConfigFile,
    overrides: Overrides = [],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in the same folder.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the newest intact checkpoint, if any.")
    ] = False,
    allow_change: Annotated[
        list[str],
        typer.Option(
            "--allow-change",
            metavar="FIELD",
            help="With --resume: allow this setting to have changed; repeatable.",
        ),
    ] = [],
    extend: Annotated[
        bool, typer.Option("--extend", help="With --resume: train further than was planned.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a model on the texts of CONFIG, or train a new one."""
    from gptft.api import read_config
    from gptft.api.check import check_file
    from gptft.config.load import is_yaml
    from gptft.console import is_first_process, notice, result, result_json, stderr
    from gptft.data.prepare import prepare_blocks
    from gptft.errors import ConfigError
    from gptft.runs.read import read_facts
    from gptft.runs.run_folder import check_free

    if (allow_change or extend) and not resume:
        raise ConfigError("--allow-change and --extend go with --resume. Add it.")
    if resume and overwrite:
        raise ConfigError("--resume continues a run, --overwrite replaces it. Give one of them.")
    file = read_config(config_file, overrides=overrides)
    if file.problems:
        check_file(file)  # which names these and all others
    config = file.checked()
    named = config.training.get("output_dir")
    run_dir = Path(named or f"runs/{config_file.resolve().stem}").expanduser()
    earlier = read_facts(run_dir) if resume else None
    if earlier is None and not run_dir.is_file():  # which is a mistake in the config
        check_free(run_dir, overwrite=overwrite)
    elif earlier is not None and earlier.get("state") == "done" and not extend:
        _complete_report(run_dir)
        steps = earlier["result"]["steps"]
        if as_json:
            result_json({**earlier["result"], "resumed_steps": 0})
        else:
            result(f"{run_dir} is complete: {count(steps, 'step')}. Train further with --extend.")
        return
    if not is_yaml(config_file):
        notice(
            f"No config: the recipe for a text, which `gptft config show {config_file}` prints. "
            "Change it with --set."
        )
    checked = check_file(file)
    with progress_bar() as progress:
        prepared = prepare_blocks(checked.plan, progress=progress, notify=notice)
    for sentence in prepared.sentences():
        notice(sentence)

    from gptft.decoding.engine import make_sampler
    from gptft.training.run import Resume
    from gptft.training.train import train_model

    outcome = train_model(
        config,
        store_dir=prepared.path,
        run_dir=run_dir,
        sampler=make_sampler(checked.settings),
        console=stderr(),
        overwrite=overwrite,
        resume=Resume(tuple(allow_change), extend) if resume else None,
        notify=notice,
    )
    if is_first_process():
        _write_reports(run_dir)
    if as_json:
        result_json(outcome)
    else:
        _print_result(outcome)


def _complete_report(run_dir: Path) -> None:
    """Write what a run that was killed in its very last moment still lacks."""
    if all((run_dir / name).is_file() for name in ("model/README.md", "report.html")):
        return
    _write_reports(run_dir)


def _write_reports(run_dir: Path) -> None:
    from gptft.report.html import write_report
    from gptft.report.model_card import write_model_card

    write_model_card(run_dir)
    write_report(run_dir)


def _print_result(outcome: "TrainResult") -> None:
    from gptft.console import notice, result

    measured = {"training text": outcome.train, "held out": outcome.validation}
    rows = [
        (
            name,
            f"{figures.loss_before:.3f}",
            f"{figures.loss_after:.3f}",
            f"{figures.perplexity_before:,.2f}",
            f"{figures.perplexity_after:,.2f}",
        )
        for name, figures in measured.items()
        if figures is not None
    ]
    heads = ("", "loss before", "after", "perplexity before", "after")
    result(Table(rows, "lrrrr", heads=heads))
    for sample in outcome.samples:
        result(f"prompt: {sample.prompt}")
        result(f"--- before:\n{sample.prompt}{sample.before}")
        result(f"--- after:\n{sample.prompt}{sample.after}\n")
    notice(
        f"{count(outcome.steps, 'step')}, {count(outcome.num_tokens, 'token')} in "
        f"{outcome.seconds:.1f} s. Report: {outcome.run_dir / 'report.html'}. "
        f"The model is in {outcome.run_dir / 'model'}. Let it continue a prompt:\n"
        f'  gptft generate {outcome.run_dir} -p "..."'
    )
