import itertools
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)

from gptft.decoding.loops.beam_sampling import beam_sampling
from gptft.decoding.loops.constrained_beams import constrained_beam_search
from gptft.decoding.loops.diverse_beams import diverse_beam_search
from gptft.decoding.loops.required_words import read_required_words
from gptft.decoding.loops.stochastic_beams import draw_children, stochastic_beam_search
from gptft.errors import ConfigError

PAD = 299
EOS = [0, 5, 17]
PROMPTS = ([7, 9, 30, 41], [12], [100, 3])


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=48,
        initializer_range=0.25,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(params=["gpt2", "llama"])
def either(request: pytest.FixtureRequest, llama: PreTrainedModel) -> PreTrainedModel:
    return llama if request.param == "llama" else request.getfixturevalue("model")


def ends_often(input_ids, scores):
    """EOS likely enough for beams to end at many lengths."""
    scores = scores.clone()
    scores[:, EOS] += 3.25
    return scores


def run(model, prompts, loop=None, *, eos=EOS, processors=(ends_often,), criteria=(), **settings):
    """New ids of each row, up to the padding."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (longest - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    values = {"num_beams": 4, "max_new_tokens": 8, "do_sample": False} | settings
    config = GenerationConfig(
        eos_token_id=eos, pad_token_id=PAD, bos_token_id=0, top_k=0, use_cache=True, **values
    )
    model.generation_config = config
    output = model.generate(
        ids,
        attention_mask=mask,
        generation_config=config,
        logits_processor=LogitsProcessorList(processors),
        stopping_criteria=StoppingCriteriaList(criteria),
        custom_generate=loop,
    )
    assert (
        output[:, :longest].tolist()
        == ids.repeat_interleave(len(output) // len(ids), dim=0).tolist()
    )
    return output[:, longest:].tolist()


def texts(rows):
    """Rows without the padding after their EOS."""
    ends = [next((i + 1 for i, t in enumerate(row) if t in EOS), len(row)) for row in rows]
    return [tuple(row[:end]) for row, end in zip(rows, ends, strict=True)]


def log_probability(model, prompt, new_ids):
    """Of new ids behind a prompt, by one pass over all of them."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *new_ids]])).logits[0]
    steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return float(steps[range(len(new_ids)), list(new_ids)].sum())


SAME_AS_NATIVE = [
    pytest.param(*values, id=f"{values[0]}-{values[1]}-{values[2]}-{values[3]}")
    for values in [
        (1, 1.0, False, 1),
        (6, 0.0, False, 2),
        (9, 1.0, True, 4),
        (9, -1.0, False, 3),
        (14, 2.0, "never", 4),
        (14, 2.5, False, 4),
    ]
]


@pytest.mark.parametrize(("length", "length_penalty", "early_stopping", "returned"), SAME_AS_NATIVE)
def test_one_group_and_no_words_are_beam_search(
    either, length, length_penalty, early_stopping, returned
):
    settings = {
        "max_new_tokens": length,
        "length_penalty": length_penalty,
        "early_stopping": early_stopping,
        "num_return_sequences": returned,
        "repetition_penalty": 1.1,
    }
    native = run(either, PROMPTS, **settings)
    assert run(either, PROMPTS, diverse_beam_search, **settings) == native
    assert run(either, PROMPTS, partial(constrained_beam_search, constraints=[]), **settings) == (
        native
    )


def test_these_settings_meet_ends_of_all_kinds(either):
    rows = run(either, PROMPTS, num_return_sequences=4, early_stopping=True)
    assert len({len(text) for text in texts(rows)}) > 2
    assert any(row[-1] == PAD for row in rows)


@pytest.mark.parametrize("eos", [None, 5, [5]])
def test_beam_search_is_the_same_with_one_eos_or_none(either, eos):
    settings = {"eos": eos, "num_return_sequences": 2}
    assert run(either, PROMPTS, diverse_beam_search, **settings) == run(either, PROMPTS, **settings)


def test_another_stopping_criterion_ends_texts_as_in_beam_search(either):
    def ends_evenly(input_ids, scores, **kwargs):
        return input_ids[:, -1] % 4 == 0

    settings = {"criteria": [ends_evenly], "num_return_sequences": 3, "max_new_tokens": 10}
    assert run(either, PROMPTS, diverse_beam_search, **settings) == run(either, PROMPTS, **settings)


@pytest.mark.parametrize(
    "loop",
    [
        partial(diverse_beam_search, num_beam_groups=2, diversity_penalty=1.5),
        partial(constrained_beam_search, constraints=[[[60, 61]], [[88]]]),
    ],
    ids=["diverse", "constrained"],
)
def test_a_padded_row_is_its_single_run(either, loop):
    settings = {"num_return_sequences": 4, "max_new_tokens": 9}
    together = texts(run(either, PROMPTS, loop, **settings))
    alone = [texts(run(either, [prompt], loop, **settings)) for prompt in PROMPTS]
    assert together == [text for rows in alone for text in rows]


def test_groups_choose_as_the_formula_says(either):
    """Groups of one beam: each is greedy on log-probabilities less the penalty for each earlier."""
    prompt, penalty = [7, 9, 30], 1.5
    beams: list[list[int]] = [[], [], []]
    for _ in range(5):
        counts = np.zeros(300)
        for beam in beams:
            with torch.no_grad():
                logits = either(torch.tensor([prompt + beam])).logits[0, -1]
            beam.append(int((logits.log_softmax(-1).numpy() - penalty * counts).argmax()))
            counts[beam[-1]] += 1
    loop = partial(diverse_beam_search, num_beam_groups=3, diversity_penalty=penalty)
    rows = run(either, [prompt], loop, eos=None, processors=(), num_beams=3,
               num_return_sequences=3, max_new_tokens=5)  # fmt: skip
    assert len({*map(tuple, beams)}) == 3
    assert sorted(rows) == sorted(beams)
    scores = [log_probability(either, prompt, row) for row in rows]
    assert scores == sorted(scores, reverse=True)


def groups_by_hand(model, prompt, *, groups, penalty, length, ends):
    """Groups of one beam: each takes its best token less the penalty for each earlier choice.

    A token that ends the text ends it, and the beam grows by its second best, which counts as well.
    """
    beams, finished = [([], 0.0)] * groups, [(-np.inf, [])] * groups
    done = [False] * groups
    for step in range(1, length + 1):
        counts = np.zeros(300)
        for g, (beam, total) in enumerate(beams):
            if done[g]:
                continue
            with torch.no_grad():
                logits = model(torch.tensor([prompt + beam])).logits[0, -1]
            scores = logits.double().log_softmax(-1).numpy()
            best, second = map(int, np.argsort(penalty * counts - scores, kind="stable")[:2])
            stops = ends({best}) or step == length
            counts[best] += 1
            if stops:
                finished[g] = max(finished[g], ((total + scores[best]) / step, [*beam, best]))
                counts[second] += step < length and not ends({second})
            token = second if stops else best
            beams[g] = ([*beam, token], total + scores[token])
            done[g] = finished[g][0] >= beams[g][1] / step
    return [text for _, text in sorted(finished, reverse=True)]


@pytest.mark.parametrize("length", [1, 2, 6])
@pytest.mark.parametrize("penalty", [0.7, 100.0])
@pytest.mark.parametrize("ending", [(), (5,), range(0, 300, 3)], ids=["none", "one", "many"])
def test_a_choice_that_ends_a_text_keeps_later_groups_away_too(either, length, penalty, ending):
    def ends(tokens):
        return not tokens.isdisjoint(ending)

    def stop(input_ids, scores, **kwargs):
        return torch.tensor([ends({i}) for i in input_ids[:, -1].tolist()])

    loop = partial(diverse_beam_search, num_beam_groups=3, diversity_penalty=penalty)
    settings = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": length}
    for prompt in PROMPTS:
        rows = run(either, [prompt], loop, eos=None, processors=(), criteria=[stop], **settings)
        written = [[i for i in row if i != PAD] for row in rows]
        wanted = groups_by_hand(
            either, list(prompt), groups=3, penalty=penalty, length=length, ends=ends
        )
        assert written == wanted
        if length == 1 and penalty == 100.0:
            assert len({tuple(row) for row in written}) == 3


@pytest.mark.parametrize("early_stopping", [False, True])
def test_beams_draw_what_those_of_transformers_draw(either, early_stopping):
    for seed in range(4):
        settings = {"do_sample": True, "num_return_sequences": 4, "early_stopping": early_stopping}
        torch.manual_seed(seed)
        native = run(either, PROMPTS, **settings, temperature=1.3)
        torch.manual_seed(seed)
        assert run(either, PROMPTS, beam_sampling, **settings, temperature=1.3) == native


def test_beams_draw_no_token_that_is_ruled_out(either):
    """Where fewer tokens are left than draws, transformers draws some of those ruled out."""

    def only_three(input_ids, scores):
        kept = torch.full_like(scores, -torch.inf)
        kept[:, [60, 61, 62]] = scores[:, [60, 61, 62]]
        return kept

    settings = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 1, "do_sample": True}
    torch.manual_seed(0)
    rows = run(either, PROMPTS, beam_sampling, processors=[only_three], **settings)
    assert {token for row in rows for token in row} <= {60, 61, 62}
    torch.manual_seed(0)
    native = run(either, PROMPTS, processors=[only_three], **settings)
    assert not {token for row in native for token in row} <= {60, 61, 62}


def test_diverse_beams_share_fewer_tokens(either):
    def overlap(rows):
        pairs = itertools.combinations(rows, 2)
        return np.mean([len({*a} & {*b}) / len({*a} | {*b}) for a, b in pairs])

    settings = {"num_beams": 6, "num_return_sequences": 6, "eos": None, "processors": ()}
    loop = partial(diverse_beam_search, num_beam_groups=3, diversity_penalty=3.0)
    plain, diverse = (
        [overlap(run(either, [p], way, **settings)) for p in PROMPTS] for way in (None, loop)
    )
    assert np.mean(diverse) < 0.8 * np.mean(plain)


def test_settings_that_forbid_all_tokens_are_explained(model):
    def nothing(input_ids, scores):
        return torch.full_like(scores, -torch.inf)

    for loop in (diverse_beam_search, beam_sampling, stochastic_beam_search):
        with pytest.raises(ConfigError, match="leave no token"):
            run(model, PROMPTS, loop, processors=[nothing])


def holds(row, word):
    return any(row[i : i + len(ids)] == ids for ids in word for i in range(len(row)))


CONSTRAINTS = [
    [[[60]]],
    [[[60, 61]], [[88]]],
    [[[60, 61, 60, 62]], [[61, 60]]],  # they overlap
    [[[60, 60, 61]], [[100, 3], [77]]],
    [[[10, 11, 12]], [[20, 21, 22]], [[30, 31]]],
]


@pytest.mark.parametrize("constraints", CONSTRAINTS)
@pytest.mark.parametrize(("length", "num_beams"), [(15, 2), (8, 6)])
def test_every_text_holds_every_word(either, constraints, length, num_beams):
    loop = partial(constrained_beam_search, constraints=constraints)
    settings = {"num_beams": num_beams, "max_new_tokens": length, "num_return_sequences": num_beams}
    rows = run(either, PROMPTS, loop, **settings)
    assert len(rows) == num_beams * len(PROMPTS)
    for text in texts(rows):
        assert all(holds(list(text), word) for word in constraints)
    for first in range(0, len(rows), num_beams):
        assert len({*texts(rows[first : first + num_beams])}) == num_beams


def test_texts_may_end_before_the_longest_once_words_are_there(either):
    loop = partial(constrained_beam_search, constraints=[[[60, 61]]])
    found = texts(run(either, PROMPTS, loop, num_return_sequences=4, max_new_tokens=16))
    assert any(text[-1] in EOS and len(text) < 16 for text in found)


def test_words_fit_exactly(either):
    loop = partial(constrained_beam_search, constraints=[[[60, 61]], [[70, 71, 72]]])
    rows = run(either, [PROMPTS[0]], loop, max_new_tokens=5, num_return_sequences=2)
    assert sorted(rows) == [[60, 61, 70, 71, 72], [70, 71, 72, 60, 61]]
    forced = run(either, [PROMPTS[0]], loop, max_new_tokens=6, forced_eos_token_id=0)
    assert forced[0][-1] == 0
    assert holds(forced[0], [[60, 61]])
    assert holds(forced[0], [[70, 71, 72]])


def test_words_without_room_are_refused_with_both_numbers(model):
    words = [[[60, 61, 62]], [[1, 2], [3, 4]], [[3, 4], [1, 2], [1, 2]]]
    loop = partial(constrained_beam_search, constraints=words)
    with pytest.raises(ConfigError, match="need 5 tokens, and there is room for 4"):
        run(model, PROMPTS, loop, max_new_tokens=4)
    with pytest.raises(ConfigError, match="no tokens"):
        run(model, PROMPTS, partial(constrained_beam_search, constraints=[[[1], []]]))


def test_words_that_other_settings_forbid_are_explained(model):
    loop = partial(constrained_beam_search, constraints=[[[60]]])
    with pytest.raises(ConfigError, match="force_words can't all be written"):
        run(model, PROMPTS, loop, suppress_tokens=[60])


@pytest.mark.parametrize("seed", range(20))
def test_states_of_words_agree_with_a_search_in_the_text(seed):
    rng = np.random.default_rng(seed)
    constraints = [
        [rng.integers(0, 3, size=rng.integers(1, 5)).tolist() for _ in range(rng.integers(1, 3))]
        for _ in range(rng.integers(1, 4))
    ]
    words = read_required_words(constraints, max_new_tokens=100)
    state, text = words.start, []
    for token in rng.integers(0, 3, size=30).tolist():
        if not words.needed(state):
            break
        # One useful token at least brings the end nearer: what keeps the promise of room.
        best = min(words.needed(words.after(state, t)) for t in words.useful(state))
        assert best < words.needed(state)
        state, text = words.after(state, token), [*text, token]
        met = [seen is None for seen in state]
        assert met == [holds(text, [list(ids) for ids in word]) for word in words.words]
    assert (words.needed(state) == 0) == all(holds(text, word) for word in constraints)


TABLE = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.25, 0.7, 0.05], [0.6, 0.3, 0.1]])


def draw_pairs(num_draws, width):
    """Texts of two tokens, by the order of their scores; the second depends on the first."""
    table = torch.tensor(TABLE).log()
    scores = torch.full((num_draws, width), -torch.inf, dtype=torch.float64)
    scores[:, 0] = 0.0
    first = table[0].expand(num_draws, width, 3)
    _, tokens, log_probs, scores = draw_children(first, scores, scores)
    parents, last, log_probs, scores = draw_children(table[1:][tokens], log_probs, scores)
    tokens = tokens.gather(1, parents)
    expected = table[0][tokens] + table[1:].flatten()[tokens * 3 + last]
    assert torch.allclose(log_probs, expected)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    return (tokens * 3 + last).tolist()


def test_the_first_text_is_as_likely_as_sampling_draws_it():
    torch.manual_seed(0)
    num_draws = 20_000
    counts = Counter(row[0] for row in draw_pairs(num_draws, 1))
    probabilities = (TABLE[0][:, None] * TABLE[1:]).ravel()
    for text, p in enumerate(probabilities):
        assert abs(counts[text] / num_draws - p) < 4.5 * np.sqrt(p * (1 - p) / num_draws)


def test_two_texts_are_drawn_without_replacement():
    torch.manual_seed(0)
    num_draws = 20_000
    rows = draw_pairs(num_draws, 2)
    assert all(a != b for a, b in rows)
    p = (TABLE[0][:, None] * TABLE[1:]).ravel()
    # First i or, once j is gone, i of what is left.
    inclusion = p * (1 + (p / (1 - p)).sum() - p / (1 - p))
    counts = Counter(text for row in rows for text in row)
    for text, q in enumerate(inclusion):
        assert abs(counts[text] / num_draws - q) < 4.5 * np.sqrt(q * (1 - q) / num_draws)


def test_noise_of_unlikely_and_impossible_tokens_stays_finite_or_out():
    torch.manual_seed(0)
    steps = torch.tensor([[[0.0, -300.0, -torch.inf], [-torch.inf, -torch.inf, -torch.inf]]])
    start = torch.tensor([[-1.0, -2.0]], dtype=torch.float64)
    parents, tokens, log_probs, scores = draw_children(steps.double(), start, start)
    assert parents.tolist() == [[0, 0]]
    assert tokens.tolist() == [[0, 1]]
    assert log_probs.tolist() == [[-1.0, -301.0]]
    assert scores[0, 0] == -1.0
    assert -320 < scores[0, 1] < -250


def test_stochastic_beams_differ_and_follow_the_seed(either):
    settings = {"num_beams": 6, "num_return_sequences": 6, "do_sample": True}

    def draw(seed, **more):
        torch.manual_seed(seed)
        return run(either, PROMPTS, stochastic_beam_search, **(settings | more))

    rows = draw(0)
    for first in range(0, len(rows), 6):
        assert len({*texts(rows[first : first + 6])}) == 6
    assert draw(0) == rows
    assert draw(1) != rows
    best = texts(draw(0, num_return_sequences=2))
    assert best == [text for i in (0, 6, 12) for text in texts(rows[i : i + 2])]
    assert any(row[-1] == PAD for row in rows)
    assert any(text[-1] in EOS for text in texts(rows))


def test_stochastic_beams_read_padded_prompts_and_their_own_memory_right(either):
    """A cold temperature makes the first beam greedy, whatever the noise."""
    rows = run(either, PROMPTS, stochastic_beam_search, num_beams=3, do_sample=True,
               temperature=1e-4)  # fmt: skip
    for row, prompt in zip(rows, PROMPTS, strict=True):
        assert texts([row]) == texts(run(either, [prompt], num_beams=1))


def test_the_whole_tree_is_drawn_where_it_is_small(model):
    """Three tokens allowed, one of them EOS, two steps: 1 + 2 * 3 texts, and no eighth."""

    def only_three(input_ids, scores):
        kept = torch.full_like(scores, -torch.inf)
        kept[:, [5, 60, 61]] = scores[:, [5, 60, 61]]
        return kept

    torch.manual_seed(0)
    rows = run(model, [[7]], stochastic_beam_search, processors=[only_three], num_beams=8,
               num_return_sequences=8, max_new_tokens=2, do_sample=True)  # fmt: skip
    wanted = {(5,), *itertools.product((60, 61), (5, 60, 61))}
    assert {*texts(rows)} == wanted
    assert rows[7] == rows[0]
