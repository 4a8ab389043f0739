import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gptft.config.sections import Config
from gptft.data import store
from gptft.data.pack import Prepared
from gptft.data.plan import choose_block_size, plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.store import commit_store, find_damage
from gptft.documents.formats import plain_text, registry
from gptft.errors import ConfigError, DataError, RunError
from gptft.files import json_checksum
from gptft.tokenization import encoder
from gptft.tokenization.encoder import FastokensEngine, TokenizersEngine
from gptft.tokenization.tokenizer import load_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.conftest import ROOT, SENTENCES, SHARED_CORPUS
from tests.documents.reference import (
    TEXTS,
    altered,
    ids_by_tokenizers,
    joined,
    numbers,
    plan,
    prepare,
    reference_engine,
    saved,
    stream,
    text_tokenizer,
    unigram,
    write_files,
)


def prepare_new(*sources: Path, **settings: object) -> Prepared:
    """Prepare for a new model whose tokenizer is trained on the text."""
    config = {
        "data": {"train": [str(source) for source in sources], **settings},
        "model": {"from_scratch": {"model_type": "gpt2", "n_positions": 64}},
        "tokenizer": {"train": {"vocab_size": 300, "min_frequency": 1}},
    }
    return prepare_blocks(plan_packing(Config.model_validate(config)))


def test_the_stream_is_every_document_then_eos_and_nothing_else(
    tiny_model_dir: Path, corpus_dir: Path
):
    prepared = prepare(tiny_model_dir, train=str(corpus_dir), block_size=16)
    reference = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json"))
    eos = reference.token_to_id("<|endoftext|>")
    expected = [i for s in SENTENCES for i in [*reference.encode(s).ids, eos]]
    assert stream(prepared.path) == expected
    ledger = prepared.ledger
    assert ledger.tokens + ledger.num_eos == len(expected)
    assert ledger.tokens + ledger.num_eos == ledger.num_blocks * 16 + ledger.tail_tokens
    assert (ledger.files, ledger.documents, ledger.num_eos) == (4, 4, 4)
    assert ledger.bytes == sum(len(s.encode()) for s in SENTENCES)
    assert ledger.characters == sum(len(s) for s in SENTENCES)


def test_an_eos_in_the_text_is_text(tiny_model_dir: Path, tmp_path: Path):
    path = tmp_path / "forged.txt"
    path.write_text("до<|endoftext|>после", encoding="utf-8")
    prepared = prepare(tiny_model_dir, train=str(path))
    eos = load_tokenizer(str(tiny_model_dir)).require_eos()
    ids = stream(prepared.path)
    assert ids.count(eos) == 1
    assert ids[-1] == eos


def test_a_poem_shorter_than_a_block_is_kept_and_said(tiny_model_dir: Path, tmp_path: Path):
    path = tmp_path / "poem.txt"
    path.write_text(SENTENCES[0], encoding="utf-8")
    prepared = prepare(tiny_model_dir, train=str(path), block_size=64)
    assert prepared.ledger.num_blocks == 0
    assert prepared.ledger.tail_tokens == len(stream(prepared.path))
    assert any("shorter than one block of 64" in s for s in prepared.sentences())
    with pytest.raises(DataError, match=r"fewer than one block of 64, and data\.tail is 'drop'"):
        prepare(tiny_model_dir, train=str(path), block_size=64, tail="drop")


def test_a_second_run_is_cached_and_a_changed_text_is_not(tiny_model_dir: Path, corpus_dir: Path):
    first = prepare(tiny_model_dir, train=str(corpus_dir))
    second = prepare(tiny_model_dir, train=str(corpus_dir))
    assert (first.cached, second.cached) == (False, True)
    assert (second.path, second.ledger) == (first.path, first.ledger)
    (corpus_dir / "0.txt").write_text("другой текст", encoding="utf-8")
    third = prepare(tiny_model_dir, train=str(corpus_dir))
    assert not third.cached
    assert third.path != first.path


def test_a_store_is_of_its_formats_version(
    tiny_model_dir: Path, corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    first = prepare(tiny_model_dir, train=str(corpus_dir))
    monkeypatch.setitem(registry._BY_SUFFIX, ".txt", replace(plain_text.FORMAT, version=2))
    second = prepare(tiny_model_dir, train=str(corpus_dir))
    assert (second.cached, second.path != first.path) == (False, True)
    assert prepare(tiny_model_dir, train=str(corpus_dir)).cached


def test_a_store_made_before_formats_had_versions_is_found(tmp_path: Path):
    write_files(tmp_path, {"a.txt": "1 2 3"})
    found = plan(text_tokenizer(numbers()), tmp_path / "cache", tmp_path / "a.txt")
    digest = hashlib.sha256(b"1 2 3").hexdigest()
    content = {
        "format": 2,
        "texts": [[False, digest, "utf-8", ".txt"]],
        "reading": [None, "keep", "text", None],
        "tokenizer": found.tokenizer_key,
        "block_size": found.block_size,
        "tail": "keep",
        "validation": None,
        "weights": None,
        "seed": None,
    }
    with reference_engine():
        assert prepare_blocks(found).path.name == json_checksum(content)[:32]


def test_nothing_half_written_stays_after_a_failure(
    tiny_model_dir: Path, corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gptft.data.store.commit_store", fail)
        with pytest.raises(RunError, match=r"The disk is full: .* \(No space left on device\)"):
            prepare(tiny_model_dir, train=str(corpus_dir))
    again = prepare(tiny_model_dir, train=str(corpus_dir))
    assert not again.cached
    assert [p.name for p in again.path.parent.iterdir()] == [again.path.name]


def test_a_share_holds_out_whole_documents_the_same_each_time(
    tiny_model_dir: Path, corpus_dir: Path
):
    prepared = prepare(tiny_model_dir, train=str(corpus_dir), validation=0.3, seed=7)
    order = np.random.default_rng(7).permutation(4)  # round(4 * 0.3) = 1 document
    reference = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json"))
    held_out = reference.encode(SENTENCES[order[0]]).ids
    assert stream(prepared.path, "validation")[:-1] == held_out
    assert prepared.ledger.validation_documents == 1
    assert len(stream(prepared.path)) + len(held_out) + 1 == (
        prepared.ledger.tokens + prepared.ledger.num_eos
    )


@pytest.mark.parametrize(("share", "held_out"), [(0.01, 1), (0.5, 2), (0.99, 3)])
def test_a_share_is_at_least_one_document_and_never_all(
    tiny_model_dir: Path, corpus_dir: Path, share: float, held_out: int
):
    prepared = prepare(tiny_model_dir, train=str(corpus_dir), validation=share)
    assert prepared.ledger.validation_documents == held_out


def test_one_document_has_no_share_to_give(tiny_model_dir: Path, corpus_dir: Path):
    with pytest.raises(DataError, match="needs at least 2 documents"):
        prepare(tiny_model_dir, train=str(corpus_dir / "0.txt"), validation=0.1)


def test_a_validation_file_of_its_own(tiny_model_dir: Path, corpus_dir: Path):
    prepared = prepare(
        tiny_model_dir, train=str(corpus_dir), validation=[str(corpus_dir / "2.txt")]
    )
    reference = Tokenizer.from_file(str(tiny_model_dir / "tokenizer.json"))
    assert stream(prepared.path, "validation")[:-1] == reference.encode(SENTENCES[2]).ids
    assert prepared.ledger.validation_documents == 1


def test_empty_documents_are_left_out_and_counted(tiny_model_dir: Path, tmp_path: Path):
    path = tmp_path / "many.txt"
    path.write_text("один\n\nдва\n\n\n\n \n\nтри", encoding="utf-8")
    prepared = prepare(tiny_model_dir, train=str(path), document_separator="\n\n")
    assert (prepared.ledger.documents, prepared.ledger.empty_documents) == (3, 2)
    assert prepared.ledger.num_eos == 3
    path.write_text("\n \n", encoding="utf-8")
    with pytest.raises(DataError, match=r"many\.txt: 1 file, and no text in it\.$"):
        prepare(tiny_model_dir, train=str(path))


def test_chapters_are_documents_and_a_store_of_its_own(tiny_model_dir: Path, tmp_path: Path):
    path = tmp_path / "novel.txt"
    path.write_text("Роман\n\nI\n\nодин\n\nII\n\nдва", encoding="utf-8")
    whole = prepare(tiny_model_dir, train=str(path))
    cut = prepare(tiny_model_dir, train=str(path), document_heading="[IVX]+")
    assert (whole.ledger.documents, cut.ledger.documents) == (1, 3)
    assert whole.path != cut.path
    assert cut.path != prepare(tiny_model_dir, train=str(path), document_heading="[IV]+").path
    assert cut.ledger.num_eos == 3


@pytest.mark.parametrize(
    ("asked", "context", "block_size"),
    [(None, None, 1024), (None, 512, 512), (None, 4096, 1024), (64, 64, 64), (2048, None, 2048)],
)
def test_the_block_size_never_exceeds_the_context(
    asked: int | None, context: int | None, block_size: int
):
    assert choose_block_size(asked, context=context) == block_size


def test_a_block_beyond_the_context_is_refused_with_both_numbers(
    tiny_model_dir: Path, corpus_dir: Path
):
    with pytest.raises(ConfigError, match=r"block_size is 65, more than .* context of 64 tokens"):
        prepare(tiny_model_dir, train=str(corpus_dir), block_size=65)


def test_a_tokenizer_is_trained_on_the_training_part_alone(corpus_dir: Path):
    prepared = prepare_new(corpus_dir, validation=[str(corpus_dir / "2.txt")])
    tokenizer = load_tokenizer(str(prepared.path / "tokenizer"))
    assert tokenizer.vocab_size == 300
    assert prepared.ledger.vocab_size == 300
    other = prepare_new(*(corpus_dir / f"{n}.txt" for n in (0, 1, 3)))
    assert load_tokenizer(str(other.path / "tokenizer")).digest == tokenizer.digest


def test_a_config_without_texts_says_so():
    with pytest.raises(ConfigError, match="no data section"):
        prepare_blocks(plan_packing(Config()))


@pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="needs the corpus ru-classics")
def test_chekhov_comes_back_byte_for_byte():
    """Every token of 77 real files is in a block or the tail, and decodes to the files."""
    chekhov = SHARED_CORPUS / "prose" / "Chekhov"
    prepared = prepare_blocks(
        plan_packing(Config.model_validate({"data": {"train": str(chekhov)}}))
    )
    ledger = prepared.ledger
    assert ledger.tokens + ledger.num_eos == (
        ledger.num_blocks * ledger.block_size + ledger.tail_tokens
    )
    tokenizer = load_tokenizer("pico")
    eos = tokenizer.require_eos()
    ids = stream(prepared.path)
    borders = [i for i, token in enumerate(ids) if token == eos]
    starts = [0, *(border + 1 for border in borders[:-1])]
    texts = [
        tokenizer.backend.decode(ids[start:end], skip_special_tokens=False).encode()
        for start, end in zip(starts, borders, strict=True)
    ]
    assert texts == [path.read_bytes() for path in sorted(chekhov.rglob("*.txt"))]
    assert ledger.bytes == sum(len(text) for text in texts)


SEPARATOR = "\n%%\n"


@settings(max_examples=30, deadline=None)
@given(
    files=st.lists(
        st.lists(st.one_of(TEXTS, st.sampled_from(["", " \n", *SENTENCES])), max_size=5),
        min_size=1,
        max_size=4,
    ),
    block_size=st.integers(2, 60),
    tail=st.sampled_from(["keep", "drop"]),
    share=st.sampled_from([None, 0.01, 0.3, 0.5, 0.99]),
    seed=st.integers(0, 3),
)
def test_nothing_is_lost_doubled_or_moved(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[str]],
    block_size: int,
    tail: str,
    share: float | None,
    seed: int,
):
    """Blocks and tail are the documents' ids, EOS after each, and the ledger adds up."""
    tokenizer = train_bpe(iter(SENTENCES), vocab_size=280, min_frequency=2)
    ids = ids_by_tokenizers(tokenizer.backend)
    folder = tmp_path_factory.mktemp("any")
    files = [*files, ["раз", "два"]]
    texts = [SEPARATOR.join(file).replace("\0", "").replace("\ufeff", "") for file in files]
    write_files(folder / "in", {f"{n}.txt": text for n, text in enumerate(texts)})
    documents = [document for text in texts for document in text.split(SEPARATOR)]
    full = [document for document in documents if document.strip()]
    order = np.random.default_rng(seed).permutation(len(full)).tolist()
    held = set(order[: min(max(1, round(len(full) * share)), len(full) - 1)] if share else [])
    parts = [
        joined([document for n, document in enumerate(full) if (n in held) == is_held], ids)
        for is_held in (False, True)
    ]
    kept, dropped = [], []
    for tokens in parts:
        rest = len(tokens) % block_size
        dropped.append(0 if tail == "keep" and rest > 1 else rest)
        kept.append(tokens[: len(tokens) - dropped[-1]])
    given_plan = plan(
        tokenizer,
        folder / "cache",
        folder / "in",
        document_separator=SEPARATOR,
        encoding="utf-8",
        block_size=block_size,
        tail=tail,
        validation=share,
        seed=seed,
    )
    with reference_engine():
        if not kept[0] or (held and not kept[1]):
            with pytest.raises(DataError, match=r"data\.tail is 'drop'"):
                prepare_blocks(given_plan)
            assume(False)
        prepared = prepare_blocks(given_plan)
    assert stream(prepared.path) == kept[0]
    assert (stream(prepared.path, "validation") if held else []) == kept[1]
    ledger = prepared.ledger
    blocks = [divmod(len(tokens), block_size) for tokens in kept]
    assert blocks == [
        (ledger.num_blocks, ledger.tail_tokens),
        (ledger.validation_blocks, ledger.validation_tail_tokens),
    ]
    assert dropped == [ledger.dropped_tokens, ledger.validation_dropped_tokens]
    all_ids = [tuple(ids(document)) for document in full]
    trained = {one for n, one in enumerate(all_ids) if n not in held}
    assert (ledger.files, ledger.documents, ledger.num_eos) == (len(files), len(full), len(full))
    assert ledger.empty_documents == len(documents) - len(full)
    assert ledger.validation_documents == len(held)
    assert ledger.tokens == sum(map(len, all_ids))
    assert ledger.validation_tokens == sum(len(all_ids[n]) for n in held)
    assert ledger.bytes == sum(len(document.encode()) for document in full)
    assert ledger.characters == sum(map(len, full))
    assert ledger.max_token_id == max(max(one) for one in all_ids)
    assert ledger.duplicate_documents == len(full) - len(set(all_ids))
    assert ledger.held_out_duplicates == sum(all_ids[n] in trained for n in held)
    assert (ledger.longest_tokens, ledger.shortest_tokens) == (
        max(map(len, all_ids)),
        min(map(len, all_ids)),
    )


class TestEngine:
    """Whatever encodes, the ids are those of tokenizers, and the ledger names who did it."""

    def test_fastokens_where_it_can_be_had(self, tiny_model_dir: Path, corpus_dir: Path):
        said: list[str] = []
        prepared = prepare(tiny_model_dir, train=str(corpus_dir), notify=said.append)
        assert said == []
        assert prepared.ledger.engine.startswith("fastokens ")
        assert stream(prepared.path) == joined(SENTENCES, ids_by_tokenizers(tiny_model_dir))

    def test_tokenizers_where_it_is_missing(
        self, tiny_model_dir: Path, corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setitem(sys.modules, "fastokens", None)
        said: list[str] = []
        prepared = prepare(tiny_model_dir, train=str(corpus_dir), notify=said.append)
        assert len(said) == 1
        assert "pip install fastokens" in said[0]
        assert prepared.ledger.engine.startswith("tokenizers ")
        assert stream(prepared.path) == joined(SENTENCES, ids_by_tokenizers(tiny_model_dir))
        prepare(tiny_model_dir, train=str(corpus_dir), notify=said.append)
        assert len(said) == 1  # nothing was encoded

    def test_tokenizers_where_it_cannot_open_the_tokenizer(self, corpus_dir: Path, tmp_path: Path):
        model_dir = saved(unigram(), tmp_path / "model")
        said: list[str] = []
        prepared = prepare(model_dir, train=str(corpus_dir), notify=said.append)
        assert "it can't open this tokenizer" in said[0]
        assert prepared.ledger.engine.startswith("tokenizers ")
        assert stream(prepared.path) == joined(SENTENCES, ids_by_tokenizers(model_dir))

    def test_tokenizers_for_all_where_it_errs_on_the_way(
        self, tiny_model_dir: Path, corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(FastokensEngine, "batch_characters", 10)
        monkeypatch.setattr(FastokensEngine, "_encode", altered(after=4))
        monkeypatch.setattr(encoder, "_SAMPLE_EVERY", 10)
        said: list[str] = []
        prepared = prepare(tiny_model_dir, train=str(corpus_dir), notify=said.append)
        assert len(said) == 1
        assert "its ids differ from those of tokenizers" in said[0]
        assert prepared.ledger.engine.startswith("tokenizers ")
        assert stream(prepared.path) == joined(SENTENCES, ids_by_tokenizers(tiny_model_dir))
        assert prepared.ledger.documents == 4


class TestAccount:
    """What the ledger says of single texts, counted by hand on texts of numbers."""

    @pytest.fixture
    def model_dir(self, tmp_path: Path) -> Path:
        return saved(numbers(), tmp_path / "model")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return write_files(
            tmp_path / "in",
            {
                "a.txt": "1%2 2%1%5 5 5",
                "b.txt": "1",
                "c.txt": "9%2  2",
                "d.txt": " \n",
                "e.txt": "7\r\n",
                "f.txt": "8%%8",
                ".g.txt": "6",
                "h.png": "",
            },
        )

    def test_of_names(self, model_dir: Path, folder: Path):
        prepared = prepare(model_dir, train=str(folder), document_separator="%")
        ledger = prepared.ledger
        assert (ledger.files, ledger.documents, ledger.empty_documents) == (6, 10, 2)
        assert (ledger.duplicate_documents, ledger.crlf_files) == (4, 1)
        assert (ledger.longest_tokens, ledger.shortest_tokens) == (3, 1)
        assert ledger.named == {
            "empty": [f"{folder}/d.txt", f"{folder}/f.txt"],
            "longest": [f"{folder}/a.txt, document 4"],
            "shortest": [f"{folder}/a.txt, document 1"],
            "duplicate": [
                f"{folder}/a.txt, document 3 = {folder}/a.txt, document 1",
                f"{folder}/b.txt = {folder}/a.txt, document 1",
                f"{folder}/c.txt, document 2 = {folder}/a.txt, document 2",
                f"{folder}/f.txt, document 2 = {folder}/f.txt, document 1",
            ],
            "crlf": [f"{folder}/e.txt"],
        }
        assert (ledger.skipped_files, ledger.skipped) == (2, {"hidden": 1, ".png": 1})
        assert any(f"2 empty documents left out ({folder}/d.txt, " in s for s in ledger.sentences())

    def test_of_one_token_in_the_singular(self, model_dir: Path, folder: Path):
        said = prepare(model_dir, train=str(folder / "b.txt")).sentences()
        assert said[0] == "1 file, 1 document: 1 byte, 1 character."
        assert said[1] == "1 token (1.00 bytes a token) + 1 EOS, one after each document."

    def test_of_no_windows_line_ends_where_they_are_made_lf(self, model_dir: Path, folder: Path):
        prepared = prepare(model_dir, train=str(folder / "e.txt"), line_ends="lf")
        assert prepared.ledger.crlf_files == 0
        assert "CR LF" not in "".join(prepared.sentences())

    def test_of_no_more_than_five_names(self, model_dir: Path, tmp_path: Path):
        write_files(tmp_path / "many", {f"{n}.txt": "1" for n in range(9)})
        write_files(tmp_path / "many", {f"x{n}.txt": "" for n in range(7)})
        ledger = prepare(model_dir, train=str(tmp_path / "many")).ledger
        assert (ledger.duplicate_documents, ledger.empty_documents) == (8, 7)
        assert [len(ledger.named[kind]) for kind in ("duplicate", "empty")] == [5, 5]
        said = "\n".join(ledger.sentences())
        assert "x4.txt, and 2 more)" in said
        assert "/5.txt = " in said
        assert "and 3 more)" in said

    def test_of_held_out_duplicates(self, model_dir: Path, folder: Path):
        held_out = [str(folder / "b.txt"), str(folder / "c.txt")]
        ledger = prepare(
            model_dir, train=str(folder), validation=held_out, document_separator="%"
        ).ledger
        assert (ledger.validation_documents, ledger.held_out_duplicates) == (3, 2)
        assert any("2 of them also stand in the training split" in s for s in ledger.sentences())

    def test_of_codecs(self, model_dir: Path, tmp_path: Path):
        text = "Мороз и солнце; день чудесный! Ещё ты дремлешь, друг прелестный.\n" * 3
        write_files(tmp_path / "codecs", {"a.txt": text + "."})
        (tmp_path / "codecs" / "b.txt").write_bytes(text.encode("cp1251"))
        (tmp_path / "codecs" / "c.txt").write_bytes((text + "!").encode("utf-16"))
        ledger = prepare(model_dir, train=str(tmp_path / "codecs")).ledger
        assert ledger.decoded_files == 2
        assert ledger.named["decoded"] == [
            f"{tmp_path}/codecs/b.txt from cp1251",
            f"{tmp_path}/codecs/c.txt from utf-16",
        ]
        assert ledger.bytes == len((text * 3 + ".!").encode())

    def test_of_weights(self, model_dir: Path, folder: Path):
        sources = [
            {"path": str(folder / "a.txt"), "weight": 2},
            {"path": str(folder / "c.txt"), "weight": 0.5},
        ]
        prepared = prepare(model_dir, train=sources, document_separator="%")
        ledger = prepared.ledger
        twice = [1, 0, 2, 2, 0, 1, 0, 5, 5, 5, 0] * 2
        half = [[9, 0], [2, 2, 0]][np.random.default_rng([42, 1]).permutation(2)[0]]
        assert stream(prepared.path) == twice + half
        assert (ledger.documents, ledger.repeated_documents, ledger.unused_documents) == (9, 4, 1)
        assert ledger.num_eos == 9
        assert ledger.tokens == 14 + len(half) - 1
        assert "4 of the documents are repetitions, by the weights." in ledger.sentences()

    def test_is_that_of_the_names_of_today(self, model_dir: Path, folder: Path, tmp_path: Path):
        """A store found in the cache speaks of the files that were named now."""
        first = prepare(model_dir, train=str(folder), document_separator="%")
        shutil.copytree(folder, tmp_path / "copy")
        again = prepare(model_dir, train=str(tmp_path / "copy"), document_separator="%")
        assert (again.cached, again.path) == (True, first.path)
        assert again.ledger.named["crlf"] == [f"{tmp_path}/copy/e.txt"]
        assert again.ledger.tokens == first.ledger.tokens


class TestDamage:
    """A store that isn't what was committed is made again, and it is said."""

    @pytest.mark.parametrize(
        "name", ["train.arrow", "train-tail.arrow", "validation.arrow", "ledger.json"]
    )
    @pytest.mark.parametrize("harm", ["bit", "missing", "emptied", "cut"])
    def test_is_noticed(self, tmp_path: Path, name: str, harm: str):
        model_dir = saved(numbers(), tmp_path / "model")
        write_files(tmp_path / "in", {"a.txt": "1 2 3 4 5", "b.txt": "6 7 8"})
        given_data = {
            "train": str(tmp_path / "in"),
            "validation": [str(tmp_path / "in" / "b.txt")],
            "block_size": 4,
        }
        with reference_engine():
            first = prepare(model_dir, **given_data)
            path = first.path / name
            raw = path.read_bytes()
            path.unlink()
            if harm != "missing":
                middle = len(raw) // 2
                flipped = raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :]
                path.write_bytes({"bit": flipped, "emptied": b"", "cut": raw[:-2]}[harm])
            said: list[str] = []
            again = prepare(model_dir, **given_data, notify=said.append)
        assert not again.cached
        (sentence,) = said
        assert sentence.startswith(f"The block store {first.path} is damaged (")
        assert path.read_bytes() == raw
        assert (stream(again.path), stream(again.path, "validation")) == (
            [1, 2, 3, 4, 5, 0],
            [6, 7, 8, 0],
        )

    def test_a_trained_tokenizer_is_part_of_the_store(self, corpus_dir: Path):
        first = prepare_new(corpus_dir)
        path = first.path / "tokenizer" / "tokenizer.json"
        raw = path.read_bytes()
        path.write_bytes(raw.replace(b"true", b"TRUE", 1))
        assert not prepare_new(corpus_dir).cached
        assert path.read_bytes() == raw

    def test_a_store_of_another_version_is_made_again(self, corpus_dir: Path, tmp_path: Path):
        model_dir = saved(numbers(), tmp_path / "model")
        with reference_engine():
            first = prepare(model_dir, train=str(corpus_dir))
            first.path.rename(tmp_path / "staging")
            ledger = json.loads((tmp_path / "staging" / "ledger.json").read_text(encoding="utf-8"))
            (tmp_path / "staging" / "ledger.json").unlink()
            kept = {n: value for n, value in ledger.items() if n not in ("engine", "files_on_disk")}
            commit_store(tmp_path / "staging", first.path, ledger=kept)
            assert find_damage(first.path) is None
            again = prepare(model_dir, train=str(corpus_dir))
        assert (again.path, again.ledger, again.cached) == (first.path, first.ledger, False)


WAITS = """
import sys
from gptft.config.sections import Config
from gptft.data import prepare
from gptft.data import store
from gptft.data.plan import plan_packing
from gptft.tokenization.encoder import TokenizersEngine

where, texts, model, block_size = sys.argv[1:]
num_calls = 0

def waits(work, call):
    def wait(*args, **kwargs):
        global num_calls
        num_calls += 1
        if num_calls == call:
            print("waiting", flush=True)
            sys.stdin.readline()
        return work(*args, **kwargs)
    return wait

prepare.choose_engine = lambda tokenizer, notify: TokenizersEngine(tokenizer)
TokenizersEngine.batch_characters = 20
if where == "encoding":  # the second batch; the first is on disk
    TokenizersEngine.encode = waits(TokenizersEngine.encode, 2)
else:  # all is on disk, but for the rename
    store.files.seal_files = waits(store.files.seal_files, 1)
config = {"data": {"train": texts, "block_size": int(block_size)}, "model": {"name": model}}
print(prepare.prepare_blocks(plan_packing(Config.model_validate(config))).path)
"""


def start(where: str, texts: Path, model_dir: Path) -> subprocess.Popen[str]:
    """A process that prepares, up to where it waits for a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS, where, str(texts), str(model_dir), "16"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    return process


def in_cache() -> tuple[int, int]:
    """How many stores and how many staging folders there are."""
    names = [path.name for path in Path(os.environ["GPTFT_CACHE"], "blocks").iterdir()]
    num_staging = sum(name.startswith(".staging-") for name in names)
    return len(names) - num_staging, num_staging


class TestProcesses:
    """Processes may be killed and may meet; no store is ever half of one."""

    @pytest.mark.parametrize("where", ["encoding", "committing"])
    def test_what_a_killed_one_leaves_is_never_used_and_is_removed(
        self, where: str, corpus_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        model_dir = saved(unigram(), tmp_path / "model")
        expected = joined(SENTENCES, ids_by_tokenizers(model_dir))
        monkeypatch.setattr(store, "_GRACE_SECONDS", 0)
        with start(where, corpus_dir, model_dir) as killed, reference_engine():
            assert in_cache() == (0, 2)
            meanwhile = prepare(model_dir, train=str(corpus_dir), block_size=8)
            assert in_cache() == (1, 2)  # it is at work: its own stay
            killed.kill()
            killed.wait()
            assert in_cache() == (1, 2)
            again = prepare(model_dir, train=str(corpus_dir), block_size=16)
        assert in_cache() == (2, 0)
        assert not again.cached
        assert stream(meanwhile.path) == stream(again.path) == expected

    def test_two_at_once_make_one_store(self, corpus_dir: Path, tmp_path: Path):
        model_dir = saved(unigram(), tmp_path / "model")
        with (
            start("committing", corpus_dir, model_dir) as one,
            start("committing", corpus_dir, model_dir) as two,
        ):
            assert in_cache() == (0, 4)
            for process in (one, two):
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            (path, _), (other, _) = one.communicate(), two.communicate()
        assert (one.returncode, two.returncode) == (0, 0)
        assert path == other
        assert in_cache() == (1, 0)
        assert find_damage(Path(path.strip())) is None
        with reference_engine():
            prepared = prepare(model_dir, train=str(corpus_dir), block_size=16)
        assert (str(prepared.path), prepared.cached) == (path.strip(), True)
        assert stream(prepared.path) == joined(SENTENCES, ids_by_tokenizers(model_dir))


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_a_text_that_changes_while_it_is_read_is_refused(
    corpus_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
):
    model_dir = saved(numbers(), tmp_path / "model")
    encode = TokenizersEngine.encode

    def change() -> None:
        write_files(corpus_dir, {"3.txt": "другое"})

    def encode_and_change(self: TokenizersEngine, texts: list[str]) -> object:
        change()
        return encode(self, texts)

    with reference_engine():
        if moment == "before":
            write = store.staging_folder
            monkeypatch.setattr(
                "gptft.data.store.staging_folder",
                lambda parent: change() or write(parent),
            )
        else:
            monkeypatch.setattr(TokenizersEngine, "batch_characters", 1)
            monkeypatch.setattr(TokenizersEngine, "encode", encode_and_change)
        with pytest.raises(DataError, match=r"3\.txt changed while it was being read\. Run again"):
            prepare(model_dir, train=str(corpus_dir))
    assert in_cache() == (0, 0)
