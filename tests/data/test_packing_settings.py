"""`data.packing` and what goes with it: the store, its address, its ledger, what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gptft.config.data import DataConfig
from gptft.data.ledger import Ledger
from gptft.data.pack import Prepared
from gptft.data.plan import PackingPlan, store_path
from gptft.data.prepare import prepare_blocks
from gptft.data.shards import Shard, merge_shards, prepare_shard
from gptft.data.store import BlockStore, find_damage, read_ledger
from gptft.errors import ConfigError, DataError
from gptft.files import as_json
from gptft.tokenization.framing import keeps_apart
from tests.documents.reference import (
    numbers,
    plan,
    reference_engine,
    scan,
    stream,
    text_tokenizer,
    write_files,
)

FILES = {"a.txt": "1 1%2 2 2%3", "b.txt": "4 4 4 4 4 4%5 5", "c.txt": "6"}
IDENTITY = ("tokens", "num_eos", "num_bos", "padding_tokens", "validation_padding_tokens")


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with reference_engine():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "texts", FILES)


def fitted(folder: Path, **settings: Any) -> PackingPlan:
    tokenizer = text_tokenizer(numbers())
    given = {"packing": "best_fit", "document_separator": "%", "block_size": 6, **settings}
    return plan(tokenizer, folder.parent / "cache", folder, **given)


def blocks(prepared: Prepared, split: str = "train") -> list[list[int]]:
    store = BlockStore(prepared.path, split=split)
    return [store[n].tolist() for n in range(len(store))]


def assert_accounts(ledger: Ledger) -> None:
    into = sum(getattr(ledger, name) for name in IDENTITY)
    blocks = (ledger.num_blocks + ledger.validation_blocks) * ledger.block_size
    rest = ledger.tail_tokens + ledger.dropped_tokens
    rest += ledger.validation_tail_tokens + ledger.validation_dropped_tokens
    assert into == blocks + rest


def test_documents_are_put_whole_into_the_blocks_that_they_fill_best(folder: Path):
    prepared = prepare_blocks(fitted(folder))
    # Lengths with EOS: 3, 4, 2, 7, 3, 2. The one of 7 is 6 and a rest of 1.
    assert blocks(prepared) == [
        [1, 1, 0, 5, 5, 0],
        [2, 2, 2, 0, 3, 0],
        [4, 4, 4, 4, 4, 4],
        [0, 6, 0],
    ]
    ledger = prepared.ledger
    assert (ledger.packing, ledger.num_blocks, ledger.tail_tokens) == ("best_fit", 3, 3)
    assert (ledger.padding_tokens, ledger.split_documents, ledger.train_tokens) == (0, 1, 21)
    assert_accounts(ledger)
    assert (
        "3 blocks of 6 tokens and a shorter one of 3, filled by whole documents: 100% full. "
        "1 document longer than a block is split into full blocks and a rest."
        in prepared.sentences()
    )


def test_padding_is_in_the_ledger_and_not_in_what_is_trained_on(folder: Path):
    prepared = prepare_blocks(fitted(folder, block_size=5))
    ledger = prepared.ledger
    assert ledger.padding_tokens > 0
    assert ledger.train_tokens == len(stream(prepared.path)) == 21
    assert ledger.fill_share == 21 / (ledger.num_blocks * 5 + ledger.tail_tokens)
    assert_accounts(ledger)
    told = as_json(prepared)
    assert told["padding_tokens"] == ledger.padding_tokens
    assert told["fill_share"] == round(ledger.fill_share, 6)
    assert (told["packing"], told["trained_share"]) == ("best_fit", 1.0)
    assert "95.5% full, 1 token of padding." in " ".join(prepared.sentences())


@pytest.mark.parametrize("tail", ["keep", "drop"])
@pytest.mark.parametrize("validation", [None, 0.4])
@pytest.mark.parametrize("weight", [1, 2, 1.5])
@pytest.mark.parametrize("block_size", [3, 5, 100])
def test_the_ledger_accounts_for_every_token(
    folder: Path, tail: str, validation: float | None, weight: float, block_size: int
):
    settings = {"train": [{"path": str(folder), "weight": weight}], "validation": validation}
    of_plan = fitted(folder, tail=tail, block_size=block_size, **settings)
    if tail == "drop" and block_size == 100:
        with pytest.raises(DataError, match=r"data\.tail is 'drop'"):
            prepare_blocks(of_plan)
        return
    prepared = prepare_blocks(of_plan)
    assert_accounts(prepared.ledger)
    assert prepared.ledger.validation_documents == (2 if validation else 0)
    again = prepare_blocks(of_plan)
    assert (again.cached, again.ledger) == (True, prepared.ledger)
    assert find_damage(prepared.path) is None


@pytest.mark.parametrize("num_shards", [1, 2, 3])
def test_shards_give_the_very_blocks_of_the_whole(folder: Path, num_shards: int):
    settings = {"validation": 0.4, "train": [{"path": str(folder), "weight": 1.5}]}
    whole = prepare_blocks(fitted(folder, **settings))
    names = sorted(path.name for path in whole.path.glob("*.arrow"))
    expected = [(whole.path / name).read_bytes() for name in names]
    elsewhere = replace(fitted(folder, **settings), cache_dir=folder.parent / "other")
    for number in range(1, num_shards + 1):
        prepare_shard(elsewhere, Shard(number, num_shards))
    merged = merge_shards(elsewhere)
    assert merged.path.name == whole.path.name
    assert [(merged.path / name).read_bytes() for name in names] == expected
    assert merged.ledger == whole.ledger


class TestLongDocuments:
    def test_are_refused_by_choice_and_the_longest_is_named(self, folder: Path):
        with pytest.raises(DataError, match=r"b\.txt, document 1, of 7 with BOS and EOS") as caught:
            prepare_blocks(fitted(folder, long_documents="refuse"))
        assert "1 document longer than a block of 6 tokens" in str(caught.value)
        prepared = prepare_blocks(fitted(folder, long_documents="refuse", block_size=7))
        assert prepared.ledger.split_documents == 0

    def test_a_document_that_a_weight_repeats_is_counted_once(self, folder: Path):
        source = [{"path": str(folder), "weight": 3}]
        with pytest.raises(DataError, match="1 document longer"):
            prepare_blocks(fitted(folder, long_documents="refuse", train=source))

    def test_can_only_be_refused_by_best_fit(self, folder: Path):
        with pytest.raises(ValueError, match=r"has no effect by data\.packing: stream"):
            DataConfig.model_validate(
                {"train": "x", "packing": "stream", "long_documents": "refuse"}
            )
        with pytest.raises(ConfigError, match=r"has no effect by data\.packing: stream"):
            fitted(folder, packing="auto", long_documents="refuse").check()


class TestAddress:
    def address(self, of_plan: PackingPlan) -> str:
        texts = scan(of_plan.data, cache_dir=of_plan.cache_dir)
        return store_path(of_plan, texts).name

    def test_of_a_stream_of_text_is_what_it_was_before_there_was_a_choice(self, folder: Path):
        before = "d42dc92219c1bf209824318b71baaf20"
        assert self.address(fitted(folder, packing="auto")) == before
        assert self.address(fitted(folder, packing="stream")) == before

    def test_tells_apart_what_is_packed_otherwise(self, folder: Path):
        plans = [fitted(folder, packing="stream"), fitted(folder)]
        plans += [replace(one, is_masked=True) for one in plans]
        assert len({self.address(one) for one in plans}) == 4
        # What is refused decides nothing where nothing is refused.
        refusing = fitted(folder, long_documents="refuse")
        assert self.address(refusing) == self.address(fitted(folder))

    def test_a_ledger_of_a_stream_of_text_has_the_keys_it_had(self, folder: Path):
        prepared = prepare_blocks(fitted(folder, packing="stream"))
        stored = read_ledger(prepared.path) or {}
        later = ("packing", "padding_tokens", "split_documents", "trained_tokens")
        assert not {*later} & {*stored}
        assert (prepared.ledger.packing, prepared.ledger.fill_share) == ("stream", 1.0)


class TestChoice:
    def test_is_stream_for_text_and_best_fit_for_conversations(self, folder: Path):
        of_plan = fitted(folder, packing="auto")
        assert of_plan.packing == "stream"
        assert replace(of_plan, is_masked=True).packing == "best_fit"
        assert fitted(folder, packing="stream").packing == "stream"
        assert replace(fitted(folder, packing="stream"), is_masked=True).packing == "stream"

    @pytest.mark.parametrize("asked", [True, False, "auto"])
    def test_what_is_said_of_isolation_is_obeyed(self, folder: Path, asked: object):
        for packing in ("stream", "best_fit"):
            assert fitted(folder, packing=packing, isolate_documents=asked).isolation == asked

    def test_best_fit_isolates_unless_told_otherwise(self, folder: Path):
        assert fitted(folder).isolation == "auto"
        assert fitted(folder, packing="stream").isolation is False
        assert DataConfig.model_validate({"train": "x"}).isolation("stream") is False

    def test_where_bos_is_eos_each_fitted_document_has_its_own(self):
        common: dict[str, Any] = {"bos": [2], "eos_token_id": 2, "num_documents": 3}
        assert not keeps_apart("auto", **common)
        assert keeps_apart("auto", packing="best_fit", **common)


def test_an_older_ledger_still_loads(folder: Path):
    ledger = prepare_blocks(fitted(folder, packing="stream")).ledger
    later = ("packing", "padding_tokens", "validation_padding_tokens", "split_documents")
    later += ("trained_tokens", "validation_trained_tokens")
    values = {name: value for name, value in vars(ledger).items() if name not in later}
    loaded = Ledger.from_dict(values)
    assert loaded == ledger
    assert (loaded.packing, loaded.padding_tokens, loaded.trained_tokens) == ("stream", 0, 0)
