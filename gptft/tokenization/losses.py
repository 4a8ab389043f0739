"""A tokenizer and a sample of text -> what of it decoding doesn't restore, in a sentence."""

from collections.abc import Iterator

from gptft.terminal.text import quoted
from gptft.tokenization.tokenizer import TextTokenizer

_QUOTED = 40  # characters of an example


def loss_notice(tokenizer: TextTokenizer, text: str) -> str | None:
    """What to say where a text isn't itself any more when it was encoded and decoded.

    Args:
        tokenizer: of the model that is to learn the text.
        text: some paragraphs of it.

    Raises:
        ModelError: it can't be encoded.
    """
    decoded = _round_trip(tokenizer, text)
    if decoded == text:
        return None
    examples = ((line, _round_trip(tokenizer, line)) for line in text.split("\n") if line.strip())
    before, after = next((pair for pair in examples if pair[0] != pair[1]), (text, decoded))
    lost = ", ".join(_what_is_lost(tokenizer, text, decoded)) or "some characters"
    return (
        f"The tokenizer of {tokenizer.name} doesn't keep this text ({lost}): of "
        f"{quoted(before, at_most=_QUOTED)} it makes {quoted(after, at_most=_QUOTED)}, and that is "
        "what the model learns and writes. One by bytes keeps every text: pico's, or one of "
        "tokenizer.train."
    )


def _round_trip(tokenizer: TextTokenizer, text: str) -> str:
    with tokenizer.explained():
        ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
        return tokenizer.backend.decode(ids, skip_special_tokens=False)


def _what_is_lost(tokenizer: TextTokenizer, text: str, decoded: str) -> Iterator[str]:
    unknown = tokenizer.special_tokens.get("unk_token") or ""
    if unknown and unknown in decoded and unknown not in text:
        yield "characters it doesn't know"
        decoded = decoded.replace(unknown, "")
    if any(map(str.isupper, text)) and not any(map(str.isupper, decoded)):
        yield "capitals"
    if "\n" in text.strip() and "\n" not in decoded:
        yield "line breaks"
    if sum(map(str.isspace, text)) != sum(map(str.isspace, decoded)):
        yield "spaces"
