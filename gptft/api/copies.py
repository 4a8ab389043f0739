"""A run and texts its model wrote -> how much of them is copied from its training text."""

import os
from collections.abc import Sequence
from pathlib import Path

from gptft.analysis.memorization import Memorization, measure_memorization
from gptft.analysis.written_texts import last_samples, read_texts
from gptft.console import Notify, silent
from gptft.errors import ConfigError
from gptft.inputs import is_file, is_folder, near_names
from gptft.report.page_file import check_page_path, write_page
from gptft.runs.model_folder import ADAPTER, MODEL
from gptft.terminal.commands import command_line, path_word
from gptft.text.scripts import PageLanguage, page_language


def novelty(
    run: Path,
    files: Sequence[str] = (),
    *,
    html: Path | None = None,
    lang: PageLanguage | None = None,
    overwrite: bool = False,
    notify: Notify = silent,
) -> Memorization:
    """How much of what a run's model wrote is copied from its training text, and from where.

    Args:
        run: a run folder.
        files: what `gptft generate --json` prints, JSON lines, or plain texts; `-` is standard
            input. The run's own last samples if there is none.
        html: a page to write, too.
        lang: the page's language; None for that of the texts, English where it isn't Russian.
        overwrite: whether the page may replace anything; else only another page of gptft.
        notify: told in a sentence what is looked at, and what was written.

    Raises:
        ConfigError: it is no run, there is no text, or the page would replace something else.
        DataError: a file can't be read.
        RunError: the run or its training text can't be read, or the page can't be written.
    """
    if html is not None:
        inputs = [Path(name) for name in files if name != "-"]
        check_page_path(html, inputs=inputs, overwrite=overwrite)
    if not is_file(run / "run.json"):
        raise ConfigError(_not_a_run(run))
    if files:
        texts = [text for name in files for text in read_texts(name)]
    else:
        step, texts = last_samples(run)
        notify(f"The texts are the run's own samples after step {step:,}.")
    measured = measure_memorization(run, texts, notify=notify)
    if measured.why_no_files:
        notify(measured.why_no_files)
    if html is not None:
        from gptft.report.novelty import novelty_html

        lang = lang or page_language("\n".join(one.prompt + one.continuation for one in texts))
        write_page(html, novelty_html(measured, lang=lang), notify=notify)
    return measured


def _not_a_run(path: Path) -> str:
    above = Path(os.path.realpath(path)).parent  # `resolve` fails for a link to itself
    if path.name in (MODEL, ADAPTER) and is_file(above / "run.json"):
        command = command_line("novelty", path_word(path.parent))
        return f"{path} is the model of a run. Give the run: {command}"
    if not is_file(path) and not is_folder(path):
        near = near_names(path, within=("runs",))
        return f"{path}: no such folder.{near or ' Give the folder that `gptft train` wrote.'}"
    return (
        f"{path} is not a run folder: there is no run.json in it. What was copied can only be said "
        "of a run, which knows its training text. Give the folder that `gptft train` wrote."
    )
