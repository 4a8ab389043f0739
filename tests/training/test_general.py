"""General texts and bits a byte before and after training: what tuning cost."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import gptft
from gptft.analysis.evaluate.general import LANGUAGES, general_text, measure_general_texts
from gptft.data.store import BlockStore
from gptft.errors import ModelError, RunError
from gptft.files import default_cache_dir
from gptft.runs.read import read_run
from gptft.training.dataset import BlockDataset, collate_blocks, collate_masked
from gptft.training.evaluation import Measured
from gptft.training.figures import predicted_bytes
from gptft.training.run import Resume
from tests.conftest import SENTENCES
from tests.training.conftest import Run

EVERY_STEP = {"save_strategy": "steps", "save_steps": 1}


def log_of(run_dir: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    lines = (run_dir / name).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if k in ("step", "loss", "grad_norm")} for row in rows]


def facts_of(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    return found


def test_the_figures_are_those_of_eval_before_and_after(
    run: Run, tmp_path: Path, tiny_model_dir: Path
) -> None:
    result = run(measurer=measure_general_texts)
    assert [*result.general] == [*LANGUAGES]
    for language, figures in result.general.items():
        path = tmp_path / f"{language}.txt"
        path.write_text(general_text(language), encoding="utf-8", newline="")
        names = [str(tiny_model_dir), str(tmp_path / "run")]
        before, after = (
            one.figures() for one in gptft.evaluate(names, [str(path)], use_cpu=True).models
        )
        assert figures.loss_before == pytest.approx(before.loss, rel=1e-6)
        assert figures.loss_after == pytest.approx(after.loss, rel=1e-6)
        assert figures.bits_per_byte_before == pytest.approx(before.bits_per_byte, rel=1e-6)
        assert figures.bits_per_byte_after == pytest.approx(after.bits_per_byte, rel=1e-6)
        assert figures.num_bytes == len(general_text(language).encode())
        assert figures.loss_before != figures.loss_after
    assert read_run(tmp_path / "run").general == result.general


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_measuring_changes_nothing_of_the_run(
    run: Run, tmp_path: Path, tiny_model_dir: Path, dropout: float
) -> None:
    def drawing(model: Any, tokenizer: Any) -> dict[str, Measured]:
        assert not model.training
        torch.rand(100)  # as a model may, in its forward pass
        return measure_general_texts(model, tokenizer)

    overrides = {"attn_pdrop": dropout, "resid_pdrop": dropout}
    model = {"name": str(tiny_model_dir), "config_overrides": overrides}
    for name, measurer in (("with", drawing), ("without", None)):
        run(name, measurer=measurer, model=model)
    run("plain")
    assert log_of(tmp_path / "with") == log_of(tmp_path / "without")
    assert (log_of(tmp_path / "with") == log_of(tmp_path / "plain")) == (not dropout)
    one, other = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "model").state_dict()
        for name in ("with", "without")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert facts_of(tmp_path / "without")["result"]["general"] == {}


@pytest.mark.parametrize("known", [True, False])
def test_a_run_that_is_resumed_keeps_what_was_measured_before(
    run: Run, tmp_path: Path, tiny_model_dir: Path, known: bool
) -> None:
    whole = run("whole", measurer=measure_general_texts)
    run("run", measurer=measure_general_texts, training={"max_steps": 1, **EVERY_STEP})
    path = tmp_path / "run" / "run.json"
    facts = facts_of(tmp_path / "run")
    before = facts["before"].pop("general")
    if known:  # told apart from what would be measured again
        before["ru"]["loss"] = 7.0
        facts["before"]["general"] = before
    path.write_text(json.dumps({**facts, "state": "stopped"}), encoding="utf-8")
    result = run(
        "run", measurer=measure_general_texts, training={"max_steps": 3, **EVERY_STEP},
        resume=Resume(extend=True),
    )  # fmt: skip
    expected = 7.0 if known else whole.general["ru"].loss_before
    assert result.general["ru"].loss_before == pytest.approx(expected, rel=1e-6)
    assert result.general["en"].loss_before == pytest.approx(whole.general["en"].loss_before)


@pytest.mark.parametrize("error", [ModelError("no numbers"), RunError("full"), RuntimeError("x")])
def test_a_model_that_cannot_be_measured_is_trained_all_the_same(
    run: Run, tmp_path: Path, error: Exception
) -> None:
    said: list[str] = []

    def failing(model: Any, tokenizer: Any) -> dict[str, Measured]:
        raise error

    result = run(measurer=failing, notify=said.append)
    assert result.general == {}
    assert facts_of(tmp_path / "run")["state"] == "done"
    assert [one for one in said if "General texts can't be measured" in one and str(error) in one]


def test_a_tokenizer_that_cannot_spell_a_text_is_not_measured_on_it(tiny_model_dir: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {
        "<unk>": 0,
        **{sign: n for n, sign in enumerate(sorted({*general_text("en")}), 1)},
    }
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    found = measure_general_texts(model, tokenizer)
    assert [*found] == ["en"]
    assert found["en"].num_tokens == len(general_text("en"))


def test_bits_a_byte_of_the_blocks_are_counted_by_hand(
    run: Run, tmp_path: Path, tiny_model_dir: Path
) -> None:
    sections = {"data": {"block_size": 64, "shift_blocks": False}, "training": {"max_steps": 1}}
    result = run(**sections)
    facts = facts_of(tmp_path / "run")
    store = default_cache_dir() / "blocks" / facts["data"]["store"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    num_bytes = 0
    blocks = BlockStore(store)
    for i in range(len(blocks)):
        ids = [int(token) for token in blocks[i]][1:]
        kept = [token for token in ids if token != tokenizer.eos_token_id]
        num_bytes += sum(len(tokenizer.convert_ids_to_tokens(token)) for token in kept)
    assert result.train.num_bytes == num_bytes  # GPT-2's alphabet has a sign a byte
    assert result.train.num_tokens is not None
    assert result.train.loss_before is not None
    bits = result.train.loss_before * result.train.num_tokens / math.log(2) / num_bytes
    assert result.train.bits_per_byte_before == pytest.approx(bits)
    assert result.train.bits_per_byte_after is not None
    assert result.train.bits_per_byte_after < bits


def test_what_is_masked_has_no_bytes(tiny_model_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    eos = tokenizer.eos_token_id
    first, second = (tokenizer(text)["input_ids"] for text in SENTENCES[:2])

    class Blocks(BlockDataset):
        def __init__(self) -> None:
            self._blocks = [[*first, eos, *second, eos]]

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> torch.Tensor:
            return torch.tensor(self._blocks[index])

    def size(ids: list[int]) -> int:
        return sum(len(token) for token in tokenizer.convert_ids_to_tokens(ids))

    def masked(blocks: Any) -> Any:
        return collate_masked(blocks, eos_token_id=eos, bos_token_id=None)

    assert predicted_bytes(Blocks(), tokenizer, collate_blocks) == size([*first[1:], *second])
    assert predicted_bytes(Blocks(), tokenizer, masked) == size([*first[1:], *second[1:]])


def test_the_texts_are_prose_of_a_page_that_pico_has_not_seen() -> None:
    for language, most in (("ru", 2_100), ("en", 1_100)):
        text = general_text(language)
        assert 900 < len(text.encode()) < most
        assert text == text.strip() + "\n"
        assert np.isin(list("\r\t"), list(text)).sum() == 0
    assert general_text("ru").startswith("Ванька Жуков, девятилетний мальчик")
    readme = Path(gptft.__file__).parent / "models" / "pico" / "README.md"
    held_out = readme.read_text(encoding="utf-8").split("The tokenizer has not seen them")[1]
    assert "«Ванька»" in held_out.split("## Recipe")[0]
