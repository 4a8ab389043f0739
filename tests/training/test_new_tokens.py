"""Tokens that a base didn't have: their ids, their rows, and a run that resumes with them."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from gptft.api import check_config
from gptft.config.sections import Config
from gptft.data.plan import plan_packing
from gptft.data.store import BlockStore
from gptft.errors import ConfigError
from gptft.models.grow import add_rows, new_tokens
from gptft.tokenization.extension import added_token, extend_tokenizer
from gptft.tokenization.tokenizer import load_tokenizer
from gptft.training.run import Resume
from tests.framed import LLAMA, write_tokenizer
from tests.training.conftest import Run
from tests.training.folders import Cut, assert_same, facts

WORDS = ["Буря", " мглою"]
OWN: dict[str, Any] = {"add_tokens": WORDS, "special_tokens": ["<|user|>"]}


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with a head of its own, 8 rows more than its tokenizer has ids, and BOS."""
    folder = tmp_path_factory.mktemp("untied")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=328, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return write_tokenizer(folder, LLAMA)


@pytest.fixture(params=["tied", "untied"])
def base(request: pytest.FixtureRequest, tiny_model_dir: Path, untied: Path) -> Path:
    return {"tied": tiny_model_dir, "untied": untied}[request.param]


def stock(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def grown(base: Path, **own: Any) -> tuple[Any, Any, dict[int, list[int]]]:
    """A stock model with new rows, its larger tokenizer, and the pieces of each new id."""
    model, tokenizer = stock(base)
    _, larger = stock(base)
    larger.add_tokens([added_token(text) for text in own.get("words", WORDS)])
    pieces = new_tokens(tokenizer, larger)
    add_rows(model, pieces, num_known=len(tokenizer), multiple_of=own.get("multiple_of", 1))
    return model, larger, pieces


@pytest.mark.parametrize("multiple_of", [1, 64])
def test_each_row_is_the_mean_of_the_pieces_it_replaces(base: Path, multiple_of: int) -> None:
    before, tokenizer = stock(base)
    model, _, pieces = grown(base, multiple_of=multiple_of)
    known = len(tokenizer)
    assert sorted(pieces) == [known, known + 1]
    assert len(model.get_input_embeddings().weight) % multiple_of == 0
    for get in ("get_input_embeddings", "get_output_embeddings"):
        old, new = (getattr(one, get)().weight for one in (before, model))
        assert torch.equal(new[:known], old[:known])
        for number, word in zip(sorted(pieces), WORDS, strict=True):
            ids = tokenizer(word, add_special_tokens=False).input_ids
            assert len(ids) > 1
            torch.testing.assert_close(new[number], old[ids].mean(dim=0))


def test_unused_tokens_move_a_loss_by_no_more_than_their_share(base: Path) -> None:
    """Old logits are the very same; exp of a mean is at most the mean of exps."""
    before, tokenizer = stock(base)
    model, _, pieces = grown(base)
    ids = tokenizer("The cat sat on the mat.", return_tensors="pt").input_ids
    with torch.no_grad():
        old, new = (one.eval()(ids).logits[0].double() for one in (before, model))
    known = len(tokenizer)
    assert torch.equal(old[:, :known], new[:, :known])
    p = old[:, :known].softmax(-1)
    most = sum(p[:, ids].mean(-1) for ids in pieces.values())  # of each place
    growth = new[:, : known + len(pieces)].logsumexp(-1) - old[:, :known].logsumexp(-1)
    assert (growth > 0).all()
    assert (growth <= torch.log1p(most) + 1e-9).all()
    everything = [*range(known)]
    add_rows(model, dict.fromkeys(pieces, everything), num_known=known)
    with torch.no_grad():
        new = model(ids).logits[0].double()
    growth = new[:, : known + len(pieces)].logsumexp(-1) - old[:, :known].logsumexp(-1)
    assert (growth <= math.log1p(len(pieces) / known) + 1e-6).all()


def test_a_run_learns_with_them_and_stock_transformers_opens_it(run: Run, base: Path) -> None:
    said: list[str] = []
    result = run(model={"name": str(base)}, tokenizer=OWN, notify=said.append)
    tokenizer = load_tokenizer(str(base))
    first = tokenizer.vocab_size
    assert any("3 new tokens, whose embeddings begin at the mean" in one for one in said)
    model, theirs = stock(result.model_dir)
    assert theirs.convert_tokens_to_ids([*WORDS, "<|user|>"]) == [first, first + 1, first + 2]
    rows = len(model.get_input_embeddings().weight)
    assert rows == model.config.vocab_size == max(first + 3, len(stock(base)[0].lm_head.weight))
    store = BlockStore(Path(plan_store(result.run_dir)))
    seen = {int(i) for block in store for i in block}
    assert {first, first + 1} <= seen
    assert first + 2 not in seen  # a control token is no text
    text = "Буря мглою небо кроет <|user|>"
    ours = load_tokenizer(str(result.model_dir)).backend.encode(text, add_special_tokens=False)
    assert ours.ids[:2] == [first, first + 1]
    assert theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids == ours.ids


def plan_store(run_dir: Path) -> str:
    return f"{os.environ['GPTFT_CACHE']}/blocks/{facts(run_dir)['data']['store']}"


def test_it_resumes_to_the_same_weights(run: Run, base: Path, tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "model": {"name": str(base)},
        "tokenizer": {**OWN, "pad_to_multiple_of": 8},
        "training": {"max_steps": 4, "save_strategy": "steps", "save_steps": 2},
    }
    whole = run("whole", **sections)
    with Cut(after=3):
        run("cut", **sections)
    run("cut", **sections, resume=Resume())
    assert_same(tmp_path / "cut", whole.run_dir)


def test_a_longer_tokenizer_gives_the_same_ids(
    base: Path, tmp_path: Path, corpus_dir: Path
) -> None:
    extend_tokenizer(str(base), tmp_path / "longer", tokens=WORDS)
    sections: dict[str, Any] = {"model": {"name": str(base)}, "data": {"train": str(corpus_dir)}}
    named, added = (
        plan_packing(Config.model_validate({**sections, "tokenizer": own})).tokenizer
        for own in ({"name": str(tmp_path / "longer")}, {"add_tokens": WORDS})
    )
    assert named
    assert added
    text = "Буря мглою небо кроет, The cat"
    assert named.backend.encode(text).ids == added.backend.encode(text).ids
    assert named.framing == added.framing


def test_a_run_takes_a_longer_tokenizer(run: Run, base: Path, tmp_path: Path) -> None:
    extend_tokenizer(str(base), tmp_path / "longer", tokens=WORDS)
    result = run(model={"name": str(base)}, tokenizer={"name": str(tmp_path / "longer")})
    model, tokenizer = stock(result.model_dir)
    assert len(model.get_input_embeddings().weight) >= len(tokenizer)
    assert tokenizer("Буря", add_special_tokens=False).input_ids == [len(stock(base)[1])]


def config_of(folder: Path, base: Path, tokenizer: str) -> Path:
    text = folder / "text.txt"
    text.write_text("Буря мглою небо кроет.\n" * 30, encoding="utf-8")
    path = folder / "my.yaml"
    path.write_text(
        f"model: {{name: {base}}}\ntokenizer: {tokenizer}\n"
        f"data: {{train: {text}, block_size: 16}}\n"
        "training: {max_steps: 1, use_cpu: true}\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        ("{add_tokens: [' ']}", "white space"),
        ("{add_tokens: [a]}", "tokenizer.add_tokens: 'a' is a token already"),
        ("{add_tokens: [Буря, Буря]}", "given twice"),
        ("{add_tokens: [Буря], special_tokens: [Буря]}", "given twice"),
        ("{special_tokens: ['']}", "tokenizer.special_tokens"),
        ("{pad_to_multiple_of: 0}", "pad_to_multiple_of"),
        ("{train: {vocab_size: 300}}", "tokenizer.train is for model.from_scratch"),
        ("{name: pico}", "takes a longer tokenizer whose first ids are its own"),
        ("{name: nosuch/tokenizer}", "nosuch/tokenizer"),
    ],
)
def test_what_cant_be_added_is_one_line_at_its_place(
    tiny_model_dir: Path, tmp_path: Path, tokenizer: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(config_of(tmp_path, tiny_model_dir, tokenizer))
    (problem,) = caught.value.problems
    assert said in problem
    assert "my.yaml:2:" in problem


def test_config_check_takes_what_can_be_added(tiny_model_dir: Path, tmp_path: Path) -> None:
    path = config_of(tmp_path, tiny_model_dir, "{add_tokens: [Буря], pad_to_multiple_of: 64}")
    assert check_config(path)


def test_a_new_model_takes_them_too(run: Run, tiny_model_dir: Path, tmp_path: Path) -> None:
    sizes = {"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64}
    own = {"name": str(tiny_model_dir), **OWN}
    result = run(model={"from_scratch": sizes}, tokenizer=own)
    model, tokenizer = stock(result.model_dir)
    assert (
        model.config.vocab_size
        == len(tokenizer)
        == load_tokenizer(str(tiny_model_dir)).vocab_size + 3
    )
