"""A GGUF file -> the tokenizer in its header.

Tensors are never read. What can't be rebuilt exactly with the `tokenizers` library is refused by
name.

Source: the GGUF specification, versions 2 and 3, of the ggml project.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from gptft.errors import ModelError
from gptft.models.gguf_header import DamagedError, read_gguf_header
from gptft.tokenization.framing import Framing

_CONTROL, _USER_DEFINED = 3, 4  # kinds of token; 1 normal, 2 unknown, 5 unused, 6 byte
_NORMAL = 1
_SPACE = "▁"

# How the tokenizers of four families split a text into words before they merge.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_SPLITS = {"gpt-2": None, "smollm": r"\p{N}", "llama-bpe": _LLAMA3, "qwen2": _QWEN2}


@dataclass(frozen=True)
class FileTokenizer:
    """A tokenizer, and what its file says besides.

    Attributes:
        backend: text -> ids.
        special_tokens: token text by name, of eos_token, bos_token, pad_token, unk_token.
        context: the most tokens the model sees at once; None where the file doesn't say.
        num_embeddings: ids the model knows.
        framing: what stands around a text that the model is given.
    """

    backend: Tokenizer
    special_tokens: dict[str, str]
    context: int | None
    num_embeddings: int
    framing: Framing


def open_gguf(path: Path) -> FileTokenizer:
    """Rebuild the tokenizer of a GGUF file: byte-level BPE, or SentencePiece's BPE.

    Raises:
        ModelError: it isn't a GGUF file of version 2 or 3, is damaged, or holds a tokenizer that
            can't be rebuilt exactly.
    """
    try:
        return _rebuild(read_gguf_header(path))
    except DamagedError as error:
        raise ModelError(f"{path} {error}.") from None


def _rebuild(pairs: Mapping[str, Any]) -> FileTokenizer:
    kind = pairs.get("tokenizer.ggml.model")
    if kind is None:
        raise DamagedError("holds no tokenizer: tokenizer.ggml.model is not in its header")
    if not isinstance(kind, str) or kind not in _REBUILT:
        raise DamagedError(
            f"holds a tokenizer of the kind {kind!r}, which can't be rebuilt exactly; only "
            f"{' and '.join(map(repr, _REBUILT))} can. Use the model's tokenizer.json"
        )
    tokens = _strings(pairs, "tokens")
    if len({*tokens}) != len(tokens):
        raise DamagedError("is damaged: a token is twice in its vocabulary")
    kinds = pairs.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise DamagedError(f"is damaged: it has {len(tokens):,} tokens, and kinds for others")
    try:
        backend = _REBUILT[kind](pairs, tokens, kinds)
    except DamagedError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        raise DamagedError(f"holds a tokenizer that can't be rebuilt: {error}") from None
    # Special ones first: `add_tokens` keeps a token special that was added as such.
    added = [(token, kind) for token, kind in zip(tokens, kinds, strict=True) if token]
    backend.add_special_tokens([AddedToken(t, special=True) for t, k in added if k == _CONTROL])
    backend.add_tokens([AddedToken(t, normalized=False) for t, k in added if k == _USER_DEFINED])
    special, framing = _named(pairs, tokens), _framing(pairs, kind)
    return FileTokenizer(backend, special, _context(pairs), len(tokens), framing)


def _strings(pairs: Mapping[str, Any], name: str) -> list[str]:
    values = pairs.get(f"tokenizer.ggml.{name}")
    if not (isinstance(values, list) and values and all(isinstance(v, str) for v in values)):
        raise DamagedError(f"is damaged: tokenizer.ggml.{name} is missing or is no list of texts")
    return values


def _byte_level(pairs: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[int]) -> Tokenizer:
    """GPT-2's kind, with the merges as they stand in the file."""
    # Files older than the field are GPT-2's own where they say so.
    default = "gpt-2" if pairs.get("general.architecture") == "gpt2" else None
    split = pairs.get("tokenizer.ggml.pre", default)
    if split not in _SPLITS:
        raise DamagedError(
            f"holds a tokenizer that splits words in the way {split!r}, which can't be rebuilt "
            f"exactly; only {', '.join(_SPLITS)} can. Use the model's tokenizer.json"
        )
    merges = [merge.split(" ") for merge in _merges(pairs)]
    if any(len(pair) != 2 for pair in merges):
        raise DamagedError("is damaged: a merge isn't two tokens with a space between them")
    vocab = {token: i for i, token in enumerate(tokens)}
    joined = [(left, right) for left, right in merges]
    backend = Tokenizer(models.BPE(vocab, joined, ignore_merges=split == "llama-bpe"))
    pattern = _SPLITS[split]
    prefix = bool(pairs.get("tokenizer.ggml.add_space_prefix", False))
    as_gpt2 = split in ("gpt-2", "smollm")  # SmolLM's takes the digits apart, and then does that
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=as_gpt2)
    backend.pre_tokenizer = to_bytes
    if pattern is not None:
        to_words = pre_tokenizers.Split(Regex(pattern), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([to_words, to_bytes])
    if split == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    return backend


def _merges(pairs: Mapping[str, Any]) -> list[str]:
    """The merges; an empty list has no texts, and is one all the same."""
    return [] if pairs.get("tokenizer.ggml.merges") == [] else _strings(pairs, "merges")


def _sentencepiece(
    pairs: Mapping[str, Any], tokens: Sequence[str], kinds: Sequence[int]
) -> Tokenizer:
    """SentencePiece's BPE: a pair is merged that makes the token with the best score.

    The pairs that make one token stand in the order transformers gives them, longest left side
    first; SentencePiece itself takes the leftmost of them.

    Source: Kudo & Richardson 2018 (1808.06226), section 3.1.
    """
    scores = pairs.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise DamagedError(f"is damaged: it has {len(tokens):,} tokens, and scores for others")
    vocab = {token: i for i, token in enumerate(tokens)}
    ranked: list[tuple[float, int, str, str]] = []
    scored: dict[float, str] = {}
    for token, score, kind in zip(tokens, scores, kinds, strict=True):
        if kind != _NORMAL:
            continue
        splits = [(token[:at], token[at:]) for at in range(1, len(token))]
        splits = [(left, right) for left, right in splits if left in vocab and right in vocab]
        if splits and scored.setdefault(score, token) != token:
            raise DamagedError(
                f"gives {scored[score]!r} and {token!r} the same score, so its merges have no "
                "order. Use the model's tokenizer.json"
            )
        ranked += [(-score, -len(left), left, right) for left, right in splits]
    unknown = _token_at(pairs, tokens, "unknown_token_id")
    merges = [(left, right) for *_, left, right in sorted(ranked)]
    model = models.BPE(vocab, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    backend = Tokenizer(model)
    spaces = normalizers.Replace(" ", _SPACE)
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if pairs.get("tokenizer.ggml.add_space_prefix", True):
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), spaces])
        steps.append(decoders.Strip(" ", 1, 0))
    else:
        backend.normalizer = spaces
    backend.decoder = decoders.Sequence(steps)
    return backend


def _named(pairs: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, str]:
    """Special tokens by their names in transformers."""
    keys = {"eos": "eos", "bos": "bos", "pad": "padding", "unk": "unknown"}
    found = {name: _token_at(pairs, tokens, f"{key}_token_id") for name, key in keys.items()}
    return {f"{name}_token": token for name, token in found.items() if token}


def _framing(pairs: Mapping[str, Any], kind: str) -> Framing:
    """What llama.cpp puts around a text; its defaults are those of `llama_vocab::impl::load`."""
    adds_bos = kind == "llama" or pairs.get("tokenizer.ggml.pre") == "llama-bpe"

    def ids(name: str, by_default: bool) -> tuple[int, ...]:
        token_id = pairs.get(f"tokenizer.ggml.{name}_token_id")
        is_added = pairs.get(f"tokenizer.ggml.add_{name}_token", by_default) is True
        return (token_id,) if is_added and isinstance(token_id, int) else ()

    return Framing(ids("bos", adds_bos), ids("eos", False))


def _token_at(pairs: Mapping[str, Any], tokens: Sequence[str], key: str) -> str | None:
    number = pairs.get(f"tokenizer.ggml.{key}")
    if number is None:
        return None
    if not isinstance(number, int) or not 0 <= number < len(tokens):
        raise DamagedError(f"is damaged: tokenizer.ggml.{key} is {number}, which is no token")
    return tokens[number]


def _context(pairs: Mapping[str, Any]) -> int | None:
    length = pairs.get(f"{pairs.get('general.architecture')}.context_length")
    return length if isinstance(length, int) and length > 0 else None


_REBUILT: dict[str, Callable[[Mapping[str, Any], Sequence[str], Sequence[int]], Tokenizer]] = {
    "gpt2": _byte_level,
    "llama": _sentencepiece,
}
