"""`gptft score`: a model and a text -> how well it predicts every token, and all of them."""

from pathlib import Path
from typing import Annotated

from typer import Option

from gptft.cli.options import DTYPE, MODEL, AsJson, DtypeName, UseCpu, Words, text_argument
from gptft.console import notice, result, result_json
from gptft.terminal.words import count

_RUNNERS_UP = 5  # shown of each token
_MANY_TOKENS = 10_000  # more than a person reads


def score(
    model: Annotated[str, MODEL],
    text: Words = [],
    file: Annotated[
        Path | None, Option("--file", "-f", metavar="PATH", help="A text file.")
    ] = None,
    summary: Annotated[
        bool, Option("--summary", help="Only what the text comes to, not its tokens.")
    ] = False,
    dtype: Annotated[DtypeName, DTYPE] = "auto",
    use_cpu: UseCpu = False,
    as_json: AsJson = False,
) -> None:
    """Show how surprised a model is by TEXT: every token, perplexity, bits per byte.

    Without TEXT and --file the text comes from standard input.
    """
    from gptft import api
    from gptft.analysis.text_view import text_score_summary, text_view
    from gptft.models.hub import require_model

    require_model(model)  # before the text is read and the seconds that loading takes
    content = text_argument(text, file, example='gptft score pico "Мороз и солнце"')
    scored = api.score(
        model, content, dtype=dtype, use_cpu=use_cpu, num_runners_up=0 if summary else _RUNNERS_UP
    )
    if not scored.lossless:
        notice(
            f"The tokenizer of {model} doesn't keep this text byte for byte. "
            "Scored is what its tokens spell, by the bytes of the text."
        )
    if not summary and scored.num_tokens > _MANY_TOKENS:
        notice(f"{count(scored.num_tokens, 'token')} follow; --summary leaves them out.")
    if as_json:
        result_json(scored.summary_fields() if summary else scored)
    else:
        if not summary:
            result(text_view(scored.tokens), "")
        result(text_score_summary(scored))
