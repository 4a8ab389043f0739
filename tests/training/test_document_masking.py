import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, GPT2LMHeadModel, PreTrainedModel

from gptft.data.store import BlockStore
from gptft.errors import ModelError
from gptft.files import default_cache_dir
from gptft.training.dataset import IGNORED, collate_masked
from gptft.training.document_losses import DocumentLossKeeper
from gptft.training.document_masking import check_document_masking, restarting_positions
from gptft.training.trainer import BlockTrainer
from tests.conftest import SENTENCES
from tests.training.conftest import Run

EOS = 3

# Each two layers of 32 numbers, a vocabulary of 300 and a context of 64.
_LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 64},
    "llama": _LLAMA,
    "gpt_neox": _LLAMA,
    "mistral": {**_LLAMA, "num_key_value_heads": 1, "sliding_window": 8},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 32,
    },
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},
}
ISOLATE = ["gpt2", "llama", "gpt_neox", "mistral"]
LEAK = ["opt", "bloom"]


def tiny(model_type: str, **fields: Any) -> PreTrainedModel:
    special = {"bos_token_id": EOS, "eos_token_id": EOS, "pad_token_id": EOS}
    config = transformers.AutoConfig.for_model(
        model_type, vocab_size=300, **{**special, **SIZES[model_type], **fields}
    )
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval()


def document(length: int, *, seed: int) -> torch.Tensor:
    """Random ids, EOS at the end and nowhere else."""
    ids = torch.randint(EOS + 1, 300, (length,), generator=torch.Generator().manual_seed(seed))
    ids[-1] = EOS
    return ids


def logits(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    seen = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        return model(**seen, use_cache=False).logits


@pytest.mark.parametrize(
    ("ids", "positions"),
    [
        ([[5, 6, 7]], [[0, 1, 2]]),
        ([[5, EOS, 7, 8, EOS]], [[0, 1, 0, 1, 2]]),
        ([[EOS, 5, 6], [5, EOS, EOS]], [[0, 0, 1], [0, 1, 0]]),
        ([[EOS]], [[0]]),
    ],
)
def test_positions_start_again_after_every_eos(ids: list[list[int]], positions: list[list[int]]):
    assert restarting_positions(torch.tensor(ids), EOS).tolist() == positions


@pytest.mark.parametrize("model_type", ISOLATE)
def test_a_packed_document_has_the_logits_it_has_alone(model_type: str):
    """Through the collator, in a row of its own, beside another and beside a padded one."""
    model = tiny(model_type)
    first, second, third = document(20, seed=1), document(13, seed=2), document(9, seed=3)
    packed, other = torch.cat([first, second]), torch.cat([third, first[:11]])
    alone = logits(model, {"input_ids": second[None]})[0]
    for rows in ([packed], [packed, torch.cat([second, first])], [packed, other], [other, packed]):
        batch = collate_masked(rows, eos_token_id=EOS)
        row = next(i for i, block in enumerate(rows) if block is packed)
        torch.testing.assert_close(logits(model, batch)[row, 20:33], alone, atol=1e-5, rtol=0)
    batch = collate_masked([packed, other], eos_token_id=EOS)  # the padded row's own documents
    cut = logits(model, {"input_ids": first[None, :11]})[0]
    torch.testing.assert_close(logits(model, batch)[1, 9:20], cut, atol=1e-5, rtol=0)
    plain = {"input_ids": packed[None]}
    assert (logits(model, plain)[0, 20:] - alone).abs().max() > 1e-2


@pytest.mark.parametrize("model_type", ISOLATE)
def test_the_probe_passes_a_model_that_isolates(model_type: str):
    model = tiny(model_type, **({"resid_pdrop": 0.5} if model_type == "gpt2" else {}))
    model.train()
    state = torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = check_document_masking(model, name="tiny")
    assert found.difference <= 1e-5
    assert found.difference < found.tolerance < 0.01 * found.influence
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("model_type", LEAK)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_probe_refuses_a_model_that_leaks(model_type: str, dtype: torch.dtype):
    with pytest.raises(ModelError, match=rf"tiny \({model_type}\) can't .* differ .* by up to \d"):
        check_document_masking(tiny(model_type).to(dtype), name="tiny")


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_no_leak(model_type: str, dtype: torch.dtype):
    check_document_masking(tiny(model_type).to(dtype), name="tiny")


def without_attention(model: PreTrainedModel, projection: str) -> PreTrainedModel:
    """Attention's output projections at zero, where some begin: no token sees another yet."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if projection in name:
                weight.zero_()
    return model


def test_a_model_that_does_not_attend_yet_is_probed_with_noise_on_its_weights():
    model = without_attention(tiny("gpt2"), "attn.c_proj")
    found = check_document_masking(model, name="tiny")
    assert found.influence > 100 * found.tolerance
    assert not any(p.any() for n, p in model.named_parameters() if "attn.c_proj" in n)
    with pytest.raises(ModelError, match=r"tiny \(bloom\)"):
        check_document_masking(
            without_attention(tiny("bloom"), "self_attention.dense"), name="tiny"
        )


def test_logits_that_are_no_numbers_are_refused():
    model = tiny("gpt2")
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(math.nan)
    with pytest.raises(ModelError, match="up to nan"):
        check_document_masking(model, name="tiny")


def test_a_model_that_takes_no_positions_is_refused(monkeypatch: pytest.MonkeyPatch):
    model = tiny("gpt2")

    def forward(input_ids: torch.Tensor, use_cache: bool) -> None:
        raise AssertionError

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(ModelError, match=r"tiny \(gpt2\) can't be given .*'position_ids'"):
        check_document_masking(model, name="tiny")


def test_the_smallest_context_is_probed_too():
    check_document_masking(tiny("gpt2", n_positions=2), name="tiny")


# The rest trains.


def entries(run_dir: Path, key: str) -> list[float]:
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry[key] for line in lines if key in (entry := json.loads(line))]


def store_of(run_dir: Path, part: str) -> tuple[BlockStore, int]:
    facts = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    folder = default_cache_dir() / "blocks" / facts["data"]["store"]
    return BlockStore(folder, split=part), facts["data"]["ledger"]["eos_token_id"]


def pieces(store: BlockStore, eos: int) -> list[torch.Tensor]:
    """The documents, or parts of them, that stand in each block."""
    found = []
    for number in range(len(store)):
        ids = [int(i) for i in store[number]]
        while ids:
            end = ids.index(eos) + 1 if eos in ids else len(ids)
            found.append(torch.tensor(ids[:end]))
            ids = ids[end:]
    return found


def by_hand(model: PreTrainedModel, documents: list[torch.Tensor]) -> tuple[float, int]:
    """Mean loss over all tokens but each first, every document run alone, in float64."""
    total, count = 0.0, 0
    for ids in documents:
        with torch.no_grad():
            log_probs = model(input_ids=ids[None]).logits[0, :-1].double().log_softmax(-1)
        total -= float(log_probs[torch.arange(len(ids) - 1), ids[1:]].sum())
        count += len(ids) - 1
    return total / count, count


@pytest.fixture
def loud_model_dir(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """The tiny model with weights four times as large: what it sees changes what it says."""
    folder = tmp_path / "loud"
    shutil.copytree(tiny_model_dir, folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4.0 if weight.dim() > 1 else 1.0)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("use_cache", [False, True])
def test_losses_are_those_of_each_document_alone(run: Run, loud_model_dir: Path, use_cache: bool):
    """Before and after, in evaluation and in training, with a short block among the others."""
    result = run(
        model={"name": str(loud_model_dir)},
        data={"isolate_documents": True, "validation": 0.5, "block_size": 32},
        training={
            "max_steps": 2,
            "per_device_train_batch_size": 64,
            "eval_strategy": "steps",
            "eval_steps": 1,
            "eval_on_start": True,
            "use_cache": use_cache,
        },
    )
    before = AutoModelForCausalLM.from_pretrained(loud_model_dir, dtype=torch.float32).eval()
    after = AutoModelForCausalLM.from_pretrained(result.run_dir / "model").eval()
    for part, figure in (("train", result.train), ("validation", result.validation)):
        assert figure is not None
        store, eos = store_of(result.run_dir, part)
        assert len({len(store[i]) for i in range(len(store))}) > 1
        documents = pieces(store, eos)
        assert len(documents) > len(store)
        expected, count = by_hand(before, documents)
        assert figure.num_tokens == count
        assert figure.loss_before == pytest.approx(expected, rel=1e-5)
        assert figure.loss_after == pytest.approx(by_hand(after, documents)[0], rel=1e-5)
        logged = "loss" if part == "train" else "eval_loss"
        assert entries(result.run_dir, logged)[0] == pytest.approx(expected, rel=1e-5)
        whole = [torch.from_numpy(store[i].astype("int64")) for i in range(len(store))]
        assert by_hand(before, whole)[0] != pytest.approx(expected, rel=1e-3)
    store, _ = store_of(result.run_dir, "train")
    assert result.num_tokens == 2 * store.num_tokens


def test_batches_and_accumulation_follow_the_same_isolated_losses(run: Run):
    data = {"isolate_documents": True}
    runs = [
        run(
            name,
            data=data,
            training={
                "max_steps": 5,
                "per_device_train_batch_size": batch,
                "gradient_accumulation_steps": 4 // batch,
            },
        )
        for name, batch in (("a", 4), ("b", 1))
    ]
    whole, parts = (entries(result.run_dir, "loss") for result in runs)
    assert parts == pytest.approx(whole, rel=1e-4)


Forward = Callable[..., Any]


@pytest.mark.parametrize("isolates", [True, False])
def test_no_step_and_no_measure_runs_with_a_cache_or_a_mask(
    run: Run, monkeypatch: pytest.MonkeyPatch, isolates: bool
):
    seen: list[dict[str, Any]] = []
    alone: list[bool] = []  # whether documents are measured that no block joins
    original: Forward = GPT2LMHeadModel.forward
    measure = DocumentLossKeeper._measure

    def measure_alone(self: DocumentLossKeeper) -> list[float]:
        alone.append(True)
        found = measure(self)
        alone.pop()
        return found

    monkeypatch.setattr(DocumentLossKeeper, "_measure", measure_alone)

    def forward(self: GPT2LMHeadModel, **kwargs: Any) -> Any:
        output = original(self, **kwargs)
        made = {"trains": self.training, "made": output.past_key_values, "alone": bool(alone)}
        seen.append({**kwargs, **made})
        return output

    for probe in ("check_causal", "leaves_labels_to_be_moved"):  # neither steps nor measures
        monkeypatch.setattr(f"gptft.training.setup.{probe}", lambda model, name="": True)
    monkeypatch.setattr("gptft.training.head.find_head", lambda model: None)
    monkeypatch.setattr(GPT2LMHeadModel, "forward", forward)
    result = run(
        data={"isolate_documents": isolates, "validation": 0.5},
        training={"use_cache": isolates, "eval_strategy": "steps", "eval_steps": 1},
    )
    assert result.steps == 3
    assert {call["trains"] for call in seen} == {True, False}
    for call in seen:
        assert call["made"] is None
        assert call.get("attention_mask") is None
        assert call["alone"] or ("position_ids" in call) is isolates
    assert {call["alone"] for call in seen} == {True, False}


@pytest.mark.parametrize("model_type", LEAK)
def test_a_model_that_leaks_is_refused_before_anything_is_written(
    run: Run, tmp_path: Path, model_type: str
):
    sections: dict[str, Any] = {
        "model": {"from_scratch": {"model_type": model_type, **SIZES[model_type]}},
        "tokenizer": {"train": {"vocab_size": 300, "min_frequency": 1}},
    }
    with pytest.raises(ModelError, match=rf"The new model \({model_type}\) .* false\.$"):
        run(data={"isolate_documents": True}, **sections)
    assert not (tmp_path / "run").exists()
    assert run(training={"max_steps": 1}, **sections).steps == 1


@pytest.mark.parametrize(
    ("model_type", "texts", "masks"),
    [("gpt2", 4, True), ("gpt2", 1, False), *((one, 4, False) for one in LEAK)],
)
def test_auto_isolates_several_documents_where_the_model_can(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_type: str, texts: int,
    masks: bool,
):  # fmt: skip
    seen: list[bool] = []
    stock = BlockTrainer.training_step

    def step(trainer: BlockTrainer, model: Any, inputs: Any, *args: Any) -> torch.Tensor:
        seen.append("position_ids" in inputs)
        return stock(trainer, model, inputs, *args)

    monkeypatch.setattr(BlockTrainer, "training_step", step)
    (tmp_path / "verse").mkdir()
    for number in range(texts):
        (tmp_path / "verse" / f"{number}.txt").write_text(SENTENCES[number], encoding="utf-8")
    said: list[str] = []
    run(
        data={"isolate_documents": "auto", "train": [str(tmp_path / "verse")]},
        model={"from_scratch": {"model_type": model_type, **SIZES.get(model_type, {})}},
        tokenizer={"train": {"vocab_size": 300, "min_frequency": 1}},
        training={"max_steps": 1},
        notify=said.append,
    )
    assert seen == [masks]
    told = [one for one in said if "can't keep the documents of a block apart" in one]
    assert len(told) == (model_type in LEAK)


def test_a_batch_with_nothing_to_predict_changes_no_weight(
    run: Run, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    from gptft.training.dataset import ShiftedBlockDataset

    eos = AutoModelForCausalLM.from_pretrained(tiny_model_dir).config.eos_token_id
    block = torch.tensor([eos, 5])
    assert (collate_masked([block], eos_token_id=eos)["labels"] == IGNORED).all()
    monkeypatch.setattr(ShiftedBlockDataset, "__getitem__", lambda self, index: block)
    result = run(data={"isolate_documents": True}, training={"weight_decay": 0.0})
    assert entries(result.run_dir, "loss") == [0.0, 0.0, 0.0]
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
        for folder in (tiny_model_dir, result.run_dir / "model")
    )
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
