"""Prompts are framed as stock transformers frames them, and BOS is never text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gptft.decoding.engine import generate, load_model
from gptft.decoding.known_model import know_model
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.prompts.room import last_of
from gptft.decoding.settings import resolve_settings
from gptft.errors import ConfigError
from gptft.tokenization.tokenizer import load_tokenizer
from tests.framed import BOS, EOS, GPT2, LLAMA, OPT, write_model

PROMPTS = ["Буря мглою", "x", "<s> небо </s>"]
CONTEXT = 32


@pytest.fixture(scope="module", params=[LLAMA, OPT, GPT2, "<s> <unk> $A </s>"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer has one of the templates."""
    return write_model(tmp_path_factory.mktemp("framed"), request.param, context=CONTEXT)


@pytest.fixture
def loaded(folder: Path) -> LoadedModel:
    return load_model(str(folder), settings=settings(), use_cpu=True)


@pytest.fixture
def stock(folder: Path) -> tuple[Any, Any]:
    """The model and the tokenizer, opened by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def settings(**given: object) -> Any:
    return resolve_settings({"strategy": "greedy", "max_new_tokens": 8, **given})


def framed(tokenizer: Any, prompt: str) -> list[int]:
    """A prompt as the tokenizer begins a text, not ended."""
    ids = tokenizer(prompt, split_special_tokens=True).input_ids
    return ids[:-1] if tokenizer("x").input_ids[-1] == EOS else list(ids)


def prefix(tokenizer: Any) -> list[int]:
    own = tokenizer("x", add_special_tokens=False).input_ids
    return framed(tokenizer, "x")[: -len(own)]


def test_ids_and_texts_are_those_of_stock_transformers(loaded: LoadedModel, stock: Any) -> None:
    model, tokenizer = stock
    for prompt, text in zip(PROMPTS, generate(loaded, PROMPTS, settings=settings()), strict=True):
        ids = framed(tokenizer, prompt)
        assert list(text.prompt_ids) == ids
        written = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=8,
            do_sample=False, eos_token_id=EOS, pad_token_id=0,
        )[0].tolist()[len(ids) :]  # fmt: skip
        assert list(text.new_ids) == [i for i in written if i != EOS]
        assert text.text.startswith(prompt)


def test_an_empty_prompt_is_what_stands_before_a_text(loaded: LoadedModel, stock: Any) -> None:
    (text,) = generate(loaded, [""], settings=settings())
    assert list(text.prompt_ids) == (prefix(stock[1]) or [BOS])


def test_a_model_that_is_not_loaded_counts_bos(folder: Path, stock: Any) -> None:
    known = know_model("any", {}, tokenizer=load_tokenizer(str(folder)))
    for prompt in PROMPTS:
        assert known.encode_prompt(prompt) == framed(stock[1], prompt)


@pytest.mark.parametrize("prompts", [["Буря"], ["Буря мглою", "x", "ветер"]])
def test_without_its_context_a_prompt_still_begins_with_bos(
    loaded: LoadedModel, stock: Any, prompts: list[str]
) -> None:
    """By the formula, from stock logits: 1.5 times those with the context, less 0.5 without it."""
    model, tokenizer = stock
    given = settings(strategy="context_aware", context="Вьюга: ", context_alpha=0.5)
    for prompt, text in zip(prompts, generate(loaded, prompts, settings=given), strict=True):
        bare = tokenizer(prompt, add_special_tokens=False).input_ids
        inside = [*framed(tokenizer, "Вьюга: "), *bare]
        alone = [*prefix(tokenizer), *bare]
        written: list[int] = []
        for _ in range(8):
            with torch.no_grad():
                z, z_alone = (
                    model(torch.tensor([[*ids, *written]])).logits[0, -1] for ids in (inside, alone)
                )
            written.append(int((1.5 * z - 0.5 * z_alone).argmax()))
            if written[-1] == EOS:
                break
        assert list(text.new_ids) == [i for i in written if i != EOS]


def test_bos_takes_a_place_of_the_context(loaded: LoadedModel, stock: Any) -> None:
    """The last new token needs no position: prompt + 8 - 1 fit."""
    most = CONTEXT - 7 - len(prefix(stock[1]))
    (text,) = generate(loaded, ["x" * most], settings=settings())
    assert len(text.prompt_ids) == CONTEXT - 7
    with pytest.raises(ConfigError, match=f"has {CONTEXT - 6} tokens"):
        generate(loaded, ["x" * (most + 1)], settings=settings())


@pytest.mark.parametrize("most", [8, 40])
@pytest.mark.parametrize("healing", [False, True])
def test_a_window_slides_behind_bos(
    loaded: LoadedModel, stock: Any, most: int, healing: bool
) -> None:
    """Each window is what stands before a text, and the end of the text so far."""
    _, tokenizer = stock
    first = prefix(tokenizer)
    seen: list[list[int]] = []
    inner = loaded.model.generate

    def spy(input_ids: torch.Tensor, **kwargs: Any) -> Any:
        seen.append(input_ids[0].tolist())
        return inner(input_ids, **kwargs)

    loaded.model.generate = spy  # type: ignore[method-assign]
    given = settings(max_new_tokens=most, min_new_tokens=most, token_healing=healing)
    (text,) = generate(loaded, ["xy" * 40], settings=given, window=True)
    assert len(text.new_ids) == most
    everything, room = list(text.prompt_ids), CONTEXT - min(most, CONTEXT // 2) + 1
    rest = everything[len(first) :]
    assert seen[0] == [*first, *rest[-(room - len(first)) :]]
    assert len(seen) == (1 if most == 8 else 3)
    for window in seen:
        assert window[: len(first)] == first
        assert len(window) <= CONTEXT


@pytest.mark.parametrize(
    ("room", "kept", "expected"),
    [
        (9, 1, [1, 2, 3, 4]),
        (3, 1, [1, 3, 4]),
        (3, 2, [1, 2, 4]),
        (3, 0, [2, 3, 4]),
        (1, 1, [4]),
        (2, 5, [1, 4]),
    ],
)
def test_what_is_seen_of_a_long_text(room: int, kept: int, expected: list[int]) -> None:
    assert last_of([1, 2, 3, 4], room=room, kept=kept) == expected
