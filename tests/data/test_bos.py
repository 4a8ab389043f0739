"""Each document begins as stock transformers begins a text, and the ledger knows of it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptft.api.check import check_file
from gptft.api.configs import read_config
from gptft.config.sections import Config
from gptft.data import split as split_module
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.preview import BlockPreview, preview_block
from gptft.data.shards import Shard, merge_shards, prepare_shard
from gptft.data.store import BlockStore, find_damage
from gptft.errors import ConfigError
from gptft.files import read_json, write_json
from tests.conftest import SENTENCES
from tests.data.test_preview import plain
from tests.documents.reference import prepare, reference_engine, stream
from tests.framed import BOS, EOS, GPT2, LLAMA, OPT, write_tokenizer


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with reference_engine():
        yield


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "llama", LLAMA)


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "opt", OPT)


def stock(folder: Path, *texts: str, **options: object) -> list[int]:
    """Texts as `AutoTokenizer` encodes them, each with EOS after it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [i for text in texts for i in [*tokenizer(text, **options).input_ids, EOS]]


def bare(folder: Path, *texts: str) -> list[int]:
    return stock(folder, *texts, add_special_tokens=False)


class TestStream:
    @pytest.mark.parametrize("block_size", [9, 16, 1000])
    @pytest.mark.parametrize("at_once", [1, 5, 10**6])
    def test_a_document_is_what_the_tokenizer_makes_of_it_and_eos(
        self,
        llama: Path,
        corpus_dir: Path,
        block_size: int,
        at_once: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("_ROWS_AT_ONCE", "_TOKENS_AT_ONCE"):
            monkeypatch.setattr(split_module, name, at_once)
        prepared = prepare(llama, train=str(corpus_dir), block_size=block_size)
        expected = stock(llama, *SENTENCES)
        assert stream(prepared.path) == expected
        assert expected.count(BOS) == len(SENTENCES)
        ledger = prepared.ledger
        assert (ledger.num_bos, ledger.bos_token_ids) == (4, (BOS,))
        assert ledger.tokens + ledger.num_eos + ledger.num_bos == len(expected)
        assert len(expected) == ledger.num_blocks * block_size + ledger.tail_tokens

    def test_records_weights_and_a_validation_share(self, llama: Path, tmp_path: Path) -> None:
        lines = [json.dumps({"text": text}) for text in SENTENCES]
        path = tmp_path / "letters.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8")
        (tmp_path / "twice.txt").write_text("дитя", encoding="utf-8")
        prepared = prepare(
            llama,
            train=[str(path), {"path": str(tmp_path / "twice.txt"), "weight": 2}],
            validation=0.4,
            seed=1,
            block_size=8,
            tail="drop",
        )
        order = np.random.default_rng(1).permutation(5)[:2].tolist()  # round(5 * 0.4) are held out
        texts = [*SENTENCES, "дитя"]
        held_out = stock(llama, *(texts[n] for n in sorted(order)))
        train = [texts[n] for n in range(5) if n not in order for _ in range(2 if n == 4 else 1)]
        for split, expected in (("train", stock(llama, *train)), ("validation", held_out)):
            assert stream(prepared.path, split) == expected[: len(expected) // 8 * 8]
        ledger = prepared.ledger
        assert ledger.num_bos == ledger.num_eos == ledger.documents
        assert ledger.tokens + ledger.num_eos + ledger.num_bos == (
            ledger.num_blocks * 8 + ledger.dropped_tokens
            + ledger.validation_blocks * 8 + ledger.validation_dropped_tokens
        )  # fmt: skip

    def test_several_tokens_before_each(self, tmp_path: Path, corpus_dir: Path) -> None:
        folder = write_tokenizer(tmp_path / "two", "<s> </s> $A <unk>")
        prepared = prepare(folder, train=str(corpus_dir))
        ids = [[BOS, EOS, *bare(folder, text)] for text in SENTENCES]
        assert stream(prepared.path) == [i for document in ids for i in document]
        assert prepared.ledger.num_bos == 8
        assert "+ 4 EOS, one after each document, + 8 BOS, 2 before each." in sentences(prepared)

    def test_shards_give_the_same_store(self, llama: Path, corpus_dir: Path) -> None:
        data = {"train": str(corpus_dir), "validation": 0.3, "block_size": 16}
        plan = plan_packing(Config.model_validate({"data": data, "model": {"name": str(llama)}}))
        for number in (1, 2, 3):
            prepare_shard(plan, Shard(number, 3))
        merged = merge_shards(plan)
        splits = [stream(merged.path), stream(merged.path, "validation")]
        (merged.path / "ledger.json").unlink()
        whole = prepare_blocks(plan)
        assert [stream(whole.path), stream(whole.path, "validation")] == splits
        assert (whole.path, whole.ledger) == (merged.path, merged.ledger)


def sentences(prepared: Any) -> str:
    return " ".join(prepared.ledger.sentences())


class TestWhereBosIsEos:
    """OPT's and XGLM's: what ends a document begins the next."""

    def test_the_first_document_of_each_split_gets_one(self, opt: Path, corpus_dir: Path) -> None:
        prepared = prepare(
            opt, train=str(corpus_dir), validation=[str(corpus_dir / "2.txt")], block_size=9
        )
        train = [text for number, text in enumerate(SENTENCES) if number != 2]
        assert stream(prepared.path) == [EOS, *bare(opt, *train)]
        assert stream(prepared.path, "validation") == stock(opt, SENTENCES[2])
        assert prepared.ledger.num_bos == 2
        assert ", + 2 BOS, before the first of a part; elsewhere that EOS is the BOS" in sentences(
            prepared
        )

    def test_documents_that_do_not_see_each_other_get_one_each(
        self, opt: Path, corpus_dir: Path
    ) -> None:
        alone = prepare(opt, train=str(corpus_dir), isolate_documents=True)
        assert stream(alone.path) == stock(opt, *SENTENCES)
        assert alone.ledger.num_bos == 4
        assert alone.path != prepare(opt, train=str(corpus_dir)).path

    def test_one_document(self, opt: Path, corpus_dir: Path) -> None:
        prepared = prepare(opt, train=str(corpus_dir / "0.txt"))
        assert stream(prepared.path) == stock(opt, SENTENCES[0])
        assert "one after each document, + 1 BOS, one before each." in sentences(prepared)


class TestSetting:
    def test_against_the_template(self, llama: Path, tmp_path: Path, corpus_dir: Path) -> None:
        without = prepare(llama, train=str(corpus_dir), add_bos=False)
        assert stream(without.path) == bare(llama, *SENTENCES)
        assert (without.ledger.num_bos, without.ledger.bos_token_ids) == (0, ())
        assert "BOS" not in sentences(without)
        other = write_tokenizer(tmp_path / "plain", GPT2)
        added = prepare(other, train=str(corpus_dir), add_bos=True)
        assert stream(added.path) == stock(llama, *SENTENCES)

    def test_a_store_is_another_where_bos_is_added_and_nowhere_else(
        self, llama: Path, tmp_path: Path, corpus_dir: Path
    ) -> None:
        def paths(folder: Path) -> list[Path]:
            return [
                prepare(folder, train=str(corpus_dir), add_bos=add_bos).path
                for add_bos in ("auto", True, False)
            ]

        auto, on, off = paths(llama)
        assert auto == on != off
        auto, on, off = paths(write_tokenizer(tmp_path / "plain", GPT2))
        assert auto == off != on

    def test_a_store_without_a_word_of_bos_is_found(self, tmp_path: Path, corpus_dir: Path) -> None:
        folder = write_tokenizer(tmp_path / "plain", GPT2)
        new = prepare(folder, train=str(corpus_dir))
        ledger = read_json(new.path / "ledger.json")
        old = {name: value for name, value in ledger.items() if "bos" not in name}
        assert len(old) == len(ledger) - 2
        from gptft.data.store import _OWN_CHECKSUM, _checksum_of_ledger

        write_json(new.path / "ledger.json", {**old, _OWN_CHECKSUM: _checksum_of_ledger(old)})
        assert find_damage(new.path) is None
        again = prepare(folder, train=str(corpus_dir))
        assert (again.cached, again.ledger) == (True, new.ledger)

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ("name: plain", "the tokenizer of plain has no BOS token. Use auto or false"),
            (
                "from_scratch: {model_type: gpt2, n_layer: 1, n_head: 1, n_embd: 8}\n"
                "tokenizer: {train: {vocab_size: 300}}",
                "a tokenizer made by tokenizer.train has no BOS token. Use auto or false.",
            ),
        ],
    )
    def test_bos_that_is_not_there_is_refused_at_its_line(
        self, model: str, message: str, tiny_model_dir: Path, corpus_dir: Path, in_tmp: Path
    ) -> None:
        shutil.copytree(tiny_model_dir, "plain")
        config = read_json(Path("plain/config.json"))
        write_json(Path("plain/config.json"), {**config, "bos_token_id": None})
        text = f"model:\n  {model}\ndata:\n  train: {corpus_dir}\n  add_bos: true\n"
        Path("my.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            check_file(read_config(Path("my.yaml")))
        line = text.split("\n").index("  add_bos: true") + 1
        (problem,) = caught.value.problems
        assert problem.startswith(f"my.yaml:{line}:3  data.add_bos is true, and ")
        assert message in problem

    @pytest.mark.parametrize("value", ["maybe", "1", "null"])
    def test_any_other_word_is_refused_at_its_line(self, value: str, in_tmp: Path) -> None:
        text = f"data:\n  train: texts\n  add_bos: {value}\n"
        Path("my.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(
            ConfigError, match=r"data.add_bos must be auto, true or false"
        ) as caught:
            check_file(read_config(Path("my.yaml")))
        assert caught.value.problems[0].startswith("my.yaml:3:")


class TestPreview:
    def blocks(self, folder: Path, train: Path, **settings: object) -> list[BlockPreview]:
        data = {"train": str(train), **settings}
        config = Config.model_validate({"data": data, "model": {"name": str(folder)}})
        plan, prepared = plan_packing(config), prepare_blocks(plan_packing(config))
        numbers = range(1, len(BlockStore(prepared.path)) + 1)
        return [preview_block(plan, prepared, number) for number in numbers]

    @pytest.mark.parametrize("template", [LLAMA, OPT, "<s> </s> $A", "</s> <s> $A"])
    @pytest.mark.parametrize("isolated", [False, True])
    @pytest.mark.parametrize("block_size", [2, 3, 5, 8, 1000])
    def test_all_blocks_give_back_the_texts(
        self, template: str, isolated: bool, block_size: int, tmp_path: Path, corpus_dir: Path
    ) -> None:
        folder = write_tokenizer(tmp_path / "any", template)
        settings = {"block_size": block_size, "isolate_documents": isolated}
        blocks = self.blocks(folder, corpus_dir, **settings)
        documents = [document for block in blocks for document in block.documents]
        spelled = b"".join(one.data + b"\n" * one.ends for one in documents)
        assert spelled.decode().splitlines() == list(SENTENCES)
        assert sum(document.begins for document in documents) == 4
        assert sum(document.num_tokens for document in documents) == (
            sum(block.num_tokens for block in blocks)
        )

    @pytest.mark.parametrize("template", [LLAMA, OPT])
    @pytest.mark.parametrize("isolated", [False, True])
    @pytest.mark.parametrize("block_size", [3, 7, 40])
    def test_what_is_predicted_is_what_training_predicts(
        self, template: str, isolated: bool, block_size: int, tmp_path: Path, corpus_dir: Path
    ) -> None:
        import torch

        from gptft.training.dataset import IGNORED, collate_blocks, collate_masked

        folder = write_tokenizer(tmp_path / "any", template)
        settings = {"block_size": block_size, "isolate_documents": isolated}
        bos = BOS if template == LLAMA else EOS
        for block in self.blocks(folder, corpus_dir, **settings):
            row = [torch.tensor(block.token_ids)]
            batch = (
                collate_masked(row, eos_token_id=EOS, bos_token_id=bos)
                if isolated
                else collate_blocks(row)
            )
            assert block.trained_tokens == int((batch["labels"][:, 1:] != IGNORED).sum())

    def test_the_legend_names_bos_which_is_not_shown(self, llama: Path, corpus_dir: Path) -> None:
        (block,) = self.blocks(llama, corpus_dir)
        shown = plain(block)
        assert "Each document begins with <s> (BOS), which isn't shown." in shown
        assert shown.count("<s>") == 1
        assert block.documents[0].untrained == 0  # the block's first token is BOS, not text
