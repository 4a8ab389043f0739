import math

import pytest
import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
)

from gptft.decoding.auxiliary_logits import AuxiliaryLogits
from gptft.decoding.strategies.contrastive_decoding import contrast
from gptft.decoding.strategies.dexperts import pull
from gptft.decoding.strategies.guidance import guide
from gptft.errors import ConfigError, ModelError

VOCAB = 60
PAD = 0
STEPS = 8
PROMPTS = ([5, 17, 33, 8, 41], [9, 2])
OTHERS = ([21, 4, 50], [7, 7, 30, 12, 3, 44])  # what the auxiliary logits continue


def gpt2(seed, *, num_layers=2, vocab_size=VOCAB, n_positions=48):
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size, n_layer=num_layers, n_head=2, n_embd=32, n_positions=n_positions,
        initializer_range=0.25, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def llama(seed, *, num_layers=2):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=num_layers,
        num_attention_heads=2, initializer_range=0.25, max_position_embeddings=48,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module", params=[gpt2, llama], ids=["gpt2", "llama"])
def models(request):
    """A model and two others of its vocabulary, one of them of another depth."""
    make = request.param
    return make(1), make(2, num_layers=1), make(3)


def padded(prompts):
    """Left-padded ids and mask; what stands in the padding must not matter."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (longest - len(one)) + one for one in prompts])
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
    return ids, mask


def auxiliary(model, prompts, **kwargs):
    return AuxiliaryLogits(model, *padded(prompts), **kwargs)


def width(prompts):
    return max(map(len, prompts))


def written(model, prompts, processors, *, steps=STEPS, eos=None, **kwargs):
    """New ids (B, steps) and scores (steps, B, V) of stock greedy `generate`."""
    ids, mask = padded(prompts)
    output = model.generate(
        ids,
        attention_mask=mask,
        generation_config=GenerationConfig(
            max_new_tokens=steps, do_sample=False, eos_token_id=eos, pad_token_id=PAD,
            return_dict_in_generate=True, output_scores=True,
            guidance_scale=kwargs.pop("guidance_scale", None),
        ),
        logits_processor=LogitsProcessorList(processors),
        **kwargs,
    )  # fmt: skip
    return output.sequences[:, ids.shape[1] :].tolist(), torch.stack(output.scores)


def greedy(formula, *, steps=STEPS):
    """Argmax of `formula(new ids)` over and over: new ids and scores (steps, V); no cache."""
    new, scores = [], []
    for _ in range(steps):
        with torch.no_grad():
            scores.append(formula(new))
        new.append(int(scores[-1].argmax()))
    return new, torch.stack(scores)


def logits(model, ids):
    return model(torch.tensor([ids])).logits[0, -1]


def assert_same(got, wanted):
    """Same ids, and the same scores for a batch of one."""
    (new,), scores = got
    assert new == wanted[0]
    torch.testing.assert_close(scores[:, 0], wanted[1], atol=2e-4, rtol=1e-4)


# Amateur


class Fixed:
    """Auxiliary logits that always says the same."""

    name = "amateur_model"

    def __init__(self, *rows):
        self.rows = torch.tensor(rows)

    def next_logits(self, input_ids, *, prompt_length):
        return self.rows


def test_the_amateur_by_hand():
    expert = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()
    amateur = Fixed([math.log(0.25), math.log(0.5), 9.0, -9.0])
    processor = contrast(
        amateur, prompt_length=1, cd_alpha=0.4, cd_beta=1.0, amateur_temperature=2.0
    )
    scores = processor(torch.tensor([[1]]), expert)
    # 2 ln 1/2 - ln(1/4) / 2 = -ln 2; 2 ln 1/4 - ln(1/2) / 2 = -3.5 ln 2; 0.15 < 0.4 * 0.5
    wanted = [[-math.log(2), -3.5 * math.log(2), -math.inf, -math.inf]]
    torch.testing.assert_close(scores, torch.tensor(wanted))


def test_the_amateur_orders_tokens_as_the_original_does_where_it_weighs_enough():
    torch.manual_seed(0)
    expert, amateur = torch.randn(1, 40), torch.randn(1, 40)
    processor = contrast(Fixed(*amateur.tolist()), prompt_length=1, cd_alpha=0.05,
                                 cd_beta=1e3, amateur_temperature=0.5)  # fmt: skip
    scores = processor(torch.tensor([[1]]), expert)[0]
    p_expert, p_amateur = expert.softmax(-1)[0], (amateur / 0.5).softmax(-1)[0]
    ratio = torch.where(p_expert >= 0.05 * p_expert.max(), (p_expert / p_amateur).log(), -math.inf)
    kept = int(ratio.isfinite().sum())
    assert 3 < kept < 40
    assert scores.argsort(descending=True)[:kept].tolist() == (
        ratio.argsort(descending=True)[:kept].tolist()
    )


def test_the_amateur_in_a_text(models):
    main, amateur, _ = models
    alpha, beta, temperature = 0.05, 0.8, 1.5

    def formula(new):
        expert, weak = logits(main, PROMPTS[0] + new), logits(amateur, PROMPTS[0] + new)
        p = expert.softmax(-1)
        contrast = (1 + beta) * expert - beta * weak / temperature
        return torch.where(p >= alpha * p.max(), contrast, -math.inf)

    processor = contrast(auxiliary(amateur, PROMPTS[:1]), prompt_length=5, cd_alpha=alpha,
                                 cd_beta=beta, amateur_temperature=temperature)  # fmt: skip
    wanted = greedy(formula)
    assert wanted[0] != greedy(lambda new: logits(main, PROMPTS[0] + new))[0]
    assert_same(written(main, PROMPTS[:1], [processor]), wanted)


def test_beta_0_is_the_model_alone_without_its_unlikely_tokens(models):
    main, amateur, _ = models
    processor = contrast(auxiliary(amateur, PROMPTS[:1]), prompt_length=5, cd_alpha=0.1,
                                 cd_beta=0.0)  # fmt: skip
    new, scores = written(main, PROMPTS[:1], [processor])
    plain, raw = written(main, PROMPTS[:1], [])
    assert new == plain
    p = raw.softmax(-1)
    assert (scores.isfinite() == (p >= 0.1 * p.max(-1, keepdim=True).values)).all()
    assert (scores[scores.isfinite()] == raw[scores.isfinite()]).all()


# DExperts


@pytest.mark.parametrize("has", ["both", "expert", "antiexpert"])
def test_dexperts_in_a_text(models, has):
    main, expert, anti = models

    def formula(new):
        ids = PROMPTS[0] + new
        base = logits(main, ids)
        plus = logits(expert, ids) if has != "antiexpert" else base
        minus = logits(anti, ids) if has != "expert" else base
        return base + 0.7 * (plus - minus)

    processor = pull(
        auxiliary(expert, PROMPTS[:1]) if has != "antiexpert" else None,
        auxiliary(anti, PROMPTS[:1]) if has != "expert" else None,
        prompt_length=5,
        dexperts_alpha=0.7,
    )
    wanted = greedy(formula)
    assert wanted[0] != greedy(lambda new: logits(main, PROMPTS[0] + new))[0]
    assert_same(written(main, PROMPTS[:1], [processor]), wanted)


def test_dexperts_needs_one_of_the_two():
    with pytest.raises(ConfigError, match="expert_model, antiexpert_model or both"):
        pull(None, None, prompt_length=1, dexperts_alpha=1.0)


# Guidance


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.8])
def test_guidance_is_that_of_transformers(models, scale):
    main = models[0]
    processor = guide(auxiliary(main, OTHERS[:1]), prompt_length=5, guidance_scale=scale)
    native = written(
        main, PROMPTS[:1], [], guidance_scale=scale, negative_prompt_ids=torch.tensor(OTHERS[:1])
    )
    assert native[0] != written(main, PROMPTS[:1], [])[0]
    assert_same(written(main, PROMPTS[:1], [processor]), (native[0][0], native[1][:, 0]))


def test_guidance_without_a_negative_prompt_is_that_of_transformers(models):
    main = models[0]
    processor = guide(auxiliary(main, [PROMPTS[0][-1:]]), prompt_length=5, guidance_scale=1.8)
    native = written(main, PROMPTS[:1], [], guidance_scale=1.8)
    assert_same(written(main, PROMPTS[:1], [processor]), (native[0][0], native[1][:, 0]))


def test_guidance_is_context_aware_decoding(models):
    main, alpha = models[0], 0.6
    context, question = [11, 52, 29, 6], [19, 35]

    def formula(new):
        with_it, without = logits(main, context + question + new), logits(main, question + new)
        return ((1 + alpha) * with_it - alpha * without).log_softmax(-1)

    processor = guide(auxiliary(main, [question]), prompt_length=6, guidance_scale=1 + alpha)
    (new,), scores = written(main, [context + question], [processor])
    wanted = greedy(formula)
    assert wanted[0] != greedy(lambda new: logits(main, context + question + new))[0]
    assert_same(([new], scores.log_softmax(-1)), wanted)


# What they have in common


def processors(models, prompts, others):
    """One of each, by name, for a batch of prompts."""
    main, one, two = models
    length = width(prompts)
    return {
        "amateur": contrast(
            auxiliary(one, prompts), prompt_length=length, cd_alpha=0.05, cd_beta=0.8
        ),
        "dexperts": pull(
            auxiliary(one, prompts),
            auxiliary(two, prompts),
            prompt_length=length,
            dexperts_alpha=0.7,
        ),
        "guidance": guide(auxiliary(main, others), prompt_length=length, guidance_scale=1.8),
    }


@pytest.mark.parametrize("which", ["amateur", "dexperts", "guidance"])
def test_a_row_of_a_batch_is_its_single_run(models, which):
    main = models[0]
    new, scores = written(main, PROMPTS, [processors(models, PROMPTS, OTHERS)[which]])
    for row in range(2):
        one = processors(models, [PROMPTS[row]], [OTHERS[row]])[which]
        (alone,), own = written(main, [PROMPTS[row]], [one])
        assert new[row] == alone
        torch.testing.assert_close(scores[:, row], own[:, 0], atol=2e-4, rtol=1e-4)
    assert new[0] != new[1]


def test_a_row_that_has_ended_leaves_the_others_alone(models):
    main = models[0]
    free, _ = written(main, PROMPTS, [processors(models, PROMPTS, OTHERS)["guidance"]])
    eos = next(token for token in free[0] if token not in free[1])
    place = free[0].index(eos)
    processor = processors(models, PROMPTS, OTHERS)["guidance"]
    new, _ = written(main, PROMPTS, [processor], eos=eos)
    assert new[0] == free[0][: place + 1] + [PAD] * (STEPS - place - 1)
    assert new[1] == free[1]


def test_several_texts_a_prompt(models):
    ids, mask = padded(OTHERS)
    new = torch.tensor([[3, 4], [5, 6], [7, 8], [9, 10]])
    together = AuxiliaryLogits(models[0], ids, mask).next_logits(new, prompt_length=0)
    for row in range(4):
        alone = logits(models[0], OTHERS[row // 2] + new[row].tolist())
        torch.testing.assert_close(together[row], alone, atol=2e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="3 rows are no multiple of 2 prompts"):
        AuxiliaryLogits(models[0], ids, mask).next_logits(new[:3], prompt_length=0)


def test_only_new_tokens_are_read_and_a_new_text_begins_anew(models):
    main, other, _ = models
    processor = guide(auxiliary(other, OTHERS), prompt_length=5, guidance_scale=1.8)
    lengths = []
    hook = other.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        first = written(main, PROMPTS, [processor], steps=4)
        assert lengths == [6, 1, 1, 1]
        second = written(main, PROMPTS, [processor], steps=4)
        assert lengths == [6, 1, 1, 1] * 2
    finally:
        hook.remove()
    assert first[0] == second[0]
    assert (first[1] == second[1]).all()


@pytest.mark.parametrize(
    "then",
    [[30, 31], [30, 31, 32, 33], [30, 9, 32, 33], [30], []],
    ids=["same", "longer by two", "changed", "shorter", "none"],
)
def test_whatever_the_text_was_before(models, then):
    other = auxiliary(models[0], OTHERS[:1])
    for new in ([30, 31], then):
        ids = torch.tensor([PROMPTS[0] + new])
        got = other.next_logits(ids, prompt_length=5)
    assert got.dtype == torch.float32
    with torch.no_grad():
        wanted = logits(models[0], OTHERS[0] + then)
    torch.testing.assert_close(got[0], wanted, atol=2e-4, rtol=1e-4)


def test_a_pass_that_failed_is_forgotten(models):
    other = auxiliary(models[0], OTHERS[:1])
    text = torch.tensor([PROMPTS[0] + [30, 31]])
    other.next_logits(text[:, :6], prompt_length=5)

    def fail(*_):
        raise RuntimeError("out of memory")

    hook = models[0].register_forward_hook(fail)  # called after the pass, which filled the cache
    with pytest.raises(RuntimeError):
        other.next_logits(text, prompt_length=5)
    hook.remove()
    got = other.next_logits(torch.tensor([PROMPTS[0] + [30, 31, 32]]), prompt_length=5)
    with torch.no_grad():
        wanted = logits(models[0], [*OTHERS[0], 30, 31, 32])
    torch.testing.assert_close(got[0], wanted, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "processor",
    [
        contrast(Fixed([1.0, 2.0, 3.0]), prompt_length=1, cd_alpha=0.1, cd_beta=0.0),
        pull(Fixed([1.0, 2.0, 3.0]), None, prompt_length=1, dexperts_alpha=2.0),
        pull(None, Fixed([1.0, 2.0, 3.0]), prompt_length=1, dexperts_alpha=1.0),
        guide(Fixed([1.0, 2.0, 3.0]), prompt_length=1, guidance_scale=0.0),
    ],
    ids=["amateur", "expert", "antiexpert", "guidance"],
)
def test_what_is_impossible_stays_so(processor):
    scores = processor(torch.tensor([[1]]), torch.tensor([[0.5, -math.inf, 1.0]]))
    assert scores.isfinite().tolist() == [[True, False, True]]
    assert scores[0, 1] == -math.inf


def test_another_vocabulary_is_refused():
    other = auxiliary(gpt2(2, vocab_size=61), PROMPTS[:1], name="amateur_model")
    processor = contrast(other, prompt_length=5, cd_alpha=0.1, cd_beta=0.5)
    with pytest.raises(ModelError, match=r"amateur_model: .* of 61, and the main model one of 60"):
        written(gpt2(1), PROMPTS[:1], [processor])


def test_a_prompt_of_another_tokenizer_is_refused():
    with pytest.raises(ModelError, match="holds id 41, and it has 40 embeddings"):
        auxiliary(gpt2(2, vocab_size=40), PROMPTS)


def test_a_context_is_filled_to_its_last_position_and_not_beyond():
    main, other = gpt2(1), gpt2(2, n_positions=8)
    prompt = [4, 5, 6]
    longer = [[*prompt, 7, 8], prompt]

    def processor(prompts):
        return [guide(auxiliary(other, prompts), prompt_length=5, guidance_scale=2.0)]

    new, _ = written(main, [PROMPTS[0]], processor([prompt]), steps=6)
    assert len(new[0]) == 6
    with pytest.raises(ConfigError, match=r"context is 8 tokens, and its prompt of 3 .* to 9"):
        written(main, [PROMPTS[0]], processor([prompt]), steps=7)
    written(main, PROMPTS, processor(longer), steps=4)
    with pytest.raises(ConfigError, match=r"context is 8 tokens, and its prompt of 5 .* to 9"):
        written(main, PROMPTS, processor(longer), steps=5)


def test_padding_takes_no_room_in_the_context():
    wide = AuxiliaryLogits(
        gpt2(2, n_positions=8),
        torch.tensor([[PAD] * 6 + [4, 5, 6]]),
        torch.tensor([[0] * 6 + [1] * 3]),
    )
    text = torch.tensor([[7, 1, 2, 3, 4, 5]])
    wide.next_logits(text, prompt_length=1)
    with pytest.raises(ConfigError, match="to 9"):
        wide.next_logits(text, prompt_length=0)


@pytest.mark.parametrize(
    "mask", [[[1, 1], [0, 0]], [[1, 1], [1, 0]], [[], []]], ids=["empty", "right", "none"]
)
def test_a_prompt_without_its_last_token_is_refused(mask):
    ids = torch.tensor([[1, 2], [3, 4]])[:, : len(mask[0])]
    with pytest.raises(ConfigError, match="ends with padding, or has no token"):
        AuxiliaryLogits(gpt2(2), ids, torch.tensor(mask, dtype=torch.long))
