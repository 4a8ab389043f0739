"""Contrastive search against greedy search, and against its formula without a cache."""

from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MaxLengthCriteria,
    NoRepeatNGramLogitsProcessor,
    PreTrainedModel,
    RwkvConfig,
    RwkvForCausalLM,
    StoppingCriteriaList,
)

from gptft.decoding.loops.contrastive import contrastive_search
from gptft.errors import ModelError

PAD = 1
PROMPT = torch.tensor([[5, 6, 7, 8]])
SHORT = torch.tensor([[40, 41]])


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def lm(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(1)
    if request.param == "gpt2":
        return gpt2(n_positions=48)
    config = LlamaConfig(
        vocab_size=120,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=48,
        initializer_range=0.25,
    )
    return LlamaForCausalLM(config).eval()


def gpt2(*, n_positions: int) -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=120,
        n_layer=2,
        n_head=2,
        n_embd=32,
        n_positions=n_positions,
        initializer_range=0.25,
    )
    return GPT2LMHeadModel(config).eval()


def write(
    model: PreTrainedModel,
    input_ids: torch.Tensor = PROMPT,
    *,
    loop: Any = contrastive_search,
    mask: torch.Tensor | None = None,
    own: dict[str, Any] | None = None,
    processors: list[Any] | None = None,
    **settings: Any,
) -> torch.Tensor:
    settings = {"max_new_tokens": 14, "eos_token_id": 0, "pad_token_id": PAD, **settings}
    own = {"top_k": 4, "penalty_alpha": 0.6, **(own or {})} if loop else {}
    return model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids) if mask is None else mask,
        generation_config=GenerationConfig(**{"do_sample": False, **settings}),
        logits_processor=LogitsProcessorList(processors or []),
        custom_generate=loop,
        **own,
    )


@torch.no_grad()
def by_formula(
    model: PreTrainedModel,
    text: list[int],
    *,
    steps: int,
    k: int,
    alpha: float,
    processor: Any = None,
) -> list[int]:
    """Each candidate's whole text is read anew."""
    for _ in range(steps):
        output = model(torch.tensor([text]), output_hidden_states=True)
        logits = output.logits[:, -1]
        if processor is not None:
            logits = processor(torch.tensor([text]), logits)
        probabilities = logits[0].softmax(dim=-1)
        history = output.hidden_states[-1][0]
        worth = {}
        for token in probabilities.topk(k).indices.tolist():
            read = model(torch.tensor([[*text, token]]), output_hidden_states=True)
            state = read.hidden_states[-1][0, -1]
            likeness = max(float(cosine_similarity(state, past, dim=0)) for past in history)
            worth[token] = (1 - alpha) * float(probabilities[token]) - alpha * likeness
        text = [*text, max(worth, key=worth.__getitem__)]
    return text


@pytest.mark.parametrize("own", [{"penalty_alpha": 0.0}, {"top_k": 1, "penalty_alpha": 0.9}])
def test_without_a_penalty_or_a_choice_it_is_greedy(lm, own):
    greedy = write(lm, loop=None, max_new_tokens=40)
    assert write(lm, own=own, max_new_tokens=40).tolist() == greedy.tolist()


@pytest.mark.parametrize(("k", "alpha"), [(4, 0.6), (7, 1.0), (2, 0.3)])
def test_it_is_the_formula(lm, k, alpha):
    written = write(lm, own={"top_k": k, "penalty_alpha": alpha})[0].tolist()
    assert written == by_formula(lm, PROMPT[0].tolist(), steps=14, k=k, alpha=alpha)
    assert written != write(lm, loop=None)[0].tolist()


def test_processors_come_before_the_candidates(lm):
    expected = by_formula(
        lm,
        PROMPT[0].tolist(),
        steps=14,
        k=4,
        alpha=0.2,
        processor=NoRepeatNGramLogitsProcessor(1),
    )
    written = write(lm, own={"penalty_alpha": 0.2}, no_repeat_ngram_size=1)[0].tolist()
    assert written == expected
    assert len(set(written)) == len(written)
    assert written != write(lm, own={"penalty_alpha": 0.2})[0].tolist()


def test_a_forbidden_candidate_is_never_taken_however_unlike_the_text_it_is(lm):
    def only_two(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        allowed = torch.full_like(scores, -torch.inf)
        allowed[:, [50, 60]] = scores[:, [50, 60]]
        return allowed

    written = write(lm, own={"top_k": 8, "penalty_alpha": 1.0}, processors=[only_two])
    assert set(written[0, 4:].tolist()) <= {50, 60}


def test_a_left_padded_row_is_written_as_it_is_alone(lm):
    batch = torch.tensor([[5, 6, 7, 8, 9, 10], [PAD, PAD, PAD, PAD, 40, 41]])
    mask = torch.tensor([[1] * 6, [0] * 4 + [1] * 2])
    together = write(lm, batch, mask=mask)
    assert together[0].tolist() == write(lm, batch[:1])[0].tolist()
    assert together[1, 4:].tolist() == write(lm, SHORT)[0].tolist()


def test_padding_is_not_counted_where_no_positions_are_given(lm):
    batch, mask = torch.tensor([[5, 6, 7, 8], [PAD, PAD, 40, 41]]), torch.ones(2, 4).long()
    mask[1, :2] = 0
    with torch.no_grad():
        written = contrastive_search(
            lm,
            batch,
            LogitsProcessorList(),
            StoppingCriteriaList([MaxLengthCriteria(18)]),
            GenerationConfig(pad_token_id=PAD),
            top_k=4,
            penalty_alpha=0.6,
            attention_mask=mask,
        )
    assert written.tolist() == write(lm, batch, mask=mask).tolist()


def test_a_row_that_ends_is_padded_and_the_other_goes_on(lm):
    batch = torch.cat([PROMPT, PROMPT.flip(1)])
    free = write(lm, batch)[:, 4:].tolist()
    eos = next(token for token in free[0] if token not in free[1])
    ended = write(lm, batch, eos_token_id=[eos, 0])[:, 4:].tolist()
    until = free[0].index(eos) + 1
    assert ended[0] == free[0][:until] + [PAD] * (14 - until)
    assert ended[1] == free[1]
    alone = write(lm, PROMPT, eos_token_id=eos)[0, 4:].tolist()
    assert alone == free[0][:until]


def test_several_texts_of_a_prompt_are_the_same_text(lm):
    # Only drawn texts may be several: the config says so, though nothing is drawn here.
    twice = write(lm, num_return_sequences=2, do_sample=True, top_k=0).tolist()
    assert twice == write(lm).tolist() * 2


@pytest.mark.parametrize("prompt", [PROMPT, SHORT])
def test_the_last_token_needs_no_position(prompt):
    torch.manual_seed(1)
    small = gpt2(n_positions=12)
    new = 12 - prompt.shape[1] + 1
    written = write(small, prompt, max_new_tokens=new)[0].tolist()
    steps = by_formula(small, prompt[0].tolist(), steps=new - 1, k=4, alpha=0.6)
    with torch.no_grad():
        likeliest = int(small(torch.tensor([steps])).logits[0, -1].argmax())
    assert written == [*steps, likeliest]


def test_a_long_row_at_its_last_position_leaves_a_short_one_as_it_is():
    torch.manual_seed(1)
    small = gpt2(n_positions=12)
    batch, mask = torch.tensor([[5, 6, 7, 8], [PAD, PAD, 40, 41]]), torch.ones(2, 4).long()
    mask[1, :2] = 0
    together = write(small, batch, mask=mask, max_new_tokens=9)
    assert together[1, 2:].tolist() == write(small, SHORT, max_new_tokens=9)[0].tolist()


class Heard:
    def __init__(self) -> None:
        self.ids: list[list[int]] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.ids.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended = True


def test_a_streamer_hears_the_prompt_and_then_each_token(lm):
    heard = Heard()
    written = write(lm, own={"token_streamer": heard})[0].tolist()
    assert heard.ids == [written[:4], *([token] for token in written[4:])]
    assert heard.ended


def test_a_streamer_hears_of_the_end_when_something_fails(lm):
    def fail(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("nothing comes")

    heard = Heard()
    with pytest.raises(RuntimeError, match="nothing comes"):
        write(lm, own={"token_streamer": heard}, processors=[fail])
    assert heard.ended


def test_a_model_that_hides_its_states_is_refused():
    torch.manual_seed(1)
    closed = gpt2(n_positions=48)
    closed.register_forward_hook(lambda _, __, output: output.__setattr__("hidden_states", None))
    with pytest.raises(ModelError, match="GPT2LMHeadModel doesn't give its hidden states"):
        write(closed)


def test_a_model_without_keys_and_values_is_refused():
    rwkv = RwkvForCausalLM(RwkvConfig(vocab_size=120, hidden_size=16, num_hidden_layers=2))
    with pytest.raises(ModelError, match="RwkvForCausalLM keeps no keys and values"):
        write(rwkv)
