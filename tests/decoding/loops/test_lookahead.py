"""Lookahead decoding: the text of greedy search, in fewer calls."""

from typing import Any

import pytest
import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from gptft.decoding.loops.lookahead import lookahead_decoding
from gptft.errors import ConfigError, ModelError

PROMPTS = [[5, 6, 7, 8], [40, 41], [9], [3, 4, 3, 4, 3, 4, 3]]
OWN = {"lookahead_window": 5, "lookahead_ngram_size": 3, "lookahead_guesses": 5}
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.25,
}


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(1)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**SIZES)).eval()
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=64)).eval()
    config = MistralConfig(
        **SIZES, intermediate_size=64, num_key_value_heads=1, head_dim=16, sliding_window=6
    )
    return MistralForCausalLM(config).eval()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest) -> PreTrainedModel:
    return build(request.param)


def write(
    model: PreTrainedModel,
    prompt: list[int] | torch.Tensor,
    *,
    loop: Any = lookahead_decoding,
    own: dict[str, Any] | None = None,
    mask: torch.Tensor | None = None,
    processors: list[Any] | None = None,
    **settings: Any,
) -> list[int]:
    input_ids = torch.tensor([prompt]) if isinstance(prompt, list) else prompt
    settings = {"max_new_tokens": 40, "eos_token_id": 0, "pad_token_id": 1, **settings}
    written = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids) if mask is None else mask,
        generation_config=GenerationConfig(do_sample=False, **settings),
        logits_processor=LogitsProcessorList(processors or []),
        custom_generate=loop,
        **({**OWN, **(own or {})} if loop else {}),
    )
    return written[0].tolist()


def calls_of(model: PreTrainedModel, *args: Any, **settings: Any) -> tuple[list[int], int]:
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    written = write(model, *args, **settings)
    hook.remove()
    return written, len(calls)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"repetition_penalty": 1.3},
        {"no_repeat_ngram_size": 2},
        {"min_new_tokens": 20, "eos_token_id": list(range(20))},
        {"max_new_tokens": 1},
        {"max_new_tokens": 2},
        {"max_new_tokens": 7},
    ],
)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_text_is_that_of_greedy_search(lm, prompt, settings):
    assert write(lm, prompt, **settings) == write(lm, prompt, loop=None, **settings)


@pytest.mark.parametrize(
    "own",
    [
        {"lookahead_window": 1, "lookahead_ngram_size": 2, "lookahead_guesses": 1},
        {"lookahead_window": 12, "lookahead_ngram_size": 6, "lookahead_guesses": 3},
        {"lookahead_window": 2, "lookahead_ngram_size": 9, "lookahead_guesses": 10},
        {"lookahead_window": 100, "lookahead_ngram_size": 2, "lookahead_guesses": 1},
    ],
)
def test_so_it_is_whatever_is_guessed(lm, own):
    for prompt in PROMPTS:
        assert write(lm, prompt, own=own) == write(lm, prompt, loop=None)


def test_it_ends_at_eos_even_within_a_guess(lm):
    for prompt in PROMPTS:
        free = write(lm, prompt, loop=None)
        for eos in set(free[len(prompt) :]):
            until = free.index(eos, len(prompt)) + 1
            ended = write(lm, prompt, eos_token_id=[eos, 0], max_new_tokens=until - len(prompt) + 5)
            assert ended == free[:until]


def test_it_goes_on_to_the_last_position(lm):
    for prompt in PROMPTS:
        room = 64 - len(prompt) + 1
        text = write(lm, prompt, max_new_tokens=room, min_new_tokens=room)
        assert text == write(lm, prompt, loop=None, max_new_tokens=room, min_new_tokens=room)
        assert len(text) == 65


def test_it_guesses_within_the_positions_even_if_more_tokens_are_wished_for():
    gpt2 = build("gpt2")

    def end_at_last(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        bent = scores.clone()
        bent[:, 0] = 1e9 if input_ids.shape[1] == 64 else -torch.inf
        return bent

    settings = {"max_new_tokens": 100, "processors": [end_at_last]}
    text = write(gpt2, PROMPTS[0], **settings)
    assert text == write(gpt2, PROMPTS[0], loop=None, **settings)
    assert len(text) == 65


def test_a_repetitive_text_takes_fewer_calls(lm):
    def in_turn(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        bent = scores.clone()
        bent[:, 2 + input_ids.shape[1] % 4] += 1e4
        return bent

    text, calls = calls_of(lm, PROMPTS[0], processors=[in_turn])
    assert text == [5, 6, 7, 8] + [2, 3, 4, 5] * 10
    # Once each pair was seen every call writes three tokens: the last one and two of a run.
    assert calls <= 1 + 5 + 12


def test_guesses_alone_take_fewer_calls_where_the_model_repeats_itself():
    # An untrained tied GPT-2 soon writes one token again and again.
    torch.manual_seed(0)
    gpt2 = GPT2LMHeadModel(GPT2Config(**{**SIZES, "initializer_range": 0.02})).eval()
    text, calls = calls_of(gpt2, PROMPTS[0])
    assert text == write(gpt2, PROMPTS[0], loop=None)
    assert calls <= 1 + 12


def test_the_cache_holds_what_was_written_and_no_guess(lm):
    asked = []
    hook = lm.register_forward_pre_hook(
        lambda _, __, kwargs: asked.append(
            (kwargs["past_key_values"].get_seq_length(), kwargs["input_ids"].shape)
        ),
        with_kwargs=True,
    )
    write(lm, PROMPTS[0])
    hook.remove()
    lengths = [length for length, _ in asked]
    assert lengths[:2] == [0, 4]
    assert lengths == sorted(set(lengths))
    assert max(length + shape[1] for length, shape in asked) <= 4 + 40 - 1


def test_a_window_of_attention_is_rolled_back():
    mistral = build("mistral")
    for prompt in PROMPTS:
        assert write(mistral, prompt) == write(mistral, prompt, loop=None)
    repeated = {"repetition_penalty": 0.5}
    text, calls = calls_of(mistral, PROMPTS[3], **repeated)
    assert text == write(mistral, PROMPTS[3], loop=None, **repeated)
    assert calls < 40


def test_padding_is_not_read(lm):
    padded, mask = torch.tensor([[1, 1, 1, 40, 41]]), torch.tensor([[0, 0, 0, 1, 1]])
    assert write(lm, padded, mask=mask)[3:] == write(lm, [40, 41])


def test_processors_are_asked_once_a_token_in_order(lm):
    lengths = []

    def count(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        lengths.append(input_ids.shape[1])
        return scores

    text = write(lm, PROMPTS[0], processors=[count])
    assert lengths == list(range(4, len(text)))


def test_more_than_one_row_is_refused(lm):
    with pytest.raises(ConfigError, match="not 2 rows"):
        write(lm, torch.tensor([[5, 6], [7, 8]]))


def test_a_cache_that_can_not_be_cut_back_is_refused(lm):
    class Stubborn(DynamicCache):
        is_croppable = False

    prompt = torch.tensor([PROMPTS[0]])
    with pytest.raises(ModelError, match=f"{type(lm).__name__} can't take back"):
        lm.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=GenerationConfig(max_new_tokens=3, pad_token_id=1),
            past_key_values=Stubborn(),
            custom_generate=lookahead_decoding,
            **OWN,
        )
