"""A run frames text alike everywhere: blocks, samples, generate, score, predict, novelty."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gptft import api
from gptft.data.store import BlockStore
from gptft.errors import ConfigError
from gptft.files import default_cache_dir, read_json
from tests.conftest import SENTENCES
from tests.framed import BOS, EOS, GPT2, LLAMA, OPT, write_model, write_tokenizer

PROMPT = "Буря мглою"
CONTEXT = 64


def write_config(base: Path, text: Path, **data: object) -> Path:
    sections = {
        "model": {"name": str(base)},
        "data": {"train": str(text), "block_size": CONTEXT, **data},
        "training": {
            "max_steps": 2, "per_device_train_batch_size": 1, "save_strategy": "no",
            "use_cpu": True,
        },
        "samples": {"prompts": [PROMPT]},
        "generation": {"strategy": "greedy", "max_new_tokens": 6},
    }  # fmt: skip
    path = base.parent / "my.yaml"
    path.write_text(json.dumps(sections, ensure_ascii=False), encoding="utf-8")
    return path


def train(config: Path, run_dir: Path) -> Any:
    return api.train(api.read_config(config), run_dir=run_dir)


def stock(run_dir: Path) -> tuple[Any, Any]:
    """The model and tokenizer of a run, as anybody opens them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(run_dir / "model", dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(run_dir / "model")


@pytest.mark.parametrize(
    ("template", "add_bos", "before", "scored_after"),
    [
        (LLAMA, "auto", [BOS], BOS),
        (LLAMA, False, [], EOS),  # as documents stand in its blocks
        (GPT2, True, [BOS], BOS),
        (OPT, "auto", [EOS], EOS),
    ],
)
def test_everything_begins_a_text_as_the_blocks_do(
    template: str | None,
    add_bos: object,
    before: list[int],
    scored_after: int,
    tmp_path: Path,
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(SENTENCES[0], encoding="utf-8")
    base = write_model(tmp_path / "base", template, context=CONTEXT)
    result = train(write_config(base, text, add_bos=add_bos), run_dir := tmp_path / "run")
    model, tokenizer = stock(run_dir)
    own = tokenizer(PROMPT, add_special_tokens=False).input_ids
    assert tokenizer(PROMPT).input_ids == [*before, *own]

    store = default_cache_dir() / "blocks" / read_json(run_dir / "run.json")["data"]["store"]
    block = [int(i) for i in BlockStore(store)[0]]
    assert block == [*tokenizer(SENTENCES[0]).input_ids, EOS]

    settings = {"strategy": "greedy", "max_new_tokens": 6}
    (written,) = api.generate(str(run_dir), [PROMPT], given=settings, use_cpu=True).texts
    assert list(written.prompt_ids) == [*before, *own]
    ids = torch.tensor([[*before, *own]])
    new = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False,
        pad_token_id=0,
    )[0, ids.shape[1] :]  # fmt: skip
    assert written.continuation == tokenizer.decode(new, skip_special_tokens=True)
    assert result.samples[0].after == written.continuation

    scored = api.score(str(run_dir), PROMPT, use_cpu=True)
    row = torch.tensor([[scored_after, *own]])
    with torch.no_grad():
        loss = float(model(input_ids=row, labels=row).loss)
        likely = int(model(input_ids=ids).logits[0, -1].argmax())
    assert scored.bits == pytest.approx(loss * len(own) / 0.6931471805599453, rel=1e-4)
    assert scored.begins_after == tokenizer.convert_ids_to_tokens(scored_after)

    config = api.generation_config(None)
    (step,) = api.predict(str(run_dir), PROMPT, config=config, given=settings, use_cpu=True).steps
    assert (step.text, step.chosen) == (PROMPT, likely)

    found = api.novelty(run_dir)
    assert found.texts[0].text.continuation == written.continuation


def test_a_new_model_with_a_tokenizer_that_adds_bos(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(SENTENCES[0], encoding="utf-8")
    base = write_tokenizer(tmp_path / "base", LLAMA)
    config = json.loads(write_config(base, text).read_text(encoding="utf-8"))
    sizes = {"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": CONTEXT}
    config |= {"model": {"from_scratch": sizes}, "tokenizer": {"name": str(base)}}
    path = tmp_path / "new.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    train(path, run_dir := tmp_path / "run")
    model, tokenizer = stock(run_dir)
    assert tokenizer(PROMPT).input_ids[0] == BOS
    assert (model.config.bos_token_id, model.config.eos_token_id) == (BOS, EOS)


@pytest.mark.parametrize(("add_bos", "length"), [("auto", 11), (False, 10)])
def test_bos_takes_a_place_of_the_context(add_bos: object, length: int, tmp_path: Path) -> None:
    """A prompt of 10 tokens and 6 new ones, the last without a position, need 15, or 16."""
    text = tmp_path / "text.txt"
    text.write_text(SENTENCES[0], encoding="utf-8")
    base = write_model(tmp_path / "base", LLAMA, context=length + 4)
    config = json.loads(write_config(base, text, add_bos=add_bos).read_text(encoding="utf-8"))
    config["data"]["block_size"] = 8
    config["samples"]["prompts"] = ["x" * 10]
    (tmp_path / "my.yaml").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"has {length} tokens, and with max_new_tokens 6"):
        api.check_config(tmp_path / "my.yaml")
    api.check_config(tmp_path / "my.yaml", overrides=["generation.max_new_tokens=5"])
