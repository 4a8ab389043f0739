"""Samples of a run on conversations: what `config check` calls right, training can write."""

import json
from pathlib import Path
from typing import Any

import pytest

from gptft import api
from gptft.errors import ConfigError
from tests.models.adapter_maker import make_base
from tests.training.test_unmerged import call, chat

SHORT, LONG = "Кто?", "Кто, скажите, буря мглою небо кроет?"
TRAIN = "train my.yaml --use-cpu --out run"


@pytest.fixture
def here(in_tmp: Path, tiny_model_dir: Path) -> Path:
    """A folder with a base that sees 64 tokens."""
    make_base("gpt2", in_tmp / "base", tokenizer_of=tiny_model_dir)
    return in_tmp


def write(questions: list[str], **sections: Any) -> Path:
    Path("chats.jsonl").write_text("".join(chat(q, "Буря.") for q in questions), encoding="utf-8")
    values = {
        "model": {"name": "base"}, "data": {"train": "chats.jsonl", "block_size": 64},
        "training": {"max_steps": 1, "save_strategy": "no"}, **sections,
    }  # fmt: skip
    Path("my.yaml").write_text(json.dumps(values), encoding="utf-8")
    return Path("my.yaml")


def trained() -> tuple[list[str], str]:
    """The prompts that a run has taken, and what it said."""
    answer = call(TRAIN)
    assert answer.exit_code == 0, answer.output + repr(answer.exception)
    facts = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    return facts["config"]["samples"]["prompts"], " ".join(answer.stderr.split())


@pytest.mark.parametrize(
    ("questions", "max_new_tokens", "taken"),
    [
        ([LONG, SHORT, LONG, "Где?"], 30, [SHORT, "Где?"]),
        ([SHORT, SHORT, SHORT, "Где?"], 30, [SHORT, "Где?"]),
        ([LONG, SHORT], 60, []),
        ([LONG, SHORT], 5, [LONG, SHORT]),
    ],
)
def test_questions_are_taken_that_leave_room(
    here: Path, questions: list[str], max_new_tokens: int, taken: list[str]
) -> None:
    path = write(questions, generation={"max_new_tokens": max_new_tokens})
    assert api.check_config(path)
    prompts, said = trained()
    assert prompts == taken
    assert ("No samples: no question of the texts leaves" in said) == (not taken)


def test_a_trained_tokenizer_counts_them(here: Path) -> None:
    sizes = {"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 64}
    path = write(
        [LONG, SHORT], generation={"max_new_tokens": 45}, model={"from_scratch": sizes},
        tokenizer={"train": {"vocab_size": 300}},
    )  # fmt: skip
    assert api.check_config(path)
    assert trained()[0] == [SHORT]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"samples": {"prompts": [SHORT]}, "generation": {"max_new_tokens": 50}},
         r"«Кто\?» has \d+ tokens, and with max_new_tokens 50"),
        ({"generation": {"context": "Зима."}}, "generation.context doesn't go with a chat"),
        ({"generation": {"token_healing": True}}, "generation.token_healing doesn't go with a"),
        ({"generation": {"strategy": "contrastive_decoding", "amateur_model": "nowhere"}},
         "nowhere"),
    ],
    ids=str,
)  # fmt: skip
def test_what_training_would_refuse_is_found_before(
    here: Path, sections: dict[str, Any], said: str
) -> None:
    path = write([SHORT, LONG], **sections)
    with pytest.raises(ConfigError, match=said):
        api.check_config(path)
    assert call(TRAIN).exit_code != 0
    assert not Path("run").exists()


def test_a_plain_prompt_that_just_fits_is_no_problem(here: Path) -> None:
    """The template around it is counted, and the text of plain runs isn't."""
    Path("poem.txt").write_text("Буря мглою небо кроет. " * 20, encoding="utf-8")
    sections = {"samples": {"prompts": [SHORT]}, "generation": {"max_new_tokens": 50}}
    path = write([SHORT], **sections, data={"train": "poem.txt", "block_size": 64})
    assert api.check_config(path)
