"""Measured texts -> one page of their pieces.

In: what `corpus.measure` found, of one tokenizer or of several. Out: the HTML of a self-contained
file, which loads and runs nothing: what a piece is stands in its title, and below while it is
pointed at. Must not import torch or transformers.
"""

from collections.abc import Iterator, Sequence
from html import escape

from gptft.inspection.cost import MeasuredText
from gptft.inspection.cost_view import contexts_in_words, costs_instead
from gptft.inspection.token_view import shown_tokens
from gptft.report import words
from gptft.report.page import page
from gptft.terminal.text import hexadecimal
from gptft.tokenization.tokens import Token

# Hues in degrees, far apart for ids that follow each other.
_HUES = (205, 95, 40, 340, 265, 20, 175)
_NUMBERS = ("tokens", "tokens a word", "characters a word", "bytes a word", "bytes a token")
_NOTE = (
    "Each piece stands on the colour of its id. A space is ·, a line break ↵, a tab →. Bytes that "
    "are no character alone are in ⟨⟩; tokens that make up a character together are added up, and "
    "their ids are marked with *."
)


def tokens_html(measured: Sequence[MeasuredText]) -> str:
    """The page.

    Args:
        measured: the same text, by one or more tokenizers.
    """
    names = ", ".join(words.one_line(one.model) for one in measured)
    title = "What a model sees" if len(measured) == 1 else "What models see"
    sections = "".join(_section(one) for one in measured)
    body = (
        f'<header>\n<h1>{title}</h1>\n<p class="lead">{_text(names)}</p>\n</header>\n'
        f'{_overview(measured)}{sections}<p class="note">{_NOTE}</p>\n'
    )
    return page(f"{title}: {names}", body).replace("</style>", f"{_style()}</style>", 1)


def _text(text: str) -> str:
    """Any text as HTML that shows it."""
    return escape(words.visible(text))


def _overview(measured: Sequence[MeasuredText]) -> str:
    """The numbers, a line a tokenizer."""
    heads = "".join(f'<th class="number" scope="col">{name}</th>' for name in _NUMBERS)
    lines = "".join(
        f'<tr><th scope="row">{_text(words.one_line(one.model))}</th>{_numbers(one)}</tr>\n'
        for one in measured
    )
    return (
        f'<section class="wide">\n<table>\n<thead><tr><td></td>{heads}</tr></thead>\n'
        f"<tbody>\n{lines}</tbody>\n</table>\n</section>\n"
    )


def _numbers(one: MeasuredText) -> str:
    cost = one.cost
    rates = (
        cost.tokens_per_word,
        cost.characters_per_word,
        cost.bytes_per_word,
        cost.bytes_per_token,
    )
    shown = [f"{cost.num_tokens:,}", *("" if rate is None else f"{rate:.2f}" for rate in rates)]
    return "".join(f'<td class="number">{cell}</td>' for cell in shown)


def _section(one: MeasuredText) -> str:
    facts = []
    if one.tokens:
        facts.append(f"One token each would be {', '.join(costs_instead(one))}.")
        facts.append(f"Of a context: {', '.join(contexts_in_words(one))}.")
    if one.num_partial:
        facts.append(f"{one.num_partial:,} of the tokens are no text but with those beside them.")
    if not one.lossless:
        facts.append("The tokenizer doesn't keep this text byte for byte: shown is what it spells.")
    pieces = "".join(_pieces(one.tokens))
    return (
        f'<section>\n<h2>{_text(words.one_line(one.model))}</h2>\n<p class="note">'
        f'{_text(" ".join(facts))}</p>\n<div class="pieces">{pieces}</div>\n</section>\n'
    )


def _pieces(pieces: Sequence[Token]) -> Iterator[str]:
    """The pieces; those of one character are added up in a group of their own."""
    for group, whole in shown_tokens(pieces):
        spans = "<s>+</s>".join(_pill(label, piece) for label, piece in group)
        if whole:
            made = f'<bdi class="whole">{escape(whole)}</bdi>'
            yield f'<span class="joined">{spans}<s>=</s>{made}</span>'
        else:
            yield spans
        if group[-1][1].bytes.endswith(b"\n"):
            yield "<br>\n"


def _pill(label: str, piece: Token) -> str:
    mark = "*" if piece.text is None else ""
    return (
        f'<span class="p c{piece.id % len(_HUES)}" title="{_about(piece)}">'
        f"<bdi>{escape(label)}</bdi><i>{piece.id}{mark}</i></span>"
    )


def _about(piece: Token) -> str:
    """What stands in a piece's title: its id, bytes and place."""
    return (
        f"id {piece.id}; bytes {hexadecimal(piece.bytes) or 'none'}; at bytes "
        f"{piece.start}–{piece.end}, characters {piece.start_character}–{piece.end_character}"
    )


def _style() -> str:
    hues = "".join(f".c{number} {{ --hue: {hue}; }}\n" for number, hue in enumerate(_HUES))
    return _STYLE + hues


_STYLE = """\
:root { --soften: 88%; --deepen: 78%; }
@media (prefers-color-scheme: dark) { :root { --soften: 24%; --deepen: 36%; } }
.wide { overflow-x: auto; }
.wide table { white-space: nowrap; }
.wide tbody th { max-width: 24rem; overflow: hidden; text-overflow: ellipsis; }
.pieces { margin: 1rem 0 1.5rem; line-height: 1.3; }
.p, .joined { display: inline-block; max-width: 100%; vertical-align: top; }
.p { margin: 0 .2rem .35rem 0; padding: .1rem .3rem; border-radius: .3rem; text-align: center;
  background: hsl(var(--hue) 70% var(--soften)); overflow-wrap: anywhere; cursor: default; }
.p bdi { display: block; min-width: 1ch; font-size: 1.05rem; }
.p i { display: block; opacity: .75; font-size: .7rem; font-style: normal;
  font-variant-numeric: tabular-nums; }
.p:hover { background: hsl(var(--hue) 80% var(--deepen)); }
.p:hover::after { content: attr(title); position: fixed; inset: auto 0 0 0; padding: .6rem 1rem;
  background: var(--card); color: var(--ink); border-top: 1px solid var(--rule);
  text-align: center; font-variant-numeric: tabular-nums; }
.joined { border: 1px solid var(--rule); border-radius: .4rem; padding: .15rem .25rem 0;
  margin: 0 .2rem .35rem 0; }
.joined .p { margin-right: 0; margin-bottom: .15rem; }
.joined s { color: var(--soft); text-decoration: none; padding: 0 .2rem; vertical-align: top;
  line-height: 1.9rem; }
.whole { font-size: 1.25rem; line-height: 1.9rem; padding-right: .2rem; vertical-align: top; }
"""
