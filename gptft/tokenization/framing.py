"""A tokenizer's template -> the ids that it puts before and after a text, and back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from tokenizers import Tokenizer, processors

from gptft.errors import ModelError


class Framing(NamedTuple):
    """What stands around a text.

    Attributes:
        before: ids in front of it: BOS mostly; XGLM's and OPT's is their EOS.
        after: ids behind it: EOS, where the template has any.
    """

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


UNFRAMED = Framing()


def framing_of(backend: Tokenizer) -> Framing:
    """What a tokenizer's own template puts around one text."""
    template = backend.post_processor
    return UNFRAMED if template is None else _read(json.loads(template.__getstate__()))


def _read(template: Mapping[str, Any]) -> Framing:
    match template["type"]:
        case "TemplateProcessing":
            special, parts = template["special_tokens"], template["single"]
            return Framing(
                before=tuple(_leading(parts, special)),
                after=tuple(reversed([*_leading(parts[::-1], special)])),
            )
        case "BertProcessing" | "RobertaProcessing":
            return Framing((template["cls"][1],), (template["sep"][1],))
        case "Sequence":  # one of them frames the text; ByteLevel only moves offsets
            return next(filter(any, map(_read, template["processors"])), UNFRAMED)
    return UNFRAMED


def _leading(
    parts: Sequence[Mapping[str, Any]], special: Mapping[str, Mapping[str, Any]]
) -> Iterator[int]:
    for part in takewhile(lambda part: "SpecialToken" in part, parts):
        if (name := part["SpecialToken"]["id"]) not in special:
            raise ModelError(
                f"The template of this tokenizer names the token {name!r}, and doesn't say its id. "
                "Repair post_processor in its tokenizer.json."
            )
        yield from special[name]["ids"]


def set_framing(backend: Tokenizer, framing: Framing) -> None:
    """Have a tokenizer put these ids, each a token of its own, around one text, and around two."""
    tokens = {i: backend.id_to_token(i) or "" for i in {*framing.before, *framing.after}}

    def framed(*sequences: str) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        for number, sequence in enumerate(sequences):
            marks = [
                [{"SpecialToken": {"id": tokens[i], "type_id": number}} for i in ids]
                for ids in framing
            ]
            parts += [*marks[0], {"Sequence": {"id": sequence, "type_id": number}}, *marks[1]]
        return parts

    template = {
        "type": "TemplateProcessing",
        "single": framed("A"),
        "pair": framed("A", "B"),
        "special_tokens": {
            token: {"id": token, "ids": [i], "tokens": [token]} for i, token in tokens.items()
        },
    }
    made = processors.TemplateProcessing(single="$A", special_tokens=[])
    # Its own arguments can't hold a token with a colon, which they read as a type id.
    made.__setstate__(json.dumps(template).encode())
    backend.post_processor = made


def begins_each(bos: Sequence[int], *, eos_token_id: int, isolated: bool) -> bool:
    """Whether BOS stands before every document, or before the first of a split alone.

    The BOS of some tokenizers (OPT, XGLM) is their EOS. The EOS that ends a document is then the
    BOS of the next, as those models were trained; two in a row would teach that a text may end
    where it begins. Documents that don't see each other need one each.

    Args:
        bos: ids before a document.
        eos_token_id: that ends one.
        isolated: `data.isolate_documents`.

    >>> [begins_each([bos], eos_token_id=2, isolated=False) for bos in (1, 2)]
    [True, False]
    """
    return isolated or [*bos] != [eos_token_id]


def keeps_apart(
    asked: bool | Literal["auto"],
    *,
    bos: Sequence[int],
    eos_token_id: int,
    num_documents: int,
    packing: str = "stream",
) -> bool:
    """Whether documents of a block are to be kept from seeing each other, if the model can.

    Under auto one document has nothing to be kept from, and those of a stream that begin with the
    EOS of the one before stay as that framing joins them.

    Args:
        asked: what `data.isolate_documents` comes to.
        bos: ids before a document.
        eos_token_id: that ends one.
        num_documents: of the training split.
        packing: `stream`, or `best_fit`, by which each document has a BOS of its own.

    >>> [keeps_apart("auto", bos=[1], eos_token_id=2, num_documents=n) for n in (1, 2)]
    [False, True]
    """
    if asked != "auto":
        return asked
    each = begins_each(bos, eos_token_id=eos_token_id, isolated=packing == "best_fit")
    return num_documents > 1 and each
