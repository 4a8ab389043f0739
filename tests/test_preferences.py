"""docs/preferences.md: from a run to TRL's DPOTrainer and back; all that the page says is run."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

import gptft
from gptft.config.data import DataConfig
from gptft.documents.record_format import find_format
from gptft.documents.sources import find_texts
from gptft.errors import DataError
from gptft.models.source import resolve_model
from tests.conftest import ROOT
from tests.test_readme import blocks

# Of peft, which calls what transformers has another name for.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PAGE = "docs/preferences.md"
NO_TRL = "pip install trl: it is the reader's to install, and no dependency of gptft's"
# What comes out, and what it went on from.
RESULTS = {"preferred": "runs/chat/model", "preferred-lora": "runs/chat-lora/adapter"}


def scripts() -> dict[str, str]:
    """The page's scripts, by the name in the first line of each."""
    python = [block for language, block in blocks(PAGE) if language == "python"]
    return {block.split("\n")[0].removeprefix("# "): block for block in python}


def shell_lines() -> list[str]:
    """The page's lines for a shell, in order."""
    shell = [block for language, block in blocks(PAGE) if not language]
    return [line for block in shell for line in block.splitlines()]


def test_the_scripts_are_those_that_its_lines_run():
    run = {shlex.split(line)[1] for line in shell_lines() if line.startswith("python ")}
    assert run == {*scripts()} == {"make_pairs.py", "dpo.py"}
    for name, script in scripts().items():
        compile(script, name, "exec")


def test_its_pair_is_one_that_gptft_sends_to_the_page(tmp_path: Path):
    (pair,) = [block for language, block in blocks(PAGE) if language == "json"]
    assert {*json.loads(pair)} == {"prompt", "chosen", "rejected"}
    file = tmp_path / "pairs.jsonl"
    file.write_text(pair, encoding="utf-8")
    data = DataConfig(train=str(file))
    with pytest.raises(DataError, match=re.escape(PAGE)):
        find_format(find_texts(data), data)


def ran(line: str, *, place: Path) -> str:
    """What a line of the page prints."""
    words = shlex.split(line)
    program = ["-m", "gptft"] if words[0] == "gptft" else []
    done = subprocess.run(
        [sys.executable, *program, *words[1:]], cwd=place, capture_output=True, text=True,
        encoding="utf-8", timeout=600, env={**os.environ, "GPTFT_CACHE": str(place / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder in which all of the page was run, and what each line printed."""
    pytest.importorskip("trl", reason=NO_TRL)
    place = tmp_path_factory.mktemp("preferences")
    for name in ("configs", "data"):
        shutil.copytree(ROOT / name, place / name)
    for name, script in scripts().items():
        (place / name).write_text(script, encoding="utf-8")
    install, *lines = shell_lines()
    assert install == 'pip install trl "gptft[lora]"'
    return place, {line: ran(line, place=place) for line in lines}


@pytest.fixture
def place(page: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test runs where the page was run."""
    monkeypatch.chdir(page[0])
    return page[0]


def stock(folder: str) -> tuple[Any, PreTrainedTokenizerBase]:
    """A model or an adapter and its tokenizer, by transformers and peft alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not Path(folder, "adapter_config.json").exists():
        return AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(resolve_model("pico"), dtype="float32")
    return PeftModel.from_pretrained(base, folder).eval(), tokenizer


def log_probability(model: Any, ids: torch.Tensor, which: torch.Tensor) -> float:
    """Of the tokens of `ids`, shape (T,), that `which`, of the same shape, names; in nats."""
    with torch.no_grad():
        logits = model(input_ids=ids[None]).logits[0, :-1]  # (T - 1, V)
    each = logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    return float(each[which[1:].bool()].sum())


def answers(model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> list[float]:
    """The log-probability of each pair's answer of that name, its end included."""
    found = []
    for line in Path("pairs.jsonl").read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        chat = tokenizer.apply_chat_template(
            pair["prompt"] + pair[name], return_dict=True, return_assistant_tokens_mask=True
        )
        ids, mask = torch.tensor(chat["input_ids"]), torch.tensor(chat["assistant_masks"])
        assert mask.any()
        found.append(log_probability(model, ids, mask))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("out", RESULTS)
def test_the_loss_falls_and_the_margins_rise(page: tuple[Path, dict[str, str]], out: str):
    (printed,) = [text for line, text in page[1].items() if line.endswith(f"pairs.jsonl {out}")]
    steps = [ast.literal_eval(line) for line in printed.splitlines() if line.startswith("{'loss'")]
    losses, margins = ([float(s[key]) for s in steps] for key in ("loss", "rewards/margins"))
    assert len(steps) > 15
    assert margins[0] == pytest.approx(0, abs=1e-5)  # it begins as what it is compared with
    assert mean(losses[-5:]) < mean(losses[:5])
    assert mean(margins[-5:]) > mean(margins[5:10]) > mean(margins[:5])


@pytest.mark.slow
@pytest.mark.parametrize(("out", "before"), RESULTS.items())
def test_stock_transformers_prefers_the_better_answers(place: Path, out: str, before: str):
    (new, tokenizer), (old, _) = stock(out), stock(before)
    chosen, rejected = (
        [n - o for n, o in zip(answers(new, tokenizer, name), answers(old, tokenizer, name),
                               strict=True)]
        for name in ("chosen", "rejected")
    )  # fmt: skip
    better = [c > r for c, r in zip(chosen, rejected, strict=True)]
    assert mean(better) > 0.9
    # What "sft" is for. The runs know these answers well: there is little to be won, in nats.
    assert mean(chosen) > -0.5
    assert mean(rejected) < -1


@pytest.mark.slow
@pytest.mark.parametrize(("out", "before"), RESULTS.items())
def test_gptft_opens_what_comes_out_as_stock_transformers_does(place: Path, out: str, before: str):
    text = "Мороз и солнце; день чудесный!"
    model, tokenizer = stock(out)
    ids = torch.tensor([tokenizer.eos_token_id, *tokenizer(text)["input_ids"]])
    bits = -log_probability(model, ids, torch.ones_like(ids)) / torch.log(torch.tensor(2.0))
    assert gptft.score(out, text).bits == pytest.approx(float(bits), rel=1e-4)
    template = (place / before / "chat_template.jinja").read_text(encoding="utf-8")
    assert "{%- generation -%}" in template
    assert (place / out / "chat_template.jinja").read_text(encoding="utf-8") == template
    assert not {"ref", "checkpoint-1"} & {path.name for path in (place / out).iterdir()}


def held_out_questions() -> list[str]:
    lines = (ROOT / "data/pushkin-qa/held-out.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"][0]["content"] for line in lines]


ENDING = ["runs/chat", "runs/chat-lora", *RESULTS, "preferred-merged"]


@pytest.mark.slow
@pytest.mark.parametrize("out", ENDING)
def test_its_answers_still_end(place: Path, out: str):
    texts = gptft.generate(out, held_out_questions(), chat=True).texts
    assert [text.stopped for text in texts] == ["eos"] * 20
    assert all(text.continuation.strip() for text in texts)


@pytest.mark.slow
def test_training_goes_on_from_what_comes_out_and_resumes(place: Path):
    for run, out, folder in (
        ("runs/chat-next", "preferred", "model"),
        ("runs/lora-next", "preferred-lora", "adapter"),
    ):
        facts = json.loads((place / run / "run.json").read_text(encoding="utf-8"))
        assert (facts["state"], facts["config"]["model"]["name"]) == ("done", out)
        started, pico = (
            json.loads((place / one / "run.json").read_text(encoding="utf-8"))["result"]["train"]
            for one in (run, "runs/chat")
        )
        assert started["loss_before"] < 0.5 * pico["loss_before"]
        kept = (place / run / folder / "chat_template.jinja").read_text(encoding="utf-8")
        assert kept == (place / out / "chat_template.jinja").read_text(encoding="utf-8")
    train = "gptft train configs/chat.yaml --set model.name=preferred --lr 1e-4 --out runs/kept "
    train += "--set training.save_strategy=epoch"
    ran(f"{train} --epochs 1", place=place)
    ran(f"{train} --epochs 2 --resume --extend", place=place)
    facts = json.loads((place / "runs/kept/run.json").read_text(encoding="utf-8"))
    assert facts["state"] == "done"
    assert facts["result"]["steps"] == 2 * 6


@pytest.mark.slow
def test_an_adapter_with_new_tokens_goes_on_from_its_model(place: Path):
    """TRL 1.16 can't train on such an adapter itself, as the page says."""
    train = "gptft train configs/chat.yaml --out runs/chatml --set data.chat_template=chatml"
    ran(f"{train} --set lora.r=8 --set lora.merge=false --lr 0.003 --epochs 16", place=place)
    ran("gptft merge runs/chatml --out chatml", place=place)
    ran("python dpo.py chatml pairs.jsonl preferred-chatml", place=place)
    tokenizer = AutoTokenizer.from_pretrained("preferred-chatml")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (
        end
        in AutoModelForCausalLM.from_pretrained("preferred-chatml").generation_config.eos_token_id
    )
    texts = gptft.generate("preferred-chatml", held_out_questions(), chat=True).texts
    assert [text.stopped for text in texts] == ["eos"] * 20
