"""Tokens and their probabilities -> what a person sees of them.

In: tokens with their scores, or the steps of a prediction. Out: rich renderables that suit their
console: colours where there are some, columns that fit a terminal, lines with tabs off one. What a
token spells never reaches a terminal raw. Must not import torch or transformers, and rich only to
draw.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gptft.analysis.scored_tokens import ScoredToken, shown_token
from gptft.terminal.text import visible
from gptft.terminal.words import short_value
from gptft.tokenization.tokens import group_by_characters

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

    from gptft.analysis.predict import NextTokens, Prediction, TokenRow
    from gptft.analysis.score import TextScore
    from gptft.analysis.scored_tokens import TokenScore

_GAP = "  "
_LINES_AT_ONCE = 1000  # a longer Text is slow to draw
# From likely to unlikely: the least probability, and black on one of the 256 fixed colours, from
# blue to red through yellow: readable on any background, told apart without red and green.
_LEVELS = (
    (0.5, "≥50%", "color(16) on color(74)"),
    (0.1, "≥10%", "color(16) on color(153)"),
    (0.01, "≥1%", "color(16) on color(229)"),
    (0.001, "≥0.1%", "color(16) on color(215)"),
    (0.0, "less", "color(16) on color(167)"),
)
_BAR = "color(31)"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_NUMBER = 6  # cells of a percentage
_MIN_PIECE, _MAX_PIECE = 8, 24
_MIN_OTHERS = 36  # cells that runners-up need to stand beside the numbers
_WIDE = 60  # cells of a terminal that has room for ids


def text_view(tokens: Sequence[ScoredToken]) -> "RenderableType":
    """A text on colours that say how likely each token was, and what they mean.

    Tokens that make up one character are one spot, coloured by what they are together. Without
    colours it is `token_table` instead.
    """
    return _TextView(tuple(tokens))


def token_table(tokens: Sequence[ScoredToken]) -> "RenderableType":
    """A line a scored token: what it spells, how likely it was, what else was likely.

    In columns on a terminal; narrow ones have the other tokens on a line of their own.
    """
    return _TokenTable(tuple(token for token in tokens if token.score is not None))


def why_view(tokens: Sequence[ScoredToken]) -> "RenderableType":
    """A text and, below it, how likely each of its scored tokens was: `text_view`, `token_table`.

    Without colours the text is plain.
    """
    return _WhyView(tuple(tokens))


def text_score_summary(score: "TextScore") -> str:
    """The numbers of a whole text, and what they rest on, in a few lines.

    Bits a byte compare across tokenizers, perplexity doesn't.
    """
    per_byte = score.bits_per_byte
    lines = [
        f"perplexity {_rounded(score.perplexity)}, "
        + (f"{per_byte:.3f} bits per byte, " if per_byte is not None else "")
        + f"{score.bits_per_token:.2f} bits per token",
        f"{_rounded(score.bits)} bits for {score.num_tokens:,} "
        f"{'token' if score.num_tokens == 1 else 'tokens'}, {score.num_bytes:,} bytes",
    ]
    if score.begins_after is None:
        lines.append("The first token isn't scored: the model has neither BOS nor EOS before it.")
    else:
        lines.append(f"The first token is scored after {visible(score.begins_after.encode())}.")
    if score.context is not None:
        lines.append(
            f"Longer than the model's context of {score.context:,}: beyond it each token is scored "
            f"after at least {score.context // 2:,} others."
        )
    return "\n".join(lines)


def prediction_view(prediction: "Prediction") -> "RenderableType":
    """What a model would go on with, step by step, with bars on a terminal."""
    return _PredictionView(prediction)


def bar(share: float, *, width: int) -> str:
    """A bar of `share` of `width` cells, to an eighth of a cell.

    >>> bar(0.5, width=5), bar(1.0, width=3), bar(0.0, width=3)
    ('██▌', '███', '')
    """
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def percent(probability: float) -> str:
    """A probability in at most 6 cells.

    >>> [percent(p) for p in (1.0, 0.99999, 0.1234, 0.01234, 0.000099, 0.0)]
    ['100%', '>99.9%', '12.3%', '1.23%', '<0.01%', '0%']
    """
    if probability in (0.0, 1.0):
        return f"{probability:.0%}"
    hundredths = 100 * probability
    if hundredths >= 99.95:
        return ">99.9%"
    if hundredths < 0.01:
        return "<0.01%"
    return f"{hundredths:.1f}%" if hundredths >= 9.995 else f"{hundredths:.2f}%"


def _rounded(number: float) -> str:
    return f"{number:,.2f}" if number < 1e6 else f"{number:.3g}"


def _has_colour(console: "Console") -> bool:
    return console.is_terminal and not console.is_dumb_terminal and not console.no_color


@dataclass(frozen=True)
class _TextView:
    tokens: tuple[ScoredToken, ...]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        if not _has_colour(console):
            yield token_table(self.tokens)
            return
        yield _legend(has_unscored=any(token.score is None for token in self.tokens))
        yield ""
        yield from _coloured_lines(self.tokens)


@dataclass(frozen=True)
class _WhyView:
    tokens: tuple[ScoredToken, ...]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        if _has_colour(console):
            yield text_view(self.tokens)
            yield ""
        else:
            spelled = b"".join(raw for raw, _ in _spots(self.tokens))
            yield _plain(iter([_readable(spelled), ""]))
        yield token_table(self.tokens)


def _legend(*, has_unscored: bool) -> "Text":
    from rich.text import Text

    legend = Text()
    for _, name, style in _LEVELS:
        legend.append(f" {name} ", style).append(" ")
    legend.append("probability")
    if has_unscored:
        legend.append(", ").append("not scored", "dim")
    return legend


def _coloured_lines(tokens: Sequence[ScoredToken]) -> Iterator["Text"]:
    """The text, a `Text` for each of its lines."""
    from rich.text import Text

    line = Text()
    for raw, probability in _spots(tokens):
        style = "dim" if probability is None else _style(probability)
        *whole, rest = _readable(raw).split("\n")
        for part in whole:
            yield line.append(part, style)
            line = Text()
        line.append(rest, style)
    if line:
        yield line


def _spots(tokens: Sequence[ScoredToken]) -> Iterator[tuple[bytes, float | None]]:
    """Whole characters, and the probability of all tokens in them; None where one has no score."""
    waiting = iter(tokens)
    for group in group_by_characters([token.piece for token in tokens]):
        scores = [next(waiting).score for _ in group]
        raw = b"".join(piece.bytes for piece in group) or group[0].token.encode()
        logprobs = [score.logprob for score in scores if score is not None]
        yield raw, math.exp(sum(logprobs)) if len(logprobs) == len(group) else None


def _style(probability: float) -> str:
    return next(style for least, _, style in _LEVELS if probability >= least)


def _readable(raw: bytes) -> str:
    """As `visible`, but spaces and line breaks are what they are, the latter marked as well."""
    lines = (b" ".join(_visible_words(line)).decode() for line in raw.split(b"\n"))
    return "↵\n".join(lines)


def _visible_words(line: bytes) -> Iterator[bytes]:
    return (visible(word).encode() for word in line.split(b" "))


@dataclass(frozen=True)
class _TokenTable:
    tokens: tuple[ScoredToken, ...]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        if console.is_terminal:
            yield from _in_parts(_fitted_table(self.tokens, width=options.max_width))
        else:
            yield _plain(_tabbed_table(self.tokens))


def _shown_groups(tokens: Sequence[ScoredToken]) -> Iterator[tuple[str, ScoredToken]]:
    """Tokens as shown; those that make up one character are bracketed together."""
    waiting = iter(tokens)
    for group in group_by_characters([token.piece for token in tokens]):
        last = len(group) - 1
        for number, piece in enumerate(group):
            label = shown_token(piece)
            if last:
                mark = "┌" if number == 0 else "└" if number == last else "│"
                label = f"{mark} {label}"
            if last and number == last:
                label += f" = {visible(b''.join(part.bytes for part in group))}"
            yield label, next(waiting)


def _bits(score: "TokenScore") -> str:
    return f"{score.surprisal_bits:.1f}" if math.isfinite(score.surprisal_bits) else "∞"


def _has_processed(tokens: Sequence[ScoredToken]) -> bool:
    return any(t.score is not None and t.score.processed_logprob is not None for t in tokens)


def _tabbed_table(tokens: Sequence[ScoredToken]) -> Iterator[str]:
    """Lines with tabs, a heading first; probabilities in full."""
    processed = _has_processed(tokens)
    yield "\t".join(
        ["piece", "id", "probability", *["after"] * processed, "rank", "bits", "runners-up"]
    )
    for label, token in _shown_groups(tokens):
        score = token.score
        if score is None:
            continue
        after = [_exact(score.processed_probability)] if processed else []
        others = _others(token, percentage=_exact)
        numbers = [str(score.token_id), _exact(score.probability), *after]
        yield "\t".join([label, *numbers, str(score.rank), _bits(score), " ".join(others)])


def _exact(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.4g}"


def _others(token: ScoredToken, *, percentage: Callable[[float], str]) -> list[str]:
    runners = token.score.runners_up if token.score else ()
    return [
        f"{label} {percentage(probability)}"
        for label, (_, probability, _) in zip(token.runners_up, runners, strict=True)
    ]


def _fitted_table(tokens: Sequence[ScoredToken], *, width: int) -> Iterator["Text"]:
    """Columns within `width` cells; the likeliest others at the end, or below where it's narrow."""
    from rich.cells import cell_len
    from rich.text import Text

    rows = list(_shown_groups(tokens))
    heads = ["prob", *["after"] * _has_processed(tokens), "rank", "bits"]
    numbers = []
    for _, token in rows:
        if (score := token.score) is None:
            continue
        after = [percent(score.processed_probability or 0.0)] if "after" in heads else []
        numbers.append([percent(score.probability), *after, f"{score.rank:,}", _bits(score)])
    columns = list(zip(heads, *numbers, strict=True))
    widths = [max(map(len, column)) for column in columns]
    taken = sum(widths) + len(_GAP) * len(widths)
    widest = max((cell_len(label) for label, _ in rows), default=0)
    piece_width = max(min(widest, _MAX_PIECE, width - taken), _MIN_PIECE // 2, len("piece"))
    room = width - piece_width - taken - len(_GAP)
    below = room < _MIN_OTHERS
    head = "".join(f"{_GAP}{h:>{w}}" for h, w in zip(heads, widths, strict=True))
    others = "" if below else f"{_GAP}runners-up"
    yield _line(Text(f"{'piece':<{piece_width}}{head}{others}", "bold"), width)
    for (label, token), cells in zip(rows, numbers, strict=True):
        line = Text(_fit(label, piece_width), _score_style(token))
        line.append("".join(f"{_GAP}{c:>{w}}" for c, w in zip(cells, widths, strict=True)))
        listed = _as_many_as_fit(
            _others(token, percentage=percent), width=width - len(_GAP) if below else room
        )
        if below:
            yield _line(line, width)
            if listed:
                yield _line(Text(f"{_GAP}{listed}", "dim"), width)
        else:
            yield _line(line.append(f"{_GAP}{listed}", "dim"), width)


def _score_style(token: ScoredToken) -> str:
    return "" if token.score is None else _style(token.score.probability)


def _as_many_as_fit(words: Sequence[str], *, width: int) -> str:
    from rich.cells import cell_len

    line = ""
    for word in words:
        longer = f"{line}{_GAP}{word}" if line else word
        if cell_len(longer) > width:
            break
        line = longer
    return line


def _fit(text: str, width: int) -> str:
    """Exactly `width` cells: filled up with spaces, or cut with an ellipsis."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…" if width > 1 else set_cell_size(text, width)


def _fit_end(text: str, width: int) -> str:
    """At most `width` cells of the end of a text, in one line, nothing hidden in it."""
    from rich.cells import cell_len

    line = _readable(text.encode(errors="surrogateescape")).replace("\n", "")
    if cell_len(line) <= width:
        return line
    while line and cell_len(line) > width - 1:
        line = line[1:]
    return f"…{line}"


def _line(text: "Text", width: int) -> "Text":
    """A line that never wraps."""
    text.no_wrap = True
    text.rstrip()
    text.truncate(width, overflow="ellipsis")
    return text


def _in_parts(lines: Iterator["Text"]) -> Iterator["Text"]:
    from itertools import islice

    from rich.text import Text

    while chunk := list(islice(lines, _LINES_AT_ONCE)):
        part = Text("\n").join(chunk)
        part.no_wrap = True
        yield part


def _plain(lines: Iterator[str]) -> Any:
    from rich.segment import Segment

    return Segment("".join(f"{line}\n" for line in lines))  # a Text would lose the tabs


@dataclass(frozen=True)
class _PredictionView:
    prediction: "Prediction"

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        if console.is_terminal:
            yield from _in_parts(_fitted_steps(self.prediction, width=options.max_width))
        else:
            yield _plain(_tabbed_steps(self.prediction))


def _tabbed_steps(prediction: "Prediction") -> Iterator[str]:
    """Lines with tabs a step, each under a heading, after what is said of the step."""
    other = prediction.other_model
    for number, step in enumerate(prediction.steps):
        if number:
            yield ""
        yield from _about(prediction, step, number=number, width=None)
        processed = bool(step.kept)
        heads = ["piece", "id", "probability", *["after", "cut by"] * processed]
        yield "\t".join([*heads, *([other] if other is not None else [])])
        for row in step.rows:
            cells = [row.piece, str(row.token_id), _exact(row.probability)]
            if processed:
                cells += [_exact(row.final_probability), row.cut_by or ""]
            if other is not None:
                cells.append(_exact(row.other_probability))
            yield "\t".join(cells)


def _about(
    prediction: "Prediction", step: "NextTokens", *, number: int, width: int | None
) -> Iterator[str]:
    """What there is to say of a step besides its tokens."""
    several = len(prediction.steps) > 1
    count = f"{number + 1} of {len(prediction.steps)}: " if several else ""
    room = 10**6 if width is None else width - len(count)
    yield f"{count}{_fit_end(step.text, max(room, 8))}"
    bits = step.entropy_bits
    words = f"entropy {bits:.2f} bits, like {_evenly(bits)} equally likely tokens"
    if step.other_entropy_bits is not None:
        words += f"; {_tail(str(prediction.other_model))}: {step.other_entropy_bits:.2f} bits"
    yield words
    for kept in step.kept:
        value = prediction.settings.values.get(kept.name)
        name = kept.name if value is None else f"{kept.name} {short_value(value)}"
        if kept.num_after == kept.num_before:
            yield f"{name} keeps all {kept.num_before:,} tokens"
        else:
            yield (
                f"{name} keeps {kept.num_after:,} of {kept.num_before:,} tokens, "
                f"{percent(kept.probability)} of the probability"
            )


def _evenly(bits: float) -> str:
    return f"{2**bits:,.1f}" if bits < 6 else f"{2**bits:,.0f}"


def _fitted_steps(prediction: "Prediction", *, width: int) -> Iterator["Text"]:
    from rich.text import Text

    for number, step in enumerate(prediction.steps):
        if number:
            yield Text()
        about = list(_about(prediction, step, number=number, width=width))
        yield _line(Text(about[0], "bold"), width)
        for words in about[1:]:
            yield from _wrapped(words, width=width)
        yield from _bars(step, width=width, names=(prediction.model, prediction.other_model))
    if len(prediction.steps) > 1:
        yield Text()
        last = prediction.steps[-1]
        yield _line(Text(_fit_end(last.text_after, width), "bold"), width)


def _wrapped(words: str, *, width: int) -> Iterator["Text"]:
    import textwrap

    from rich.text import Text

    for line in textwrap.wrap(words, width=max(width, 8)):
        yield _line(Text(line, "dim"), width)


@dataclass(frozen=True)
class _Columns:
    """Cells of each column of a step's tokens; 0 is a column left out.

    Attributes:
        piece: of what a token spells.
        id: of its id.
        bar: of each model's bar.
        after: of what the processors made of it.
    """

    piece: int
    id: int
    bar: int
    after: int


def _columns(
    rows: Sequence["TokenRow"], *, width: int, compared: bool, has_after: bool
) -> _Columns:
    """Fit the columns into `width`: bars take what is left."""
    from rich.cells import cell_len

    after = max(*(len(_outcome(row)) for row in rows), len("after")) if has_after else 0
    after = min(after, max(width // 3, _NUMBER))
    token_id = max(len(str(row.token_id)) for row in rows) if width >= _WIDE else 0
    num_models = 1 + compared
    taken = [token_id, *[_NUMBER] * num_models, after]
    room = width - sum(cells + len(_GAP) for cells in taken if cells)
    widest = max(cell_len(row.piece) for row in rows)
    piece = max(min(widest, _MAX_PIECE, room // 2), len("piece"))
    return _Columns(piece, token_id, max((room - piece) // num_models - len(_GAP), 0), after)


def _bars(step: "NextTokens", *, width: int, names: tuple[str, str | None]) -> Iterator["Text"]:
    """A line a token, with bars that fill what the columns leave of `width`.

    The longest bar is the likeliest token's; two models share one scale.
    """
    rows, has_after = step.rows, bool(step.kept)
    compared = names[1] is not None
    columns = _columns(rows, width=width, compared=compared, has_after=has_after)
    yield _line(_bars_heading(columns, names=names), width)
    scale = max(max(row.probability, row.other_probability or 0.0) for row in rows) or 1.0
    for row in rows:
        yield _line(_bars_line(row, step, columns, scale=scale, compared=compared), width)


def _bars_heading(columns: _Columns, *, names: tuple[str, str | None]) -> "Text":
    from rich.text import Text

    head = f"{'piece':<{columns.piece}}"
    if columns.id:
        head += f"{_GAP}{'id':>{columns.id}}"
    cells = _NUMBER + (len(_GAP) + columns.bar if columns.bar else 0)
    for name in names:
        if name is not None:
            label = f"{'prob':>{_NUMBER}}" if names[1] is None else _tail(name)
            head += _GAP + _fit(label, cells)
    return Text(head + (f"{_GAP}after" if columns.after else ""), "dim")


def _bars_line(
    row: "TokenRow", step: "NextTokens", columns: _Columns, *, scale: float, compared: bool
) -> "Text":
    from rich.text import Text

    cut = row.cut_by is not None
    line = Text(style="dim" if cut else "")
    line.append(_fit(row.piece, columns.piece), "bold" if row.token_id == step.chosen else "")
    if columns.id:
        line.append(f"{_GAP}{row.token_id:>{columns.id}}")
    for probability in (row.probability, row.other_probability if compared else None):
        if probability is None:
            continue
        line.append(f"{_GAP}{percent(probability):>{_NUMBER}}")
        if columns.bar:
            drawn = bar(probability / scale, width=columns.bar)
            line.append(f"{_GAP}{drawn:<{columns.bar}}", "" if cut else _BAR)
    if columns.after:
        outcome = _outcome(row)
        if len(outcome) > columns.after and row.cut_by is not None:
            outcome = row.cut_by
        line.append(f"{_GAP}{_fit(outcome, columns.after)}")
    return line


def _outcome(row: "TokenRow") -> str:
    """What the processors made of a token: its probability, or which of them took it away."""
    return percent(row.final_probability) if row.cut_by is None else f"cut by {row.cut_by}"


def _tail(name: str) -> str:
    """The last part of a model's name or path."""
    return name.rstrip("/").rsplit("/", 1)[-1] or name
