"""`gptft strategies`: every way to write a text, and its settings."""

from typing import Annotated

from typer import Argument

from gptft.cli.options import AsJson
from gptft.console import result, result_json


def strategies(
    names: Annotated[
        list[str] | None,
        Argument(metavar="[NAME]...", help="Strategies to show in full; without: all."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List every strategy of gptft generate, or show some with all their settings."""
    from gptft.decoding.strategies import STRATEGIES, find_strategy
    from gptft.decoding.strategy_view import strategy_details, strategy_list

    rows = [find_strategy(name) for name in names or []]
    if as_json:
        result_json([row.to_dict() for row in rows or STRATEGIES.values()])
    elif not rows:
        result(strategy_list())
    else:
        for number, row in enumerate(rows):
            result(*[""] * (number > 0), strategy_details(row))
