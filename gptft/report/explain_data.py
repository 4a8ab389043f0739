"""An explanation -> which tokens its page shows, and what the page's script draws, as JSON."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gptft.report.token_boxes import codes_of, is_mark
from gptft.report.values import visible
from gptft.text.scripts import PageLanguage

if TYPE_CHECKING:
    from gptft.analysis.explain.explanation import Explanation
    from gptft.analysis.explain.values import NamedToken

_MOST_WEIGHTS = 4_000_000  # of attention, a byte each: a page stays below 5 MB with fewer
_CHOICES = 20  # tokens of the distribution that step 8 lists
_SCRIPT_WORDS = (
    "query", "key", "product", "score", "share", "sum", "kept", "layer", "head", "fetched", "asks",
    "looks", "looks_most", "cannot_look", "temperature_off", "temperature_told", "cut_off", "cuts",
    "cuts_nothing", "cuts_hardly", "cut_by", "rest", "layer_axis",
)  # fmt: skip


def script_data(e: "Explanation", *, lang: PageLanguage, words: Mapping[str, str]) -> str:
    """What the script draws.

    Args:
        e: the explanation.
        lang: the language of the words.
        words: of the page, by key.
    """
    opened = e.opened

    # What tells tokens of a step apart that look alike.
    steps = ("opened", "heads", "distribution")
    codes = {step: codes_of(tokens_of(e, step)) for step in steps}

    def shown(step: str, tokens: Iterable["NamedToken"]) -> list[list[str | int]]:
        return [
            [visible(one.text), one.id, codes[step].get(one.id, ""), int(is_mark(one.text))]
            for one in tokens
        ]

    prompt = [one.token for one in e.tokens]

    values = {
        "lang": lang,
        "tokens": shown("heads", prompt),
        "words": {key: words[key] for key in _SCRIPT_WORDS},
        "heads": [{"layer": h.layer, "head": h.head, "name": words[h.name]} for h in e.heads],
        "attentions": _attentions(e.attentions),
        "likeness": _bytes_of(e.positions.likeness, low=-1.0),
        "opened": None
        if opened is None
        else {
            "tokens": shown("opened", prompt),
            "layer": opened.layer,
            "head": opened.head,
            "at": opened.at,
            "looksAt": opened.looks_at,
            "scaling": opened.scaling,
            "shape": opened.query.shape,
            "query": _floats(opened.query),
            "key": _floats(opened.key),
            "weights": _floats(opened.weights),
            "fetched": [
                [
                    *zip(
                        shown("opened", [token for token, _ in one.raises]),
                        [round(by, 3) for _, by in one.raises],
                        strict=True,
                    )
                ]
                for one in opened.fetched
            ],
        },
        "logits": _floats(e.distribution.logits),
        "next": shown("distribution", e.distribution.tokens[:_CHOICES]),
    }
    return json.dumps(values, ensure_ascii=False).replace("<", "\\u003c")


def tokens_of(e: "Explanation", step: str) -> Iterator["NamedToken"]:
    """The tokens that a step of the page shows.

    Args:
        e: the explanation.
        step: its name.
    """
    if step in ("tokens", "vectors", "opened", "heads", "lens", "base"):
        yield from (one.token for one in e.tokens)
    match step:
        case "vectors":
            yield from (near.token for one in e.tokens for near in one.neighbours)
        case "positions" if e.positions.shuffled is not None:
            yield from (one.token for one in e.positions.shuffled.next_tokens)
        case "opened" if e.opened is not None:
            yield e.next_tokens[0].token
            yield from (token for one in e.opened.fetched for token, _ in one.raises)
        case "lens" if e.lens is not None:
            yield from (cell.token for row in e.lens.cells for cell in row)
        case "parts":
            yield e.next_tokens[0].token
        case "distribution":
            yield from e.distribution.tokens[:_CHOICES]
        case "base" if e.base is not None:
            yield e.next_tokens[0].token
            yield from (one.token for one in (*e.base.gained, *e.base.lost))
            if e.base.lens is not None:
                yield e.base.lens.cells[-1][-1].token


def _attentions(weights: np.ndarray | None) -> dict[str, Any] | None:
    """Attention as a byte each, rows cut at the diagonal; None where it would be too much."""
    if weights is None or weights.size > 2 * _MOST_WEIGHTS:
        return None
    layers, heads, length, _ = weights.shape
    rows, columns = np.tril_indices(length)
    packed = np.rint(weights[:, :, rows, columns] * 255).clip(0, 255).astype(np.uint8)
    return {"shape": [layers, heads, length], "bytes": _encoded(packed)}


def _bytes_of(values: np.ndarray | None, *, low: float) -> dict[str, Any] | None:
    """A square of numbers from `low` to 1 as a byte each."""
    if values is None:
        return None
    scaled = (values - low) / (1.0 - low) * 255
    packed = np.rint(scaled).clip(0, 255).astype(np.uint8)
    return {"size": len(values), "bytes": _encoded(packed)}


def _floats(values: np.ndarray) -> str:
    return _encoded(values.astype("<f4"))


def _encoded(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
