"""`gptft generate --chat`: what it says of a run that learned no chat template."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from tests.models.adapter_maker import make_base
from tests.training.test_unmerged import call, done

PAIRS = [{"prompt": f"Кто {n}? ", "completion": "Буря."} for n in range(8)]
TRAIN = "train pairs.jsonl --max-steps 1 --use-cpu --block-size 32 --save-strategy no"
TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
FEW = "--set generation.max_new_tokens=8"
ASK = "-p Кто --max-new-tokens 2 --strategy greedy --cpu"


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with runs on pairs: of a base without a chat template, and of one with its own."""
    folder = tmp_path_factory.mktemp("paired")
    make_base("gpt2", folder / "base", tokenizer_of=tiny_model_dir)
    make_base("gpt2", folder / "chatty", tokenizer_of=tiny_model_dir)
    tokenizer = AutoTokenizer.from_pretrained(folder / "chatty")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "chatty")
    lines = "\n".join(json.dumps(pair, ensure_ascii=False) for pair in PAIRS)
    (folder / "pairs.jsonl").write_text(lines, encoding="utf-8")
    with contextlib.chdir(folder):
        done(f"{TRAIN} --model base --out bare")
        done(f"{TRAIN} --model base --out small --set lora.r=2 --set lora.merge=false")
        done(f"{TRAIN} --model chatty --out kept")
        done(f"{TRAIN} --model base --out framed --set data.chat_template=plain {FEW}")
    return folder


@pytest.fixture
def here(paired: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(paired)
    return paired


@pytest.mark.parametrize("name", ["bare", "bare/model", "small", "small/adapter"])
def test_a_run_on_plain_pairs_says_how_to_ask(here: Path, name: str) -> None:
    refused: Any = call(f"generate {name} --chat {ASK}")
    assert getattr(refused.exception, "exit_code", None) == 2, repr(refused.exception)
    assert str(refused.exception) == (
        f"{name} was trained on prompts and completions as they are, without a chat template. "
        "Leave --chat out, and write the prompt as the run's records do. A run with "
        "data.chat_template puts one around them."
    )
    done(f"generate {name} {ASK}")


def test_a_template_that_its_base_had_is_used_and_told_of(here: Path) -> None:
    answer = call(f"generate kept --chat {ASK}")
    assert answer.exit_code == 0, repr(answer.exception)
    said = " ".join(answer.stderr.split())
    assert "kept was trained on prompts and completions as they are" in said
    assert "--chat puts one around the prompt that its base had" in said


def test_pairs_in_a_template_are_asked_in_it(here: Path) -> None:
    answer = call(f"generate framed --chat {ASK}")
    assert answer.exit_code == 0, repr(answer.exception)
    assert "prompts and completions" not in answer.output
    refused: Any = call(f"generate base --chat {ASK}")
    assert "This model's tokenizer has no chat template" in str(refused.exception)
