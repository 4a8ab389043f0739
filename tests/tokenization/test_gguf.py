"""GGUF files written by hand give the ids of the tokenizers they came from."""

import inspect
import json
import random
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import gptft.models
from gptft.errors import ModelError
from gptft.tokenization import gguf as tokenizer_files
from gptft.tokenization.gguf import open_gguf, read_gguf_header
from gptft.tokenization.tokenizer import load_tokenizer
from tests.conftest import SENTENCES

PICO = Path(gptft.models.__file__).parent / "pico"
TEXTS = [
    *SENTENCES,
    "Ещё раз: ёлка, съёжился, Щука — «кавычки»… It's DON'T 12,345.67",
    "  don't  stop\n\n\tnow \r\n e\u0301 é 😀👨‍👩‍👧🇷🇺 \ufeff日本語 \x00\x1b",
    "a <|endoftext|> b</s><s>",
    " ",
    "",
]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6


def string(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(content: Any) -> bytes:
    """A value with its type before it."""
    if isinstance(content, bool):
        return struct.pack("<I?", 7, content)
    if isinstance(content, int):
        return struct.pack("<II", 4, content)
    if isinstance(content, float):
        return struct.pack("<If", 6, content)
    if isinstance(content, str):
        return struct.pack("<I", 8) + string(content)
    if content and isinstance(content[0], str):
        items, kind = [string(item) for item in content], 8
    elif content and isinstance(content[0], float):
        items, kind = [struct.pack("<f", item) for item in content], 6
    else:
        items, kind = [struct.pack("<i", item) for item in content], 5
    return struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)


def gguf(pairs: Mapping[str, Any], *, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs))
    return head + b"".join(string(key) + value(content) for key, content in pairs.items())


def write(path: Path, pairs: Mapping[str, Any], *, version: int = 3, more: bytes = b"") -> Path:
    path.write_bytes(gguf(pairs, version=version) + more)
    return path


def byte_level(model: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """The header of a GPT-2 whose tokenizer.json has this model."""
    vocab: dict[str, int] = model["vocab"]
    merges: Sequence[Any] = model["merges"]
    tokens = sorted(vocab, key=lambda token: vocab[token])
    return {
        "general.architecture": "gpt2",
        "gpt2.context_length": 1024,
        "general.alignment": 32,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL, *[NORMAL] * (len(tokens) - 1)],
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in merges],
        "tokenizer.ggml.eos_token_id": 0,
        **more,
    }


@pytest.fixture(scope="module")
def pico_model() -> dict[str, Any]:
    content = json.loads((PICO / "tokenizer.json").read_text(encoding="utf-8"))
    return dict(content["model"])


@pytest.mark.parametrize("version", [2, 3])
def test_picos_own_tokenizer(version: int, tmp_path: Path, pico_model: dict[str, Any]) -> None:
    tensors = b"\0" * 4096  # never read
    path = write(tmp_path / "a.gguf", byte_level(pico_model), version=version, more=tensors)
    ours, right = load_tokenizer(str(path)), load_tokenizer("pico")
    for text in TEXTS:
        ids = right.backend.encode(text, add_special_tokens=False).ids
        assert ours.backend.encode(text, add_special_tokens=False).ids == ids, text
        assert ours.backend.decode(ids, skip_special_tokens=False) == text
    assert (ours.vocab_size, ours.eos_token_id, ours.context) == (8192, 0, 1024)
    assert ours.num_embeddings == 8192
    assert ours.special_tokens == {"eos_token": "<|endoftext|>"}


def test_qwen2_and_llama3_split_words_as_transformers_has_it(
    tmp_path: Path, pico_model: dict[str, Any]
) -> None:
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import TikTokenConverter

    path = write(tmp_path / "a.gguf", byte_level(pico_model, **{"tokenizer.ggml.pre": "qwen2"}))
    ours = load_tokenizer(str(path))
    merges = [tuple(merge) for merge in pico_model["merges"]]
    theirs = Qwen2Tokenizer(vocab=pico_model["vocab"], merges=merges)  # type: ignore[arg-type]
    for text in TEXTS:
        ids = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ours.backend.encode(text, add_special_tokens=False).ids == ids, text
    pattern = inspect.signature(TikTokenConverter).parameters["pattern"].default
    assert tokenizer_files._SPLITS["llama-bpe"] == pattern


def test_smollm_takes_digits_apart_as_its_tokenizer_json_has_it(
    tmp_path: Path, pico_model: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.gguf", byte_level(pico_model, **{"tokenizer.ggml.pre": "smollm"}))
    ours = load_tokenizer(str(path)).backend
    theirs = Tokenizer.from_str((PICO / "tokenizer.json").read_text(encoding="utf-8"))
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    theirs.encode_special_tokens = True
    for text in [*TEXTS, "1999 год, ½ Ⅻ ٣٤ x2y", " 12"]:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special_tokens=False).ids == ids, text


def test_user_defined_tokens_are_found_in_a_text(
    tmp_path: Path, pico_model: dict[str, Any]
) -> None:
    pairs = byte_level(pico_model)
    pairs["tokenizer.ggml.tokens"] += ["<think>", "<|user|>"]
    pairs["tokenizer.ggml.token_type"] += [USER_DEFINED, CONTROL]
    tokenizer = load_tokenizer(str(write(tmp_path / "a.gguf", pairs)))
    assert 8192 in tokenizer.backend.encode("a<think>b").ids
    assert 8193 not in tokenizer.backend.encode("a<|user|>b").ids  # text stays text
    assert tokenizer.vocab_size == 8194


def sentencepiece_like() -> tuple[Tokenizer, list[str]]:
    """A Llama-like tokenizer, its merges learned by the tokenizers library, and its entries."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=130, special_tokens=[], show_progress=False)
    learner.train_from_iterator(SENTENCES * 4, trainer)
    learned = json.loads(learner.to_str())["model"]
    merged = ["".join(merge) for merge in learned["merges"]]
    letters = [token for token in learned["vocab"] if token not in merged]
    entries = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    entries += [*dict.fromkeys(merged), *letters]
    backend = Tokenizer(
        models.BPE(
            {token: i for i, token in enumerate(entries)},
            [(left, right) for left, right in learned["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return backend, entries


def llama(entries: Sequence[str], **more: Any) -> dict[str, Any]:
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [*entries],
        "tokenizer.ggml.scores": [
            0.0 if n < len(kinds) else float(len(kinds) - 1 - n) for n in range(len(entries))
        ],
        "tokenizer.ggml.token_type": [*kinds, *[NORMAL] * (len(entries) - len(kinds))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **more,
    }


def merged_by_score(text: str, entries: Sequence[str]) -> list[str]:
    """SentencePiece's own way: again and again the best-scored pair, the leftmost of equals."""
    rank = {entry: n for n, entry in enumerate(entries)}
    parts = list(text)
    while True:
        pairs = [(rank[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in rank]
        if not pairs:
            return parts
        at = min(pairs)[1]
        parts[at : at + 2] = ["".join(parts[at : at + 2])]


def test_a_llama_tokenizer(tmp_path: Path) -> None:
    right, entries = sentencepiece_like()
    ours = load_tokenizer(str(write(tmp_path / "a.gguf", llama(entries))))
    for text in TEXTS:
        ids = ours.backend.encode(text, add_special_tokens=False).ids
        assert ids == right.encode(text).ids, text
        assert ours.backend.decode(ids, skip_special_tokens=False) == text
    for text in SENTENCES:
        known = [word for word in text.split() if {*word} <= {*entries}]
        for word in known:
            tokens = ours.backend.encode(word).tokens
            assert tokens == merged_by_score("▁" + word, entries)
    assert ours.eos_token_id == 2
    assert ours.special_tokens["unk_token"] == "<unk>"
    assert ours.context is None


def test_scores_decide_what_is_merged_first(tmp_path: Path) -> None:
    entries = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    entries += ["bc", "ab", "ca", "▁a", "cab", "abb", "bcbc", "▁ab", "a", "b", "c", "▁"]
    pairs = llama(entries, **{"tokenizer.ggml.add_space_prefix": False})
    backend = load_tokenizer(str(write(tmp_path / "a.gguf", pairs))).backend
    assert backend.encode("abc").tokens == ["a", "bc"]
    draw = random.Random(0)
    for _ in range(500):
        text = "".join(draw.choices("abc ", k=draw.randint(1, 14)))
        assert backend.encode(text).tokens == merged_by_score(text.replace(" ", "▁"), entries)


def test_a_llama_tokenizer_without_a_space_in_front(tmp_path: Path) -> None:
    _, entries = sentencepiece_like()
    pairs = llama(entries, **{"tokenizer.ggml.add_space_prefix": False})
    backend = load_tokenizer(str(write(tmp_path / "a.gguf", pairs))).backend
    for text in TEXTS:
        assert backend.decode(backend.encode(text).ids, skip_special_tokens=False) == text
    assert not backend.encode("Буря").tokens[0].startswith("▁")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "bert"}, "kind 'bert', which can't be rebuilt exactly"),
        ({"model": "t5"}, "kind 't5', which can't be rebuilt exactly"),
        ({"pre": "deepseek-llm"}, "splits words in the way 'deepseek-llm'"),
        ({"tokens": ["a", "a"]}, "a token is twice"),
        ({"tokens": [1, 2]}, "tokenizer.ggml.tokens is missing or is no list of texts"),
        ({"token_type": [1]}, "it has 2 tokens, and kinds for others"),
        ({"merges": ["a b c"]}, "a merge isn't two tokens"),
        ({"merges": ["a z"]}, "can't be rebuilt"),
        ({"eos_token_id": 2}, "tokenizer.ggml.eos_token_id is 2, which is no token"),
    ],
)
def test_what_cannot_be_rebuilt_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pairs = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["a", "b"],
        "tokenizer.ggml.merges": [],
        **{f"tokenizer.ggml.{name}": content for name, content in changes.items()},
    }
    refused(write(tmp_path / "a.gguf", pairs), message)


def test_scores_that_rank_nothing_are_refused(tmp_path: Path) -> None:
    _, entries = sentencepiece_like()
    scores = [-1000.0] * len(entries)
    pairs = llama(entries, **{"tokenizer.ggml.scores": scores})
    refused(write(tmp_path / "a.gguf", pairs), "the same score, so its merges have no order")
    pairs["tokenizer.ggml.scores"] = scores[1:]
    refused(write(tmp_path / "b.gguf", pairs), "and scores for others")


def refused(path: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(str(path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_file_without_a_tokenizer(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.gguf", {"general.architecture": "gpt2"}), "holds no tokenizer")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is not a GGUF file"),
        (b"GGU", "is not a GGUF file"),
        (b"PK\3\4" + b"\0" * 40, "is not a GGUF file"),
        (b"GGUF", "ends within its header"),
        (b"GGUF" + struct.pack("<I", 1), "is GGUF version 1; only 2 and 3"),
        (b"GGUF" + struct.pack(">I", 3), "is a big-endian GGUF file"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "ends within its header"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62), "a name of 4,611,686,018,427,387,904"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("a") + b"\x0d\0\0\0", "unknown type 13"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string(b"\xff"), "isn't UTF-8"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("a") + struct.pack("<IB", 7, 2),
            "has 2 for true or false",
        ),
        (
            b"GGUF"
            + struct.pack("<IQQ", 3, 0, 1)
            + string("a")
            + struct.pack("<IIQ", 9, 10, 2**60),
            "ends within its header",
        ),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("a") + struct.pack("<IIQ", 9, 9, 1),
            "an array of arrays",
        ),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + (string("a") + value(1)) * 2, "'a' twice"),
    ],
)
def test_a_damaged_file_is_one_line(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(raw)
    refused(path, message)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    pairs = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["a", "b", "ab"],
        "tokenizer.ggml.merges": ["a b"],
        "ok": True,
        "scale": 0.5,
    }
    whole = gguf(pairs)
    path = tmp_path / "a.gguf"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path, "is damaged or cut off|is not a GGUF file")
    path.write_bytes(whole)
    assert read_gguf_header(path) == pairs
    assert open_gguf(path).backend.encode("abab").tokens == ["ab", "ab"]


def test_a_gguf_file_that_is_not_here_is_never_looked_up(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file") as caught:
        load_tokenizer(str(tmp_path / "model.GGUF"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "before", "after"),
    [
        ({}, (1,), ()),  # llama.cpp adds BOS to SentencePiece's kind where nothing is said
        ({"add_bos_token": False}, (), ()),
        ({"add_bos_token": True, "add_eos_token": True}, (1,), (2,)),
    ],
)
def test_what_stands_around_a_text(
    flags: dict[str, bool], before: tuple[int, ...], after: tuple[int, ...], tmp_path: Path
) -> None:
    _, entries = sentencepiece_like()
    given = {f"tokenizer.ggml.{name}": is_on for name, is_on in flags.items()}
    path = write(tmp_path / "a.gguf", llama(entries, **given))
    assert load_tokenizer(str(path)).framing == (before, after)


@pytest.mark.parametrize(("pre", "before"), [("gpt-2", ()), ("llama-bpe", (0,)), ("qwen2", ())])
def test_bos_where_a_byte_level_file_does_not_say(
    pre: str, before: tuple[int, ...], tmp_path: Path, pico_model: dict[str, Any]
) -> None:
    more = {"tokenizer.ggml.pre": pre, "tokenizer.ggml.bos_token_id": 0}
    path = write(tmp_path / "a.gguf", byte_level(pico_model, **more))
    assert load_tokenizer(str(path)).framing.before == before
