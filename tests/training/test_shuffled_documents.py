"""`data.shuffle_documents`: each epoch's documents are the corpus's, in an order of its own."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from gptft.config.sections import Config
from gptft.data.marked_ids import BEGINS, TRAINED
from gptft.data.row_files import Rows
from gptft.data.store import BlockStore, write_split
from gptft.training.epoch_blocks import epoch_blocks
from gptft.training.run import Resume
from gptft.training.shuffled_documents import ShuffledBlockDataset, stored_starts
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts

EOS, BOS = 0, 1
Documents = list[list[int]]


def documents_of(number: int, *, seed: int, bos: tuple[int, ...]) -> Documents:
    """Documents of 1 to 40 tokens, each ended by EOS, some of them equal."""
    draw = np.random.default_rng(seed)
    made: Documents = []
    for _ in range(number):
        if made and draw.random() < 0.1:
            made.append(made[int(draw.integers(len(made)))])
        else:
            made.append([*bos, *draw.integers(2, 60_000, draw.integers(1, 40)).tolist(), EOS])
    return made


def stored(documents: Documents, folder: Path, **more: Any) -> BlockStore:
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"block_size": 16, "keep_tail": True, "dtype": np.uint16, **more}
    arrays = (np.array(one, dtype=settings["dtype"]) for one in documents)
    write_split(arrays, folder, split="train", **settings)
    return BlockStore(folder)


def shuffled(store: BlockStore, *, bos: tuple[int, ...] = (), each: bool = True) -> Any:
    return ShuffledBlockDataset.of(store, seed=7, eos_token_id=EOS, bos=bos, begins_each=each)


def stream_of(dataset: ShuffledBlockDataset, epoch: int) -> list[int]:
    """All ids of an epoch, in the order of its blocks, whose lengths are the store's."""
    dataset.set_epoch(epoch)
    blocks = [dataset[i] for i in range(len(dataset))]
    assert {block.dtype for block in blocks} == {torch.int64}
    assert all(len(block) == 16 for block in blocks[:-1])
    return [int(token) for block in blocks for token in block]


def split(stream: list[int]) -> list[tuple[int, ...]]:
    """The documents of a stream, each with its EOS."""
    found, begun = [], 0
    for place, token in enumerate(stream, start=1):
        if token == EOS:
            found.append(tuple(stream[begun:place]))
            begun = place
    return [*found, *([tuple(stream[begun:])] if begun < len(stream) else [])]


@pytest.mark.parametrize("bos", [(), (BOS,)])
@pytest.mark.parametrize("seed", range(4))
def test_each_epoch_has_the_documents_of_the_corpus(
    tmp_path: Path, seed: int, bos: tuple[int, ...]
):
    documents = documents_of(50, seed=seed, bos=bos)
    store = stored(documents, tmp_path)
    dataset, again = shuffled(store, bos=bos), shuffled(store, bos=bos)
    orders = []
    for epoch in range(4):
        stream = stream_of(dataset, epoch)
        found = split(stream)
        if store.num_tokens == sum(map(len, documents)):
            assert Counter(found) == Counter(map(tuple, documents))
        else:  # a last token that would be a block of its own isn't stored
            assert Counter(found) - Counter(map(tuple, documents)) == Counter([found[-1]])
        assert stream == stream_of(again, epoch)  # as in another process
        orders.append(found)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] != [tuple(one) for one in documents]
    other = ShuffledBlockDataset.of(store, seed=8, eos_token_id=EOS, bos=bos, begins_each=True)
    assert split(stream_of(other, 0)) != orders[0]


@pytest.mark.parametrize("keep_tail", [True, False])
def test_a_document_that_the_store_cuts_stays_last(tmp_path: Path, keep_tail: bool):
    for number in range(30, 38):
        documents = documents_of(number, seed=number, bos=())
        store = stored(documents, tmp_path / f"{number}", keep_tail=keep_tail)
        dataset = shuffled(store)
        whole = split([int(t) for i in range(len(store)) for t in store[i]])
        for epoch in range(3):
            found = split(stream_of(dataset, epoch))
            assert Counter(found) == Counter(whole)
            if whole[-1][-1] != EOS:
                assert found[-1] == whole[-1]


def test_a_bos_that_is_eos_stays_first_alone(tmp_path: Path):
    documents = documents_of(20, seed=3, bos=())
    store = stored([[EOS], *documents], tmp_path)
    dataset = shuffled(store, bos=(EOS,), each=False)
    for epoch in range(3):
        first, *others = split(stream_of(dataset, epoch))
        assert first == (EOS,)
        assert Counter(others) == Counter(map(tuple, documents))


def test_marks_go_with_their_tokens(tmp_path: Path):
    """Where a store says itself what begins a document; EOS stands within them."""
    draw = np.random.default_rng(1)
    documents = []
    for number in range(30):
        ids = draw.integers(0, 5, draw.integers(2, 30)).astype(np.uint32) + 10 * number
        trained = draw.random(len(ids)) < 0.5
        documents.append(ids + trained * int(TRAINED))
        documents[-1][0] |= int(BEGINS)
    write_split(
        iter(documents), tmp_path, split="train", block_size=16, dtype=np.uint16, keep_tail=True,
        as_rows=Rows.of_marked,
    )  # fmt: skip
    store = BlockStore(tmp_path)
    dataset = shuffled(store)
    if store.num_tokens < sum(map(len, documents)):
        documents[-1] = documents[-1][:-1]
    for epoch in range(3):
        stream = np.array(stream_of(dataset, epoch))
        places = np.flatnonzero(stream & int(BEGINS))
        found = [tuple(part) for part in np.split(stream, places[1:])]
        assert Counter(found) == Counter(tuple(map(int, one)) for one in documents)


def test_what_is_held_is_three_numbers_a_document(tmp_path: Path):
    documents = documents_of(500, seed=5, bos=())
    dataset = shuffled(stored(documents, tmp_path))
    arrays = [one for one in vars(dataset).values() if isinstance(one, np.ndarray)]
    assert sum(one.nbytes for one in arrays) <= 4 * 8 * len(documents)
    starts = stored_starts(dataset._store, eos_token_id=EOS, bos=(), begins_each=True)
    assert starts.tolist() == [0, *np.cumsum([len(one) for one in documents])[:-1].tolist()]


def test_the_ends_of_documents_are_found_over_the_seams_of_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    documents = documents_of(60, seed=9, bos=(BOS,))
    store = stored(documents, tmp_path)
    starts = [0, *np.cumsum([len(one) for one in documents])[:-1].tolist()]
    for at_once in (1, 7, 16, 100):
        monkeypatch.setattr("gptft.training.shuffled_documents._AT_ONCE", at_once)
        found = stored_starts(store, eos_token_id=EOS, bos=(BOS,), begins_each=True)
        assert found.tolist() == [one for one in starts if one < store.num_tokens]


SHUFFLE = {"data": {"shuffle_documents": True}}
EPOCHS = {"max_steps": -1, "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 2}


def test_a_run_that_was_cut_off_in_mid_epoch_has_the_order_it_would_have_had(
    run: Run, tmp_path: Path
):
    whole = run("whole", training=EPOCHS, **SHUFFLE)
    assert whole.text_share == 3
    with Cut(after=5):  # three steps an epoch: in the second
        run("cut", training=EPOCHS, **SHUFFLE)
    run("cut", training=EPOCHS, **SHUFFLE, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)
    assert facts(whole.run_dir)["fingerprint"]["data.shuffle_documents"] is True
    plain = run("plain", training={"max_steps": 1})
    assert facts(plain.run_dir)["data"]["store"] == facts(whole.run_dir)["data"]["store"]
    assert "data.shuffle_documents" not in facts(plain.run_dir)["fingerprint"]


@pytest.mark.parametrize(
    ("number", "packing", "said"),
    [
        (1, "stream", "no effect on one document: each epoch cuts it elsewhere"),
        (2, "stream", ""),
        (2, "best_fit", "data.shuffle_documents has no effect by data.packing: best_fit."),
    ],
)
def test_where_there_is_nothing_to_shuffle_it_is_said(
    tmp_path: Path, number: int, packing: str, said: str
):
    draw = np.random.default_rng(2)
    store = stored([[*draw.integers(2, 99, 60).tolist(), EOS] for _ in range(number)], tmp_path)
    data = Config.model_validate({"data": {"train": "a.txt", "shuffle_documents": True}}).data
    found = epoch_blocks(
        data, store, packing=packing, seed=1, eos_token_id=EOS, bos=(), isolated=False
    )
    assert (said in found.notes[0]) if said else not found.notes
    assert found.is_shuffled is not bool(said)
    assert found.is_shifted is (number == 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"packing": "best_fit"}, "no effect by data.packing: best_fit"),
        ({"shift_blocks": True}, "shift_blocks has no effect with data.shuffle_documents"),
        ({"shuffle_documents": "maybe"}, "shuffle_documents"),
        ({"shift_blocks": False}, ""),
        ({"packing": "stream", "isolate_documents": True}, ""),
    ],
    ids=str,
)
def test_what_cant_be_is_said_where_it_is_read(data: dict[str, Any], said: str):
    section = {"train": "a.txt", "shuffle_documents": True, **data}
    if not said:
        found = Config.model_validate({"data": section}).data
        assert found is not None
        assert (found.shuffles("stream"), found.shifts("stream")) == (True, False)
        return
    with pytest.raises(ValidationError, match=said):
        Config.model_validate({"data": section})
