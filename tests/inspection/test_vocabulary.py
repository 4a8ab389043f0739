"""A summary counts a vocabulary, and says which tokens no text gives."""

import io
import json
import random
import time
import unicodedata
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from gptft.errors import ConfigError
from gptft.files import as_json
from gptft.inspection.reachability import Reachability, find_reachability
from gptft.inspection.vocabulary import (
    OTHER_SCRIPT,
    VocabularyEntry,
    kind_of,
    search_vocabulary,
    summarize_vocabulary,
)
from gptft.inspection.vocabulary_view import search_view, summary_view
from gptft.tokenization.token_bytes import TokenBytes
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.conftest import SENTENCES

PICO = load_tokenizer("pico")
NEVER_UTF8 = 2 + 11  # C0, C1 and F5 to FF


def wrap(backend: Tokenizer) -> TextTokenizer:
    backend.encode_special_tokens = True
    return TextTokenizer(backend, {}, None, "test")


def numbered(*entries: str) -> dict[str, int]:
    return {entry: number for number, entry in enumerate(entries)}


def by_hand() -> TextTokenizer:
    """'abc' is made of a + bc; 'cab' of ca + b, but a + b come first, so that nothing gives it."""
    vocab = numbered("a", "b", "c", "ab", "bc", "ca", "abc", "cab")
    merges = [("b", "c"), ("a", "b"), ("c", "a"), ("a", "bc"), ("ca", "b")]
    return wrap(Tokenizer(models.BPE(vocab, merges)))


def sentencepiece() -> TextTokenizer:
    entries = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    entries += ["▁", "м", "и", "р", "▁м", "▁ми", "▁мир", "ир"]
    merges = [("▁", "м"), ("▁м", "и"), ("▁ми", "р"), ("и", "р")]
    model = models.BPE(numbered(*entries), merges, unk_token="<unk>", byte_fallback=True)
    backend = Tokenizer(model)
    marks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    backend.normalizer = normalizers.Sequence(marks)
    from_mark = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*from_mark, decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens(["<unk>"])
    return wrap(backend)


def wordpiece() -> TextTokenizer:
    vocab = numbered("[UNK]", "un", "##aff", "##able", "hello", ",", "world")
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[UNK]"])
    return wrap(backend)


def unigram() -> TextTokenizer:
    entries = [("<unk>", 0.0), ("▁", -3.0), ("▁при", -2.0), ("вет", -2.0), ("в", -0.1)]
    entries += [("е", -0.1), ("т", -0.1), ("▁мир", -2.0)]
    backend = Tokenizer(models.Unigram(entries, 0, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<unk>"])
    return wrap(backend)


def tokens(entries: tuple[VocabularyEntry, ...]) -> list[str]:
    return [entry.token for entry in entries]


def test_a_summary_that_can_be_counted_by_hand() -> None:
    tokenizer = by_hand()
    tokenizer.backend.add_special_tokens(["<eos>"])
    tokenizer.backend.add_tokens([AddedToken(" мир", normalized=False)])
    summary = summarize_vocabulary(replace(tokenizer, num_embeddings=12))
    assert (summary.kind, summary.num_tokens, summary.num_ids) == ("BPE", 10, 10)
    assert summary.num_embeddings == 12
    assert tokens(summary.special) == ["<eos>"]
    assert tokens(summary.added) == [" мир"]
    assert summary.scripts == {"Latin": 8, "Cyrillic": 1}
    assert summary.characters == {1: 3, 2: 3, 3: 2, 4: 1}
    assert summary.lengths == {1: 3, 2: 3, 3: 2, 7: 1}
    assert (summary.num_with_space, summary.num_partial) == (1, 0)
    assert tokens(summary.unreachable) == ["cab"]
    assert summary.unknown == ()
    assert tokens(summary.longest)[:3] == [" мир", "abc", "cab"]


def test_no_text_gives_what_is_called_unreachable() -> None:
    tokenizer = by_hand()
    seen = set()
    for number in range(3**7):  # every text of seven letters
        text = "".join("abc"[number // 3**place % 3] for place in range(7))
        seen.update(tokenizer.backend.encode(text).tokens)
    summary = summarize_vocabulary(tokenizer)
    assert {*tokens(summary.unreachable)} == {*tokenizer.backend.get_vocab()} - seen == {"cab"}


def test_the_bundled_vocabulary() -> None:
    summary = summarize_vocabulary(PICO)
    assert summary.num_tokens == summary.num_ids == summary.num_embeddings == 8192
    assert tokens(summary.special) == ["<|endoftext|>"]
    assert sum(summary.scripts.values()) == 8191
    assert sum(summary.lengths.values()) == 8191
    assert sum(summary.characters.values()) + summary.num_partial == 8191
    assert summary.num_with_space == sum(t.startswith("Ġ") for t in PICO.backend.get_vocab())
    assert summary.scripts["Cyrillic"] > 7000
    # Of a trained BPE every merge is reached, but for bytes that no text has.
    assert len(summary.unreachable) == NEVER_UTF8
    assert summary.unknown == ()


def test_a_summary_is_quick() -> None:
    PICO.backend.encode("once")
    best = min(_seconds() for _ in range(3))
    assert best < 0.5


def _seconds() -> float:
    start = time.process_time()
    summarize_vocabulary(PICO)
    return time.process_time() - start


def test_what_is_reached_comes_out_of_a_text() -> None:
    tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=320, min_frequency=2)
    text = " ".join(SENTENCES)
    found = summarize_vocabulary(tokenizer)
    lost = {entry.id for entry in (*found.unreachable, *found.unknown)}
    assert not lost & {*tokenizer.backend.encode(text).ids}


def test_sentencepiece_tokens_within_and_before_words() -> None:
    summary = summarize_vocabulary(sentencepiece())
    assert len(summary.unreachable) == NEVER_UTF8
    assert tokens(summary.unknown) == ["<0x20>"]  # every space is a ▁ before it could be a byte
    assert summary.num_with_space == 5  # ▁, three words, and <0x20>, which would be one
    assert summary.num_partial == 128


def test_tokens_that_continue_a_word() -> None:
    summary = summarize_vocabulary(wordpiece())
    assert (summary.kind, summary.unreachable, summary.unknown) == ("WordPiece", (), ())
    assert summary.num_with_space == 4
    tokenizer = wordpiece()
    tokenizer.backend.normalizer = normalizers.Lowercase()
    tokenizer.backend.add_tokens([AddedToken("Мир", normalized=False)])
    assert summarize_vocabulary(tokenizer).unknown == ()
    vocab = numbered("[UNK]", "un", "World")
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    summary = summarize_vocabulary(wrap(backend))
    assert "World" in tokens(summary.unknown)  # not proved, and not claimed
    assert summary.unreachable == ()


def test_unigram_says_what_it_does_not_know() -> None:
    summary = summarize_vocabulary(unigram())
    assert tokens(summary.unknown) == ["вет"]  # three letters are likelier
    assert summary.unreachable == ()


def test_what_a_pre_tokenizer_keeps_apart_is_not_reached_and_not_proved() -> None:
    vocab = numbered("a", "1", "a1")
    backend = Tokenizer(models.BPE(vocab, [("a", "1")]))
    assert summarize_vocabulary(wrap(backend)).unknown == ()
    backend.pre_tokenizer = pre_tokenizers.Digits()
    summary = summarize_vocabulary(wrap(backend))
    assert (tokens(summary.unknown), summary.unreachable) == (["a1"], ())


@pytest.mark.parametrize(
    "given", [{"ignore_merges": True}, {"end_of_word_suffix": "b"}, {"dropout": 1.0}]
)
def test_nothing_is_proved_where_merges_go_otherwise(given: dict[str, Any]) -> None:
    vocab = numbered("a", "b", "ab", "bb", "aa")
    summary = summarize_vocabulary(wrap(Tokenizer(models.BPE(vocab, [], **given))))
    assert summary.unreachable == ()


def test_a_part_of_a_character_is_looked_for_in_characters() -> None:
    tokenizer = train_bpe(iter(SENTENCES), vocab_size=257, min_frequency=2)
    token_bytes = TokenBytes.of(tokenizer.backend)
    vocab = {i: token_bytes.of_entry(t, i) for t, i in tokenizer.backend.get_vocab().items() if i}
    reach = find_reachability(token_bytes, vocab)
    for i, raw in vocab.items():
        never = raw[0] in {0xC0, 0xC1, *range(0xF5, 0x100)}
        assert reach[i] is (Reachability.UNREACHABLE if never else Reachability.REACHED), raw


@pytest.mark.parametrize(
    ("text", "script"),
    [
        (" мир", "Cyrillic"),
        ("the", "Latin"),
        ("Ελλάς", "Greek"),
        ("東京", "Han"),
        ("とう", "Hiragana"),
        ("한국", "Hangul"),
        ("मि", "Devanagari"),
        ("aб", "several scripts"),
        ("e\u0301", "Latin"),
        (" 42", "digits"),
        (" \n", "white space"),
        ("?!", "punctuation and symbols"),
        ("😀", "emoji"),
        ("\x00", "control characters"),
        ("𖩁", OTHER_SCRIPT),
        ("", "nothing"),
    ],
)
def test_scripts(text: str, script: str) -> None:
    assert kind_of(text) == script


@pytest.mark.parametrize("name", ["CYRILLIC", "ARMENIAN", "GEORGIAN", "THAI", "HEBREW", "TAMIL"])
def test_scripts_are_those_of_the_names_of_letters(name: str) -> None:
    letters = [
        chr(code)
        for code in range(0x20, 0x3000)
        if unicodedata.name(chr(code), "").startswith(f"{name} ")
        and unicodedata.category(chr(code)).startswith("L")
    ]
    assert len(letters) > 20
    assert {kind_of(letter) for letter in letters} == {name.capitalize()}


def test_search_by_text() -> None:
    found = search_vocabulary(PICO, text="мир", limit=3)
    assert [entry.text for entry in found.entries] == ["мир", " мир", "имир"]
    everything = [t for t in PICO.backend.get_vocab() if "Ð¼Ð¸ÑĢ" in t]
    assert found.num_found == len(everything) > 3
    assert search_vocabulary(PICO, text=" мир").entries[0].text == " мир"
    assert search_vocabulary(PICO, text="ĠÐ¼Ð¸ÑĢ").entries[0].text == " мир"
    (eos,) = search_vocabulary(PICO, text="endoftext").entries
    assert eos.special
    assert search_vocabulary(PICO, text="東京").num_found == 0


def test_search_by_id() -> None:
    found = search_vocabulary(PICO, token_id=0)
    assert tokens(found.entries) == ["<|endoftext|>"]
    assert found.reachability == {0: Reachability.RESERVED}
    for wrong in (8192, -1):
        with pytest.raises(ConfigError, match=f"no token {wrong}: ids go from 0 to 8,191"):
            search_vocabulary(PICO, token_id=wrong)


def test_search_by_pattern() -> None:
    found = search_vocabulary(PICO, regex=r"^\p{Lu}\p{Ll}+$", limit=10_000)
    texts = [entry.text for entry in found.entries]
    assert len(texts) == found.num_found > 50
    assert all(text and text.istitle() for text in texts)
    assert [e.id for e in found.entries] == sorted(e.id for e in found.entries)


def test_search_says_what_no_text_gives() -> None:
    found = search_vocabulary(by_hand(), text="ab")
    assert tokens(found.entries) == ["ab", "abc", "cab"]
    assert found.reachability[7] is Reachability.UNREACHABLE
    assert as_json(found)["tokens"][2]["reach"] == "unreachable"


def test_a_search_that_is_none_is_a_user_error() -> None:
    for wrong in ({}, {"text": "a", "token_id": 1}):
        with pytest.raises(ConfigError, match="one thing at a time"):
            search_vocabulary(PICO, **wrong)
    with pytest.raises(ConfigError, match="limit is 0"):
        search_vocabulary(PICO, text="a", limit=0)
    with pytest.raises(ConfigError, match="is empty"):
        search_vocabulary(PICO, text="")
    with pytest.raises(ConfigError, match="surrogate"):
        search_vocabulary(PICO, text="\udcff")
    with pytest.raises(ConfigError, match=r"^\( is not a regular expression"):
        search_vocabulary(PICO, regex="(")
    with pytest.raises(ConfigError, match="is not a regular expression"):
        search_vocabulary(PICO, regex="(" * 2000 + ")" * 2000)
    with pytest.raises(ConfigError, match="takes too long or too much memory"):
        search_vocabulary(PICO, regex="(?R)")  # it is a part of itself


def drawn(renderable: object, *, width: int | None) -> str:
    console = Console(
        file=io.StringIO(),
        width=width or 100_000,
        force_terminal=bool(width),
        color_system=None,
    )
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_off_a_terminal_a_line_is_a_token() -> None:
    found = search_vocabulary(PICO, text=" мир", limit=1)
    lines = drawn(search_view(found), width=None).splitlines()
    assert lines[0].startswith("# ")
    assert lines[0].endswith("not shown")
    token_id = PICO.backend.token_to_id("ĠÐ¼Ð¸ÑĢ")
    assert lines[1:] == [f"{token_id}\t·мир\tCyrillic\treached"]
    summary = drawn(summary_view(summarize_vocabulary(PICO)), width=None)
    assert "Cyrillic\t" in summary
    assert "\n125\t⟨c0⟩\t1 byte\n" in summary


@pytest.mark.parametrize("width", [40, 100])
def test_on_a_terminal_nothing_is_raw_or_too_wide(width: int) -> None:
    tokenizer = by_hand()
    tokenizer.backend.add_tokens(["\x1b[31m", "[red]", "東京" * 30, "\u202eabc"])
    shown = drawn(summary_view(summarize_vocabulary(tokenizer)), width=width)
    shown += drawn(search_view(search_vocabulary(tokenizer, regex="[^a]")), width=width)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[red]" in shown
    assert all(cell_len(line) <= width for line in shown.splitlines())


def test_json_holds_all() -> None:
    values = as_json(summarize_vocabulary(PICO))
    assert json.loads(json.dumps(values)) == values
    assert len(values["unreachable"]) == NEVER_UTF8
    assert values["unreachable"][0] == {
        "id": 125,
        "token": "À",
        "text": None,
        "bytes": "c0",
        "script": "part of a character",
        "special": False,
        "added": False,
    }


def test_an_empty_vocabulary() -> None:
    empty = wrap(Tokenizer(models.BPE()))
    summary = summarize_vocabulary(empty)
    assert (summary.num_tokens, summary.longest) == (0, ())
    drawn(summary_view(summary), width=40)
    with pytest.raises(ConfigError, match="is empty"):
        search_vocabulary(empty, token_id=0)


def random_bpe(draw: random.Random) -> TextTokenizer:
    """Up to 14 merges of whatever is there, in any order, many of them of no use."""
    entries, merges = ["a", "b", "c"], []
    for _ in range(draw.randint(2, 14)):
        pair = (draw.choice(entries), draw.choice(entries))
        joined = "".join(pair)
        if pair not in merges and len(joined) <= 5:
            merges.append(pair)
            entries += [joined] if joined not in entries else []
    draw.shuffle(merges)
    return wrap(Tokenizer(models.BPE(numbered(*entries), merges)))


def test_the_proof_holds_of_any_merges() -> None:
    texts = ["".join(letters) for letters in product("abc", repeat=7)]
    num_unreachable = 0
    for seed in range(40):
        tokenizer = random_bpe(random.Random(seed))
        encodings = tokenizer.backend.encode_batch_fast(texts)
        seen = {i for encoding in encodings for i in encoding.ids}
        summary = summarize_vocabulary(tokenizer)
        unreachable = {entry.id for entry in summary.unreachable}
        assert unreachable == {*range(summary.num_ids)} - seen, seed
        assert summary.unknown == (), seed
        num_unreachable += len(unreachable)
    assert num_unreachable > 20
