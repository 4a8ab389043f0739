import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gptft.config.sections import Config
from gptft.data.plan import PackingPlan, plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.shards import Shard, merge_shards, prepare_shard, shard_texts
from gptft.documents.formats import plain_text, registry
from gptft.documents.scan import Stamp
from gptft.documents.sources import TextInput, find_texts
from gptft.errors import ConfigError, DataError
from gptft.files import as_json, json_checksum
from gptft.tokenization.tokenizer import TextTokenizer
from tests.conftest import SENTENCES
from tests.documents.reference import (
    TEXTS,
    Ids,
    ids_by_tokenizers,
    joined,
    plan,
    reference_engine,
    stream,
    tiny,
    write_files,
)

PARTS = ("train.arrow", "train-tail.arrow", "validation.arrow", "validation-tail.arrow")


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with reference_engine():
        yield


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return tiny()


@pytest.fixture
def ids(tokenizer: TextTokenizer) -> Ids:
    return ids_by_tokenizers(tokenizer.backend)


@pytest.fixture
def four(corpus_dir: Path, tokenizer: TextTokenizer, tmp_path: Path) -> PackingPlan:
    """Four files, one sentence each."""
    return plan(tokenizer, tmp_path / "cache", corpus_dir)


def prepare_all(of_plan: PackingPlan, num_shards: int) -> None:
    for number in range(num_shards, 0, -1):  # whichever is first
        prepare_shard(of_plan, Shard(number, num_shards))


class TestSameAsOne:
    """Shards put together are the store that is made of the corpus in one."""

    @settings(max_examples=12, deadline=None)
    @given(
        files=st.lists(st.lists(TEXTS, max_size=4), min_size=1, max_size=4),
        num_shards=st.integers(1, 6),
        block_size=st.integers(2, 40),
        tail=st.sampled_from(["keep", "drop"]),
        share=st.sampled_from([None, 0.05, 0.5, 0.95]),
        weight=st.sampled_from([1.0, 0.5, 2.0, 2.5]),
    )
    def test_byte_for_byte(
        self,
        tokenizer: TextTokenizer,
        tmp_path_factory: pytest.TempPathFactory,
        files: list[list[str]],
        num_shards: int,
        block_size: int,
        tail: str,
        share: float | None,
        weight: float,
    ):
        folder = tmp_path_factory.mktemp("any")
        texts = {f"{n}.txt": "\n%%\n".join(documents) for n, documents in enumerate(files)}
        texts["z.txt"] = "\n%%\n".join(SENTENCES)  # enough for a block of either split
        write_files(folder / "in", {n: text.replace("\0", "") for n, text in texts.items()})
        given_plan = {
            "document_separator": "\n%%\n",
            "encoding": "utf-8",
            "block_size": block_size,
            "tail": tail,
            "validation": share,
        }
        source = {"path": str(folder / "in"), "weight": weight}
        whole_plan = plan(tokenizer, folder / "one", source, **given_plan)
        shard_plan = plan(tokenizer, folder / "many", source, **given_plan)
        prepare_all(shard_plan, num_shards)
        try:
            whole = prepare_blocks(whole_plan)
        except DataError as error:  # with tail: drop nothing may be left of a split
            with pytest.raises(DataError, match=re.escape(str(error))):
                merge_shards(shard_plan)
            assume(False)
        merged = merge_shards(shard_plan)
        assert merged.path.name == whole.path.name
        assert merged.ledger == whole.ledger
        names = sorted(path.name for path in whole.path.iterdir())
        assert sorted(path.name for path in merged.path.iterdir()) == names
        for name in names:
            assert (merged.path / name).read_bytes() == (whole.path / name).read_bytes(), name

    def test_and_it_is_found_in_the_cache_by_either(self, four: PackingPlan):
        prepare_all(four, 2)
        merged = merge_shards(four)
        assert (merged.cached, prepare_blocks(four).cached) == (False, True)
        prepare_all(four, 3)
        assert merge_shards(four).cached

    def test_with_a_validation_file_and_more_shards_than_files(
        self, corpus_dir: Path, tokenizer: TextTokenizer, ids: Ids, tmp_path: Path
    ):
        held_out = [str(corpus_dir / "2.txt")]
        many = plan(tokenizer, tmp_path / "cache", corpus_dir, validation=held_out)
        prepare_all(many, 9)
        merged = merge_shards(many)
        assert stream(merged.path) == joined([SENTENCES[n] for n in (0, 1, 3)], ids)
        assert stream(merged.path, "validation") == joined([SENTENCES[2]], ids)
        assert merged.ledger.files == 4


class TestShard:
    """One of several jobs."""

    def test_counts_what_it_read(self, four: PackingPlan, ids: Ids):
        made = prepare_shard(four, Shard(1, 1))
        said = as_json(made)
        assert (said["shard"], said["cached"]) == ("1/1", False)
        assert (said["files"], said["documents"], said["empty_documents"]) == (4, 4, 0)
        assert said["tokens"] == sum(len(ids(sentence)) for sentence in SENTENCES)
        assert said["bytes"] == sum(len(sentence.encode()) for sentence in SENTENCES)
        assert said["characters"] == sum(map(len, SENTENCES))
        assert made.sentences()[0].startswith("Shard 1/1: files 4, documents 4, ")

    def test_is_made_once(self, four: PackingPlan):
        first = prepare_shard(four, Shard(2, 3))
        again = prepare_shard(four, Shard(2, 3))
        assert (first.cached, again.cached) == (False, True)
        assert (again.path, again.counts) == (first.path, first.counts)

    def test_of_another_version_of_its_format_is_made_again(
        self, four: PackingPlan, corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
    ):
        first = prepare_shard(four, Shard(1, 2))
        names = [corpus_dir / f"{n}.txt" for n in range(4)]
        content = {  # as it was before formats had versions
            "format": 2,
            "texts": [[str(path), 0, path.stat().st_size] for path in names],
            "reading": [None, "keep", "text", None, "auto"],
            "tokenizer": four.tokenizer_key,
        }
        assert first.path.parent.name == json_checksum(content)[:32]
        monkeypatch.setitem(registry._BY_SUFFIX, ".txt", replace(plain_text.FORMAT, version=2))
        again = prepare_shard(four, Shard(1, 2))
        assert (again.cached, again.path != first.path) == (False, True)

    @pytest.mark.parametrize("name", ["tokens.bin", "documents.bin", "encoded.json", "ledger.json"])
    def test_damaged_is_made_again(self, four: PackingPlan, name: str):
        first = prepare_shard(four, Shard(1, 2))
        raw = (first.path / name).read_bytes()
        (first.path / name).write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
        assert not prepare_shard(four, Shard(1, 2)).cached
        assert (first.path / name).read_bytes() == raw

    def test_of_changed_texts_is_made_again(self, four: PackingPlan, corpus_dir: Path, ids: Ids):
        prepare_all(four, 2)
        text = (corpus_dir / "0.txt").read_text(encoding="utf-8")
        write_files(corpus_dir, {"0.txt": text.replace("Буря", "Вьюг")})  # as long as before
        with pytest.raises(DataError, match=r"0\.txt changed since its shard was made"):
            merge_shards(four)
        assert not prepare_shard(four, Shard(1, 2)).cached
        assert prepare_shard(four, Shard(2, 2)).cached
        assert stream(merge_shards(four).path) == joined(
            [text.replace("Буря", "Вьюг"), *SENTENCES[1:]], ids
        )

    def test_of_a_tokenizer_to_be_trained_is_refused(self, corpus_dir: Path):
        config = {
            "data": {"train": str(corpus_dir)},
            "model": {"from_scratch": {"model_type": "gpt2", "n_positions": 64}},
            "tokenizer": {"train": {"vocab_size": 300}},
        }
        untrained = plan_packing(Config.model_validate(config))
        with pytest.raises(ConfigError, match=r"tokenizer\.train needs the whole corpus"):
            prepare_shard(untrained, Shard(1, 2))
        with pytest.raises(ConfigError, match=r"tokenizer\.train can't be merged"):
            merge_shards(untrained)


class TestMerge:
    """What is missing or damaged is named with the way to make it."""

    def test_without_any_shard(self, four: PackingPlan):
        with pytest.raises(DataError, match=r"There are no shards of these texts in .*shards\. "):
            merge_shards(four)

    def test_names_those_missing(self, four: PackingPlan):
        prepare_shard(four, Shard(2, 9))
        with pytest.raises(DataError) as caught:
            merge_shards(four)
        assert str(caught.value) == (
            "1 of 9 shards are there; missing: 1/9, 3/9, 4/9, 5/9, 6/9 and 3 more. "
            "Make them with --shard 1/9 and so on."
        )

    def test_takes_the_set_that_is_complete(self, four: PackingPlan, ids: Ids):
        prepare_shard(four, Shard(1, 2))
        prepare_all(four, 3)
        prepare_shard(four, Shard(4, 4))
        assert stream(merge_shards(four).path) == joined(SENTENCES, ids)

    @pytest.mark.parametrize("name", ["tokens.bin", "documents.bin", "encoded.json", "ledger.json"])
    def test_names_those_damaged(self, four: PackingPlan, name: str):
        prepare_all(four, 3)
        path = prepare_shard(four, Shard(2, 3)).path / name
        raw = path.read_bytes()
        path.write_bytes(raw[:-2] + bytes([raw[-2] ^ 4]) + raw[-1:])
        with pytest.raises(DataError) as caught:
            merge_shards(four)
        assert str(caught.value).startswith("1 of 3 shards are damaged, 2-of-3: ")
        assert "--shard 2/3" in str(caught.value)

    def test_removes_the_shards_when_the_store_is_there(self, four: PackingPlan):
        prepare_all(four, 2)
        merge_shards(four)
        assert list((four.cache_dir / "shards").iterdir()) == []

    def test_reads_no_text(
        self, four: PackingPlan, corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
    ):
        prepare_all(four, 2)

        def fail(*_: object, **__: object) -> None:
            raise AssertionError("a text is read")

        monkeypatch.setattr("gptft.text.streams.open_bytes", fail)
        assert len(merge_shards(four).ledger.named["longest"]) == 1

    def test_on_another_machine_with_the_same_files(self, four: PackingPlan, corpus_dir: Path):
        """Another inode and change time are no change; another time stamp of the text is one."""
        prepare_all(four, 2)
        status = (corpus_dir / "3.txt").stat()
        shutil.copy(corpus_dir / "3.txt", corpus_dir / "copy")
        os.replace(corpus_dir / "copy", corpus_dir / "3.txt")
        os.utime(corpus_dir / "3.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert merge_shards(four).ledger.files == 4
        prepare_all(four, 2)
        os.utime(corpus_dir / "3.txt", ns=(0, 0))
        with pytest.raises(DataError, match=r"3\.txt changed since its shard was made"):
            merge_shards(four)


class TestTexts:
    """Every text falls to one shard."""

    @settings(max_examples=60, deadline=None)
    @given(
        sizes=st.lists(st.sampled_from([0, 1, 10, 1000, 10**6]), min_size=1, max_size=20),
        num_shards=st.integers(1, 30),
    )
    def test_all_shards_together_are_all_texts_in_order(self, sizes: list[int], num_shards: int):
        class Sized:
            def __init__(self, size: int) -> None:
                self.size = size

        texts = [TextInput(str(n), Sized(size), 0) for n, size in enumerate(sizes)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Stamp, "of", lambda path: Stamp(path.size, 0, 0, 0))
            shards = [shard_texts(texts, Shard(n + 1, num_shards)) for n in range(num_shards)]
        assert [text for shard in shards for text in shard] == texts
        fair = sum(size + 1 for size in sizes) / num_shards
        for shard in shards:
            assert sum(sizes[int(text.name)] + 1 for text in shard[:-1]) <= fair

    def test_of_a_corpus_on_disk(self, corpus_dir: Path, four: PackingPlan):
        texts = find_texts(four.data).texts
        halves = [shard_texts(texts, Shard(n, 2)) for n in (1, 2)]
        assert [[Path(text.name).name for text in half] for half in halves] == [
            ["0.txt", "1.txt"],
            ["2.txt", "3.txt"],
        ]


@pytest.mark.parametrize("text", ["1/1", "2/16", " 3/3 ", "001/2"])
def test_a_shard_is_a_number_of_how_many(text: str):
    shard = Shard.parse(text)
    assert f"{shard}" == "/".join(str(int(part)) for part in text.split("/"))


@pytest.mark.parametrize(
    "text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.5/2", "1/1000000"]
)
def test_what_is_no_shard_is_said(text: str):
    with pytest.raises(
        ConfigError, match=r"--shard .*: write it as i/n .* 999,999, .*--shard 3/16"
    ):
        Shard.parse(text)
