"""`gptft strategies`: every way to write a text, and its settings."""

from typing import Annotated

import typer

from gptft.cli.options import AsJson


def strategies(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Strategies to show in full; without: all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List every strategy of gptft generate, or show some with all their settings."""
    from gptft.console import result, result_json
    from gptft.decoding.strategies import STRATEGIES, find_strategy
    from gptft.decoding.strategy_view import strategy_details, strategy_list

    rows = [find_strategy(name) for name in names or []]
    if as_json:
        result_json([row.to_dict() for row in rows or STRATEGIES.values()])
        return
    if not rows:
        result(strategy_list())
        return
    for number, row in enumerate(rows):
        if number:
            result("")
        result(strategy_details(row))
