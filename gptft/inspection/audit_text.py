"""Tokenizer files -> findings on text: what changes it, what is lost, what forges a token."""

from collections.abc import Iterator
from typing import Any

from gptft.errors import ModelError
from gptft.inspection.audit_files import TokenizerFiles
from gptft.inspection.audit_finding import MAX_NAMED, Finding, fault, ok, shown, some, warning
from gptft.inspection.audit_special import named_tokens
from gptft.inspection.round_trip import Kind, find_losses
from gptft.panics import no_panic
from gptft.terminal.words import first_of
from gptft.tokenization.token_bytes import flat_components

_MAX_EXAMPLE = 30  # characters
# What the normalizers of the `tokenizers` library do.
_CHANGES = {
    "NFC": "joins letters with their accents (NFC)",
    "NFD": "takes letters and their accents apart (NFD)",
    "NFKC": "replaces look-alikes such as ﬁ and ² (NFKC)",
    "NFKD": "replaces look-alikes and takes accents apart (NFKD)",
    "Nmt": "replaces control characters and special spaces",
    "Lowercase": "makes letters lower case",
    "StripAccents": "takes accents off",
    "Strip": "takes white space off the ends",
    "Precompiled": "replaces characters by SentencePiece's table (mostly NFKC)",
}
# What is said of texts that decoding doesn't give back.
_LOSSES = {
    Kind.PLAIN: (
        fault,
        "Plain text isn't given back",
        "What is lost can't be learned or written. Take another base model, or repair "
        "normalizer and decoder.",
    ),
    Kind.SCRIPT: (
        warning,
        "These scripts aren't given back",
        "Don't train on them with this base model.",
    ),
    Kind.RARE: (
        warning,
        "Some texts aren't given back",
        "Change such characters in your texts before, or accept it.",
    ),
}


def check_forgery(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether the text of a special token becomes it."""
    if files.default is None or files.tokenizer is None:
        return
    added = files.default.get_added_tokens_decoder()
    special = {token.content: i for i, token in added.items() if token.special and token.content}
    unknown = named_tokens(files).get("unk_token", (None, ""))[0]
    for name, (content, _) in named_tokens(files).items():
        token_id = files.default.token_to_id(content)
        if name != "unk_token" and token_id is not None:
            special[content] = token_id
    by_default = [t for t, i in special.items() if i in _ids(files.default, t)]
    backend = files.tokenizer.backend
    by_gptft = [t for t, i in special.items() if t != unknown and i in _ids(backend, t)]
    where = f"{files.source}:added_tokens"
    if by_gptft:
        what = f"Text that spells {some(by_gptft)} becomes that token, even in gptft."
        do = "Take it out of the merges and of the model's vocabulary, or clean it from your text."
        yield fault(what, where, do)
    left = [token for token in by_default if token not in by_gptft]
    if left:
        what = (
            f"By the library's default text that spells {some(left)} becomes that token: a text "
            "can end itself, or speak for others. gptft keeps it text."
        )
        do = "Elsewhere set split_special_tokens (encode_special_tokens in tokenizers)."
        yield warning(what, where, do)
    if special and not by_gptft:
        yield ok("In gptft no text becomes a special token.", where)


def _ids(backend: Any, text: str) -> set[int]:
    """The ids of a text alone and in a sentence.

    Raises:
        ModelError: the library can't encode them.
    """
    texts = (text, f"a {text} b", f"a{text}b")
    try:
        with no_panic():
            return {i for one in texts for i in backend.encode(one, add_special_tokens=False).ids}
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"A text with {shown(text)} can't be encoded: {error}") from None


def check_space(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether a space is put in front of each text."""
    parts = flat_components(files.document.get("pre_tokenizer"))
    kinds = [part for part in parts if part["type"] == "ByteLevel"]
    where = f"{files.source}:pre_tokenizer.add_prefix_space"
    puts = any(part.get("add_prefix_space") for part in kinds)
    wanted = files.tokenizer_config.get("add_prefix_space")
    if kinds and isinstance(wanted, bool) and wanted != puts:
        what = f"add_prefix_space is {wanted} here, and {puts} in {files.source}."
        do = "Write the same in both: AutoTokenizer and tokenizers give different ids."
        yield warning(what, "tokenizer_config.json:add_prefix_space", do)
    if puts:
        what = "A space is put in front of each text: it comes back with one more."
        do = "Set it to false, unless the model was trained so."
        yield warning(what, where, do)
    elif kinds:
        yield ok("No space is put in front of a text.", where)


def check_normalizer(files: TokenizerFiles) -> Iterator[Finding]:
    """Name what a normalizer changes for good; the marks for spaces are undone by decoding."""
    where = f"{files.source}:normalizer"
    parts = flat_components(files.document.get("normalizer"))
    changes = [change for part in parts for change in _changes_of(part)]
    if changes:
        what = f"Before it encodes a text the tokenizer {'; '.join(dict.fromkeys(changes))}."
        do = "What was there before is never learned. Take another base model if you need it."
        yield warning(what, where, do)
    elif files.document:
        yield ok("No normalizer changes the text.", where)


def _changes_of(part: dict[str, Any]) -> Iterator[str]:
    """What one normalizer changes."""
    kind = part["type"]
    if kind in _CHANGES:
        yield _CHANGES[kind]
    elif kind == "BertNormalizer":
        lowers = part.get("lowercase")
        strips = part.get("strip_accents")
        if part.get("clean_text"):
            yield "takes control characters out and makes all white space spaces"
        if lowers:
            yield _CHANGES["Lowercase"]
        if strips or (strips is None and lowers):
            yield _CHANGES["StripAccents"]
    elif kind == "Replace":
        pattern = next(iter(part.get("pattern", {}).values()), "")
        if not (pattern == " " and part.get("content") == "▁"):
            yield f"replaces {shown(pattern)} by {shown(part.get('content')) or 'nothing'}"


def check_round_trip(files: TokenizerFiles) -> Iterator[Finding]:
    """Which texts decoding doesn't give back."""
    if files.tokenizer is None:
        return
    losses, num_tried = find_losses(files.tokenizer)
    if not losses:
        what = f"Encoding and decoding gives back all of {num_tried:,} texts, of all scripts."
        yield ok(what, files.source)
    for kind, (level, subject, do) in _LOSSES.items():
        of_kind = [loss for loss in losses if loss.kind is kind and not loss.is_space_in_front]
        if of_kind:
            first = of_kind[0]
            what = (
                f"{subject}: {first_of([loss.name for loss in of_kind], MAX_NAMED)}. "
                f"{_example(first.text)} comes back as {_example(first.back)}."
            )
            yield level(what, files.source, do)


def check_clean_up(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether decoding changes spaces."""
    if files.tokenizer_config.get("clean_up_tokenization_spaces") is True:
        what = "AutoTokenizer takes spaces before punctuation out when it decodes."
        where = "tokenizer_config.json:clean_up_tokenization_spaces"
        yield warning(what, where, "Set it to false. gptft decodes without it.")


def _example(text: str) -> str:
    if not text:
        return "nothing"
    short = shown(text[:_MAX_EXAMPLE])
    return f"{short}…" if len(text) > _MAX_EXAMPLE else short
