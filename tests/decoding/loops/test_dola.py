"""DoLa against its formula, computed in NumPy from hidden states, without a cache."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
)

from gptft.decoding.layers import early_layers
from gptft.decoding.loops.dola import contrast, dola_decoding
from gptft.errors import ConfigError, ModelError

PAD = 1
PROMPT = torch.tensor([[5, 6, 7, 8]])
SIZES = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2}


def build(name: str) -> PreTrainedModel:
    torch.manual_seed(1)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**SIZES, initializer_range=0.25)).eval()
    wide = {**SIZES, "intermediate_size": 64, "initializer_range": 0.25}
    if name == "llama":
        return LlamaForCausalLM(LlamaConfig(**wide)).eval()
    return GraniteForCausalLM(GraniteConfig(**wide, logits_scaling=5.0)).eval()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest) -> PreTrainedModel:
    return build(request.param)


def write(
    model: PreTrainedModel,
    input_ids: torch.Tensor = PROMPT,
    *,
    mask: torch.Tensor | None = None,
    layers: Any = "low",
    draw: bool = False,
    processors: list[Any] | None = None,
    **settings: Any,
) -> torch.Tensor:
    settings = {"max_new_tokens": 12, "eos_token_id": 0, "pad_token_id": PAD, **settings}
    return model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids) if mask is None else mask,
        generation_config=GenerationConfig(**settings),
        logits_processor=LogitsProcessorList(processors or []),
        custom_generate=dola_decoding,
        dola_layers=layers,
        do_sample=draw,
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max())
    return grown / grown.sum()


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    middle = (p + q) / 2
    return float((p * np.log(p / middle)).sum() / 2 + (q * np.log(q / middle)).sum() / 2)


@torch.no_grad()
def scores_by_formula(
    model: PreTrainedModel, text: list[int], *, layers: list[int], scaling: float = 1.0
) -> np.ndarray:
    # Of the last layer the state behind the final norm, of the others as they are.
    states = model(torch.tensor([text]), output_hidden_states=True).hidden_states
    read = {layer: model.lm_head(states[layer][0, -1]) for layer in layers}
    early = {layer: softmax(logits.double().numpy() / scaling) for layer, logits in read.items()}
    last = softmax(model.lm_head(states[-1][0, -1]).double().numpy() / scaling)
    chosen = max(layers, key=lambda layer: divergence(last, early[layer]))
    return np.where(last >= 0.1 * last.max(), np.log(last) - np.log(early[chosen]), -np.inf)


def by_formula(model: PreTrainedModel, *, layers: list[int], penalty: float = 1.0) -> list[int]:
    text = PROMPT[0].tolist()
    penalize = RepetitionPenaltyLogitsProcessor(penalty)
    for _ in range(12):
        scores = torch.from_numpy(scores_by_formula(model, text, layers=layers))[None]
        text = [*text, int(penalize(torch.tensor([text]), scores).argmax())]
    return text


@pytest.mark.parametrize(
    ("layers", "tied", "untied"),
    [("low", [2], [0, 2]), ("high", [4], [4]), ([1, 3, 5], [1, 3, 5], [1, 3, 5]), ([0], [0], [0])],
)
def test_it_is_the_formula(lm, layers, tied, untied):
    meant = tied if lm.config.tie_word_embeddings else untied
    written = write(lm, layers=layers)[0].tolist()
    assert written == by_formula(lm, layers=meant)
    assert written != write(lm, layers=[2, 3])[0].tolist()


def test_the_repetition_penalty_comes_after(lm):
    written = write(lm, layers=[1, 3], repetition_penalty=1.2)[0].tolist()
    assert written == by_formula(lm, layers=[1, 3], penalty=1.2)


def test_logits_that_a_model_scales_are_scaled_for_early_layers_too():
    granite = build("granite")
    token = int(write(granite, layers=[1, 3], max_new_tokens=1)[0, -1])
    scores = scores_by_formula(granite, PROMPT[0].tolist(), layers=[1, 3], scaling=5.0)
    assert token == scores.argmax()
    seen = []

    def see(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        seen.append(scores[0])
        return scores

    write(granite, layers=[1, 3], max_new_tokens=1, processors=[see])
    np.testing.assert_allclose(seen[0].numpy(), scores, rtol=1e-3, atol=1e-4)


def test_a_left_padded_row_is_written_as_it_is_alone(lm):
    batch = torch.tensor([[5, 6, 7, 8, 9, 10], [PAD, PAD, PAD, PAD, 40, 41]])
    mask = torch.tensor([[1] * 6, [0] * 4 + [1] * 2])
    together = write(lm, batch, mask=mask, layers=[1, 2, 3, 4, 5])
    assert together[0].tolist() == write(lm, batch[:1], layers=[1, 2, 3, 4, 5])[0].tolist()
    alone = write(lm, torch.tensor([[40, 41]]), layers=[1, 2, 3, 4, 5])[0].tolist()
    assert together[1, 4:].tolist() == alone


def test_a_row_that_ends_is_padded_and_the_other_goes_on(lm):
    batch = torch.cat([PROMPT, PROMPT.flip(1)])
    free = write(lm, batch)[:, 4:].tolist()
    eos = next(token for token in free[0] if token not in free[1])
    ended = write(lm, batch, eos_token_id=eos)[:, 4:].tolist()
    until = free[0].index(eos) + 1
    assert ended == [free[0][:until] + [PAD] * (12 - until), free[1]]


def test_draws_follow_the_contrasted_scores(lm):
    token_scores = scores_by_formula(lm, PROMPT[0].tolist(), layers=[1, 3])
    probabilities = softmax(token_scores)
    torch.manual_seed(0)
    many = write(lm, PROMPT.expand(4000, -1), layers=[1, 3], draw=True, max_new_tokens=1)[:, -1]
    shares = torch.bincount(many, minlength=120).double().numpy() / 4000
    # Five standard deviations of a share.
    allowed = 5 * np.sqrt(probabilities * (1 - probabilities) / 4000)
    assert (np.abs(shares - probabilities) <= allowed + 1e-12).all()


def test_where_processors_leave_nothing_the_last_layer_decides(lm):
    logits = lm(PROMPT).logits[0, -1]
    implausible = logits.argsort()[:2].tolist()

    def only_implausible(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        kept = torch.full_like(scores, -torch.inf)
        kept[:, implausible] = scores[:, implausible]
        return kept

    for draw in (False, True):
        written = write(lm, draw=draw, max_new_tokens=1, processors=[only_implausible])
        assert int(written[0, -1]) in implausible
    assert int(write(lm, max_new_tokens=1, processors=[only_implausible])[0, -1]) == implausible[1]


def test_the_model_is_left_as_it_was(lm):
    before = lm(PROMPT).logits
    write(lm)
    assert torch.equal(lm(PROMPT).logits, before)


def test_each_row_is_contrasted_with_the_layer_farthest_from_its_last():
    last = torch.tensor([[0.7, 0.25, 0.05], [0.7, 0.25, 0.05]])
    near, far = [0.6, 0.3, 0.1], [0.2, 0.4, 0.4]
    early = torch.tensor([[near, far], [far, near]])
    scores = contrast(last.log(), early.log())
    # 0.05 is less than a tenth of 0.7.
    expected = torch.tensor([0.7 / 0.2, 0.25 / 0.4, 0.0]).log().expand(2, -1)
    torch.testing.assert_close(scores, expected)


def test_which_layers_are_early():
    def found(half: str, num_layers: int, *, tied: bool) -> list[int]:
        return early_layers(half, num_layers=num_layers, tied=tied)

    assert found("low", 32, tied=False) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert found("high", 32, tied=True) == [16, 18, 20, 22, 24, 26, 28, 30]
    assert found("low", 12, tied=True) == [2, 4]
    assert found("high", 6, tied=True) == [4]
    assert found("low", 80, tied=True) == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert found("high", 80, tied=False) == [60, 62, 64, 66, 68, 70, 72, 74, 76, 78]
    for num_layers in range(1, 50):
        for half in ("low", "high"):
            for tied in (True, False):
                layers = found(half, num_layers, tied=tied)
                assert layers
                assert all(0 <= layer < num_layers for layer in layers)
                assert not (tied and num_layers > 1 and 0 in layers)
    assert early_layers([3, 1, 1], num_layers=4, tied=True) == [1, 3]


@pytest.mark.parametrize("layers", [[6], [-1], [], [2, 7]])
def test_layers_that_the_model_has_not_are_refused(lm, layers):
    with pytest.raises(ConfigError, match="from 0 to 5, for the model has 6 layers"):
        write(lm, layers=layers)


def test_a_model_whose_head_reads_something_else_than_layers_is_refused():
    """The 350 M OPT's: its states are made narrower before."""
    narrow = {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False}
    opt = OPTForCausalLM(OPTConfig(**SIZES, **narrow)).eval()
    with pytest.raises(ModelError, match="head of OPTForCausalLM reads 16 numbers, and a layer gi"):
        write(opt)


def test_a_model_that_reads_its_head_its_own_way_is_refused():
    llama = build("llama")
    llama.register_forward_hook(lambda _, __, out: out.__setattr__("logits", out.logits[:, -1:]))
    with pytest.raises(ModelError, match="LlamaForCausalLM doesn't read its head in one go"):
        write(llama)
