"""Documents that begin with BOS: their borders, their positions, and what is learned of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gptft.data.store import BlockStore, write_split
from gptft.errors import ConfigError
from gptft.files import read_json, write_json
from gptft.training.dataset import IGNORED, ShiftedBlockDataset, collate_masked
from gptft.training.document_masking import restarting_positions
from gptft.training.run import Resume
from tests.conftest import SENTENCES
from tests.framed import BOS, EOS, GPT2, LLAMA, OPT, write_model
from tests.training.conftest import Run

B, E = BOS, EOS


@pytest.mark.parametrize(
    ("bos", "ids", "positions"),
    [
        (B, [B, 5, E, B, 6, 7, E], [0, 1, 2, 0, 1, 2, 3]),
        (B, [5, E, B, 6], [0, 1, 0, 1]),
        (B, [E, B, 6, E], [0, 0, 1, 2]),
        (E, [E, 5, E, E, 6, 7, E], [0, 1, 2, 0, 1, 2, 3]),
        (E, [5, E, E, 6], [0, 1, 0, 1]),
        (E, [E, E, 6, E, E], [0, 0, 1, 2, 0]),  # a document's end, one of a token, a beginning
        (E, [E, 6, E], [0, 1, 2]),
    ],
)
def test_positions_start_again_at_bos(bos: int, ids: list[int], positions: list[int]) -> None:
    assert restarting_positions(torch.tensor([ids]), E, bos).tolist() == [positions]
    batch = collate_masked(
        [torch.tensor(ids), torch.tensor([5] * 9)], eos_token_id=E, bos_token_id=bos
    )
    expected = [IGNORED if place == 0 else i for place, i in zip(positions, ids, strict=True)]
    assert batch["labels"][0, : len(ids)].tolist() == expected
    assert batch["position_ids"][0, : len(ids)].tolist() == positions


@pytest.mark.parametrize("block_size", [2, 3, 4, 7])
def test_a_ring_whose_bos_is_eos_has_one_of_them_at_its_seam(
    block_size: int, tmp_path: Path
) -> None:
    stream = np.array([E, 5, 6, 7, E, 8, 9, E, 10, 11, 12, 13, E], dtype=np.uint16)
    write_split(
        [stream], tmp_path, split="train", block_size=block_size, dtype=np.uint16, keep_tail=True
    )
    store = BlockStore(tmp_path)
    dataset = ShiftedBlockDataset(store, seed=3, eos_token_id=E, begins_each=False)
    total, seams = store.num_tokens, 0
    for epoch in range(20):
        dataset.set_epoch(epoch)
        blocks = [dataset[i].tolist() for i in range(len(dataset))]
        seen = sorted(i for block in blocks for i in block)
        if total == len(stream) and seen != sorted(stream.tolist()):
            seams += 1
            assert seen == sorted(stream[1:].tolist())
        assert [E, E] not in [block[n : n + 2] for block in blocks for n in range(len(block))]
    assert seams > 5 or total < len(stream)  # a tail of one token isn't kept


def documents_of(folder: Path, *texts: str) -> list[torch.Tensor]:
    """Texts as stock transformers encodes them, each with EOS after it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return [torch.tensor([*tokenizer(text).input_ids, E]) for text in texts]


def stock_loss(folder: Path, rows: list[torch.Tensor]) -> float:
    """The mean loss over all predicted tokens of rows that are run alone."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        losses = [
            (float(model(input_ids=row[None], labels=row[None]).loss), len(row) - 1) for row in rows
        ]
    return sum(loss * number for loss, number in losses) / sum(number for _, number in losses)


@pytest.mark.parametrize("template", [LLAMA, OPT])
@pytest.mark.parametrize("isolated", [False, True])
def test_the_loss_is_that_of_stock_transformers(
    template: str, isolated: bool, run: Run, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "base", template, context=512)
    sections: dict[str, Any] = {"block_size": 512, "isolate_documents": isolated}
    result = run(model={"name": str(folder)}, data=sections, training={"max_steps": 1})
    rows = documents_of(folder, *SENTENCES)
    if not isolated and template == OPT:  # what ends a document begins the next
        rows = [rows[0], *(row[1:] for row in rows[1:])]
    rows = rows if isolated else [torch.cat(rows)]
    assert result.train.loss_before == pytest.approx(stock_loss(folder, rows), rel=1e-5)
    assert result.train.num_tokens == sum(len(row) - 1 for row in rows)


def test_a_run_is_resumed_bit_for_bit(run: Run, tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "model": {"name": str(write_model(tmp_path / "base", LLAMA))},
        "training": {"max_steps": 4, "save_strategy": "steps", "save_steps": 2},
    }
    whole = run("whole", **sections)
    shutil.copytree(whole.run_dir, tmp_path / "cut")
    for name in ("checkpoints/checkpoint-4", "model"):
        shutil.rmtree(tmp_path / "cut" / name)
    facts = read_json(tmp_path / "cut" / "run.json")
    write_json(tmp_path / "cut" / "run.json", {**facts, "state": "stopped"})
    again = run("cut", resume=Resume(), **sections)
    weights = [(one.run_dir / "model/model.safetensors").read_bytes() for one in (whole, again)]
    assert weights[0] == weights[1]


class TestRunsOlderThanTheSetting:
    """Their documents began without BOS, whatever the tokenizer's template says."""

    def started(self, run: Run, base: Path, **data: object) -> Path:
        training = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
        result = run("old", model={"name": str(base)}, data=data, training=training)
        facts = read_json(result.run_dir / "run.json")
        del facts["config"]["data"]["add_bos"]
        write_json(result.run_dir / "run.json", {**facts, "state": "stopped"})
        return result.run_dir

    def resumed(self, run: Run, base: Path, **data: object) -> int:
        training = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
        resume = Resume()
        return run(
            "old", model={"name": str(base)}, data=data, training=training, resume=resume
        ).steps

    def test_one_of_a_tokenizer_without_bos_is_resumed(self, run: Run, tmp_path: Path) -> None:
        base = write_model(tmp_path / "base", GPT2)
        self.started(run, base)
        assert self.resumed(run, base) == 2

    def test_one_whose_tokenizer_adds_bos_says_what_to_set(self, run: Run, tmp_path: Path) -> None:
        base = write_model(tmp_path / "base", LLAMA)
        self.started(run, base, add_bos=False)
        with pytest.raises(ConfigError, match=r"Resume it with --set data\.add_bos=false"):
            self.resumed(run, base)
        assert self.resumed(run, base, add_bos=False) == 2


@pytest.mark.parametrize("tokenizer_class", ["PreTrainedTokenizerFast", "GPTNeoXTokenizer"])
@pytest.mark.parametrize(
    ("template", "add_bos", "before", "bos"),
    [
        (LLAMA, "auto", [B], "<s>"),
        (LLAMA, False, [], "</s>"),
        (GPT2, True, [B], "<s>"),
        (GPT2, "auto", [], "<s>"),
        (OPT, "auto", [E], None),
    ],
)
def test_a_run_remembers_for_plain_transformers(
    tokenizer_class: str,
    template: str | None,
    add_bos: object,
    before: list[int],
    bos: str | None,
    run: Run,
    tmp_path: Path,
) -> None:
    """GPTNeoXTokenizer takes no template from a file when it is loaded."""
    base = write_model(tmp_path / "base", template)
    path = base / "tokenizer_config.json"
    template_of_chat = "{{ bos_token }}{{ messages[0].content }}"
    changes = {"tokenizer_class": tokenizer_class, "chat_template": template_of_chat}
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})
    result = run(model={"name": str(base)}, data={"add_bos": add_bos}, training={"max_steps": 1})
    saved = AutoTokenizer.from_pretrained(result.model_dir)
    own = saved("Буря", add_special_tokens=False).input_ids
    assert saved("Буря").input_ids == [*before, *own]
    assert saved.chat_template == template_of_chat
    assert saved.eos_token_id == E
    if bos is not None:
        assert saved.bos_token == bos
        model = AutoModelForCausalLM.from_pretrained(result.model_dir)
        assert model.generation_config.bos_token_id == saved.bos_token_id
    ledger = read_json(result.run_dir / "run.json")["data"]["ledger"]
    assert ledger["bos_token_ids"] == before
