"""A trace of merges -> columns on a terminal, lines with tabs off one."""

from collections.abc import Iterable, Iterator

from rich.console import Console, RenderResult
from rich.text import Text

from gptft.inspection.merges import MergeStep, MergeTrace, PreTokenTrace, Symbol
from gptft.terminal.draw import Drawn, Table, plain_lines
from gptft.terminal.text import visible


def merges_view(trace: MergeTrace) -> Drawn:
    """A line a merge: its rank and the symbols after it; off a terminal the pair, too."""

    def draw(console: Console, width: int) -> RenderResult:
        return _columns(trace) if console.is_terminal else [plain_lines(_lines(trace))]

    return Drawn(draw)


def _verdict(trace: MergeTrace) -> str:
    number = sum(len(part.steps) for part in trace.pre_tokens)
    counts = f"Merges: {number:,}, by a list of {trace.num_merges:,}. Tokens: {len(trace.ids):,}"
    if trace.agrees:
        return f"{counts}, the tokenizer's own."
    return (
        f"{counts}, NOT the tokenizer's own, whose ids are "
        f"{' '.join(map(str, trace.own_ids)) or 'none'}: this trace can't be trusted."
    )


def _lines(trace: MergeTrace) -> Iterator[str]:
    """A line a state: rank, the pair merged, the symbols after; a heading for each pre-token."""
    for part in trace.pre_tokens:
        yield f"# {_heading(part)}"
        yield "\t".join(["", part.remark, _joined(part.symbols)])
        for step in part.steps:
            pair = f"{step.left.shown} + {step.right.shown}"
            yield "\t".join([str(step.rank), pair, _joined(step.symbols)])
        yield "\t".join(["ids", "", _ids(part)])
    yield f"# {_verdict(trace)}"


def _columns(trace: MergeTrace) -> RenderResult:
    width = len(f"{trace.num_merges:,}")  # alike in the tables of all pre-tokens
    for part in trace.pre_tokens:
        rows = [(" " * width, Text(_joined(part.symbols)))]
        if part.remark:
            rows.append(("", Text(part.remark, "dim")))
        rows += [(f"{step.rank:,}", _state(step)) for step in part.steps]
        rows.append(("ids", Text(_ids(part), "dim")))
        yield Table([(Text(rank, "dim"), state) for rank, state in rows], "rl", _heading(part))
        yield ""
    yield Text(_verdict(trace), "" if trace.agrees else "bold red")


def _state(step: MergeStep) -> Text:
    """The symbols after a merge, the merged one set off."""
    state = Text()
    for at, symbol in enumerate(step.symbols):
        state.append(" " if at else "").append(symbol.shown, "reverse" if at == step.at else "")
    return state


def _heading(part: PreTokenTrace) -> str:
    raw = b"".join(token.bytes for token in part.tokens)
    return visible(raw or part.text)


def _joined(symbols: Iterable[Symbol]) -> str:
    return " ".join(symbol.shown for symbol in symbols)


def _ids(part: PreTokenTrace) -> str:
    return " ".join(str(token.id) for token in part.tokens)
