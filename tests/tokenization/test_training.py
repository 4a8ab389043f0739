"""New tokenizers open with transformers and cost what is said; what is added changes no old id."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from gptft.errors import ConfigError, DataError, ModelError
from gptft.files import as_json
from gptft.tokenization.batches import read_passages
from gptft.tokenization.evaluation import split_corpus
from gptft.tokenization.extension import add_tokens, extend_tokenizer, read_tokens
from gptft.tokenization.tokenizer import END_OF_TEXT, TextTokenizer, load_tokenizer, save_tokenizer
from gptft.tokenization.trainers import Kind, train_bpe
from gptft.tokenization.training import train_tokenizer
from gptft.tokenization.training_view import extended_view, trained_view
from tests.conftest import SENTENCES

TEXTS = [
    *SENTENCES,
    "Ещё раз: ёлка, съёжился, Щука — «кавычки»…",
    "  It's 12,345.67; don't  stop\n\n\tnow \r\n",
    "😀👨‍👩‍👧🇷🇺 e\u0301 \ufeff日本語 \x00\x1b ▁ Ġ ##a \U0010ffff",
    "a <|endoftext|> b</s><s> <pad><unk>",
    "",
]
DOCUMENTS = [f"{SENTENCES[n % 4]} Стих номер {n}, строка {n * 7 % 13}." for n in range(100)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"text": document}) for document in DOCUMENTS]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def auto_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        str(folder), trust_remote_code=False, local_files_only=True
    )


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """What transformers' tokenizer makes of a text, special tokens in it read as text."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return list(ids)


def rendered(renderable: Any, *, width: int = 100) -> str:
    file = io.StringIO()
    Console(width=width, file=file).print(renderable)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_each_kind_opens_with_transformers(kind: Kind, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    trained = train_tokenizer(
        [str(corpus)], out, kind=kind, vocab_size=330, special=["<user>"], model_max_length=77
    )
    ours, theirs = load_tokenizer(str(out)), auto_tokenizer(out)
    for text in TEXTS:
        ids = ours.backend.encode(text, add_special_tokens=False).ids
        assert ids == ids_of(theirs, text), text
        if kind != "wordpiece":
            assert ours.backend.decode(ids, skip_special_tokens=False) == text
            assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text
    assert theirs("да")["input_ids"] == ids_of(theirs, "да")  # nothing is added around a text
    assert (theirs.eos_token_id, theirs.model_max_length) == (0, 77)
    assert len(theirs) == ours.vocab_size == trained.vocab_size <= 330
    assert ours.special_tokens["eos_token"] == END_OF_TEXT
    assert theirs.convert_tokens_to_ids("<user>") == trained.special_tokens.index("<user>")
    assert trained.costs[0].lossless == (kind != "wordpiece")
    said = rendered(trained_view(trained))
    assert ("WordPiece forgets white space" in said) == (kind == "wordpiece")


def test_the_cost_is_that_of_documents_it_has_not_seen(corpus: Path, tmp_path: Path) -> None:
    trained = train_tokenizer([str(corpus)], tmp_path / "new", vocab_size=400, held_out=0.1)
    drawn = np.random.default_rng(42).permutation(100)[:10]
    held_out = [DOCUMENTS[n] for n in drawn]
    seen = [document for n, document in enumerate(DOCUMENTS) if n not in drawn]
    right = train_bpe(iter(seen), vocab_size=400, min_frequency=2)
    ours = load_tokenizer(str(tmp_path / "new"))
    assert ours.backend.get_vocab() == right.backend.get_vocab()

    assert (trained.passages, trained.held_out) == (100, 10)
    own, pico = trained.costs
    theirs = auto_tokenizer(tmp_path / "new")
    num_bytes = sum(len(text.encode()) for text in held_out)
    assert own.bytes == pico.bytes == num_bytes
    assert own.tokens == sum(len(ids_of(theirs, text)) for text in held_out)
    backend = load_tokenizer("pico").backend
    assert pico.tokens == sum(len(backend.encode(text).ids) for text in held_out)
    assert own.bytes_per_token == pytest.approx(num_bytes / own.tokens)
    assert (own.checked, own.returned) == (10, 10)
    text = rendered(trained_view(trained))
    assert "10 of 100 passages, held out of training" in text
    assert f"{own.bytes_per_token:.2f}" in text
    assert as_json(trained)["costs"][0]["tokens"] == own.tokens


def test_another_tokenizer_beside(corpus: Path, tmp_path: Path) -> None:
    save_tokenizer(
        train_bpe(iter(["a"]), vocab_size=257, min_frequency=2),
        tmp_path / "bytes",
        model_max_length=8,
    )
    trained = train_tokenizer(
        [str(corpus)], tmp_path / "new", vocab_size=300, beside=[str(tmp_path / "bytes"), "pico"]
    )
    assert [cost.name for cost in trained.costs] == ["new", "pico", str(tmp_path / "bytes")]
    assert trained.costs[2].bytes_per_token == 1.0
    with pytest.raises(ModelError, match="nothing is fetched to compare with"):
        train_tokenizer([str(corpus)], tmp_path / "other", beside=["nobody/nothing"])
    assert not (tmp_path / "other").exists()


def test_one_short_text_is_learned_and_measured_whole(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(SENTENCES[0] * 9, encoding="utf-8")
    trained = train_tokenizer([str(tmp_path / "a.txt")], tmp_path / "new", vocab_size=300)
    assert (trained.passages, trained.held_out) == (1, 0)
    assert trained.costs[0].bytes == len(SENTENCES[0].encode()) * 9
    assert "Nothing was held out" in rendered(trained_view(trained))


def test_a_long_document_is_cut_into_passages_that_are_the_document(tmp_path: Path) -> None:
    text = " ".join(f"слово{n}" for n in range(250_000)) + "日" * 25_000
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    steps: list[tuple[str, int, int]] = []
    corpus = split_corpus([str(tmp_path / "a.txt")], held_out=0.25)
    passages = [passage for _, passage in read_passages(corpus.texts, corpus.data)]
    assert "".join(passages) == text
    assert max(map(len, passages)) == 10_000
    assert all(passage.startswith(" ") for passage in passages[1:-3])
    learned = [*corpus.training("training", lambda *step: steps.append(step))]
    measured = [*corpus.held_out("measuring")]
    assert len(measured) == round(len(passages) / 4) == corpus.num_held_out
    assert sorted([*learned, *measured]) == sorted(passages)
    assert steps[-1] == ("training", len(text.encode()), len(text.encode()))


@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"vocab_size": 256}, ["too small: 1 special token and 256 bytes need 257"]),
        ({"vocab_size": 2, "kind": "wordpiece"}, ["2 special tokens and one character need 3"]),
        ({"special": ["<a>", "<a>"]}, ["The special token '<a>' is there already"]),
        ({"special": [END_OF_TEXT, " "]}, ["endoftext|>' is there already", "is empty"]),
        ({"kind": "unigram", "min_frequency": 2}, ["Unigram has no min_frequency"]),
        ({"min_frequency": 0, "held_out": 1.0}, ["min_frequency is 0", "1 of the text can't be"]),
        ({"model_max_length": 0}, ["A model can't see 0 tokens"]),
    ],
)
def test_settings_that_cannot_be_met_are_all_said_at_once(
    settings: dict[str, Any], messages: list[str], corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        train_tokenizer([str(corpus)], tmp_path / "new", **settings)
    assert len(caught.value.problems) == len(messages)
    for message in messages:
        assert message in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_tokenizer_is_never_written_over(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds a tokenizer already"):
        train_tokenizer([str(corpus)], tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        extend_tokenizer("pico", corpus, tokens=["🦊"])
    with pytest.raises(ConfigError, match="can't be made or written to"):
        extend_tokenizer("pico", corpus / "below" / "a file", tokens=["🦊"])
    with pytest.raises(ConfigError, match="can't be made or written to"):
        extend_tokenizer("pico", tmp_path / ("long" * 100), tokens=["🦊"])
    assert (tmp_path / "tokenizer.json").read_text(encoding="utf-8") == "mine"


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(DataError, match="there is no text in it"):
        train_tokenizer([str(tmp_path / "a.txt")], tmp_path / "new")


def test_added_tokens_leave_every_id_as_it_was(tmp_path: Path) -> None:
    tokens = ["🦊", " солнцеворот", "<|tool|>", "qwertyuiop"]
    extended = extend_tokenizer("pico", tmp_path / "new", tokens=tokens)
    before, after = load_tokenizer("pico"), load_tokenizer(str(tmp_path / "new"))
    theirs = auto_tokenizer(tmp_path / "new")
    vocab = after.backend.get_vocab()
    assert before.backend.get_vocab().items() < vocab.items()
    assert extended.added == {token: 8192 + n for n, token in enumerate(tokens)}
    for text in TEXTS:
        ids = before.backend.encode(text).ids
        assert after.backend.encode(text).ids == ids == ids_of(theirs, text)
    text = "лис 🦊, день солнцеворота; <|tool|>qwertyuiops"
    ids = after.backend.encode(text).ids
    assert {*ids} > {*extended.added.values()}
    assert ids == ids_of(theirs, text)
    assert after.backend.decode(ids, skip_special_tokens=False) == text
    assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text
    assert (extended.embeddings, extended.needed) == (8192, 8196)
    assert (theirs.eos_token_id, theirs.model_max_length) == (0, 1024)
    assert "model.resize_token_embeddings(8196)" in rendered(extended_view(extended))


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "'' can't be a token"),
        (" \n", "nothing in it but white space"),
        ("a", "'a' is a token already"),
        (" и", "' и' is a token already"),
        ("Ġи", None),
        (END_OF_TEXT, "is a token already: its id is 0"),
        ("caf\u00e9", "With a space in front it can: ' café'"),
        ("\ud83d", "half of a surrogate pair"),
    ],
)
def test_tokens_that_cannot_be_added(token: str, message: str | None, tmp_path: Path) -> None:
    if message is None:  # odd, but a text may hold it
        add_tokens(load_tokenizer("pico"), [token])
        return
    with pytest.raises(ConfigError) as caught:
        extend_tokenizer("pico", tmp_path / "new", tokens=[token])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_token_given_twice_is_said() -> None:
    with pytest.raises(ConfigError, match="'🦊' is given twice"):
        add_tokens(load_tokenizer("pico"), ["🦊", "🦊"])


def test_ids_with_gaps_cannot_be_added_to() -> None:
    backend = Tokenizer(models.BPE({"a": 0, "b": 2}, []))
    with pytest.raises(ModelError, match="has gaps in its ids"):
        add_tokens(TextTokenizer(backend, {}, None, "gaps"), ["xyz"])


def test_a_sentencepiece_tokenizer_is_extended() -> None:
    entries = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a"]
    backend = Tokenizer(
        models.BPE({t: i for i, t in enumerate(entries)}, [], unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    extended = add_tokens(TextTokenizer(backend, {}, None, "llama"), [" 日本", "café"])
    ids = extended.backend.encode("a 日本café").ids
    assert ids == [entries.index("a"), 258 + 1, 258 + 2]
    assert extended.backend.decode(ids, skip_special_tokens=False) == "a 日本café"


def words_corpus(path: Path) -> Path:
    """Two words that a byte-level tokenizer spells out, one of them the beginning of a token."""
    text = "дом абракадабра стол. домовой " * 20 + "редкость "
    path.write_text(json.dumps({"text": text}) + "\n", encoding="utf-8")
    return path


def test_learned_words_are_those_that_save_most(tmp_path: Path) -> None:
    path = words_corpus(tmp_path / "a.jsonl")
    save_tokenizer(
        train_bpe(iter(["a"]), vocab_size=257, min_frequency=2),
        tmp_path / "bytes",
        model_max_length=8,
    )
    extended = extend_tokenizer(
        str(tmp_path / "bytes"), tmp_path / "new", learn=[str(path)], num=2, held_out=0.0
    )
    # Saved: " абракадабра" 22 bytes 20 times, " домовой" 14 bytes 20 times; " дом" 6 bytes 19 times
    # and 20 more in " домовой", " стол" 8 bytes 20 times.
    assert [*extended.added] == [" абракадабра", " домовой"]
    assert extended.before is not None
    assert extended.after is not None
    assert extended.before.tokens == extended.before.bytes
    new = load_tokenizer(str(tmp_path / "new")).backend
    text = json.loads(path.read_text(encoding="utf-8"))["text"]
    assert extended.after.tokens == len(new.encode(text).ids) < extended.before.tokens
    assert extended.learned == 2
    assert " редкость" not in extended.added
    share = extended.after.tokens / extended.before.tokens - 1
    assert f"{share:+.1%} tokens" in rendered(extended_view(extended))


def test_a_word_is_not_learned_for_what_a_longer_one_takes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(" домовой." * 20 + " стол." * 9 + " дом." * 3, encoding="utf-8")
    save_tokenizer(
        train_bpe(iter(["a"]), vocab_size=257, min_frequency=2),
        tmp_path / "bytes",
        model_max_length=8,
    )
    extended = extend_tokenizer(
        str(tmp_path / "bytes"), tmp_path / "new", learn=[str(path)], num=2, held_out=0.0
    )
    # Alone " дом" saves 6 bytes 23 times, more than " стол" with 8 bytes 9 times; beside " домовой"
    # only 3 times.
    assert [*extended.added] == [" домовой", " стол"]


def test_a_word_that_breaks_better_tokens_is_not_learned(tmp_path: Path) -> None:
    tokenizer = train_bpe(iter([" менять"] * 9), vocab_size=275, min_frequency=2)
    assert len(tokenizer.backend.encode("a менять").ids) <= 3
    save_tokenizer(tokenizer, tmp_path / "base", model_max_length=8)
    (tmp_path / "a.txt").write_text("a менять" * 50 + "a ме" * 3, encoding="utf-8")
    extended = extend_tokenizer(
        str(tmp_path / "base"),
        tmp_path / "new",
        learn=[str(tmp_path / "a.txt")],
        num=5,
        held_out=0.0,
    )
    assert " ме" not in extended.added
    assert extended.learned < 5
    assert "words would save anything" in rendered(extended_view(extended))


def test_learned_words_are_measured_on_what_was_held_out(corpus: Path, tmp_path: Path) -> None:
    extended = extend_tokenizer(
        "pico", tmp_path / "new", learn=[str(corpus)], num=3, held_out=0.1, tokens=["🦊"]
    )
    drawn = np.random.default_rng(42).permutation(100)[:10]
    old, new = load_tokenizer("pico").backend, load_tokenizer(str(tmp_path / "new")).backend
    assert extended.before is not None
    assert extended.after is not None
    assert extended.before.tokens == sum(len(old.encode(DOCUMENTS[n]).ids) for n in drawn)
    assert extended.after.tokens == sum(len(new.encode(DOCUMENTS[n]).ids) for n in drawn)
    assert extended.after.lossless
    assert extended.held_out == 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "There is nothing to add"),
        ({"num": 3}, "give both the texts and how many"),
        ({"learn": ["a.txt"]}, "give both the texts and how many"),
        ({"tokens": ["🦊"], "held_out": -0.1}, "can't be held out"),
    ],
)
def test_what_extend_needs(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        extend_tokenizer("pico", tmp_path / "new", **settings)


def test_tokens_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(" дом\r\n🦊\nx y\n".encode())
    assert read_tokens(path) == [" дом", "🦊", "x y"]
    path.write_bytes(b"a\n\nb\n")
    with pytest.raises(ConfigError, match=r"tokens\.txt:2  is an empty line"):
        read_tokens(path)
    with pytest.raises(DataError, match="nowhere"):
        read_tokens(tmp_path / "nowhere.txt")


def test_control_tokens_are_added_whatever_letters_a_tokenizer_knows() -> None:
    """A WordPiece or SentencePiece model without bytes has no pieces for their signs."""
    backend = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    pieces = TextTokenizer(backend, {"unk_token": "[UNK]"}, None, "pieces")
    grown = add_tokens(pieces, [], special=["<|im_start|>", "[INST]"])
    grown.backend.encode_special_tokens = False
    assert grown.backend.encode("a<|im_start|>a[INST]").ids == [1, 2, 1, 3]
