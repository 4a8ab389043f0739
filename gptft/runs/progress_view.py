"""How far a run is -> a few lines for a terminal of any width, the most important ones first."""

import math
from collections.abc import Iterable

from rich.cells import cell_len
from rich.text import Text

from gptft.runs.progress import TRAINING, RunProgress
from gptft.terminal.cells import chopped, cut
from gptft.terminal.draw import GAP
from gptft.terminal.plot import sparkline
from gptft.terminal.text import escaped

_WITH_BAR = 60  # cells of a terminal that has room for a bar
_WIDEST_CURVE = 72
_SAMPLE_LINES = 3
_ECHO = 2  # cells behind it, if it is the last line: a terminal writes ^C there
_KEPT = 2_000  # characters of a sample that are looked at


def progress_lines(progress: RunProgress, *, width: int, seconds: float | None) -> list[Text]:
    """All of it: where the run is, its figures, its losses as a curve, the last sample.

    Args:
        progress: how far it is.
        width: cells of a line; none is wider.
        seconds: that are left, or that it took if it is over; None if that isn't known.

    >>> progress = RunProgress(step=12, num_steps=1000, loss=3.5, losses=[4.0, 3.5])
    >>> for line in progress_lines(progress, width=30, seconds=61.0):
    ...     print(line.plain)
    step 12/1,000  left 0:01:01
    loss 3.500
    █▁ loss
    """
    lines = [*where_lines(progress, width=width, seconds=seconds)]
    lines += flowing(figure_words(progress), width)
    if len(progress.losses) > 1:
        curve = sparkline(progress.losses, width=min(width - len(" loss"), _WIDEST_CURVE))
        lines.append(Text.assemble((curve, "blue"), " loss"))
    if not progress.is_over:
        lines += sample_lines(progress, width=width)
    return [
        line if cell_len(line.plain) <= width else Text(cut(line.plain, width)) for line in lines
    ]


def where_lines(progress: RunProgress, *, width: int, seconds: float | None) -> list[Text]:
    """The step, what is being done and the time left; a bar if there is room."""
    step, of = progress.step, progress.num_steps
    clock = f"{'took' if progress.is_over else 'left'} {duration(seconds)}"
    named = progress.doing or progress.stage
    stage = [named] if named != TRAINING and not progress.is_over else []
    if width < _WITH_BAR or not of:
        forms = (
            f"step {step:,}{'' if of is None else f'/{of:,}'}",
            f"{step:,}{'' if of is None else f'/{of:,}'}",
            f"{step}{'' if of is None else f'/{of}'}",
        )
        where = next((form for form in forms if len(form) <= width), forms[-1])
        return flowing([where, clock, *stage], width)
    before = f"step {step:,}/{of:,} "
    after = GAP.join([f" {min(step / of, 1):4.0%}", clock, *stage])
    room = width - len(before) - cell_len(after) - _ECHO
    if room < 4:  # a long stage, or millions of steps
        return flowing([before.strip(), clock, *stage], width)
    done = round(room * min(step / of, 1))
    return [Text.assemble(before, ("━" * done, "green"), ("━" * (room - done), "dim"), after)]


def figure_words(progress: RunProgress) -> list[str]:
    """The figures of the last log step that are known, each with its name."""
    shown = (
        ("loss", progress.loss, ".3f", ""),
        ("held out", progress.held_out_loss, ".3f", ""),
        ("lr", progress.learning_rate, ".1e", ""),
        ("grad norm", progress.grad_norm, ".3g", ""),
        ("", progress.tokens_per_second, ",.0f", " tokens/s"),
    )
    return [
        f"{name} {value:{form}}{unit}".strip()
        for name, value, form, unit in shown
        if value is not None
    ]


def sample_lines(progress: RunProgress, *, width: int) -> list[Text]:
    """The beginning of the last sample."""
    if progress.sample is None:
        return []
    step, prompt, continuation = progress.sample
    said = escaped(f"{prompt}{continuation}"[:_KEPT], {"\n": "↵", "\t": " "})
    rows = chopped(f"sample at {step:,}: {said}", width)
    if len(rows) > _SAMPLE_LINES:
        rows[_SAMPLE_LINES - 1] = cut(f"{rows[_SAMPLE_LINES - 1][:-1]}…", width)
    return [Text(row, "dim") for row in rows[:_SAMPLE_LINES]]


def duration(seconds: float | None) -> str:
    """A time span; of days it has no more seconds.

    >>> duration(None), duration(61.7), duration(7325), duration(200_000)
    ('-:--:--', '0:01:01', '2:02:05', '2 d 7 h')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-:--:--"
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24:,} d {hours % 24} h"
    return f"{hours}:{minute:02}:{second:02}"


def flowing(words: Iterable[str], width: int) -> list[Text]:
    """Words beside one another, as many in a line as fit."""
    lines: list[str] = []
    for word in words:
        if lines and cell_len(lines[-1]) + len(GAP) + cell_len(word) <= width:
            lines[-1] += f"{GAP}{word}"
        else:
            lines.append(word)
    return [Text(line) for line in lines]
