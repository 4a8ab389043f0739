"""An explanation -> what a person sees of it in a terminal: the short form."""

import math
from collections import Counter
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.text import Text

from gptft.analysis.explain.explanation import Attribution, Explanation, Lens
from gptft.terminal.draw import Drawn, Table, bar
from gptft.terminal.words import count, probability

_MOST_PARTS = 8
_BAR = 24  # cells


def explanation_view(explanation: Explanation) -> Drawn:
    """How a model comes to its next token; the page has all of it."""

    def draw(console: Console, width: int) -> Iterator[RenderableType | Segment | Table]:
        sections = _sections(explanation, has_bars=console.is_terminal)
        for number, (title, rows) in enumerate(sections):
            yield from [""] * bool(number)
            yield Text(title, "bold") if console.is_terminal else title
            if rows is not None:
                yield rows

    return Drawn(draw)


def _sections(explanation: Explanation, *, has_bars: bool) -> Iterator[tuple[str, Table | None]]:
    best = explanation.next_tokens[0]
    yield (
        f"{count(len(explanation.tokens), 'token')}, and then «{best.token.text}», the likeliest "
        f"of {len(explanation.distribution.logits):,} ({probability(best.probability)})",
        _tokens(explanation),
    )
    if explanation.lens is not None:
        yield _decided(explanation.lens, best.token.text), _by_layer(explanation.lens)
    if explanation.attribution is not None:
        attribution = explanation.attribution
        yield (
            f"What adds most to the logit of «{attribution.token.text}», {attribution.logit:.2f}",
            _parts(attribution, has_bars=has_bars),
        )
    if explanation.heads:
        yield f"What the {len(explanation.heads)} heads look at", _heads(explanation)
    if explanation.base is not None and (changed := explanation.base.gained):
        base = explanation.base
        yield (
            f"What tuning favours here: {base.bits:.2f} bits a token in {base.base}, "
            f"{base.tuned_bits:.2f} now",
            Table(
                [
                    [one.token.text, probability(one.before), probability(one.after)]
                    for one in changed[:5]
                ],
                "lrr",
                heads=["token", "before", "after"],
            ),
        )
    if (training := explanation.training) is not None and training.passages:
        nearest = training.passages[0]
        rest = " ".join(nearest.after.split())
        yield (
            f"The training text has {count(nearest.num_tokens, 'token')} of the prompt in a row, "
            f"and goes on: {rest or '(its end)'}",
            None,
        )
    for sentence in explanation.missing:
        yield sentence, None


def _tokens(explanation: Explanation) -> Table:
    rows = [
        [one.token.text, str(one.token.id), "  ".join(n.token.text for n in one.neighbours[:3])]
        for one in explanation.tokens
    ]
    return Table(rows, "crl", heads=["token", "id", "nearest"])


def _decided(lens: Lens, token: str) -> str:
    row, last = lens.decided[-1], len(lens.cells) - 1
    where = f"from layer {row} of {last} on" if row else "from the embeddings on"
    return f"«{token}» is ahead for good {where}"


def _by_layer(lens: Lens) -> Table:
    rows = [
        [
            "embeddings" if not number else f"layer {number}",
            row[-1].token.text,
            probability(row[-1].probability),
            probability(row[-1].final_probability),
        ]
        for number, row in enumerate(lens.cells)
    ]
    return Table(rows, "lcrr", heads=["after", "would say", "prob", "the final one"])


def _parts(attribution: Attribution, *, has_bars: bool) -> Table:
    ranked = sorted(attribution.parts, key=lambda part: -abs(part.value))
    widest = max(abs(ranked[0].value), 1e-9)
    rows = [
        [
            part.kind if part.layer is None else f"{part.kind} of layer {part.layer + 1}",
            f"{part.value:+.2f}",
            *[bar(abs(part.value) / widest, width=_BAR)] * has_bars,
        ]
        for part in ranked[:_MOST_PARTS]
    ]
    if len(ranked) > _MOST_PARTS:
        rest = math.fsum(part.value for part in ranked[_MOST_PARTS:])
        rows.append([f"{len(ranked) - _MOST_PARTS} others", f"{rest:+.2f}", *[""] * has_bars])
    return Table(rows, "lr" + "n" * has_bars, heads=["part", "logit", *[""] * has_bars])


def _heads(explanation: Explanation) -> Table:
    counted = Counter(head.name for head in explanation.heads)
    best = {
        name: max(
            (head for head in explanation.heads if head.name == name),
            key=lambda head: head.scores.get(head.name, 0.0),
        )
        for name in counted
    }
    rows = [
        [
            "none of these more than others" if name == "mixed" else name,
            f"{number:,}",
            "" if name == "mixed" else f"layer {best[name].layer + 1}, head {best[name].head + 1}",
        ]
        for name, number in counted.most_common()
    ]
    return Table(rows, "lrl", heads=["place", "heads", "most"])
