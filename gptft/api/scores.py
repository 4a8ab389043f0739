"""A model, or two, and a text -> how likely each of its tokens is, and a page of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gptft.api.beside import named_beside
from gptft.console import Notify, loading_libraries, silent
from gptft.models.hub import require_model
from gptft.report.page_file import check_page_path, write_page
from gptft.text.scripts import page_language

if TYPE_CHECKING:
    from gptft.analysis.score import TextScore
    from gptft.models.precision import DtypeName
    from gptft.text.scripts import PageLanguage


def score(
    model: str,
    text: str,
    *,
    other: str | None = None,
    html: Path | None = None,
    lang: "PageLanguage | None" = None,
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
    dtype: "DtypeName" = "auto",
    revision: str | None = None,
    use_cpu: bool = False,
    num_runners_up: int = 5,
    notify: Notify = silent,
) -> "TextScore":
    """How well a model expects every token of a text, alone or beside another.

    Args:
        model: pico, a model or run folder, or a hub id.
        text: as it is; `<|endoftext|>` in it is text.
        other: a model to compare with.
        html: a page to write, too.
        lang: the page's language; None for that of the text, English where it isn't Russian.
        inputs: files that were read, and that the page may not replace.
        overwrite: whether the page may replace anything; else only another page of gptft.
        dtype: of the weights.
        revision: branch, tag or commit of a hub model, of `model` alone.
        use_cpu: run on the CPU even if an accelerator is available.
        num_runners_up: other tokens to keep for each.
        notify: told in a sentence what of the text a tokenizer doesn't keep, and what was written.

    Raises:
        ConfigError: there is nothing to score, the text is no Unicode, or the page would replace
            something else.
        ModelError: a model can't be found or read, or its logits are not numbers.
        RunError: the page can't be written.
    """
    if html is not None:
        check_page_path(html, inputs=inputs, overwrite=overwrite)
    other = named_beside(model, other)
    for name in (model, other):
        if name is not None:
            require_model(name, revision=revision if name == model else None)  # before torch
    with loading_libraries():
        from gptft.analysis import score as scoring
    scored = scoring.score(
        model, text, dtype=dtype, revision=revision, use_cpu=use_cpu,
        num_runners_up=num_runners_up, other_model_name=other,
    )  # fmt: skip
    for one in (scored, scored.other):
        if one is not None and not one.lossless:
            notify(
                f"The tokenizer of {one.model} doesn't keep this text byte for byte. "
                "Scored is what its tokens spell, by the bytes of the text."
            )
    if html is not None:
        from gptft.report.score import score_html

        write_page(html, score_html(scored, text, lang or page_language(text)), notify=notify)
    return scored
