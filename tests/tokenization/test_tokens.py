"""Pieces spell the text back byte for byte, or say that their tokenizer doesn't keep it."""

import re
from bisect import bisect_left, bisect_right
from itertools import accumulate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from gptft.errors import ConfigError
from gptft.files import as_json
from gptft.terminal.text import visible
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer
from gptft.tokenization.tokens import (
    TextCost,
    Token,
    group_by_characters,
    is_lossless,
    split_tokens,
    text_cost,
)
from gptft.tokenization.trainers import train_bpe
from tests.conftest import SENTENCES

# A busy machine is no fault of the code.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ANY_PLANE = st.integers(0, 16).flatmap(
    lambda plane: st.integers(plane << 16, (plane << 16) + 0xFFFF).map(chr)
)
MARKED = st.text("аеиIeЙй\u0300\u0301\u0306\u0308\u0327\u20dd\u3099\u200d\ufe0f👩🏽 ")
UNICODE = (
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.text(ANY_PLANE.filter(lambda character: not "\ud800" <= character <= "\udfff"))
    | MARKED
)
RUSSIAN = st.text("абвгдеё АБВ\n\t.,<|endoftext|>")


def wrap(backend: Tokenizer) -> TextTokenizer:
    backend.encode_special_tokens = True
    return TextTokenizer(backend, {}, None, "test")


def byte_level(*, prefix: bool = False, merges: int = 40) -> TextTokenizer:
    tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=257 + merges, min_frequency=2)
    tokenizer.backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return tokenizer


def sentencepiece_bpe(*, metaspace: bool) -> TextTokenizer:
    """Llama's pipeline: old, with a normalizer, or new, with Metaspace. 'мир' and 3 merges."""
    entries = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    entries += ["▁", "м", "и", "р", "▁м", "▁ми", "▁мир"]
    merges = [("▁", "м"), ("▁м", "и"), ("▁ми", "р")]
    vocab = {entry: number for number, entry in enumerate(entries)}
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        to_mark = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(to_mark)
    from_mark = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*from_mark, decoders.Strip(" ", 1, 0)])
    return wrap(backend)


def unigram() -> TextTokenizer:
    entries = [("<unk>", 0.0), ("▁", -3.0), ("▁при", -2.0), ("вет", -2.0), ("▁мир", -2.0)]
    backend = Tokenizer(models.Unigram(entries, 0, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return wrap(backend)


def wordpiece() -> TextTokenizer:
    vocab = {"[UNK]": 0, "un": 1, "##aff": 2, "##able": 3, "hello": 4, ",": 5, "world": 6}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return wrap(backend)


BYTE_LEVEL = byte_level()
PICO = load_tokenizer("pico")
LLAMA = sentencepiece_bpe(metaspace=False)


def summary(pieces: list[Token]) -> list[tuple[str | bytes, int, int]]:
    return [
        (piece.bytes if piece.text is None else piece.text, piece.start, piece.end)
        for piece in pieces
    ]


def check_exact(tokenizer: TextTokenizer, text: str) -> None:
    pieces = split_tokens(tokenizer, text)
    data = text.encode()
    assert b"".join(piece.bytes for piece in pieces) == data
    assert is_lossless(pieces, text)
    assert [piece.id for piece in pieces] == tokenizer.backend.encode(text).ids
    assert [piece.token for piece in pieces] == tokenizer.backend.encode(text).tokens
    ends = [0, *(piece.end for piece in pieces)]
    assert [piece.start for piece in pieces] == ends[:-1]
    assert ends[-1] == len(data)
    assert all(data[piece.start : piece.end] == piece.bytes for piece in pieces)
    # The character a byte is in, counted from where each character of the text begins.
    begins = [0, *accumulate(len(character.encode()) for character in text)]
    for piece in pieces:
        assert piece.start_character == bisect_right(begins, piece.start) - 1
        assert piece.end_character == bisect_left(begins, piece.end)
    assert all(piece.text is None or piece.text.encode() == piece.bytes for piece in pieces)


@patient
@given(UNICODE | RUSSIAN)
def test_a_byte_level_tokenizer_gives_the_text_back(text: str) -> None:
    check_exact(BYTE_LEVEL, text)


@patient
@given(UNICODE | RUSSIAN)
def test_the_bundled_model_gives_the_text_back(text: str) -> None:
    check_exact(PICO, text)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, LLAMA], ids=["byte_level", "byte_fallback"])
@settings(patient, max_examples=50)
@given(text=(UNICODE | RUSSIAN).filter(lambda text: "▁" not in text))
def test_character_offsets_are_those_of_tokenizers(tokenizer: TextTokenizer, text: str) -> None:
    pieces = split_tokens(tokenizer, text)
    theirs = tokenizer.backend.encode(text, add_special_tokens=False).offsets
    ours = [(piece.start_character, piece.end_character) for piece in pieces]
    spelled = [number for number, piece in enumerate(pieces) if piece.bytes]
    assert [ours[number] for number in spelled] == [theirs[number] for number in spelled]


@patient
@given(UNICODE.filter(lambda text: "▁" not in text))
def test_byte_fallback_gives_the_text_back(text: str) -> None:
    check_exact(LLAMA, text)


ANY_TOKENIZER = {
    "byte_level": BYTE_LEVEL,
    "prefix": byte_level(prefix=True),
    "llama": LLAMA,
    "metaspace": sentencepiece_bpe(metaspace=True),
    "unigram": unigram(),
    "wordpiece": wordpiece(),
}


@pytest.mark.parametrize("name", ANY_TOKENIZER)
@settings(patient, max_examples=50)
@given(text=UNICODE | RUSSIAN | st.text("мирпвет ▁<unkworldaffable>,[UNK]"))
def test_pieces_lie_in_the_text_in_order(name: str, text: str) -> None:
    tokenizer = ANY_TOKENIZER[name]
    pieces = split_tokens(tokenizer, text)
    assert [piece.id for piece in pieces] == tokenizer.backend.encode(text).ids
    starts, ends = [piece.start for piece in pieces], [piece.end for piece in pieces]
    assert all(0 <= piece.start <= piece.end <= len(text.encode()) for piece in pieces)
    assert starts == sorted(starts)
    assert ends == sorted(ends)


@pytest.mark.parametrize("name", ["byte_level", "prefix", "llama", "metaspace", "unigram"])
@settings(patient, max_examples=50)
@given(text=UNICODE | RUSSIAN | st.text("мир ▁"))
def test_lossless_means_that_decoding_gives_the_text(name: str, text: str) -> None:
    tokenizer = ANY_TOKENIZER[name]
    pieces = split_tokens(tokenizer, text)
    decoded = tokenizer.backend.decode([p.id for p in pieces], skip_special_tokens=False)
    assert is_lossless(pieces, text) == (decoded == text)


def test_every_byte_is_read_as_tokenizers_writes_it() -> None:
    # Every byte UTF-8 can hold: 00-7F alone, 80-BF as second bytes, C2-F4 as first ones.
    text = "".join(map(chr, [*range(0x800), 0x800, *range(0x1000, 0x10000, 0x1000), 0xD7FF]))
    text = text.replace("\ud800", "") + "".join(chr(plane << 16) for plane in range(1, 17))
    written = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ((characters, _),) = written.pre_tokenize_str(text)
    vocab = {character: number for number, character in enumerate(sorted(set(characters)))}
    backend = Tokenizer(models.BPE(vocab, []))
    backend.pre_tokenizer, backend.decoder = written, decoders.ByteLevel()
    pieces = split_tokens(wrap(backend), text)
    assert [piece.bytes[0] for piece in pieces] == list(text.encode())
    assert "".join(piece.token for piece in pieces) == characters
    assert len({*text.encode()}) == 256 - 2 - 11  # never C0, C1 and F5 to FF


def test_pieces_that_can_be_counted_by_hand() -> None:
    tokenizer = byte_level(merges=0)  # nothing but bytes, after EOS
    pieces = split_tokens(tokenizer, "aп")
    assert [piece.bytes.hex() for piece in pieces] == ["61", "d0", "bf"]
    assert [piece.token for piece in pieces] == ["a", "Ð", "¿"]
    assert summary(pieces) == [("a", 0, 1), (b"\xd0", 1, 2), (b"\xbf", 2, 3)]
    assert as_json(pieces[0]) == {
        "id": pieces[0].id,
        "text": "a",
        "bytes": "61",
        "start": 0,
        "end": 1,
        "start_character": 0,
        "end_character": 1,
    }
    # Both halves are of the second character.
    spans = [(piece.start_character, piece.end_character) for piece in pieces]
    assert spans == [(0, 1), (1, 2), (1, 2)]


def test_no_text_has_no_pieces() -> None:
    assert split_tokens(BYTE_LEVEL, "") == []
    assert is_lossless([], "")


def test_a_special_token_in_the_text_is_text() -> None:
    pieces = split_tokens(BYTE_LEVEL, "<|endoftext|>")
    assert 0 not in [piece.id for piece in pieces]
    assert "".join(piece.text or "?" for piece in pieces) == "<|endoftext|>"


def test_an_added_token_is_the_text_it_stands_for() -> None:
    tokenizer = byte_level(merges=0)
    added = [AddedToken("   ", normalized=False), AddedToken("Ġ"), AddedToken("é")]
    tokenizer.backend.add_tokens(added)
    pieces = split_tokens(tokenizer, "a   Ġé")
    # Each of them is an added token of that spelling, not a word of the byte alphabet.
    assert summary(pieces) == [("a", 0, 1), ("   ", 1, 4), ("Ġ", 4, 6), ("é", 6, 8)]


def test_a_space_put_in_front_is_shown_and_owned_up_to() -> None:
    tokenizer = byte_level(prefix=True, merges=0)
    # GPT-2 reports places without the white space around them.
    tokenizer.backend.post_processor = processors.ByteLevel(trim_offsets=True)
    pieces = split_tokens(tokenizer, "a  b")
    assert [piece.text for piece in pieces] == [" ", "a", " ", " ", "b"]
    assert not is_lossless(pieces, "a  b")
    assert [(p.start, p.end) for p in pieces[1:]] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert is_lossless(split_tokens(tokenizer, " a"), " a")


def test_a_normalizer_that_changes_the_text_is_owned_up_to() -> None:
    tokenizer = byte_level(merges=0)
    tokenizer.backend.normalizer = normalizers.NFC()
    composed, taken_apart = "й", "и\u0306"
    assert is_lossless(split_tokens(tokenizer, composed), composed)
    pieces = split_tokens(tokenizer, f"x{taken_apart} y")
    assert b"".join(piece.bytes for piece in pieces) == b"x\xd0\xb9 y"
    assert not is_lossless(pieces, f"x{taken_apart} y")
    assert summary(pieces)[0] == ("x", 0, 1)
    assert summary(pieces)[-2:] == [(" ", 5, 6), ("y", 6, 7)]
    # й was two characters of the text, which are placed where they stood.
    spans = [(piece.start_character, piece.end_character) for piece in pieces]
    assert (spans[0], spans[-2:]) == ((0, 1), [(3, 4), (4, 5)])


@pytest.mark.parametrize("metaspace", [False, True])
def test_sentencepiece_marks_are_spaces_and_bytes(metaspace: bool) -> None:
    pieces = split_tokens(sentencepiece_bpe(metaspace=metaspace), "мир я мир")
    assert [piece.token for piece in pieces] == ["▁мир", "▁", "<0xD1>", "<0x8F>", "▁мир"]
    assert summary(pieces) == [
        ("мир", 0, 6),
        (" ", 6, 7),
        (b"\xd1", 7, 8),
        (b"\x8f", 8, 9),
        (" мир", 9, 16),
    ]


def test_a_mark_of_its_own_before_the_text_spells_nothing() -> None:
    assert summary(split_tokens(LLAMA, "ы")) == [("", 0, 0), (b"\xd1", 0, 1), (b"\x8b", 1, 2)]


def test_a_mark_in_the_text_is_read_as_a_space_and_owned_up_to() -> None:
    pieces = split_tokens(LLAMA, "мир▁мир")
    assert summary(pieces) == [("мир", 0, 6), (" мир", 6, 15)]
    assert not is_lossless(pieces, "мир▁мир")


def test_unigram_pieces() -> None:
    pieces = split_tokens(unigram(), "привет мир")
    assert [piece.token for piece in pieces] == ["▁при", "вет", "▁мир"]
    assert summary(pieces) == [("при", 0, 6), ("вет", 6, 12), (" мир", 12, 19)]


def test_an_unknown_token_shows_what_the_model_sees_not_the_text() -> None:
    text = "привет xy мир zz"
    pieces = split_tokens(unigram(), text)
    unknown = [piece for piece in pieces if piece.id == 0]
    assert summary(unknown) == [("<unk>", 13, 15), ("<unk>", 23, 25)]
    assert not is_lossless(pieces, text)


def test_wordpiece_pieces_lie_where_their_words_do() -> None:
    pieces = split_tokens(wordpiece(), "unaffable")
    assert [piece.token for piece in pieces] == ["un", "##aff", "##able"]
    assert summary(pieces) == [("un", 0, 2), ("aff", 2, 5), ("able", 5, 9)]
    assert is_lossless(pieces, "unaffable")
    pieces = split_tokens(wordpiece(), "Hello,  мир [UNK]")
    assert summary(pieces)[:3] == [("hello", 0, 5), (",", 5, 6), ("[UNK]", 8, 14)]
    assert not is_lossless(pieces, "Hello,  мир [UNK]")


def test_a_lone_surrogate_is_a_user_error() -> None:
    with pytest.raises(ConfigError, match=r"^Character 3 of the text is U\+DCFF") as caught:
        split_tokens(BYTE_LEVEL, "ab\udcff")
    assert "\n" not in str(caught.value)
    str(caught.value).encode()  # can be printed


@patient
@given(UNICODE, st.integers(0xD800, 0xDFFF).map(chr), UNICODE)
def test_half_of_a_surrogate_pair_is_refused_wherever_it_is(a: str, half: str, b: str) -> None:
    with pytest.raises(ConfigError, match=f"Character {len(a) + 1:,} .* U\\+{ord(half):04X}"):
        split_tokens(BYTE_LEVEL, a + half + b)


def test_pieces_of_one_character_are_grouped() -> None:
    pieces = split_tokens(byte_level(merges=0), "aп😀")
    groups = [[piece.bytes.hex() for piece in group] for group in group_by_characters(pieces)]
    assert groups == [["61"], ["d0", "bf"], ["f0", "9f", "98", "80"]]


@patient
@given(UNICODE)
def test_groups_are_whole_characters(text: str) -> None:
    pieces = split_tokens(BYTE_LEVEL, text)
    groups = list(group_by_characters(pieces))
    assert [piece for group in groups for piece in group] == pieces
    joined = [b"".join(piece.bytes for piece in group).decode() for group in groups]
    assert "".join(joined) == text
    assert all(len(group) == 1 or group[0].text is None for group in groups)


def test_bytes_that_never_become_a_character_stand_alone() -> None:
    raws = [b"\xd0", b"a", b"\xbf", b"\xd0", b"\xd0", b"\xbf", b"\xf0\x9f"]
    pieces = [Token(0, "", raw, None, 0, 0) for raw in raws]
    groups = [[piece.bytes for piece in group] for group in group_by_characters(pieces)]
    assert groups == [[b"\xd0"], [b"a"], [b"\xbf"], [b"\xd0"], [b"\xd0", b"\xbf"], [b"\xf0\x9f"]]


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (" a\n\tб".encode(), "·a↵→б"),
        (b"\xd0", "⟨d0⟩"),
        (b" \xf0\x9f", "·⟨f0 9f⟩"),
        (b"\x80\xd0\xb0", "⟨80⟩а"),
        (b"\xd0\xd0", "⟨d0 d0⟩"),
        ("\ufffd".encode(), "\ufffd"),
        (b"\x1b[31m\r\0", "⟨U+001B⟩[31m⟨U+000D⟩⟨U+0000⟩"),
        ("\u00a0\u200d\u2028".encode(), "⟨U+00A0⟩⟨U+200D⟩⟨U+2028⟩"),
        ("\u0306".encode(), "◌\u0306"),
        (b"", ""),
    ],
)
def test_nothing_is_hidden(raw: bytes, shown: str) -> None:
    assert visible(raw) == shown


@patient
@given(st.binary())
def test_what_is_shown_fits_a_line_and_a_terminal(raw: bytes) -> None:
    shown = visible(raw)
    assert shown.isprintable()
    assert " " not in re.sub("⟨[0-9a-f ]+⟩", "", shown)
    shown.encode()


def test_the_cost_of_a_text() -> None:
    cost = text_cost("Мороз и солнце\n", num_tokens=6)
    assert cost == TextCost(num_tokens=6, num_words=3, num_characters=15, num_bytes=27)
    assert as_json(cost) == {
        "num_tokens": 6,
        "num_words": 3,
        "num_characters": 15,
        "num_bytes": 27,
        "tokens_per_word": 2.0,
        "tokens_per_character": 0.4,
        "bytes_per_token": 4.5,
        "characters_per_word": 5.0,
        "bytes_per_word": 9.0,
    }


def test_no_text_costs_nothing_a_word() -> None:
    cost = as_json(text_cost("", num_tokens=0))
    rates = [name for name in cost if "_per_" in name]
    assert len(rates) == 5
    assert [cost[rate] for rate in rates] == [None] * 5
