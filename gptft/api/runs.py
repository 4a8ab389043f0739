"""Runs -> what is known of them, and pages of it; nothing in a run is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gptft.console import Notify, silent
from gptft.errors import ConfigError, RunError
from gptft.files import write_output
from gptft.inputs import why_unusable
from gptft.runs import compare, show
from gptft.runs.compare import RunComparison
from gptft.runs.show import ShownRun
from gptft.text.scripts import PageLanguage


@dataclass(frozen=True)
class RunWithRemarks(ShownRun):
    """A run, and what to say of how it went.

    Attributes:
        remarks: sentences on what became worse, and what to change.
    """

    remarks: tuple[str, ...] = ()

    json_also = ("remarks",)


def show_run(
    run_dir: Path,
    *,
    html: Path | None = None,
    svg: Path | None = None,
    lang: PageLanguage | None = None,
    overwrite: bool = False,
    notify: Notify = silent,
) -> RunWithRemarks:
    """What a run came to, or how far it is, whatever is damaged in it.

    Args:
        run_dir: its folder.
        html: where to write its report as a page, too.
        svg: a folder for its curves, each a file.
        lang: the page's language; None for that of the run's texts, English where it isn't Russian.
        overwrite: whether the page may replace anything; else only another page of gptft.
        notify: told in a sentence what was written.

    Raises:
        ConfigError: there is no such run, or a page would replace something else.
        RunError: the page or the curves can't be written, or aren't there to be drawn.
    """
    if html is not None:
        from gptft.report.page_file import check_page_path

        check_page_path(html, overwrite=overwrite)
    shown = show.show_run(run_dir)
    if html is not None:
        from gptft.report.html import report

        write_output(html, report(shown.run, lang))
        notify(f"Written: {html}")
    if svg is not None:
        _write_curves(shown, svg, notify=notify)
    from gptft.report.verdict import last_words

    return RunWithRemarks(**vars(shown), remarks=tuple(last_words(shown.run)))


def _write_curves(shown: ShownRun, folder: Path, *, notify: Notify) -> None:
    """Write each chart of a run's report as a file; those that are there are replaced."""
    from gptft.report.html import curve_files

    if unusable := why_unusable(folder):
        raise ConfigError(f"--svg {folder} {unusable}. Name another folder.")
    files = curve_files(shown.run)
    if not files:
        raise RunError(f"{shown.run.path} has logged no loss: there is no curve to draw.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder} can't be made: {error.strerror}.") from None
    for name, text in files.items():
        write_output(folder / name, text)
        notify(f"Written: {folder / name}")


def compare_runs(
    folders: Sequence[Path],
    *,
    html: Path | None = None,
    lang: PageLanguage | None = None,
    overwrite: bool = False,
    notify: Notify = silent,
) -> RunComparison:
    """Runs side by side: settings that differ, curves, held-out figures, samples.

    Args:
        folders: runs, or folders of runs, which stand for all below them.
        html: a page to write, too.
        lang: the page's language; None for that of the samples, English where it isn't Russian.
        overwrite: whether the page may replace anything; else only another page of gptft.
        notify: told in a sentence what was written.

    Raises:
        ConfigError: fewer than two runs, what is none, or the page would replace something else.
        RunError: the page can't be written.
    """
    if html is not None:
        from gptft.report.page_file import check_page_path

        check_page_path(html, overwrite=overwrite)
    compared = compare.compare_runs(folders)
    if html is not None:
        from gptft.report.run_comparison import comparison_language, run_comparison_html

        write_output(html, run_comparison_html(compared, lang or comparison_language(compared)))
        notify(f"Written: {html}")
    return compared
