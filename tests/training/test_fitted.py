"""Training on documents fitted into blocks, and on some of their tokens alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from gptft.config.sections import Config
from gptft.data import document_sample
from gptft.data.decided_tokens import windows_of
from gptft.data.document_sample import sample_documents
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.recital import find_passages
from gptft.data.store import BlockStore
from gptft.data.stored_documents import stored_documents
from gptft.errors import ConfigError
from gptft.tokenization.auto import load_auto_tokenizer
from gptft.training.dataset import (
    DOCUMENTS,
    IGNORED,
    BlockDataset,
    ShiftedBlockDataset,
    collate_marked,
    collate_marked_apart,
    collator_of,
    count_tokens,
)
from gptft.training.figures import predicted_bytes
from gptft.training.loss import loss_of_output
from gptft.training.result import TrainResult
from gptft.training.run import Resume
from gptft.training.train import train_model
from tests.data.hand_made import EOS, TRAINED, prepare_masked, split_of, write_encoded, write_store
from tests.training.conftest import Run, fixed_reciter, fixed_sampler
from tests.training.folders import Cut, assert_same, facts

FITTED: dict[str, Any] = {"packing": "best_fit", "block_size": 32}


def fitted_store(folder: Path, *, marked: bool, block_size: int = 12, seed: int = 0) -> BlockStore:
    """Random documents, some longer than a block; of a marked one EOS stands within documents."""
    rng = np.random.default_rng(seed)
    documents = []
    for length in rng.integers(1, 30, 25).tolist():
        ids = rng.integers(0 if marked else 1, 40, length)
        marks = rng.integers(0, 2, length + 1) * TRAINED if marked else [0] * (length + 1)
        pairs = zip([*ids.tolist(), EOS], marks, strict=True)
        documents.append([int(i) | int(mark) for i, mark in pairs])
    encoded = write_encoded(folder / "encoded", [documents], marked=marked)
    write_store(folder, split_of([encoded]), packing="best_fit", block_size=block_size)
    return BlockStore(folder)


def pieces(store: BlockStore) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each document or piece of one, and which of its tokens are trained on."""
    found = []
    for number in range(len(store)):
        begins, trained = store.begins(number), store.trained(number)
        assert begins is not None
        ids = torch.from_numpy(store[number].astype("int64"))
        marks = torch.ones(len(ids), dtype=torch.bool)
        marks = marks if trained is None else torch.from_numpy(trained)
        starts = [n for n in np.flatnonzero(begins).tolist() if n]
        sizes = np.diff([0, *starts, len(ids)]).tolist()  # of a stream a block may begin within one
        found += [*zip(ids.split(sizes), marks.split(sizes), strict=True)]
    return found


def small_model() -> GPT2LMHeadModel:
    """In float64, with weights large enough that what a token sees changes what it says."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=64, n_layer=2, n_head=2, n_embd=16, n_positions=32,
        bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8.0 if weight.dim() > 1 else 1.0)
    return model


def plain_loss(
    model: GPT2LMHeadModel, documents: list[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """The mean over the trained tokens but each first, every document by itself, in plain torch."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for ids, marks in documents:
        log_probs = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        places = marks[1:].nonzero()[:, 0]
        total = total - log_probs[places, ids[1:][places]].sum()
        count += len(places)
    return total / count


@pytest.mark.parametrize("marked", [False, True])
def test_loss_and_gradient_are_those_of_each_document_alone(tmp_path: Path, marked: bool):
    store = fitted_store(tmp_path, marked=marked)
    collate = collator_of(store, apart=True, eos_token_id=EOS)
    blocks = BlockDataset(store)
    batch = collate([blocks[n] for n in range(len(blocks))])
    assert int(count_tokens(batch)) == store.num_tokens
    del batch[DOCUMENTS]
    model = small_model()
    labels = batch.pop("labels")
    output = model(**batch, use_cache=False)
    count = (labels[:, 1:] != IGNORED).sum()
    loss = loss_of_output(output, labels, count)
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    expected = plain_loss(model, pieces(store))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for name, weight in model.named_parameters():
        scale = float(weight.grad.abs().max())
        assert torch.allclose(found[name], weight.grad, rtol=1e-4, atol=1e-6 * scale), name


class TestBatch:
    @pytest.fixture
    def store(self, tmp_path: Path) -> BlockStore:
        """Two documents with an EOS within the first; 6 is not trained on."""
        texts = [[[5 | TRAINED, EOS | TRAINED, 6, EOS | TRAINED], [7 | TRAINED, EOS]]]
        texts[0].append([8 | TRAINED, 9 | TRAINED, EOS])
        encoded = write_encoded(tmp_path / "encoded", texts, marked=True)
        write_store(tmp_path, split_of([encoded]), packing="best_fit", block_size=8)
        return BlockStore(tmp_path)

    def test_is_as_wide_as_its_longest_row_and_counts_real_tokens(self, store: BlockStore):
        blocks = [*map(BlockDataset(store).__getitem__, range(len(store)))]
        assert [len(block) for block in blocks] == [7, 2]
        batch = collate_marked(blocks)
        assert batch["input_ids"].tolist() == [[5, 0, 6, 0, 8, 9, 0], [7, 0, 0, 0, 0, 0, 0]]
        ignored = [IGNORED] * 6
        assert batch["labels"].tolist() == [[5, 0, IGNORED, 0, 8, 9, IGNORED], [7, *ignored]]
        assert int(count_tokens(batch)) == 9
        assert {*batch} == {"input_ids", "labels", DOCUMENTS}

    def test_restarts_where_documents_begin_and_not_after_eos(self, store: BlockStore):
        blocks = [*map(BlockDataset(store).__getitem__, range(len(store)))]
        batch = collate_marked_apart(blocks)
        assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 4, 5, 6]]
        assert batch["labels"][0].tolist() == [IGNORED, 0, IGNORED, 0, IGNORED, 9, IGNORED]
        assert (batch["labels"][1] == IGNORED).all()
        assert int(count_tokens(batch)) == 9

    @pytest.mark.parametrize("epoch", [0, 1, 2, 3])
    def test_a_masked_stream_is_shifted_with_its_marks(self, tmp_path: Path, epoch: int):
        rng = np.random.default_rng(1)
        documents = [
            [int(i) | TRAINED * int(i % 2) for i in rng.integers(1, 40, n)] + [EOS]
            for n in rng.integers(2, 9, 30)
        ]
        encoded = write_encoded(tmp_path / "encoded", [documents], marked=True)
        write_store(tmp_path, split_of([encoded]), packing="stream")
        store = BlockStore(tmp_path)
        dataset = ShiftedBlockDataset(store, seed=3, eos_token_id=EOS)
        dataset.set_epoch(epoch)
        batch = collate_marked_apart([dataset[n] for n in range(len(dataset))])
        ids, labels, places = batch["input_ids"], batch["labels"], batch["position_ids"]
        real = batch[DOCUMENTS] > 0
        assert int(real.sum()) == store.num_tokens
        after_eos = torch.zeros_like(real)
        after_eos[:, 0] = True
        after_eos[:, 1:] = ids[:, :-1] == EOS
        assert ((places == 0) == (after_eos & real)).all()
        assert ((labels != IGNORED) == ((ids % 2 == 1) & real & (places > 0))).all()


def by_hand(model: Any, documents: list[torch.Tensor]) -> tuple[float, int]:
    with torch.no_grad():
        marks = [torch.ones(len(ids), dtype=torch.bool) for ids in documents]
        loss = plain_loss(model, [*zip(documents, marks, strict=True)])
    return float(loss), sum(len(ids) - 1 for ids in documents)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_is_measured_and_counted_by_its_documents(
    run: Run, tiny_model_dir: Path, tmp_path: Path, workers: int
):
    """32 tokens a block hold no sentence: each is split, and a piece is a document."""
    result = run(
        data={**FITTED, "validation": 0.3},
        training={
            "max_steps": -1, "num_train_epochs": 2, "dataloader_num_workers": workers,
            "eval_strategy": "epoch",
        },
    )  # fmt: skip
    ledger = facts(result.run_dir)["data"]["ledger"]
    assert ledger["packing"] == "best_fit"
    assert ledger["split_documents"] > 0
    store = BlockStore(tmp_path / store_name(result), split="train")
    assert result.num_tokens == 2 * store.num_tokens
    before = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    for part, figure in (("train", result.train), ("validation", result.validation)):
        assert figure is not None
        documents = [
            ids for ids, _ in pieces(BlockStore(tmp_path / store_name(result), split=part))
        ]
        expected, count = by_hand(before, documents)
        assert figure.num_tokens == count
        assert figure.loss_before == pytest.approx(expected, rel=1e-5)


def store_name(result: TrainResult) -> Path:
    import os

    return Path(os.environ["GPTFT_CACHE"]) / "blocks" / facts(result.run_dir)["data"]["store"]


@pytest.mark.parametrize("case", ["fitted", "masked"])
@pytest.mark.parametrize("after", [3, 5])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    run: Run, train_masked: Any, tmp_path: Path, case: str, after: int
):
    train = train_masked if case == "masked" else run
    settings: dict[str, Any] = {
        "data": {**FITTED, "validation": 0.3, "block_size": 16},
        "training": {
            "max_steps": 8, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps",
            "eval_steps": 3, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2,
        },
    }  # fmt: skip
    whole = train("whole", **settings)
    with Cut(after=after):
        train("cut", **settings)
    train("cut", **settings, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)


@pytest.fixture
def train_masked(tmp_path: Path, tiny_model_dir: Path, corpus_dir: Path) -> Any:
    """Train as `run` does, on texts of which every third token isn't trained on."""

    def train(name: str = "run", *, resume: Resume | None = None, **sections: Any) -> TrainResult:
        data = {"train": [str(corpus_dir)], "block_size": 32, **sections.pop("data", {})}
        training = {
            "max_steps": 3, "logging_steps": 1, "learning_rate": 1e-3, "save_strategy": "no",
            "per_device_train_batch_size": 2, "use_cpu": True, **sections.pop("training", {}),
        }  # fmt: skip
        config = Config.model_validate(
            {"model": {"name": str(tiny_model_dir)}, "data": data, "training": training, **sections}
        )
        _, prepared = prepare_masked(config)
        return train_model(
            config,
            store_dir=prepared.path,
            run_dir=tmp_path / name,
            sampler=fixed_sampler,
            reciter=fixed_reciter,
            measurer=None,
            console=Console(quiet=True),
            resume=resume,
            notify=lambda message: None,
        )

    return train


@pytest.mark.parametrize("packing", ["best_fit", "stream"])
def test_only_marked_tokens_are_measured_and_all_are_counted(
    train_masked: Any, tiny_model_dir: Path, tmp_path: Path, packing: str
):
    result = train_masked(
        data={"packing": packing, "isolate_documents": True},
        training={"max_steps": -1, "num_train_epochs": 2},
    )
    store = BlockStore(store_name(result))
    assert store.is_masked
    assert result.num_tokens == 2 * store.num_tokens
    before = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    documents = pieces(store)
    ledger = facts(result.run_dir)["data"]["ledger"]
    assert ledger["trained_tokens"] == sum(int(marks.sum()) for _, marks in documents)
    with torch.no_grad():
        expected = float(plain_loss(before, documents))
    assert result.train.loss_before == pytest.approx(expected, rel=1e-5)
    assert result.train.num_tokens == sum(int(marks[1:].sum()) for _, marks in documents)


def test_a_setting_without_effect_is_said_to_have_none_if_a_person_wrote_it(run: Run):
    for given, said in ((None, False), (False, False), (True, True)):
        told: list[str] = []
        settings = {} if given is None else {"shift_blocks": given}
        run(f"run-{given}", data={**FITTED, **settings}, notify=told.append)
        about = [line for line in told if "shift_blocks" in line]
        assert about == ["data.shift_blocks has no effect by data.packing: best_fit."] * said


def test_isolation_that_a_person_left_out_is_no_other_run_than_it_was(run: Run, tmp_path: Path):
    """A run of an older version wrote the defaults that it had."""
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    with Cut(after=3):
        run(data={"isolate_documents": False, "shift_blocks": True}, training=settings)
    assert run(training=settings, resume=Resume()).steps == 4
    with pytest.raises(ConfigError, match=r"data\.isolate_documents"):
        run(data={"isolate_documents": True}, training=settings, resume=Resume(extend=True))


class TestDocuments:
    """What else reads the documents of a store."""

    @pytest.fixture
    def stores(self, tiny_model_dir: Path, corpus_dir: Path) -> list[BlockStore]:
        found = []
        for packing in ("stream", "best_fit"):
            data = {"train": str(corpus_dir), "block_size": 64, "packing": packing}
            config = Config.model_validate({"data": data, "model": {"name": str(tiny_model_dir)}})
            found.append(BlockStore(prepare_blocks(plan_packing(config)).path))
        return found

    def test_are_the_same_fitted_or_in_a_stream(
        self, stores: list[BlockStore], tiny_model_dir: Path
    ):
        tokenizer = load_auto_tokenizer(str(tiny_model_dir))
        eos = tokenizer.eos_token_id
        read, sampled, recited = [], [], []
        for store in stores:
            documents = [*stored_documents(store, eos_token_id=eos)]
            read.append(sorted(one.ids.tolist() for one in documents if one.is_whole))
            sampled.append(
                sorted(one.ids.tolist() for one in sample_documents(store, eos_token_id=eos))
            )
            backend = tokenizer.backend_tokenizer
            found = find_passages(store, asked=4, tokenizer=backend, eos_token_id=eos)
            recited.append(sorted(one.prompt + one.text for one in found))
        assert read[0] == read[1]
        assert len(read[0]) == len(sampled[0]) == len(recited[0]) == 4
        assert sampled[0] == sampled[1]
        assert recited[0] == recited[1]

    @pytest.fixture
    def split(self, tmp_path: Path) -> BlockStore:
        """One document of 50 tokens, in blocks of 20, and three short ones."""
        texts = [[[*range(10, 59), EOS], [*range(60, 70), EOS], [*range(70, 79), EOS], [7, EOS]]]
        encoded = write_encoded(tmp_path / "encoded", texts, marked=False)
        write_store(tmp_path, split_of([encoded]), packing="best_fit", block_size=20)
        return BlockStore(tmp_path)

    def test_that_were_split_begin_once(self, split: BlockStore):
        documents = [*stored_documents(split, eos_token_id=EOS)]
        whole = [d.ids.tolist() for d in documents if not d.is_piece]
        assert sorted(whole) == [[7], [*range(10, 30)], [*range(60, 70)], [*range(70, 79)]]
        pieces = [d.ids.tolist() for d in documents if d.is_piece]
        assert sorted(pieces) == [[*range(30, 50)], [*range(50, 59)]]
        assert [d.is_whole for d in documents if d.ids[0] in (10, 30, 50)] == [False, False, True]

    def test_are_sampled_from_where_they_begin(self, split: BlockStore, monkeypatch: Any):
        for few in (2_000, 0):  # read to the end, and looked into
            monkeypatch.setattr(document_sample, "_FEW_BLOCKS", few)
            found = sample_documents(split, eos_token_id=EOS)
            assert {int(one.ids[0]) for one in found} <= {10, 60, 70}
            assert len(found) >= 2

    def test_are_recited_from_where_they_begin(self, split: BlockStore, tiny_model_dir: Path):
        backend = load_auto_tokenizer(str(tiny_model_dir)).backend_tokenizer
        found = find_passages(split, asked=9, tokenizer=backend, eos_token_id=EOS)
        assert {one.prompt_ids[0] for one in found} == {10, 60, 70}

    def test_a_store_that_tells_no_pieces_apart_is_made_again(
        self, tiny_model_dir: Path, corpus_dir: Path, monkeypatch: Any
    ):
        data = {"train": str(corpus_dir), "block_size": 8, "packing": "best_fit"}
        config = Config.model_validate({"data": data, "model": {"name": str(tiny_model_dir)}})
        new = prepare_blocks(plan_packing(config))
        assert new.ledger.split_documents
        ids = [BlockStore(new.path)[n].tolist() for n in range(3)]
        assert prepare_blocks(plan_packing(config)).cached
        monkeypatch.setattr("gptft.data.store.tells_pieces", lambda folder: False)
        said: list[str] = []
        again = prepare_blocks(plan_packing(config), notify=said.append)
        assert (again.cached, again.path) == (False, new.path)
        assert any("told no pieces of documents apart" in one for one in said)
        assert [BlockStore(again.path)[n].tolist() for n in range(3)] == ids

    def test_of_conversations_hold_eos_and_know_what_is_trained_on(self, tmp_path: Path):
        texts = [[[5, EOS | TRAINED, *[6 | TRAINED] * 9, EOS], [*range(10, 30), EOS], [7, EOS]]]
        encoded = write_encoded(tmp_path / "encoded", texts, marked=True)
        write_store(tmp_path, split_of([encoded]), packing="best_fit", block_size=40)
        store = BlockStore(tmp_path)
        first, second, third = stored_documents(store, eos_token_id=EOS)
        assert first.ids.tolist() == [5, EOS, *[6] * 9]
        assert (first.is_whole, first.is_end_trained) == (True, False)
        assert first.trained.tolist() == [False, *[True] * 10]
        assert (second.ids.tolist(), third.ids.tolist()) == ([*range(10, 30)], [7])
        # Of the second nothing is trained on: there is no loss of it.
        assert sample_documents(store, eos_token_id=EOS) == []
        windows = windows_of(store, isolated=True, shifted=False, eos_token_id=EOS)
        assert [one.ids.tolist() for one in windows] == [
            [5, EOS, *[6] * 9, EOS], [*range(10, 30), EOS], [7, EOS],
        ]  # fmt: skip
        assert windows[0].decided.tolist() == [False, True, *[True] * 9, False]
        assert not windows[1].decided.any()

    def test_bytes_are_counted_of_what_is_predicted(
        self, stores: list[BlockStore], tiny_model_dir: Path
    ):
        tokenizer = load_auto_tokenizer(str(tiny_model_dir))
        eos = tokenizer.eos_token_id
        counts = []
        for store in stores:
            collate = collator_of(store, apart=True, eos_token_id=eos)
            counts.append(predicted_bytes(BlockDataset(store), tokenizer, collate))
        texts = [ids for ids, _ in pieces(stores[1])]
        # Of its byte-level BPE a token is as long as its bytes are many.
        tokens = [tokenizer.convert_ids_to_tokens(ids[1:-1].tolist()) for ids in texts]
        assert counts[1] == sum(len(token) for some in tokens for token in some)
