"""The table of strategies -> what a person sees of it."""

from rich.console import Group, RenderableType
from rich.text import Text

from gptft.decoding.define import Strategy
from gptft.decoding.strategies import SETTINGS, SHARED, STRATEGIES
from gptft.terminal.draw import Table
from gptft.terminal.words import short_value


def strategy_list() -> RenderableType:
    """Every strategy and what it does, a line or two each."""
    rows = [(Text(row.name, "bold"), row.description) for row in STRATEGIES.values()]
    hint = "gptft strategies NAME shows one with all its settings."
    return Group(Table(rows, "nl"), Text(), Text(hint, "dim"))


def strategy_details(row: Strategy) -> RenderableType:
    """One strategy with its settings, where it comes from, and what it can't be combined with."""
    lines: list[RenderableType] = [
        Text(row.name, "bold"),
        Text(row.description),
        Text(f"Source: {row.source}", "dim"),
    ]
    if row.needs:
        lines.append(Text(f"Needs {' or '.join(row.needs)}."))
    if row.conflicts:
        lines.append(Text(f"Doesn't go with {row.conflicts}."))
    if row.single:
        lines.append(Text(f"One prompt at a time: {row.single}."))
    lines += [Text(), _settings(row), Text()]
    others = [name for name in row.takes if name not in row.own and name in SHARED]
    lines.append(Text(f"And what others take, too: {', '.join(others)}."))
    return Group(*lines)


def _settings(row: Strategy) -> Table:
    names = dict.fromkeys([*(name for name in row.takes if name in row.own), "max_new_tokens"])
    rows = []
    for name in names:
        parameter, default = SETTINGS[name], row.values[name]
        shown = "-" if default is None or default in ([], {}) else short_value(default)
        values = ", ".join(filter(None, (parameter.kind.short, parameter.range)))
        rows.append((name, shown, values, parameter.description))
    return Table(rows, "nlll", heads=("setting", "default", "values", "meaning"))
