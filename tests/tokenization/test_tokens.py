"""The bytes of tokens are those of the text, or it is said that their tokenizer changes it."""

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

from gptft.errors import ConfigError, ModelError
from gptft.files import as_json
from gptft.inspection.vocabulary import search_vocabulary, summarize_vocabulary
from gptft.terminal.text import visible
from gptft.tokenization.encoder import TokenizersEngine, choose_engine, with_engine
from gptft.tokenization.extension import add_tokens
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


def summary(tokens: list[Token]) -> list[tuple[str | bytes, int, int]]:
    return [
        (token.bytes if token.text is None else token.text, token.start, token.end)
        for token in tokens
    ]


def check_exact(tokenizer: TextTokenizer, text: str) -> None:
    tokens = split_tokens(tokenizer, text)
    data = text.encode()
    assert b"".join(token.bytes for token in tokens) == data
    assert is_lossless(tokens, text)
    assert [token.id for token in tokens] == tokenizer.backend.encode(text).ids
    assert [token.token for token in tokens] == tokenizer.backend.encode(text).tokens
    ends = [0, *(token.end for token in tokens)]
    assert [token.start for token in tokens] == ends[:-1]
    assert ends[-1] == len(data)
    assert all(data[token.start : token.end] == token.bytes for token in tokens)
    # The character a byte is in, counted from where each character of the text begins.
    begins = [0, *accumulate(len(character.encode()) for character in text)]
    for token in tokens:
        assert token.start_character == bisect_right(begins, token.start) - 1
        assert token.end_character == bisect_left(begins, token.end)
    assert all(token.text is None or token.text.encode() == token.bytes for token in tokens)


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
    tokens = split_tokens(tokenizer, text)
    theirs = tokenizer.backend.encode(text, add_special_tokens=False).offsets
    ours = [(token.start_character, token.end_character) for token in tokens]
    filled = [number for number, token in enumerate(tokens) if token.bytes]
    assert [ours[number] for number in filled] == [theirs[number] for number in filled]


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
def test_tokens_lie_in_the_text_in_order(name: str, text: str) -> None:
    tokenizer = ANY_TOKENIZER[name]
    tokens = split_tokens(tokenizer, text)
    assert [token.id for token in tokens] == tokenizer.backend.encode(text).ids
    starts, ends = [token.start for token in tokens], [token.end for token in tokens]
    assert all(0 <= token.start <= token.end <= len(text.encode()) for token in tokens)
    assert starts == sorted(starts)
    assert ends == sorted(ends)


@pytest.mark.parametrize("name", ["byte_level", "prefix", "llama", "metaspace", "unigram"])
@settings(patient, max_examples=50)
@given(text=UNICODE | RUSSIAN | st.text("мир ▁"))
def test_lossless_means_that_decoding_gives_the_text(name: str, text: str) -> None:
    tokenizer = ANY_TOKENIZER[name]
    tokens = split_tokens(tokenizer, text)
    decoded = tokenizer.backend.decode([p.id for p in tokens], skip_special_tokens=False)
    assert is_lossless(tokens, text) == (decoded == text)


def test_every_byte_is_read_as_tokenizers_writes_it() -> None:
    # Every byte UTF-8 can hold: 00-7F alone, 80-BF as second bytes, C2-F4 as first ones.
    text = "".join(map(chr, [*range(0x800), 0x800, *range(0x1000, 0x10000, 0x1000), 0xD7FF]))
    text = text.replace("\ud800", "") + "".join(chr(plane << 16) for plane in range(1, 17))
    written = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ((characters, _),) = written.pre_tokenize_str(text)
    vocab = {character: number for number, character in enumerate(sorted(set(characters)))}
    backend = Tokenizer(models.BPE(vocab, []))
    backend.pre_tokenizer, backend.decoder = written, decoders.ByteLevel()
    tokens = split_tokens(wrap(backend), text)
    assert [token.bytes[0] for token in tokens] == list(text.encode())
    assert "".join(token.token for token in tokens) == characters
    assert len({*text.encode()}) == 256 - 2 - 11  # never C0, C1 and F5 to FF


def test_tokens_that_can_be_counted_by_hand() -> None:
    tokenizer = byte_level(merges=0)  # nothing but bytes, after EOS
    tokens = split_tokens(tokenizer, "aп")
    assert [token.bytes.hex() for token in tokens] == ["61", "d0", "bf"]
    assert [token.token for token in tokens] == ["a", "Ð", "¿"]
    assert summary(tokens) == [("a", 0, 1), (b"\xd0", 1, 2), (b"\xbf", 2, 3)]
    assert as_json(tokens[0]) == {
        "id": tokens[0].id,
        "text": "a",
        "bytes": "61",
        "start": 0,
        "end": 1,
        "start_character": 0,
        "end_character": 1,
    }
    # Both halves are of the second character.
    spans = [(token.start_character, token.end_character) for token in tokens]
    assert spans == [(0, 1), (1, 2), (1, 2)]


def test_no_text_has_no_pieces() -> None:
    assert split_tokens(BYTE_LEVEL, "") == []
    assert is_lossless([], "")


def test_a_special_token_in_the_text_is_text() -> None:
    tokens = split_tokens(BYTE_LEVEL, "<|endoftext|>")
    assert 0 not in [token.id for token in tokens]
    assert "".join(token.text or "?" for token in tokens) == "<|endoftext|>"


def test_an_added_token_is_the_text_it_stands_for() -> None:
    tokenizer = byte_level(merges=0)
    added = [AddedToken("   ", normalized=False), AddedToken("Ġ"), AddedToken("é")]
    tokenizer.backend.add_tokens(added)
    tokens = split_tokens(tokenizer, "a   Ġé")
    # Each of them is an added token of that spelling, not a word of the byte alphabet.
    assert summary(tokens) == [("a", 0, 1), ("   ", 1, 4), ("Ġ", 4, 6), ("é", 6, 8)]


def test_a_space_put_in_front_is_shown_and_owned_up_to() -> None:
    tokenizer = byte_level(prefix=True, merges=0)
    # GPT-2 reports places without the white space around them.
    tokenizer.backend.post_processor = processors.ByteLevel(trim_offsets=True)
    tokens = split_tokens(tokenizer, "a  b")
    assert [token.text for token in tokens] == [" ", "a", " ", " ", "b"]
    assert not is_lossless(tokens, "a  b")
    assert [(p.start, p.end) for p in tokens[1:]] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert is_lossless(split_tokens(tokenizer, " a"), " a")


def test_a_normalizer_that_changes_the_text_is_owned_up_to() -> None:
    tokenizer = byte_level(merges=0)
    tokenizer.backend.normalizer = normalizers.NFC()
    composed, taken_apart = "й", "и\u0306"
    assert is_lossless(split_tokens(tokenizer, composed), composed)
    tokens = split_tokens(tokenizer, f"x{taken_apart} y")
    assert b"".join(token.bytes for token in tokens) == b"x\xd0\xb9 y"
    assert not is_lossless(tokens, f"x{taken_apart} y")
    assert summary(tokens)[0] == ("x", 0, 1)
    assert summary(tokens)[-2:] == [(" ", 5, 6), ("y", 6, 7)]
    # й was two characters of the text, which are placed where they stood.
    spans = [(token.start_character, token.end_character) for token in tokens]
    assert (spans[0], spans[-2:]) == ((0, 1), [(3, 4), (4, 5)])


@pytest.mark.parametrize("metaspace", [False, True])
def test_sentencepiece_marks_are_spaces_and_bytes(metaspace: bool) -> None:
    tokens = split_tokens(sentencepiece_bpe(metaspace=metaspace), "мир я мир")
    assert [token.token for token in tokens] == ["▁мир", "▁", "<0xD1>", "<0x8F>", "▁мир"]
    assert summary(tokens) == [
        ("мир", 0, 6),
        (" ", 6, 7),
        (b"\xd1", 7, 8),
        (b"\x8f", 8, 9),
        (" мир", 9, 16),
    ]


def test_a_mark_of_its_own_before_the_text_spells_nothing() -> None:
    assert summary(split_tokens(LLAMA, "ы")) == [("", 0, 0), (b"\xd1", 0, 1), (b"\x8b", 1, 2)]


def test_a_mark_in_the_text_is_read_as_a_space_and_owned_up_to() -> None:
    tokens = split_tokens(LLAMA, "мир▁мир")
    assert summary(tokens) == [("мир", 0, 6), (" мир", 6, 15)]
    assert not is_lossless(tokens, "мир▁мир")


def test_unigram_pieces() -> None:
    tokens = split_tokens(unigram(), "привет мир")
    assert [token.token for token in tokens] == ["▁при", "вет", "▁мир"]
    assert summary(tokens) == [("при", 0, 6), ("вет", 6, 12), (" мир", 12, 19)]


def test_an_unknown_token_shows_what_the_model_sees_not_the_text() -> None:
    text = "привет xy мир zz"
    tokens = split_tokens(unigram(), text)
    unknown = [token for token in tokens if token.id == 0]
    assert summary(unknown) == [("<unk>", 13, 15), ("<unk>", 23, 25)]
    assert not is_lossless(tokens, text)


def test_wordpiece_tokens_lie_where_their_words_do() -> None:
    tokens = split_tokens(wordpiece(), "unaffable")
    assert [token.token for token in tokens] == ["un", "##aff", "##able"]
    assert summary(tokens) == [("un", 0, 2), ("aff", 2, 5), ("able", 5, 9)]
    assert is_lossless(tokens, "unaffable")
    tokens = split_tokens(wordpiece(), "Hello,  мир [UNK]")
    assert summary(tokens)[:3] == [("hello", 0, 5), (",", 5, 6), ("[UNK]", 8, 14)]
    assert not is_lossless(tokens, "Hello,  мир [UNK]")


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


def test_tokens_of_one_character_are_grouped() -> None:
    tokens = split_tokens(byte_level(merges=0), "aп😀")
    groups = [[token.bytes.hex() for token in group] for group in group_by_characters(tokens)]
    assert groups == [["61"], ["d0", "bf"], ["f0", "9f", "98", "80"]]


@patient
@given(UNICODE)
def test_groups_are_whole_characters(text: str) -> None:
    tokens = split_tokens(BYTE_LEVEL, text)
    groups = list(group_by_characters(tokens))
    assert [token for group in groups for token in group] == tokens
    joined = [b"".join(token.bytes for token in group).decode() for group in groups]
    assert "".join(joined) == text
    assert all(len(group) == 1 or group[0].text is None for group in groups)


def test_bytes_that_never_become_a_character_stand_alone() -> None:
    raws = [b"\xd0", b"a", b"\xbf", b"\xd0", b"\xd0", b"\xbf", b"\xf0\x9f"]
    tokens = [Token(0, "", raw, None, 0, 0) for raw in raws]
    groups = [[token.bytes for token in group] for group in group_by_characters(tokens)]
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


def test_text_that_a_vocabulary_has_nothing_for_is_an_error_of_ours() -> None:
    backend = Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0), ("ab", -9.0)], None, False))
    tokenizer = TextTokenizer(backend, {}, None, "letters")
    assert [token.id for token in split_tokens(tokenizer, "ab")] == [0, 1]
    for encode in (
        lambda: split_tokens(tokenizer, "abc"),
        lambda: TokenizersEngine(tokenizer).encode(["ab", "abc"]),
        lambda: with_engine(
            choose_engine(tokenizer), tokenizer, lambda engine: engine.encode(["abc"])
        ),
        lambda: add_tokens(tokenizer, ["abc"]),
        lambda: summarize_vocabulary(tokenizer),
        lambda: search_vocabulary(tokenizer, text="ab"),
    ):
        with pytest.raises(ModelError, match="tokenizer of letters can't encode this text"):
            encode()
