"""A model and a prompt -> an explanation, and a page of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from gptft.console import Notify, loading_libraries, silent
from gptft.models.source import resolve_model
from gptft.report.page_file import check_page_path
from gptft.text.scripts import page_language

if TYPE_CHECKING:
    from gptft.analysis.explain.explanation import Explanation
    from gptft.models.precision import DtypeName
    from gptft.text.scripts import PageLanguage


def explain(
    model: str,
    prompt: str,
    *,
    base: str | None = None,
    html: Path | None = None,
    lang: "PageLanguage | None" = None,
    dtype: "DtypeName" = "auto",
    use_cpu: bool = False,
    overwrite: bool = False,
    notify: Notify = silent,
) -> "Explanation":
    """What each part of a model does to the next token of a prompt.

    Args:
        model: pico, a model or run folder, or a hub id.
        prompt: of 64 tokens at most.
        base: a model of the same vocabulary to compare with; None for what a run was tuned from.
        html: a page to write, too.
        lang: the page's language; None for that of the prompt, English where it isn't Russian.
        dtype: of the weights.
        use_cpu: run on the CPU even if an accelerator is available.
        overwrite: whether the page may replace anything; else only another page of gptft.
        notify: told in a sentence what was written, or can't be shown.

    Raises:
        ConfigError: the prompt is empty or too long, the vocabularies differ, or the page would
            replace something else.
        ModelError: a model can't be found, read or looked into.
        RunError: the page can't be written.
    """
    if html is not None:
        check_page_path(html, overwrite=overwrite)
    for name in (model, base):
        if name is not None:
            resolve_model(name)  # before the seconds that loading takes
    with loading_libraries():
        from gptft.analysis.explain import explain as looking
    found = looking.explain(
        model, prompt, base_name=base, dtype=dtype, use_cpu=use_cpu, notify=notify
    )
    if html is not None:
        from gptft.files import write_output
        from gptft.report.explain import explain_html

        write_output(html, explain_html(found, lang or page_language(prompt)))
        notify(f"Written: {html}")
    return found
