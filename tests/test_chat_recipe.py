"""`configs/chat.yaml`: from a base that continues text to a model that answers in form."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from gptft import api

ROOT = Path(__file__).parents[1]
_MINUTES = 5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    shutil.copytree(ROOT / "data" / "pushkin-qa", folder / "data" / "pushkin-qa")
    config = (ROOT / "configs" / "chat.yaml").read_text(encoding="utf-8")
    (folder / "chat.yaml").write_text(config, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("GPTFT_CACHE", str(folder / "cache"))
        file = api.read_config(Path("chat.yaml"), overrides=["training.use_cpu=true"])
        api.train(file, run_dir=Path("runs/chat"))
    return folder / "runs" / "chat"


def _ask(run: Path, questions: list[str]) -> list[Any]:
    given = {"max_new_tokens": 80}
    return [*api.generate(str(run), questions, chat=True, given=given, use_cpu=True).texts]


@pytest.mark.slow
def test_it_answers_all_held_out_questions_in_form(run: Path) -> None:
    lines = (ROOT / "data/pushkin-qa/held-out.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["messages"][0]["content"] for line in lines]
    answers = _ask(run, questions)
    assert len(answers) == 20
    for answer in answers:
        assert answer.stopped == "eos", answer
        assert answer.continuation.strip()
        assert answer.continuation.count("\n") == 0
        assert not any(role in answer.continuation for role in ("user", "assistant"))
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert facts["result"]["seconds"] < _MINUTES * 60


@pytest.mark.slow
def test_what_it_learned_it_knows(run: Path) -> None:
    lines = (ROOT / "data/pushkin-qa/train.jsonl").read_text(encoding="utf-8").splitlines()
    chats = [json.loads(line)["messages"] for line in lines]
    answers = _ask(run, [chat[0]["content"] for chat in chats])
    right = [
        answer.continuation == chat[1]["content"]
        for answer, chat in zip(answers, chats, strict=True)
    ]
    assert sum(right) >= 0.9 * len(chats)


@pytest.mark.slow
def test_stock_transformers_reads_it(run: Path) -> None:
    """By its own template and generation_config.json it gives the same answers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(run / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    question = "В каком году написан «Пророк»?"
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt",
        return_dict=True,
    )  # fmt: skip
    asked = ids["input_ids"].shape[1]
    written = model.generate(**ids, do_sample=False, max_new_tokens=80)[0, asked:]
    assert written[-1] == tokenizer.eos_token_id
    text = tokenizer.decode(written, skip_special_tokens=True)
    (answer,) = _ask(run, [question])
    assert text == answer.continuation
