"""Documents fitted into blocks: all there, once, whole; the fewest blocks that best fit finds."""

import math
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptft.data.best_fit import fit_blocks
from gptft.data.store import BlockStore
from tests.conftest import ROOT, SHARED_CORPUS
from tests.data.hand_made import BOS, EOS, TRAINED, split_of, write_encoded, write_store

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def filled_by_hand(lengths: list[int], block_size: int) -> list[int]:
    """How full each block is, by best-fit decreasing with one piece after another.

    Which of several equally full blocks takes a piece changes nothing of that.
    """
    pieces: list[int] = []
    for length in lengths:
        pieces += [block_size] * (length // block_size)
        pieces += [length % block_size] * (length % block_size > 0)
    blocks: list[list[int]] = []
    for piece in sorted(pieces, reverse=True):
        fitting = [block for block in blocks if sum(block) + piece <= block_size]
        if not fitting:
            blocks.append([])
            fitting = [blocks[-1]]
        max(fitting, key=sum).append(piece)
    return sorted(map(sum, blocks))


@given(lengths=LENGTHS, block_size=st.integers(2, 17))
@settings(deadline=None)
def test_blocks_are_those_of_best_fit_by_hand(lengths: list[int], block_size: int):
    fit = fit_blocks(np.array(lengths), block_size=block_size)
    rows = np.split(np.arange(len(fit.lengths)), fit.stops[:-1])
    filled = [int(fit.lengths[row].sum()) for row in rows]
    assert sorted(filled) == filled_by_hand(lengths, block_size)
    assert fit.num_split == sum(length > block_size for length in lengths)
    covered: Counter[tuple[int, int]] = Counter()
    for document, offset, length in zip(fit.documents, fit.offsets, fit.lengths, strict=True):
        covered.update((int(document), int(offset) + n) for n in range(int(length)))
    assert covered == {(d, n): 1 for d, length in enumerate(lengths) for n in range(length)}
    assert fit.is_tail_short == (min(filled) < block_size)
    assert filled[-1] == min(filled)
    firsts = [(int(fit.documents[row[0]]), int(fit.offsets[row[0]])) for row in rows]
    assert firsts[:-1] == sorted(firsts[:-1])
    for row in rows:
        assert fit.documents[row].tolist() == sorted(fit.documents[row].tolist())


def test_more_blocks_than_16_bits_count_are_in_order():
    lengths = np.random.default_rng(0).integers(2, 4, 150_000)
    fit = fit_blocks(lengths, block_size=3)
    assert len(fit.stops) == 150_000
    assert (np.diff(fit.documents[:-1]) > 0).all()
    assert fit.lengths.tolist() == lengths[fit.documents].tolist()


documents_of = st.lists(
    st.lists(
        st.lists(st.tuples(st.integers(EOS, 60), st.booleans()), min_size=1, max_size=30),
        max_size=8,
    ),
    min_size=2,
    max_size=4,
).filter(lambda texts: sum(map(len, texts)) >= 2)


def marked(tokens: list[tuple[int, bool]], is_marked: bool) -> list[int]:
    """A document with an EOS; one of text has no EOS within."""
    if is_marked:
        ids = [token | TRAINED * is_trained for token, is_trained in tokens]
        return [*ids, EOS | TRAINED * tokens[0][1]]
    return [*(token + 2 for token, _ in tokens), EOS]


def pieces_of(store: BlockStore, *, block_size: int) -> list[tuple[tuple[int, ...], ...]]:
    """Ids and marks of each piece, in the order of the blocks."""
    found = []
    for number in range(len(store)):
        ids, begins, trained = store[number], store.begins(number), store.trained(number)
        assert begins is not None
        assert begins[0]
        assert store.length(number) == len(ids) == len(begins) <= block_size
        marks = np.ones(len(ids), dtype=bool) if trained is None else trained
        for part in np.split(np.arange(len(ids)), np.flatnonzero(begins)[1:]):
            found.append((tuple(ids[part].tolist()), tuple(marks[part].tolist())))
    return found


@given(
    texts=documents_of,
    is_marked=st.booleans(),
    bos=st.sampled_from([(), (BOS,), (BOS, 59)]),
    block_size=st.integers(3, 12),
    weight=st.sampled_from([1.0, 2.0, 0.5, 1.5]),
    validation=st.sampled_from([None, 0.4]),
)
@settings(deadline=None, max_examples=60)
def test_every_document_is_there_once_and_whole(
    texts: list[list[list[tuple[int, bool]]]],
    is_marked: bool,
    bos: tuple[int, ...],
    block_size: int,
    weight: float,
    validation: float | None,
):
    made = [[marked(one, is_marked) for one in text] for text in texts]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = [
            write_encoded(folder / "a", made[:1], marked=is_marked),
            write_encoded(folder / "b", made[1:], marked=is_marked),
        ]
        settings = {"train": [{"path": "x", "weight": weight}, "y"], "validation": validation}
        split = split_of(shards, bos=bos, **settings)
        streamed = split_of(shards, bos=bos, **settings)
        for part in ("train", "validation") if validation else ("train",):
            expected: list[tuple[tuple[int, ...], ...]] = []
            current: list[tuple[int, bool]] = []
            # What the stream has, cut into documents by the marks that the split gives.
            for ids in streamed.marked_ids(part):
                for i in ids.tolist():
                    if i & (1 << 30) and current:
                        expected.append(tuple(zip(*current, strict=True)))
                        current = []
                    current.append((i & ((1 << 30) - 1), bool(i & TRAINED) or not is_marked))
            if current:
                expected.append(tuple(zip(*current, strict=True)))
            size = write_store(
                folder / part, split, packing="best_fit", name=part, block_size=block_size, bos=bos
            )
            if not expected:
                assert (size.num_blocks, size.tail_tokens) == (0, 0)
                continue
            cut = Counter(
                tuple(column[at : at + block_size] for column in document)
                for document in expected
                for at in range(0, len(document[0]), block_size)
            )
            store = BlockStore(folder / part, split=part)
            assert Counter(pieces_of(store, block_size=block_size)) == cut
            counts = split.counts[part]
            assert counts == streamed.counts[part]
            assert counts.bos == counts.documents * len(bos)
            total = counts.tokens + counts.documents + counts.bos
            assert total + size.padding_tokens == size.num_blocks * block_size + size.tail_tokens
            assert (store.num_tokens, store.num_blocks) == (total, size.num_blocks)
            assert size.dropped_tokens == 0
            assert size.split_documents == sum(len(d[0]) > block_size for d in expected)
            trained = sum(sum(marks) for _, marks in expected)
            assert size.trained_tokens == (trained if is_marked else 0)
            whole = np.concatenate([store[n] for n in range(len(store))])
            assert store.span(0, store.num_tokens).tolist() == whole.tolist()
            assert store.max_token_id() == counts.max_token_id


class TestFile:
    def test_other_programs_read_rows_with_their_marks(self, tmp_path: Path):
        from datasets import Dataset

        texts = [[[5 | TRAINED, EOS, 6 | TRAINED, EOS | TRAINED], [7, EOS], [8, 9, 7, EOS]]]
        encoded = write_encoded(tmp_path / "encoded", texts, marked=True)
        size = write_store(tmp_path, split_of([encoded]), packing="best_fit", block_size=6)
        assert (size.num_blocks, size.tail_tokens, size.padding_tokens) == (1, 4, 0)
        rows = Dataset.from_file(str(tmp_path / "train.arrow"))
        assert rows[0] == {
            "input_ids": [5, 0, 6, 0, 7, 0],
            "begins": [True, False, False, False, True, False],
            "trained": [True, False, True, True, False, False],
            "length": 6,
        }
        (tail,) = Dataset.from_file(str(tmp_path / "train-tail.arrow"))
        assert tail["input_ids"] == [8, 9, 7, 0]

    def test_padding_is_eos_begins_and_is_never_trained(self, tmp_path: Path):
        from datasets import Dataset

        texts = [[[5 | TRAINED] * 3 + [EOS | TRAINED]] * 3]
        encoded = write_encoded(tmp_path / "encoded", texts, marked=True)
        write_store(tmp_path, split_of([encoded]), packing="best_fit", block_size=6)
        rows = Dataset.from_file(str(tmp_path / "train.arrow"))
        assert rows[1] == {
            "input_ids": [5, 5, 5, 0, 0, 0],
            "begins": [True, False, False, False, True, False],
            "trained": [True, True, True, True, False, False],
            "length": 4,
        }
        store = BlockStore(tmp_path)
        assert [store[n].tolist() for n in range(3)] == [[5, 5, 5, 0]] * 3
        assert store.span(10, 4).tolist() == [5, 0, 5, 5]
        assert store.place(5) == (1, 1)

    @pytest.mark.parametrize("keep_tail", [True, False])
    def test_a_masked_stream_has_marks_cut_where_the_ids_are(self, tmp_path: Path, keep_tail: bool):
        rng = np.random.default_rng(0)
        documents = [
            [int(i) | TRAINED * int(rng.integers(2)) for i in rng.integers(0, 60, n)] + [EOS]
            for n in rng.integers(1, 9, 40)
        ]
        encoded = write_encoded(tmp_path / "encoded", [documents], marked=True)
        size = write_store(
            tmp_path, split_of([encoded], bos=(BOS,)), packing="stream", keep_tail=keep_tail
        )
        store = BlockStore(tmp_path)
        flat = [(i, n == 0) for one in documents for n, i in enumerate([BOS, *one])]
        flat = flat[: store.num_tokens]
        expected = [
            [i & (TRAINED - 1) for i, _ in flat],
            [begin for _, begin in flat],
            [bool(i & TRAINED) for i, _ in flat],
        ]
        whole = range(len(store))
        assert [i for n in whole for i in store[n].tolist()] == expected[0]
        assert [i for n in whole for i in store.begins(n).tolist()] == expected[1]
        assert [i for n in whole for i in store.trained(n).tolist()] == expected[2]
        assert size.trained_tokens == sum(expected[2])
        assert (store.is_masked, store.is_fitted) == (True, False)
        for start in (0, 3, store.num_tokens - 5):
            around = [n % store.num_tokens for n in range(start, start + 13)]
            for column, name in ((1, "begins"), (2, "trained")):
                found = store.flag_span(name, start, 13)
                assert found.tolist() == [expected[column][n] for n in around]

    def test_a_stream_of_text_has_ids_alone(self, tmp_path: Path):
        import pyarrow as pa

        encoded = write_encoded(tmp_path / "encoded", [[[5, 6, EOS]] * 9], marked=False)
        write_store(tmp_path, split_of([encoded]), packing="stream")
        store = BlockStore(tmp_path)
        assert (store.begins(0), store.trained(0), store.flag_span("begins", 0, 3)) == (None,) * 3
        assert (store.is_masked, store.is_fitted, store.length(0)) == (False, False, 8)
        with pa.OSFile(str(tmp_path / "expected.arrow"), "wb") as sink:  # as pyarrow writes it
            schema = pa.schema([("input_ids", pa.list_(pa.uint16(), 8))])
            ids = pa.array([5, 6, 0] * 8, pa.uint16())
            with pa.ipc.new_stream(sink, schema) as writer:
                rows = pa.FixedSizeListArray.from_arrays(ids, 8)
                writer.write_batch(pa.record_batch([rows], schema=schema))
        written = (tmp_path / "train.arrow").read_bytes()
        assert written == (tmp_path / "expected.arrow").read_bytes()

    @pytest.mark.parametrize(("at_once", "batch"), [(1, 1), (3, 2), (10**6, 1024)])
    def test_nothing_depends_on_how_much_is_held_in_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, batch: int
    ):
        import gptft.data.fitted_blocks as fitted
        import gptft.data.split as split_module
        import gptft.data.store as store_module

        documents = [[*range(2, 2 + n), EOS] for n in (3, 9, 1, 20, 4, 4, 2, 7)]
        encoded = write_encoded(tmp_path / "encoded", [documents], marked=False)
        write_store(tmp_path / "a", split_of([encoded]), packing="best_fit")
        store = BlockStore(tmp_path / "a")
        blocks = [store[n].tolist() for n in range(len(store))]
        monkeypatch.setattr(split_module, "_ROWS_AT_ONCE", at_once)
        monkeypatch.setattr(fitted, "BATCH_BLOCKS", batch)
        monkeypatch.setattr(store_module, "BATCH_BLOCKS", batch)
        write_store(tmp_path / "b", split_of([encoded]), packing="best_fit")
        store = BlockStore(tmp_path / "b")
        assert [store[n].tolist() for n in range(len(store))] == blocks


class TestFill:
    """How full blocks are; the tail, which isn't padded, counts as if it were."""

    @staticmethod
    def share(lengths: list[int], block_size: int) -> float:
        fit = fit_blocks(np.array(lengths), block_size=block_size)
        return float(fit.lengths.sum() / (len(fit.stops) * block_size))

    @pytest.mark.parametrize("block_size", [256, 1024])
    def test_log_normal_lengths_fill_97_per_cent(self, block_size: int):
        draw = np.random.default_rng(0).lognormal(math.log(180), 0.9, 20_000)
        assert self.share([max(2, int(n)) for n in draw], block_size) >= 0.97

    def test_the_lines_of_the_poems_in_the_repository_fill_97_per_cent(self):
        texts = [path.read_text(encoding="utf-8") for path in (ROOT / "data/pushkin").glob("*.txt")]
        lengths = [len(line.split()) * 2 + 1 for text in texts for line in text.split("\n") if line]
        assert len(lengths) > 200
        assert self.share(lengths, 64) >= 0.97

    def test_stanzas_and_paragraphs_of_a_real_corpus_fill_97_per_cent(self):
        if not SHARED_CORPUS.is_dir():
            pytest.skip("the corpus isn't here")
        texts = [path.read_bytes() for path in sorted(SHARED_CORPUS.glob("**/*.txt"))]
        parts = [
            part for text in texts for part in re.split(rb"\r?\n\s*\r?\n", text) if part.strip()
        ]
        lengths = [len(part) // 6 + 2 for part in parts]
        assert len(lengths) > 2_000
        for block_size in (256, 1024):
            assert self.share(lengths, block_size) >= 0.97
