"""`gptft merge`: an adapter and its base -> a model like any other."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from gptft.cli import options
from gptft.console import notice, result, result_json
from gptft.terminal.commands import command_line, path_word


def merge(
    run: Annotated[str, Argument(metavar="RUN", help="A run with lora, or an adapter.")],
    out: Annotated[Path, Option(metavar="DIR", help="Where the model goes: a new folder.")],
    scale: Annotated[
        float, Option(help="How much of the adapter: 0.5 is half-way from the base to it.")
    ] = 1.0,
    as_json: options.AsJson = False,
) -> None:
    """Merge the adapter of RUN into its base, to a model like any other.

    It is written in float32, with tokenizer and card. What the adapter adds to each weight is
    multiplied by --scale.
    """
    from gptft import api

    merged = api.merge(run, out, scale=scale, notify=notice)
    if as_json:
        result_json(merged)
        return
    at = "" if scale == 1 else f" at scale {scale:g}"
    if merged.apart is None:
        apart = (
            f"At scale 1 its logits are the adapter's; {merged.kind} has none of its own{at}, so "
            "that its weights were moved towards it."
        )
    else:
        apart = (
            f"Its logits differ from those of the adapter on its base{at} by {merged.apart:.1e} of "
            "the largest."
        )
    result(f"{out}: {merged.kind}, merged into {merged.base}{at}, in float32. {apart}")
    notice(f'Let it continue a prompt:\n  {command_line("generate", path_word(out))} -p "..."')
