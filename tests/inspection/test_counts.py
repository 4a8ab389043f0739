"""The token account of a corpus: every number counted a second time, another way."""

import gzip
import io
import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from gptft.documents.corpus import find_corpus
from gptft.errors import ConfigError, DataError
from gptft.files import as_json
from gptft.inspection import counts as counting
from gptft.inspection import word_sample as words
from gptft.inspection.counts import Counts, count_tokens
from gptft.inspection.counts_view import render_counts
from gptft.tokenization import encoder
from gptft.tokenization.batches import measure_batches
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.conftest import SENTENCES, SHARED_CORPUS

MIXED = "Да нет,\tabc  日本 e\u0301 😀👨‍👩‍👧\u00a0конец\r\n\n"


@pytest.fixture(scope="module")
def byte_tokenizer() -> TextTokenizer:
    """Every byte is a token of its own."""
    return train_bpe(iter(["a"]), vocab_size=257, min_frequency=2)


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return train_bpe(iter(SENTENCES * 4), vocab_size=320, min_frequency=2)


def write(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


def rendered(counts: Counts, *, width: int) -> str:
    console = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
    console.print(render_counts(counts))
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_text_counted_by_hand(tmp_path: Path, byte_tokenizer: TextTokenizer) -> None:
    folder = write(tmp_path / "t", a="да нет да", b="ab\n\nab c")
    counts = count_tokens([str(folder)], byte_tokenizer)
    assert (counts.files, counts.documents) == (2, 2)
    assert (counts.words, counts.characters, counts.bytes) == (6, 17, 16 + 8)
    assert counts.tokens == counts.bytes  # a byte a token
    assert counts.scripts == {"Cyrillic": 7, "Common": 5, "Latin": 5}
    assert counts.fallback_tokens == counts.fallback_bytes == 14  # seven letters of two bytes
    # д0 b4 b0 bd b5 d1 82, space, a, b, newline, c: twelve of 257
    assert counts.unused == 257 - 12
    assert [as_json(one) for one in counts.frequent[:2]] == [
        {"id": byte_tokenizer.backend.token_to_id("Ð"), "text": None, "bytes": "d0", "count": 6},
        {"id": byte_tokenizer.backend.token_to_id("Ġ"), "text": " ", "bytes": "20", "count": 3},
    ]
    assert (counts.bytes_per_token, counts.tokens_per_word) == (1.0, 4.0)


def test_all_formats_and_encodings_that_prepare_reads(
    tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    folder = write(tmp_path / "t", utf8=MIXED)
    cyrillic = SENTENCES[0] * 20
    (folder / "old.txt").write_bytes(cyrillic.encode("windows-1251"))
    (folder / "marked.txt").write_bytes(SENTENCES[1].encode("utf-16"))
    (folder / "README.md").write_text("not a text", encoding="utf-8")
    records = [MIXED, "", SENTENCES[2]]
    lines = "\n".join(json.dumps({"text": record}) for record in records)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")
    (folder / "packed.txt.gz").write_bytes(gzip.compress(SENTENCES[3].encode()))
    documents = [MIXED, cyrillic, SENTENCES[1], MIXED, SENTENCES[2], SENTENCES[3]]
    counts = count_tokens([str(folder)], tokenizer)
    assert counts.documents == len(documents)
    assert counts.bytes == sum(len(text.encode()) for text in documents)
    assert counts.characters == sum(map(len, documents))
    assert counts.words == sum(len(text.split()) for text in documents)
    assert counts.tokens == sum(len(tokenizer.backend.encode(text)) for text in documents)
    assert counts.skipped == {"README": 1}
    assert counts.scripts["Han"] == 4
    assert counts.sampled_share == 1.0


def test_a_long_document_is_cut_where_its_ids_stay(tmp_path: Path) -> None:
    tokenizer = load_tokenizer("pico")
    text = "\n".join(f"{n} {SENTENCES[n % 4]}" for n in range(14_000))
    folder = write(tmp_path / "t", long=text)
    steps: list[tuple[str, int, int]] = []
    counts = count_tokens([str(folder)], tokenizer, progress=lambda *step: steps.append(step))
    ids = np.concatenate([tokenizer.backend.encode(text, add_special_tokens=False).ids])
    assert counts.documents == 1
    assert counts.tokens == len(ids)
    assert counts.unused == 8192 - len(np.unique(ids))
    most, number = np.unique(ids, return_counts=True)
    assert counts.frequent[0].count == number.max()
    assert counts.frequent[0].id in most[number == number.max()]
    assert counts.words == len(text.split())
    assert 0.02 < counts.sampled_share < 0.5
    assert steps[0][0] == "reading"
    done = [step for step in steps if step[0] == "tokenizing"]
    assert done[-1] == ("tokenizing", len(text.encode()), len(text.encode()))
    assert done == sorted(done)


def test_white_space_is_what_python_says() -> None:
    every = "x".join(chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000)
    characters, num_words = counting._count_text([every, every])
    assert num_words == 2 * len(every.split())
    assert characters.sum() == 2 * len(every)
    assert characters[ord("\n")] == 2


def test_batches_say_where_they_are(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    folder = write(tmp_path / "t", a="слово " * 100_000, b="", c="да " * 150_000)
    data, texts, _ = find_corpus([str(folder)], cache_dir=tmp_path)
    engine = encoder.TokenizersEngine(tokenizer)
    engine.batch_characters = 250_000
    found = [*measure_batches(texts, data, engine=engine, measure=lambda batch: batch.texts)]
    assert "".join(text for _, parts in found for text in parts) == "слово " * 100_000 + (
        "да " * 150_000
    )
    lengths = [sum(map(len, parts)) for _, parts in found]
    assert [batch.start for batch, _ in found] == [0, *accumulate(lengths[:-1])]
    assert sum(batch.num_documents for batch, _ in found) == 2
    assert {batch.file for batch, _ in found} == {0, 2}


def test_the_slow_engine_gives_the_same(
    tmp_path: Path, tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "t", a=MIXED, b=SENTENCES[0])
    right = as_json(count_tokens([str(folder)], tokenizer))

    def disagrees(*_: Any) -> None:
        raise encoder.EngineDisagreesError("it differs")

    monkeypatch.setattr(encoder.FastokensEngine, "encode", disagrees)
    told: list[str] = []
    slow = as_json(count_tokens([str(folder)], tokenizer, notify=told.append))
    assert slow.pop("engine").startswith("tokenizers")
    assert "it differs" in told[0]
    for counts in (right, slow):
        counts.pop("seconds")
    right.pop("engine")
    assert slow == right


def test_words_split_worst(tmp_path: Path, byte_tokenizer: TextTokenizer) -> None:
    folder = write(tmp_path / "t", a="кот, дом! дом домик, 日本語日本語 x9y " + "и " * 30)
    worst = count_tokens([str(folder)], byte_tokenizer).worst_words
    # "x" and "y" are one token each; what is written without spaces has no words
    assert [(word.text, word.count, word.tokens_per_word) for word in worst] == [
        ("и", 30, 2.0),
        ("дом", 2, 6.0),
        ("домик", 1, 10.0),
        ("кот", 1, 6.0),
    ]


def test_of_many_words_the_worst_twentieth_is_named() -> None:
    tokenizer = train_bpe(iter(["a"]), vocab_size=257, min_frequency=2)
    short = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(400)]
    text = " ".join([*short, *short, "abcdefgh", "bcdefghi"])
    sample = words.WordSample.of([text], tokenizer.backend, start=0, every=1)
    assert sample.num_words == 402
    assert [word.text for word in sample.worst(2)] == ["aa", "ab"]  # frequent, among the worst 20
    assert {word.text for word in sample.worst(20)} > {"abcdefgh", "bcdefghi"}


def test_a_sample_is_spread_evenly_however_documents_are_cut(tokenizer: TextTokenizer) -> None:
    whole = "слово " * 20_000
    parts = [whole[at : at + 60] for at in range(0, len(whole), 60)]
    one = words.WordSample.of([whole], tokenizer.backend, start=0, every=10)
    many = words.WordSample.of(parts, tokenizer.backend, start=0, every=10)
    assert one.num_characters == pytest.approx(len(whole) / 10, rel=0.05)
    assert many.num_characters == pytest.approx(len(whole) / 10, rel=0.05)
    later = words.WordSample.of([whole], tokenizer.backend, start=1001, every=1000)
    assert later.num_characters == 0


def test_sentencepiece_bytes_and_wordpiece_unknowns(tmp_path: Path) -> None:
    entries = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a"]
    backend = Tokenizer(
        models.BPE({t: i for i, t in enumerate(entries)}, [], unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    folder = write(tmp_path / "t", a="a a\n😀")
    counts = count_tokens([str(folder)], TextTokenizer(backend, {}, None, "llama"))
    assert counts.tokens == 3 + 1 + 4
    assert (counts.fallback_tokens, counts.fallback_bytes) == (5, 5)  # the newline is a byte, too
    assert counts.unknown_tokens == 0

    wordpiece = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    counts = count_tokens([str(folder)], TextTokenizer(wordpiece, {}, None, "bert"))
    assert (counts.tokens, counts.unknown_tokens) == (3, 1)


def test_an_empty_corpus_has_no_rates(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    folder = write(tmp_path / "t", a="", b=" \n")
    counts = count_tokens([str(folder)], tokenizer)
    assert (counts.files, counts.documents, counts.tokens, counts.words) == (2, 0, 0, 0)
    assert counts.bytes_per_token is None
    assert counts.tokens_per_word is None
    assert counts.unused == counts.vocab_size
    assert "0" in rendered(counts, width=40)
    json.dumps(as_json(counts))


def test_what_cannot_be_read_is_said(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        count_tokens([str(tmp_path / "nowhere")], tokenizer)
    with pytest.raises(ConfigError, match="There is no text"):
        count_tokens([], tokenizer)


@pytest.mark.parametrize("width", [40, 80])
def test_it_fits_a_terminal_and_shows_nothing_raw(
    width: int, tmp_path: Path, tokenizer: TextTokenizer
) -> None:
    folder = write(tmp_path / "t", a=MIXED * 50 + "\x1b[31m" * 1000 + "Непромокаемость " * 3)
    text = rendered(count_tokens([str(folder)], tokenizer), width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "⟨U+001B⟩" in text
    assert "(in all of the text)" in " ".join(text.split())


@pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="the corpus of classics isn't here")
def test_a_real_corpus_as_prepare_counts_it(tmp_path: Path) -> None:
    from gptft.api import default_config
    from gptft.data.plan import plan_packing
    from gptft.data.prepare import prepare_blocks

    folder = SHARED_CORPUS / "poems"
    ledger = prepare_blocks(plan_packing(default_config(overrides=[], text=folder))).ledger
    counts = count_tokens([str(folder)], load_tokenizer("pico"), cache_dir=tmp_path)
    assert (counts.files, counts.documents) == (ledger.files, ledger.documents)
    assert (counts.bytes, counts.characters) == (ledger.bytes, ledger.characters)
    assert counts.tokens == ledger.tokens
    assert counts.scripts["Cyrillic"] > counts.characters / 2
