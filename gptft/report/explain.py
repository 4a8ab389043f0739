"""An explanation -> one self-contained page: ten steps, drawn, with sliders, in two languages."""

import base64
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from gptft.report.language import Words
from gptft.report.render import render
from gptft.report.scripts import page_script
from gptft.report.values import one_line, visible
from gptft.terminal.cells import cut
from gptft.text.scripts import PageLanguage

if TYPE_CHECKING:
    from gptft.analysis.explain.explanation import Explanation, LensCell, Part

_STEPS = (
    "tokens", "vectors", "positions", "opened", "heads", "lens", "parts", "distribution", "base",
    "training",
)  # fmt: skip
_MOST_WEIGHTS = 4_000_000  # of attention, a byte each: a page stays below 5 MB with fewer
_TURNING_PAIRS = 5
_TITLE_PROMPT = 60  # characters


def explain_html(explanation: "Explanation", lang: PageLanguage) -> str:
    """The page; it asks the network for nothing.

    Args:
        explanation: of one prompt.
        lang: the language of its words.
    """
    page = _Page(explanation, lang)
    return render(
        "explain.html.j2", e=explanation, page=page, t=page.words, lang=lang,
        script=page_script("explain"), data=Markup(page.data()),
    )  # fmt: skip


class _Page:
    """What the template asks of an explanation."""

    def __init__(self, explanation: "Explanation", lang: PageLanguage) -> None:
        self._explanation = explanation
        self._words = Words.of(lang, "explain")
        self.words, self._lang = self._words.t, lang

    @property
    def title_has_prompt(self) -> bool:
        """Whether all of the prompt is in the title."""
        return len(one_line(self._explanation.prompt)) <= _TITLE_PROMPT

    @property
    def title(self) -> str:
        """The model by its own name, of a run what it was tuned from, and the prompt."""
        named, prompt = self._explanation.title, one_line(self._explanation.prompt)
        return self.say(
            "title_run" if named.base else "title", model=one_line(named.name),
            base=one_line(named.base or ""), prompt=cut(prompt, _TITLE_PROMPT),
        )  # fmt: skip

    def number(self, value: float, spec: str = ".2f") -> str:
        """A number as the page's language writes it: 1,234.5 or 1 234,5."""
        return self._words.local(format(value, spec).replace("-", "−"))

    def probability(self, value: float) -> str:
        """A probability in at most 6 cells."""
        return self._words.probability(value)

    def say(self, key: str, **values: Any) -> str:
        """A sentence, its values filled in."""
        return self._words.say(key, **values)

    @property
    def steps(self) -> list[tuple[int, str]]:
        """The steps that there is something to show of, each with its number."""
        e = self._explanation
        absent = {
            "opened": e.opened is None,
            "heads": not e.heads or e.attentions is None,
            "lens": e.lens is None,
            "parts": e.attribution is None,
            "base": e.base is None,
            "training": e.training is None,
        }
        return [(n, name) for n, name in enumerate(_STEPS, start=1) if not absent.get(name)]

    @property
    def contents(self) -> str:
        """How many views there are."""
        return self.say("contents", views=self._words.count(len(self.steps), "view"))

    @property
    def width(self) -> int:
        """Numbers of a head's query."""
        opened = self._explanation.opened
        return 0 if opened is None else int(opened.query.shape[-1])

    @property
    def vector_width(self) -> int:
        """Numbers of a token's vector."""
        return self._explanation.width

    @property
    def unique_tokens(self) -> list[Any]:
        """The tokens of the prompt, each once."""
        return list({one.token.id: one for one in self._explanation.tokens}.values())

    @property
    def likeness_name(self) -> str:
        """What the picture of learned positions shows."""
        places = self._explanation.positions.places
        return self.say("likeness", first=places[0] + 1, last=places[-1] + 1) if places else ""

    @property
    def groups(self) -> list[list[Any]]:
        """The tokens, those that share a character together."""
        found: list[list[Any]] = []
        for token in self._explanation.tokens:
            if found and token.character is not None and found[-1][0].character == token.character:
                found[-1].append(token)
            else:
                found.append([token])
        return found

    @property
    def positions(self) -> str:
        """The sentences on how the model tells places apart."""
        return self.words[f"positions_{self._explanation.positions.kind or 'unknown'}"]

    @property
    def turns(self) -> list[tuple[int, str, str, float]]:
        """A few pairs of a head's numbers: which, degrees a token, tokens a round, radians."""
        turns = self._explanation.positions.turns
        if turns is None:
            return []
        chosen = np.unique(np.linspace(0, len(turns) - 1, _TURNING_PAIRS).round().astype(int))
        rows = []
        for pair in chosen.tolist():
            angle = float(turns[pair])
            period = self.number(2 * math.pi / angle, ",.0f") if angle else "∞"
            rows.append((pair + 1, self.number(math.degrees(angle), ".3g"), period, angle))
        return rows

    def hands(self, angle: float) -> list[tuple[float, float, float]]:
        """Where the hand of a dial points at the first eight places, and how dark it is."""
        return [
            (
                round(20 + 17 * math.sin(angle * place), 1),
                round(20 - 17 * math.cos(angle * place), 1),
                round(0.2 + 0.8 * place / 7, 2),
            )
            for place in range(8)
        ]

    @property
    def named_heads(self) -> list[tuple[str, list[str]]]:
        """What heads do: the name, and those that do it as layer.head with their score."""
        heads = [head for head in self._explanation.heads if head.name != "mixed"]
        heads.sort(key=lambda head: -head.scores[head.name])
        return [
            (
                name,
                [
                    f"{head.layer + 1}.{head.head + 1} ({self.number(head.scores[name])})"
                    for head in heads
                    if head.name == name
                ],
            )
            for name in dict.fromkeys(head.name for head in heads)
        ]

    @property
    def num_named(self) -> int:
        """How many heads do one thing mostly."""
        return sum(len(heads) for _, heads in self.named_heads)

    def shade(self, value: float, most: float = 1.0) -> str:
        """How dark a cell is, as a share in CSS."""
        return f"{100 * min(max(value / most, 0.0), 1.0):.0f}%" if most > 0 else "0%"

    @property
    def lens_rows(self) -> list[tuple[str, list[tuple["LensCell", bool]]]]:
        """The rows of the lens, the embeddings first: a name, and cells with whether it decided."""
        lens = self._explanation.lens
        if lens is None:
            return []
        return [
            (self.row_name(number), [(c, lens.decided[at] == number) for at, c in enumerate(row)])
            for number, row in enumerate(lens.cells)
        ]

    def layer_name(self, number: int) -> str:
        """What a layer is called."""
        return f"{self.words['layer']} {number + 1}"

    def row_name(self, number: int) -> str:
        """What a row of the lens is called."""
        return self.words["embeddings"] if not number else f"{self.words['layer']} {number}"

    def decided(self, row: int) -> str:
        """Where it was decided, in words."""
        return self.say("row", row=row) if row else self.words["row_first"]

    @property
    def lens_sentence(self) -> str:
        """At which layer the next token was decided."""
        e = self._explanation
        if e.lens is None:
            return ""
        token, row = e.next_tokens[0].token, e.lens.decided[-1]
        column = [cells[-1] for cells in e.lens.cells]
        said = self.say(
            "lens_decided" if row else "lens_decided_first",
            token=token.text, row=row, last=len(column) - 1,
            then=self.probability(column[row].probability),
            at_last=self.probability(column[-1].probability),
        )  # fmt: skip
        early = [n for n, cell in enumerate(column[:row]) if cell.token.id == token.id]
        if early:
            rows = ", ".join(str(n) if n else self.words["embeddings"] for n in early)
            said += " " + self.say("lens_before", rows=self.say("after_rows", rows=rows))
        return said

    @property
    def base_sentence(self) -> str:
        """What the base would go on with, and where either decides."""
        e = self._explanation
        if e.base is None or e.base.lens is None or e.lens is None:
            return ""
        base_token, token = e.base.lens.cells[-1][-1].token, e.next_tokens[0].token
        key = "decided_base" if base_token.id == token.id else "decided_other"
        return self.say(
            key, token=token.text, base_token=base_token.text, base=e.base.base,
            base_row=self.decided(e.base.lens.decided[-1]), row=self.decided(e.lens.decided[-1]),
        )  # fmt: skip

    def part_name(self, part: "Part") -> str:
        """What a part of the model is called."""
        layer = "" if part.layer is None else part.layer + 1
        return self.say(f"part_{part.kind}", layer=layer).strip()

    @property
    def widest_part(self) -> float:
        """The largest part of the logit, either way."""
        found = self._explanation.attribution
        return max((abs(part.value) for part in found.parts), default=1.0) if found else 1.0

    def signed(self, value: float) -> str:
        """A number with its sign."""
        return self.number(value, "+.2f")

    def chance(self, bits: float) -> str:
        """One in how many something of so many bits is."""
        return self.number(2.0**bits, ",.0f") if bits < 60 else "∞"

    def grid(self, values: np.ndarray | None) -> tuple[list[list[float]], float, str]:
        """Rows of numbers, the largest of them either way, and how they are written."""
        if values is None:
            return [], 1.0, ".2f"
        most = float(np.nanmax(np.abs(values))) or 1.0
        digits = min(max(1 - math.floor(math.log10(most)), 2), 6)
        return values.tolist(), most, f".{digits}f"

    def isnan(self, value: float) -> bool:
        """Whether a number is none."""
        return math.isnan(value)

    def data(self) -> str:
        """What the script draws, as JSON that can stand in HTML."""
        e, opened = self._explanation, self._explanation.opened
        shown = {
            "lang": self._lang,
            "tokens": [visible(one.token.text) for one in e.tokens],
            "words": {key: self.words[key] for key in _SCRIPT_WORDS},
            "heads": [
                {"layer": h.layer, "head": h.head, "name": self.words[h.name]} for h in e.heads
            ],
            "attentions": _attentions(e.attentions),
            "likeness": _bytes_of(e.positions.likeness, low=-1.0),
            "opened": None
            if opened is None
            else {
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
                    [[visible(token.text), round(by, 3)] for token, by in one.raises]
                    for one in opened.fetched
                ],
            },
            "logits": _floats(e.distribution.logits),
            "next": [visible(token.text) for token in e.distribution.tokens],
        }
        return json.dumps(shown, ensure_ascii=False).replace("<", "\\u003c")


_SCRIPT_WORDS = (
    "query", "key", "product", "score", "share", "sum", "kept", "layer", "head", "fetched", "asks",
    "looks", "looks_most", "cannot_look", "temperature_off", "temperature_told", "cut_off", "cuts",
    "cuts_nothing", "cuts_hardly", "cut_by", "rest",
)  # fmt: skip


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
