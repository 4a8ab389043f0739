"""A text and tokenizers -> its tokens by each, and a page of them."""

from collections.abc import Sequence
from pathlib import Path

from gptft.console import Notify, silent
from gptft.inspection.cost import MeasuredText, measure_text
from gptft.report.page_file import check_page_path
from gptft.tokenization.tokenizer import TextTokenizer


def tokenize(
    text: str,
    tokenizers: Sequence[TextTokenizer],
    *,
    html: Path | None = None,
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
    notify: Notify = silent,
) -> list[MeasuredText]:
    """The tokens of a text by each tokenizer, and what the text costs in it.

    Args:
        text: as it is; `<|endoftext|>` in it is text.
        tokenizers: see `load_tokenizer`.
        html: a page to write, too.
        inputs: files that were read, and that the page may not replace.
        overwrite: whether the page may replace anything; else only another page of gptft.
        notify: told in a sentence what of the text a tokenizer doesn't keep, and what was written.

    Raises:
        ConfigError: the text is no Unicode, or the page would replace something else.
        RunError: the page can't be written.
    """
    if html is not None:
        check_page_path(html, inputs=inputs, overwrite=overwrite)
    measured = [measure_text(tokenizer, text) for tokenizer in tokenizers]
    for one in measured:
        if not one.lossless:
            notify(
                f"The tokenizer of {one.model} doesn't keep this text byte for byte. "
                "Shown is what its tokens spell."
            )
    if html is not None:
        from gptft.files import write_output
        from gptft.report.tokens import tokens_html

        write_output(html, tokens_html(measured))
        notify(f"Written: {html}")
    return measured
