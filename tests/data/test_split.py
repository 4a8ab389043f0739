from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptft.config.data import DataConfig
from gptft.data import split as module
from gptft.data.encoded_documents import EncodedDocuments
from gptft.data.split import Split, SplitCounts
from gptft.documents.held_out import draw_validation
from gptft.documents.sources import find_texts
from gptft.errors import DataError
from tests.documents.reference import EOS, encoded, numbers, text_tokenizer, write_files

SPLIT = ("train", "validation")


@pytest.fixture(params=[1, 3, 10**6], ids="at_once={}".format)
def _at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may depend on how much is held in memory."""
    for name in ("_ROWS_AT_ONCE", "_TOKENS_AT_ONCE", "_SORTED_AT_ONCE"):
        monkeypatch.setattr(module, name, request.param)


def split_of(folder: Path, *sources: object, **settings: object) -> Split:
    """Split of files of numbers; "1 2%3" are two documents, and their ids are 1 2 and 3."""
    sources = tuple(
        {"path": str(folder / name), "weight": weight} if weight else str(folder / name)
        for name, weight in (s if isinstance(s, tuple) else (s, None) for s in sources)
    )
    settings = {"document_separator": "%", **settings}
    data = DataConfig.model_validate({"train": list(sources), **settings})
    made, _ = encoded(data, text_tokenizer(numbers()), folder / "encoded")
    return Split([made], [text.number for text in find_texts(data).texts], data)


def documents(split: Split, name: str = "train") -> list[list[int]]:
    """The documents of a split, without their EOS."""
    found: list[list[int]] = [[]]
    for ids in split.token_ids(name):
        for i in ids.tolist():
            if i == EOS:
                found.append([])
            else:
                found[-1].append(i)
    assert found.pop() == []
    return found


def drawn(num_documents: int, seed: object) -> list[int]:
    """The order in which documents are drawn, by NumPy alone."""
    order: list[int] = np.random.default_rng(seed).permutation(num_documents).tolist()
    return order


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """a.txt holds documents 1 to 4, b.txt 5 and 6, c.txt 7 alone."""
    return write_files(
        tmp_path, {"a.txt": "1%2 2%3 3 3%4", "b.txt": "5%6 6", "c.txt": "7", "blank.txt": " %\n"}
    )


ALL = [[1], [2, 2], [3, 3, 3], [4], [5], [6, 6], [7]]


@pytest.mark.usefixtures("_at_once")
class TestStream:
    """The training split is every document in order, as often as its weight says."""

    def test_all_of_them_in_order(self, folder: Path):
        split = split_of(folder, "c.txt", "a.txt", "blank.txt", "b.txt")
        assert documents(split) == [[7], *ALL[:6]]
        assert documents(split, "validation") == []
        assert split.counts["train"] == SplitCounts(7, 15, 15, 11, 7)
        assert split.counts["validation"] == SplitCounts()
        assert (split.num_documents, split.num_repeated, split.num_unused) == (7, 0, 0)
        assert documents(split) == [[7], *ALL[:6]]  # and once more
        assert split.counts["train"].documents == 7

    def test_weight_2_is_twice(self, folder: Path):
        split = split_of(folder, ("b.txt", 2), "c.txt")
        assert documents(split) == [[5], [6, 6], [5], [6, 6], [7]]
        assert split.counts["train"] == SplitCounts(5, 9, 9, 7, 7)
        assert (split.num_documents, split.num_repeated, split.num_unused) == (3, 2, 0)

    def test_weight_one_half_is_two_of_four_in_order(self, folder: Path):
        split = split_of(folder, "c.txt", ("a.txt", 0.5), seed=5)
        kept = sorted(drawn(4, [5, 1])[:2])
        assert documents(split) == [[7], *(ALL[n] for n in kept)]
        assert (split.num_repeated, split.num_unused) == (0, 2)
        assert split.counts["train"].documents == 3

    def test_weight_2_and_a_half_is_twice_and_two_of_four(self, folder: Path):
        split = split_of(folder, ("a.txt", 2.5), "b.txt", seed=5)
        kept = sorted(drawn(4, [5, 0])[:2])
        assert documents(split) == [*ALL[:4], *ALL[:4], *(ALL[n] for n in kept), [5], [6, 6]]
        assert (split.num_repeated, split.num_unused) == (4 + 2, 0)
        assert split.counts["train"].documents == 12

    def test_the_smallest_weight_keeps_one_document(self, folder: Path):
        split = split_of(folder, ("a.txt", 0.001), ("c.txt", 0.001), seed=3)
        assert documents(split) == [ALL[drawn(4, [3, 0])[0]], [7]]
        assert split.num_unused == 3

    def test_weights_of_1_are_none(self, folder: Path):
        assert documents(split_of(folder, ("a.txt", 1), ("c.txt", 1.0))) == [*ALL[:4], [7]]


@pytest.mark.usefixtures("_at_once")
class TestHeldOut:
    """A share is drawn by NumPy; what is held out is never repeated nor trained on."""

    def test_a_share(self, folder: Path):
        split = split_of(folder, "a.txt", "b.txt", "c.txt", validation=0.4, seed=11)
        held = sorted(drawn(7, 11)[:3])  # round(7 * 0.4)
        assert documents(split, "validation") == [ALL[n] for n in held]
        assert documents(split) == [ALL[n] for n in range(7) if n not in held]
        assert split.num_validation == 3
        counts = split.counts
        assert counts["train"].documents + counts["validation"].documents == 7
        assert counts["train"].tokens + counts["validation"].tokens == 11

    def test_files_of_their_own(self, folder: Path):
        split = split_of(folder, ("a.txt", 2), "c.txt", validation=[str(folder / "b.txt")])
        assert documents(split, "validation") == [[5], [6, 6]]
        assert documents(split) == [*ALL[:4], *ALL[:4], [7]]
        assert (split.num_documents, split.num_validation, split.num_repeated) == (7, 2, 4)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("weight", [0.5, 2, 2.5])
    def test_and_weights(self, folder: Path, weight: float, seed: int):
        split = split_of(folder, ("a.txt", weight), "b.txt", validation=0.3, seed=seed)
        held = drawn(6, seed)[:2]
        left = [n for n in range(4) if n not in held]
        more = [left[n] for n in drawn(len(left), [seed, 0])] if weight != 2 else []
        kept = sorted(more[: round(weight % 1 * len(left))])
        expected = left * int(weight) + kept + [n for n in (4, 5) if n not in held]
        assert documents(split) == [ALL[n] for n in expected]
        assert documents(split, "validation") == [ALL[n] for n in sorted(held)]
        assert split.num_unused == (len(left) - len(kept) if weight < 1 else 0)
        assert split.num_repeated == (len(expected) - (6 - len(held)) if weight > 1 else 0)

    def test_all_of_a_source_leave_it_no_documents(self, folder: Path):
        """Of a source with a weight below 1 not one less than none is left out."""
        seed = next(seed for seed in range(100) if drawn(5, seed)[0] == 4)
        split = split_of(folder, "a.txt", ("c.txt", 0.5), validation=0.2, seed=seed)
        assert documents(split, "validation") == [[7]]
        assert documents(split) == ALL[:4]
        assert (split.num_unused, split.num_repeated) == (0, 0)


class TestRefused:
    def test_no_text_at_all(self, folder: Path):
        with pytest.raises(DataError, match=r"blank\.txt: 1 file, and no text in it\.$"):
            split_of(folder, "blank.txt")
        write_files(folder, {"void.txt": ""})
        with pytest.raises(DataError, match=r": 2 files, and no text in any of them\.$"):
            split_of(folder, "blank.txt", "void.txt")

    def test_no_text_to_train_on(self, folder: Path):
        with pytest.raises(DataError, match=r"blank\.txt: 1 file, and no text in it"):
            split_of(folder, "blank.txt", validation=[str(folder / "a.txt")])

    def test_no_text_held_out(self, folder: Path):
        with pytest.raises(DataError, match=r"data\.validation: no text in any of its files"):
            split_of(folder, "a.txt", validation=[str(folder / "blank.txt")])

    def test_a_share_of_one_document(self, folder: Path):
        with pytest.raises(DataError, match=r"needs at least 2 documents, and .* is 1\."):
            split_of(folder, "c.txt", "blank.txt", validation=0.5)


@pytest.mark.parametrize(
    ("num_documents", "fraction", "held_out"),
    [(2, 0.001, 1), (2, 0.999, 1), (10, 0.25, 2), (10, 0.35, 4), (10, 0.999, 9), (1000, 0.1, 100)],
)
def test_a_share_is_at_least_one_and_never_all(num_documents: int, fraction: float, held_out: int):
    """Halves go to the even number, as Python rounds."""
    mask = draw_validation(num_documents, DataConfig(train=["a"], seed=9), fraction=fraction)
    assert np.flatnonzero(mask).tolist() == sorted(drawn(num_documents, 9)[:held_out])


@pytest.mark.usefixtures("_at_once")
class TestAccount:
    """What is said of the documents, counted by hand."""

    @pytest.fixture
    def twins(self, tmp_path: Path) -> Path:
        return write_files(
            tmp_path,
            {"a.txt": "1%2 2%1%5 5 5", "b.txt": "1", "c.txt": "9%2  2", "d.txt": "1", "e.txt": ""},
        )

    def test_duplicates_are_paired_with_the_first(self, twins: Path):
        split = split_of(twins, "[a-d].txt")
        assert split.duplicates(at_most=9) == (4, [(2, 0), (4, 0), (6, 1), (7, 0)])
        assert split.duplicates(at_most=2) == (4, [(2, 0), (4, 0)])
        assert [split.place(n) for n in (0, 2, 4, 6, 7)] == [
            *[(0, 1, 4), (0, 3, 4)],
            *[(1, 1, 1), (2, 2, 2), (3, 1, 1)],
        ]

    def test_places_pass_over_files_without_documents(self, twins: Path):
        split = split_of(twins, "e.txt", "b.txt", "e.txt", "c.txt")
        assert [split.place(n) for n in range(3)] == [(1, 1, 1), (2, 1, 2), (2, 2, 2)]

    def test_no_duplicates(self, folder: Path):
        assert split_of(folder, "a.txt").duplicates(at_most=5) == (0, [])

    def test_the_longest_and_the_shortest_are_the_first_of_their_length(self, twins: Path):
        assert split_of(twins, "[a-d].txt").longest_and_shortest() == ((3, 3), (0, 1))
        assert split_of(twins, "c.txt").longest_and_shortest() == ((1, 2), (0, 1))
        assert split_of(twins, "b.txt").longest_and_shortest() == ((0, 1), (0, 1))

    def test_held_out_duplicates(self, twins: Path):
        def count(*train: str, held_out: list[str]) -> int:
            names = [str(twins / name) for name in held_out]
            return split_of(twins, *train, validation=names).held_out_duplicates()

        assert count("a.txt", held_out=["b.txt", "d.txt"]) == 2
        assert count("a.txt", held_out=["c.txt"]) == 1
        assert count("c.txt", held_out=["b.txt", "d.txt"]) == 0  # equal to each other alone
        assert split_of(twins, "a.txt").held_out_duplicates() == 0

    def test_a_document_that_a_weight_leaves_out_has_no_held_out_duplicate(self, folder: Path):
        write_files(folder, {"held.txt": "1%2 2%3 3 3%4"})
        validation = [str(folder / "held.txt")]
        split = split_of(folder, ("a.txt", 0.5), validation=validation)  # two of the four
        assert split.held_out_duplicates() == len(documents(split)) == 2


@settings(max_examples=25, deadline=None)
@given(
    files=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=2, max_size=4),
    weights=st.lists(st.sampled_from([0.3, 1.0, 1.5, 3.0]), min_size=4, max_size=4),
    share=st.sampled_from([None, 0.1, 0.5]),
    cut=st.integers(1, 3),
)
def test_documents_encoded_at_once_or_in_two_shards_are_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[int]],
    weights: list[float],
    share: float | None,
    cut: int,
):
    folder = tmp_path_factory.mktemp("any")
    write_files(folder, {f"{n}.txt": "%".join(map(str, ids)) for n, ids in enumerate(files)})

    def encoded_as(name: str, numbers_of: range) -> EncodedDocuments:
        data = DataConfig(
            train=[str(folder / f"{n}.txt") for n in numbers_of],
            document_separator="%",
        )
        return encoded(data, text_tokenizer(numbers()), folder / name)[0]

    cut = min(cut, len(files) - 1)
    train = [{"path": f"{n}", "weight": weights[n]} for n in range(len(files))]
    data = DataConfig.model_validate({"train": train, "validation": share})
    order = list(range(len(files)))
    whole = Split([encoded_as("whole", range(len(files)))], order, data)
    halves = [encoded_as("first", range(cut)), encoded_as("second", range(cut, len(files)))]
    split = Split(halves, order, data)
    for name in SPLIT:
        assert documents(split, name) == documents(whole, name)
        assert split.counts[name] == whole.counts[name]
    assert (split.num_repeated, split.num_unused) == (whole.num_repeated, whole.num_unused)
    assert split.duplicates(at_most=3) == whole.duplicates(at_most=3)
    assert split.longest_and_shortest() == whole.longest_and_shortest()
    assert split.held_out_duplicates() == whole.held_out_duplicates()
    trained = {id for [id] in documents(whole)}
    held = [id for [id] in documents(whole, "validation")]
    assert whole.held_out_duplicates() == sum(id in trained for id in held)
