from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from gptft.config.sections import Config, DataConfig, TokenizerTrainConfig
from gptft.corpus.prepare import Prepared, choose_block_size, prepare_blocks, prepare_config
from gptft.corpus.store import BlockStore
from gptft.corpus.tokenizer import load_tokenizer
from gptft.errors import ConfigError, DataError
from tests.conftest import SENTENCES, SHARED_CORPUS


def prepare(model_dir: Path, **settings: object) -> Prepared:
    data = DataConfig.model_validate(settings)
    tokenizer = load_tokenizer(str(model_dir))
    return prepare_blocks(data, tokenizer=tokenizer, context=tokenizer.context)


def stream(path: Path, part: str = "train") -> list[int]:
    store = BlockStore(path, part=part)
    return [int(i) for block in range(len(store)) for i in store[block]]


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


@pytest.mark.parametrize("name", ["train.arrow", "ledger.json", "train-tail.arrow"])
def test_a_damaged_store_is_made_again(tiny_model_dir: Path, corpus_dir: Path, name: str):
    first = prepare(tiny_model_dir, train=str(corpus_dir), block_size=16)
    ids = stream(first.path)
    file = first.path / name
    file.write_bytes(file.read_bytes()[:-3])
    again = prepare(tiny_model_dir, train=str(corpus_dir), block_size=16)
    assert not again.cached
    assert stream(again.path) == ids


def test_nothing_half_written_stays_after_a_failure(
    tiny_model_dir: Path, corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("gptft.corpus.prepare.commit_store", fail)
        with pytest.raises(OSError, match="No space"):
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
    with pytest.raises(DataError, match="no text in any of them"):
        prepare(tiny_model_dir, train=str(path))


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
    data = DataConfig(train=[str(corpus_dir)], validation=[str(corpus_dir / "2.txt")])
    settings = TokenizerTrainConfig(vocab_size=300, min_frequency=1)
    prepared = prepare_blocks(data, tokenizer=None, tokenizer_train=settings, context=None)
    tokenizer = load_tokenizer(str(prepared.path / "tokenizer"))
    assert tokenizer.vocab_size == 300
    assert prepared.ledger.vocab_size == 300
    alone = DataConfig(train=[str(corpus_dir / f"{n}.txt") for n in (0, 1, 3)])
    other = prepare_blocks(alone, tokenizer=None, tokenizer_train=settings, context=None)
    assert load_tokenizer(str(other.path / "tokenizer")).digest == tokenizer.digest


def test_a_config_without_texts_says_so():
    with pytest.raises(ConfigError, match="no data section"):
        prepare_config(Config())


@pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="needs the corpus ru-classics")
def test_chekhov_comes_back_byte_for_byte():
    """Every token of 77 real files is in a block or the tail, and decodes to the files."""
    chekhov = SHARED_CORPUS / "prose" / "Chekhov"
    prepared = prepare_config(Config(data=DataConfig(train=[str(chekhov)])))
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
