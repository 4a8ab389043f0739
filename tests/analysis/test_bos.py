"""What is scored and shown stands behind BOS, and BOS is never text."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gptft.analysis.predict import predict
from gptft.analysis.score import score
from gptft.analysis.why import explain
from gptft.decoding.engine import generate, load_model
from gptft.decoding.settings import resolve_settings
from tests.framed import BOS, EOS, GPT2, LLAMA, OPT, write_model

TEXT = "Буря мглою небо кроет, вихри снежные крутя."
CONTEXT = 48
GREEDY = resolve_settings({"strategy": "greedy", "max_new_tokens": 4})
BEFORE = {LLAMA: [BOS], OPT: [EOS], GPT2: [BOS]}  # GPT2's template has none: its BOS, then


@pytest.fixture(scope="module", params=[LLAMA, OPT, GPT2])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any, Any, list[int]]:
    """A folder, its model and tokenizer by transformers alone, and what a text follows."""
    folder = write_model(tmp_path_factory.mktemp("framed"), request.param, context=CONTEXT)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return folder, model, AutoTokenizer.from_pretrained(folder), BEFORE[request.param]


def bits(model: Any, ids: list[int], *, of_last: int) -> float:
    """The last tokens' surprisal, by the loss of stock transformers."""
    row = torch.tensor([ids])
    labels = row.clone()
    labels[0, : len(ids) - of_last] = -100
    with torch.no_grad():
        loss = model(input_ids=row, labels=labels).loss
    return float(loss) * of_last / np.log(2)


def test_bits_are_the_loss_of_stock_transformers(case: Any) -> None:
    folder, model, tokenizer, before = case
    found = score(str(folder), TEXT[:20], use_cpu=True)
    own = tokenizer(TEXT[:20], add_special_tokens=False).input_ids
    assert found.bits == pytest.approx(bits(model, [*before, *own], of_last=len(own)), rel=1e-5)
    assert found.begins_after == tokenizer.convert_ids_to_tokens(before[-1])
    assert [token.token.id for token in found.tokens] == own
    assert b"".join(token.token.bytes for token in found.tokens).decode() == TEXT[:20]


def test_every_window_of_a_long_text_begins_with_bos(case: Any) -> None:
    folder, model, tokenizer, before = case
    own = tokenizer(TEXT * 3, add_special_tokens=False).input_ids
    ids, half = [*before, *own], CONTEXT // 2
    kept = before if tokenizer("x").input_ids[0] == before[0] else []
    expected = 0.0
    for t in range(1, len(ids)):  # each token after its window alone, which moves by half
        begin = max(math.ceil((t - CONTEXT) / half), 0) * half
        window = [*kept, *ids[begin + len(kept) : t]]
        expected += bits(model, [*window, ids[t]], of_last=1)
    found = score(str(folder), TEXT * 3, use_cpu=True)
    assert len(ids) > CONTEXT + half
    assert found.context == CONTEXT
    assert found.bits == pytest.approx(expected, rel=1e-5)


def test_predictions_follow_bos_which_is_not_shown(case: Any) -> None:
    folder, model, tokenizer, before = case
    found = predict(str(folder), TEXT[:10], settings=GREEDY, steps=2, top=3, use_cpu=True)
    kept = before if tokenizer("x").input_ids[0] == before[0] else []
    ids = [*kept, *tokenizer(TEXT[:10], add_special_tokens=False).input_ids]
    with torch.no_grad():
        likely = model(torch.tensor([ids])).logits[0, -1].softmax(-1).topk(3)
    rows = sorted(found.steps[0].rows, key=lambda row: -row.probability)[:3]
    assert [row.token_id for row in rows] == likely.indices.tolist()
    assert [row.probability for row in rows] == pytest.approx(likely.values.tolist(), rel=1e-4)
    assert found.steps[0].text == TEXT[:10]
    assert found.steps[1].text.startswith(TEXT[:10])
    assert found.steps[1].text == found.steps[0].text_after


@pytest.mark.parametrize("prompt", ["Буря", ""])
def test_a_reason_is_given_for_each_token_of_a_text(case: Any, prompt: str) -> None:
    folder, model, tokenizer, _ = case
    loaded = load_model(str(folder), settings=GREEDY, use_cpu=True)
    (text,) = generate(loaded, [prompt], settings=GREEDY)
    (tokens,) = explain(loaded, [text])
    own = tokenizer(prompt, add_special_tokens=False).input_ids
    assert [token.token.id for token in tokens] == [*own, *text.new_ids]
    scored = [token.score for token in tokens if token.score is not None]
    ids = [*text.prompt_ids, *text.new_ids]
    expected = bits(model, ids, of_last=len(text.new_ids))
    assert sum(one.surprisal_bits for one in scored) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("most", [4, 60])
def test_the_best_of_several_is_read_behind_bos(case: Any, most: int) -> None:
    """mean_logprob of texts that fit the context, and of one that fills it."""
    folder, model, _, _ = case
    settings = resolve_settings(
        {"strategy": "best_of_n", "num_candidates": 2, "max_new_tokens": 4, "seed": 1}
    )
    loaded = load_model(str(folder), settings=settings, use_cpu=True)
    (text,) = generate(loaded, ["xy" * most], settings=settings, window=True)
    if most == 4:
        ids = [*text.prompt_ids, *text.new_ids]
        mean = -bits(model, ids, of_last=len(text.new_ids)) * np.log(2) / len(text.new_ids)
        assert text.details["mean_logprob"] == pytest.approx(mean, rel=1e-4)
    else:
        kept = loaded.special.num_before(text.prompt_ids)
        ids, half = [*text.prompt_ids, *text.new_ids], CONTEXT // 2
        total = 0.0
        for t in range(len(text.prompt_ids), len(ids)):
            begin = max(math.ceil((t - CONTEXT) / half), 0) * half
            window = [*ids[:kept], *ids[begin + kept : t]]
            total -= bits(model, [*window, ids[t]], of_last=1) * np.log(2)
        mean = total / len(text.new_ids)
        assert text.details["mean_logprob"] == pytest.approx(mean, rel=1e-4)
