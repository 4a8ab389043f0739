"""Prompt -> token ids, and token ids -> the exact continuation of a prompt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import takewhile

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gptft.errors import ModelError
from gptft.models.load import special_ids
from gptft.panics import no_panic
from gptft.tokenization.framing import framing_of
from gptft.tokenization.token_bytes import TokenBytes, fallback_byte

_REPLACEMENT = "\ufffd"  # what decoders write for bytes that are no character (yet)
_STRAY = "".join(map(chr, range(0xDC80, 0xDD00)))  # bytes of no character, by surrogateescape


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Encode a prompt the way the tokenizer begins a text, without ending it.

    `<|endoftext|>` typed in a prompt stays text wherever the tokenizer can keep it so. What the
    tokenizer puts before a text (BOS) is kept; what it puts after one (EOS) is not, because the
    text is to be continued.

    Returns:
        token ids; none where the prompt is empty.
    """
    ids = encode_bare(tokenizer, prompt)
    return [*prefix_ids(tokenizer), *ids] if ids else []


def prefix_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """What the tokenizer puts before a text, BOS mostly."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        return framing_of(tokenizer.backend_tokenizer).before
    with explained(tokenizer):
        encoding = tokenizer("a", return_special_tokens_mask=True, verbose=False)
    pairs = zip(encoding["input_ids"], encoding["special_tokens_mask"], strict=True)
    return tuple(i for i, _ in takewhile(lambda pair: pair[1], pairs))


def encode_bare(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode a text as it is, with nothing before or after it."""
    with explained(tokenizer):
        encoding = tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False
        )
    return list(encoding["input_ids"])


def decode(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], *, skip_special_tokens: bool
) -> str:
    """The text of ids, as the tokenizer's decoder writes it."""
    with explained(tokenizer, "decode a text"):
        text = tokenizer.decode(
            list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False
        )
    return str(text)


@contextmanager
def explained(
    tokenizer: PreTrainedTokenizerBase, doing: str = "encode this text"
) -> Iterator[None]:
    """Encode or decode in this, as in `TextTokenizer.explained`.

    Raises:
        ModelError: the library breaks on what tokenizer.json says, or on this text.
    """
    try:
        with no_panic():
            yield
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(
            f"The tokenizer of {tokenizer.name_or_path or 'this model'} can't {doing}: {error}. "
            "Repair its tokenizer.json, or take another model's."
        ) from None


def continuation(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], new_ids: Sequence[int]
) -> str:
    """What `new_ids` add to the text of `prompt_ids`, its leading spaces included.

    Special tokens are left out, and so are bytes at the end that are no character, or not yet; the
    character U+FFFD stays. Ids are decoded together with the prompt's: decoders drop a leading
    space that new ids would begin with alone.
    """
    text = _added_text(tokenizer, prompt_ids, new_ids)
    if not text.endswith(_REPLACEMENT):
        return text
    raw = _bytes_of(tokenizer, new_ids)
    whole = b"".join(raw).decode(errors="surrogateescape")
    lost = whole[len(whole.rstrip(_STRAY)) :].encode(errors="surrogateescape")
    # A byte-fallback decoder spoils whole characters before an incomplete one: decode without it.
    while raw and len(raw[-1]) <= len(lost):
        lost = lost[: len(lost) - len(raw.pop())]
    text = _added_text(tokenizer, prompt_ids, new_ids[: len(raw)])
    return text.removesuffix(lost.decode(errors="replace"))


def _bytes_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[bytes]:
    """The bytes of each token of a text; special tokens have none."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        raw = _token_bytes(tokenizer).of_ids(ids, at_start=False)
    else:
        names = tokenizer.convert_ids_to_tokens(list(ids))
        raw = [fallback_byte(name) or name.encode() for name in names]
    special = special_ids(tokenizer)
    return [b"" if i in special else data for i, data in zip(ids, raw, strict=True)]


@lru_cache(maxsize=4)  # reading a tokenizer's components takes milliseconds
def _token_bytes(tokenizer: PreTrainedTokenizerFast) -> TokenBytes:
    return TokenBytes.of(tokenizer.backend_tokenizer)


def _added_text(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], new_ids: Sequence[int]
) -> str:
    before = _decode(tokenizer, prompt_ids)
    together = _decode(tokenizer, [*prompt_ids, *new_ids])
    return together[len(before) :] if together.startswith(before) else _decode(tokenizer, new_ids)


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return decode(tokenizer, ids, skip_special_tokens=True)
