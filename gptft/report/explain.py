"""An explanation -> one self-contained page: ten steps, drawn, with sliders, in two languages."""

import math
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from gptft.analysis.explain.explanation import NAMED_FROM
from gptft.analysis.explain.values import NamedToken
from gptft.report.explain_data import script_data, tokens_of
from gptft.report.language import Words
from gptft.report.render import render
from gptft.report.scripts import page_script
from gptft.report.token_boxes import box, codes_of, is_mark, signs_of, spelled
from gptft.report.values import one_line, visible
from gptft.terminal.cells import cut
from gptft.text.scripts import PageLanguage

if TYPE_CHECKING:
    from gptft.analysis.explain.explanation import Explanation, LensCell, Part, Passage

_STEPS = (
    "tokens", "vectors", "positions", "opened", "heads", "lens", "parts", "distribution", "base",
    "training",
)  # fmt: skip
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
        script=page_script("explain"),
        data=Markup(script_data(explanation, lang=lang, words=page.words)),
    )  # fmt: skip


class _Page:
    """What the template asks of an explanation, for the head of the page or one of its steps."""

    def __init__(self, explanation: "Explanation", lang: PageLanguage, step: str = "") -> None:
        self._explanation, self._step = explanation, step
        self._words = Words.of(lang, "explain")
        self.words = self._words.t

    def at(self, step: str) -> "_Page":
        """The same for a step, whose tokens are told apart from one another."""
        return _Page(self._explanation, self._words.lang, step)

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

    def say(self, key: str, **values: Any) -> Markup:
        """A sentence, its values filled in; a token stands in a box."""
        shown = {name: self._shown(value) for name, value in values.items()}
        return Markup(escape(self.words[key])).format(**shown)  # which escapes what isn't Markup

    def _shown(self, value: Any) -> Any:
        if isinstance(value, NamedToken):
            return self.box(value)
        return visible(value) if type(value) is str else value

    def box(self, token: NamedToken) -> Markup:
        """A token in its box, with what tells it apart from one that looks like it."""
        return box(token, self.codes)

    def spelled(self, token: NamedToken) -> Markup:
        """A token where it has a frame already."""
        return spelled(token, self.codes)

    def is_mark(self, token: NamedToken) -> bool:
        """Whether it is punctuation alone."""
        return is_mark(token.text)

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
    def size(self) -> Markup:
        """How large the model is: its parameters, layers, heads and tokens."""
        e, words = self._explanation, self._words
        total, heads = e.num_parameters, e.heads_by_layer
        unit = next((u for n, u in ((10**9, "billion"), (10**6, "million")) if total >= n), None)
        parts = [words.count(total, "parameter")]
        if unit is not None:
            scale = 10**9 if unit == "billion" else 10**6
            parts = [self.say(unit, number=self.number(total / scale, ".1f"))]
        if e.num_layers:
            parts.append(words.count(e.num_layers, "layer"))
        if any(heads) and len({*heads}) == 1:
            parts[-1] = self.say(
                "of_heads", layers=parts[-1], heads=words.count(heads[0], "by_head")
            )
        elif any(heads):
            parts.append(words.count(sum(heads), "head"))
        vocabulary = words.count(len(e.distribution.logits), "token")
        return self.say("size", parts=", ".join(parts), vocabulary=vocabulary)

    @cached_property
    def codes(self) -> dict[int, str]:
        """By id, what tells a token of the step apart from one that looks like it."""
        return codes_of(tokens_of(self._explanation, self._step))

    @property
    def signs(self) -> list[Markup]:
        """What the odd signs of the step mean, and what is beside tokens that look alike."""
        tokens = [*tokens_of(self._explanation, self._step)]
        piece = Markup('<bdi class="piece">{}</bdi>')
        told = [self.say(k, sign=piece.format(sign)) for k, sign in signs_of(tokens).items()]
        alike = next((one for one in tokens if one.id in self.codes), None)
        return told if alike is None else [*told, self.say("alike", token=alike)]

    @property
    def is_less_alike(self) -> bool:
        """Whether a nearest token that is shown is less alike than two at random."""
        e = self._explanation
        shown = (near.likeness for one in e.tokens for near in one.neighbours)
        return any(one < e.random_likeness.mean for one in shown)

    @property
    def scaling(self) -> Markup:
        """What products of queries and keys are multiplied by, and why where that is known."""
        opened = self._explanation.opened
        if opened is None:
            return Markup()
        number = self.number(opened.scaling, ".3g")
        is_root = math.isclose(opened.scaling, self.width**-0.5, rel_tol=1e-3)
        return self.say("scaling_root" if is_root else "scaling", number=number, width=self.width)

    @property
    def why_opened(self) -> Markup:
        """Why this layer, this head and these two tokens are the ones that are opened."""
        e = self._explanation
        if e.opened is None:
            return Markup()
        heads = None if e.attribution is None else e.attribution.heads
        layer, head = e.opened.layer + 1, e.opened.head + 1
        added = math.nan if heads is None else float(heads[layer - 1, head - 1])
        if heads is None or math.isnan(added):
            said = self.say("why_middle", layer=layer)
        else:
            said = self.say(
                "why_head" if added >= float(np.nanmax(heads)) else "why_head_of_open",
                layer=layer, head=head, token=e.next_tokens[0].token, added=self.signed(added),
            )  # fmt: skip
        return said + " " + self.say("why_looks") if e.opened.at > 1 else said

    @property
    def threshold(self) -> str:
        """The share of its attention from which a head has a name."""
        return self.number(NAMED_FROM)

    def place(self, passage: "Passage") -> str:
        """Where a passage of the training text stands: a file alone, without its folders."""
        place = passage.place
        if place.file is None:
            return self.say("place_block", block=self._words.whole(place.block))
        file = one_line(PurePath(place.file).name)
        if place.line is None:
            return self.say(
                "place_document", file=file, document=self._words.whole(place.document or 1)
            )
        return self.say("place_line", file=file, line=self._words.whole(place.line))

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
            token=token, row=row, last=len(column) - 1,
            then=self.probability(column[row].probability),
            at_last=self.probability(column[-1].probability),
        )  # fmt: skip
        early = [n for n, cell in enumerate(column[:row]) if cell.token.id == token.id]
        if early:
            after = ", ".join(str(n) for n in early if n)
            rows = [self.words["before_layers"]] * (not early[0])
            rows += [self.say("after_rows", rows=after)] * bool(after)
            said += " " + self.say("lens_before", rows=", ".join(rows))
        half = e.lens.half_from(len(e.tokens) - 1)
        return said + " " + self.say(
            "lens_half" if half else "lens_half_first",
            row=half, there=self.probability(column[half].final_probability),
        )  # fmt: skip

    @property
    def base_sentence(self) -> str:
        """What the base would go on with, and where either decides."""
        e = self._explanation
        if e.base is None or e.base.lens is None or e.lens is None:
            return ""
        base_token, token = e.base.lens.cells[-1][-1].token, e.next_tokens[0].token
        key = "decided_base" if base_token.id == token.id else "decided_other"
        return self.say(
            key, token=token, base_token=base_token, base=e.base.base,
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
