"""Each processor on numbers worked by hand, and against its formula written in NumPy.

The NumPy statements see one row at a time, in float64, and only the tokens that are still there.
"""

import math

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList

from gptft.decoding.define import bend_by, cut_by
from gptft.decoding.strategies.dry import dry_penalty, repeat_lengths
from gptft.decoding.strategies.dynamic_temperature import divided_by_entropy
from gptft.decoding.strategies.frequency import frequency_presence_penalty
from gptft.decoding.strategies.mirostat import (
    MirostatV1Warper,
    MirostatWarper,
    mirostat_top_k,
    zipf_exponent,
)
from gptft.decoding.strategies.quadratic_smoothing import smoothed
from gptft.decoding.strategies.stock_cuts import keep_likeliest, top_h_keeps
from gptft.decoding.strategies.tail_free import tail_free_keeps
from gptft.decoding.strategies.tokens import allowed_tokens, logit_bias
from gptft.decoding.strategies.top_a import top_a_keeps
from gptft.decoding.strategies.top_n_sigma import top_n_sigma_keeps
from gptft.decoding.strategies.xtc import exclude_top_choices

GONE = -math.inf
SEEDS = range(5)


def logits_of(*probs):
    """One row of logits, not normalized, that come to these probabilities."""
    return torch.tensor([[math.log(p) + 1.5 if p else GONE for p in probs]])


def ids_of(*rows):
    return torch.tensor(rows)


def kept(scores):
    """The ids that are still there, row by row."""
    return [[i for i, score in enumerate(row) if score > GONE] for row in scores.tolist()]


def call(processor, scores, ids=None):
    return processor(torch.zeros(len(scores), 3, dtype=torch.long) if ids is None else ids, scores)


def random_logits(seed, *, rows=4, num_ids=40):
    """Rows of different sharpness, some tokens removed, in another number in each row."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, num_ids)) * rng.uniform(0.5, 4, size=(rows, 1))
    logits[rng.random(logits.shape) < rng.uniform(0, 0.5, size=(rows, 1))] = GONE
    logits[:, 7] = 1.0
    return torch.tensor(logits, dtype=torch.float32)


def by_row(statement, logits):
    """Apply a NumPy statement to what is there of each row."""
    result = np.full(logits.shape, GONE)
    for row, out in zip(logits.double().numpy(), result, strict=True):
        there = np.flatnonzero(row > GONE)
        out[there] = statement(row[there])
    return torch.tensor(result, dtype=torch.float32)


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def where_kept(keep, x):
    return np.where(keep, x, GONE)


def some_of_each():
    """A processor of each kind, made anew: some remember."""
    return {
        "top_k": keep_likeliest(5),
        "top_h": cut_by(top_h_keeps, top_h=0.4),
        "top_n_sigma": cut_by(top_n_sigma_keeps, top_n_sigma=0.5),
        "top_a": cut_by(top_a_keeps, top_a=0.9),
        "tail_free": cut_by(tail_free_keeps, tfs_z=0.3),
        "dynamic_temperature": bend_by(
            divided_by_entropy, temperature=0.7, dynatemp_range=0.9, dynatemp_exponent=1.3
        ),
        "quadratic_smoothing": bend_by(smoothed, smoothing_factor=0.4, smoothing_curve=1.6),
        "xtc": exclude_top_choices(xtc_probability=1.0, xtc_threshold=0.02, keep_ids=[3]),
        "mirostat": MirostatWarper(mirostat_tau=0.01, mirostat_eta=0.1),
        "mirostat_v1": MirostatV1Warper(mirostat_tau=0.01, mirostat_eta=0.1, mirostat_m=20),
        "frequency": frequency_presence_penalty(
            frequency_penalty=0.5, presence_penalty=0.2, prompt_length=1
        ),
        "dry": dry_penalty(
            dry_multiplier=0.8,
            dry_base=1e9,
            dry_allowed_length=1,
            dry_penalty_last_n=0,
            breaker_ids=[5],
        ),
        "allowed": allowed_tokens([1, 7, 9]),
        "bias": logit_bias({2: 5.0, 7: -100.0}),
    }


KINDS = list(some_of_each())


class TestAll:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_narrow_dtypes_give_what_the_same_numbers_in_float32_give(self, kind, dtype):
        scores, ids = random_logits(1).to(dtype), torch.arange(20).view(4, 5)
        narrow, wide = (call(some_of_each()[kind], s, ids) for s in (scores, scores.float()))
        assert narrow.dtype == torch.float32
        assert torch.equal(narrow, wide)

    @pytest.mark.parametrize("kind", KINDS)
    def test_scores_are_left_as_they_were(self, kind):
        scores = random_logits(2)
        before = scores.clone()
        after = call(some_of_each()[kind], scores)
        assert torch.equal(scores, before)
        assert after.data_ptr() != scores.data_ptr()

    @pytest.mark.parametrize("kind", KINDS)
    def test_rows_know_nothing_of_each_other(self, kind):
        scores, ids = random_logits(3), torch.tensor([[1, 2, 1], [4, 4, 4], [0, 9, 0], [7, 7, 8]])
        together = call(some_of_each()[kind], scores, ids)
        for i in range(4):
            alone = call(some_of_each()[kind], scores[i : i + 1], ids[i : i + 1])
            assert torch.allclose(together[i : i + 1], alone)

    @pytest.mark.parametrize("kind", KINDS)
    def test_removed_tokens_stay_removed_and_one_token_is_left(self, kind):
        for seed in SEEDS:
            scores = random_logits(seed)
            after = call(some_of_each()[kind], scores)
            assert not after.isnan().any()
            assert all(
                set(new) <= set(old) for new, old in zip(kept(after), kept(scores), strict=True)
            )
            assert all(kept(after))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("num_ids", [1, 2, 10])
    def test_the_only_token_left_is_kept(self, kind, num_ids):
        scores = torch.full((2, num_ids), GONE)
        scores[:, -1] = -3.0
        processor = some_of_each()[kind]
        if kind in ("allowed", "bias"):
            last = num_ids - 1
            processor = allowed_tokens([last]) if kind == "allowed" else logit_bias({0: -100.0})
        ids = torch.zeros(2, 3, dtype=torch.long)
        assert kept(call(processor, scores, ids)) == [[num_ids - 1]] * 2


class TestTopK:
    def test_there_are_k_even_where_more_are_as_likely(self):
        scores = torch.tensor([[2.0, 3.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
        for k in (1, 2, 3):
            left = kept(call(keep_likeliest(k), scores))
            assert [len(row) for row in left] == [k, k]
            assert 1 in left[0]
            assert 4 not in left[0]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_so_there_are_in_a_dtype_with_few_numbers(self, dtype):
        scores = torch.randn(4, 50_000, generator=torch.manual_seed(0)).to(dtype)
        ties = scores >= scores.topk(500).values[:, -1:]
        assert int(ties.sum()) > 4 * 500  # what transformers keeps
        left = call(keep_likeliest(500), scores) > GONE
        assert left.sum(-1).tolist() == [500] * 4
        assert (left <= ties).all()


def top_h(x, alpha):
    """Algorithm 1 of 2509.02510, line by line."""
    p = softmax(x)
    entropy = -np.sum(p * np.log(p))
    chosen: list[int] = []
    for token in np.argsort(-p, kind="stable"):
        chosen.append(token)
        q = p[chosen] / p[chosen].sum()
        if -np.sum(q * np.log(q)) > alpha * entropy:
            chosen.pop()
            break
    return where_kept(np.isin(np.arange(len(x)), chosen), x)


class TestTopH:
    def test_by_hand(self):
        # 1.75 bits; of 2/3 and 1/3 0.9183, of 4/7, 2/7 and 1/7 1.3788. Without dividing by their
        # sum it would be 1 and 1.375.
        scores = logits_of(1 / 2, 1 / 4, 1 / 8, 1 / 8)
        for share, number in ((0.52, 1), (0.53, 2), (0.787, 2), (0.789, 3), (0.999, 3)):
            assert kept(call(cut_by(top_h_keeps, top_h=share), scores)) == [[*range(number)]]
        (left,) = kept(call(cut_by(top_h_keeps, top_h=0.1, min_tokens_to_keep=2), scores))
        assert left == [0, 1]

    @pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
    def test_of_equally_likely_tokens_as_many_as_that_power(self, share):
        """Log k at most share * log V, so V to the power of the share: far more than 100."""
        (left,) = kept(call(cut_by(top_h_keeps, top_h=share), torch.zeros(1, 50_000)))
        assert len(left) == math.floor(50_000**share)

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
    def test_formula(self, seed, share):
        scores = random_logits(seed)
        expected = by_row(lambda x: top_h(x, share), scores)
        assert torch.equal(call(cut_by(top_h_keeps, top_h=share), scores), expected)
        wide = random_logits(seed, num_ids=2000)
        assert torch.equal(
            call(cut_by(top_h_keeps, top_h=share), wide), by_row(lambda x: top_h(x, share), wide)
        )


class TestTopNSigma:
    def test_by_hand(self):
        # mean 2, squared distances 9, 1, 1, 9: sigma is the root of 5, 2.236
        scores = torch.tensor([[5.0, 3.0, 1.0, -1.0]])
        assert kept(call(cut_by(top_n_sigma_keeps, top_n_sigma=0.8), scores)) == [
            [0]
        ]  # 5 - 1.789 = 3.211
        assert kept(call(cut_by(top_n_sigma_keeps, top_n_sigma=1.0), scores)) == [[0, 1]]  # 2.764
        assert kept(call(cut_by(top_n_sigma_keeps, top_n_sigma=1.8), scores)) == [
            [0, 1, 2]
        ]  # 0.975
        # With one removed: mean 3, squared distances 4, 0, 4: sigma 1.633, the cut at 2.551.
        scores[0, 3] = GONE
        assert kept(call(cut_by(top_n_sigma_keeps, top_n_sigma=1.5), scores)) == [[0, 1]]

    def test_the_temperature_changes_nothing(self):
        scores = random_logits(0)
        warper = cut_by(top_n_sigma_keeps, top_n_sigma=0.7)
        assert kept(call(warper, scores)) == kept(call(warper, scores / 3.0))

    def test_the_least_number_of_tokens(self):
        scores = torch.tensor([[5.0, 3.0, 1.0, -1.0]])
        assert kept(
            call(cut_by(top_n_sigma_keeps, top_n_sigma=0.1, min_tokens_to_keep=3), scores)
        ) == [[0, 1, 2]]

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("n", [0.3, 1.0, 2.0])
    def test_formula(self, seed, n):
        scores = random_logits(seed)
        expected = by_row(lambda x: where_kept(x >= x.max() - n * np.std(x), x), scores)
        assert torch.equal(call(cut_by(top_n_sigma_keeps, top_n_sigma=n), scores), expected)


class TestTopA:
    def test_by_hand(self):
        scores = logits_of(0.6, 0.25, 0.1, 0.05)  # the highest squared is 0.36
        assert kept(call(cut_by(top_a_keeps, top_a=0.2), scores)) == [[0, 1, 2]]  # 0.072
        assert kept(call(cut_by(top_a_keeps, top_a=0.5), scores)) == [[0, 1]]  # 0.18
        assert kept(call(cut_by(top_a_keeps, top_a=1.0), scores)) == [[0]]  # 0.36
        assert kept(call(cut_by(top_a_keeps, top_a=1.0, min_tokens_to_keep=2), scores)) == [[0, 1]]

    def test_a_flat_distribution_loses_nothing(self):
        assert kept(call(cut_by(top_a_keeps, top_a=1.0), logits_of(0.3, 0.25, 0.25, 0.2))) == [
            [0, 1, 2, 3]
        ]

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("a", [0.05, 0.5, 1.0])
    def test_formula(self, seed, a):
        scores = random_logits(seed)
        expected = by_row(lambda x: where_kept(softmax(x) >= a * softmax(x).max() ** 2, x), scores)
        assert torch.equal(call(cut_by(top_a_keeps, top_a=a), scores), expected)


def tail_free(x, z):
    order = np.argsort(-x, kind="stable")
    p = softmax(x)[order]
    bends = np.abs(p[2:] - 2 * p[1:-1] + p[:-2])
    shares = np.cumsum(bends / bends.sum())
    keep = np.array([True, *(share <= z for share in shares), z >= 1])
    return where_kept(keep[np.argsort(order)], x)


class TestTailFree:
    def test_by_hand(self):
        # sorted .4 .3 .15 .1 .05; differences -.1 -.15 -.05 -.05; second -.05 .1 0
        # absolute, divided by .15 and added up: 1/3, 1, 1 for the second, third and fourth token
        scores = logits_of(0.15, 0.4, 0.05, 0.3, 0.1)
        assert kept(call(cut_by(tail_free_keeps, tfs_z=0.3), scores)) == [[1]]
        assert kept(call(cut_by(tail_free_keeps, tfs_z=0.4), scores)) == [[1, 3]]
        assert kept(call(cut_by(tail_free_keeps, tfs_z=0.9), scores)) == [[1, 3]]
        assert kept(call(cut_by(tail_free_keeps, tfs_z=1.0), scores)) == [[0, 1, 2, 3, 4]]
        assert kept(call(cut_by(tail_free_keeps, tfs_z=0.3, min_tokens_to_keep=3), scores)) == [
            [0, 1, 3]
        ]

    def test_removed_tokens_have_no_part_in_it(self):
        scores = logits_of(0.15, 0.4, 0, 0.05, 0, 0, 0.3, 0.1)
        assert kept(call(cut_by(tail_free_keeps, tfs_z=0.4), scores)) == [[1, 6]]

    def test_without_second_differences_nothing_is_cut(self):
        for probs in ([0.25] * 4, [0.4, 0.3, 0.2, 0.1], [0.7, 0.3], [0.7, 0.3, 0, 0]):
            scores = logits_of(*probs)
            assert kept(call(cut_by(tail_free_keeps, tfs_z=0.1), scores)) == kept(scores)

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("z", [0.2, 0.7, 0.95])
    def test_formula(self, seed, z):
        scores = random_logits(seed)
        expected = by_row(lambda x: tail_free(x, z), scores)
        assert torch.equal(call(cut_by(tail_free_keeps, tfs_z=z), scores), expected)


def dynamic(x, temperature, spread, exponent):
    low, high = max(temperature - spread, 1e-6), temperature + spread
    p = softmax(x)
    entropy = -(p * np.log(p)).sum()
    return x / (low + (high - low) * (entropy / np.log(len(x))) ** exponent)


class TestDynamicTemperature:
    def warper(self, temperature=1.0, spread=0.5, exponent=1.0):
        return bend_by(
            divided_by_entropy,
            temperature=temperature,
            dynatemp_range=spread,
            dynatemp_exponent=exponent,
        )

    def test_by_hand(self):
        # probabilities 1/2 1/4 1/8 1/8: entropy 1.75 bits of 2, so 0.5 + 1.0 * 0.875
        scores = torch.tensor([[3.0, 2.0, 1.0, 1.0]]) * math.log(2)
        assert torch.allclose(call(self.warper(), scores), scores / 1.375)
        assert torch.allclose(call(self.warper(exponent=2.0), scores), scores / (0.5 + 0.875**2))

    def test_ends_of_the_range(self):
        flat, sure = torch.tensor([[2.0] * 4]), torch.tensor([[100.0, 2.0, 2.0, 2.0]])
        assert torch.allclose(call(self.warper(), flat), flat / 1.5)
        assert torch.allclose(call(self.warper(), sure), sure / 0.5)

    def test_entropy_is_that_of_the_tokens_still_there(self):
        scores = torch.tensor([[2.0, 2.0, GONE, GONE]])  # 1 bit of 1
        assert torch.allclose(call(self.warper(), scores), scores / 1.5)

    def test_without_a_range_it_is_the_temperature(self):
        scores = random_logits(0)
        assert torch.allclose(call(self.warper(0.7, 0.0), scores), scores / 0.7)

    def test_a_range_wider_than_the_temperature_nears_the_argmax(self):
        sure = torch.tensor([[60.0, 2.0, 1.0]])
        probs = call(self.warper(0.5, 2.0), sure).softmax(-1)
        assert probs.tolist() == [[1.0, 0.0, 0.0]]

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("setting", [(1.0, 0.5, 1.0), (0.8, 0.8, 2.0), (1.5, 1.0, 0.5)])
    def test_formula(self, seed, setting):
        scores = random_logits(seed)
        expected = by_row(lambda x: dynamic(x, *setting), scores)
        assert torch.allclose(call(self.warper(*setting), scores), expected, rtol=1e-4)


class TestQuadraticSmoothing:
    def warper(self, factor, curve):
        return bend_by(smoothed, smoothing_factor=factor, smoothing_curve=curve)

    def test_by_hand(self):
        scores = torch.tensor([[1.0, 4.0, 3.0, GONE, 2.0]])  # distances -3 0 -1 . -2
        parabola = call(self.warper(0.5, 1.0), scores)  # 4 - 0.5 * 9, 1 and 4
        assert parabola.tolist() == [[-0.5, 4.0, 3.5, GONE, 2.0]]
        # curve 2: k = s = 1/2; 4 - 0.25 * (9, 1, 4) - 0.25 * (27, 1, 8)
        assert call(self.warper(0.5, 2.0), scores).tolist() == [[-5.0, 4.0, 3.5, GONE, 1.0]]
        # curve 3: k = 0, s = 1; 4 - 0.5 * (27, 1, 8)
        assert call(self.warper(0.5, 3.0), scores).tolist() == [[-9.5, 4.0, 3.5, GONE, 0.0]]

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize(("factor", "curve"), [(0.3, 1.0), (0.2, 1.5), (1.0, 3.0)])
    def test_formula(self, seed, factor, curve):
        def statement(x):
            k, s, d = (3 - curve) / 2, (curve - 1) / 2, x - x.max()
            return -(k * factor * d**2) + s * factor * d**3 + x.max()

        scores = random_logits(seed)
        result = call(self.warper(factor, curve), scores)
        assert torch.allclose(result, by_row(statement, scores), rtol=1e-4, atol=1e-5)


def exclude_top(x, threshold):
    p = softmax(x)
    above = np.flatnonzero(p >= threshold)
    removed = [i for i in above if i != above[p[above].argmin()]]
    return where_kept(~np.isin(np.arange(len(x)), removed), x)


class TestXTC:
    SCORES = logits_of(0.1, 0.4, 0.05, 0.25, 0.2)

    def warper(self, probability=1.0, threshold=0.15, keep=()):
        return exclude_top_choices(
            xtc_probability=probability, xtc_threshold=threshold, keep_ids=keep
        )

    def test_by_hand(self):
        assert kept(call(self.warper(), self.SCORES)) == [[0, 2, 4]]  # .4 .25 of .4 .25 .2
        assert kept(call(self.warper(threshold=0.22), self.SCORES)) == [[0, 2, 3, 4]]
        assert kept(call(self.warper(threshold=0.01), self.SCORES)) == [[2]]

    def test_fewer_than_two_above_the_threshold(self):
        for threshold in (0.3, 0.5, 0.9):
            after = call(self.warper(threshold=threshold), self.SCORES)
            assert torch.equal(after, self.SCORES)

    def test_of_equally_likely_ones_one_stays(self):
        assert len(kept(call(self.warper(threshold=0.2), logits_of(0.3, 0.3, 0.3, 0.1)))[0]) == 2

    def test_a_row_that_would_lose_a_token_to_keep_stays_as_it_is(self):
        rows = torch.cat([self.SCORES, logits_of(0.4, 0.1, 0.05, 0.25, 0.2)])
        assert kept(call(self.warper(keep=[1]), rows)) == [[0, 1, 2, 3, 4], [1, 2, 4]]
        assert kept(call(self.warper(keep=[3, 99]), rows)) == [[0, 1, 2, 3, 4]] * 2
        # 0, 2 and 4 stay in the first row anyway
        assert kept(call(self.warper(keep=[0, 2, 4]), rows)) == [[0, 2, 4], [0, 1, 2, 3, 4]]

    def test_how_often(self):
        torch.manual_seed(0)
        rows = self.SCORES.repeat(5000, 1)
        cut = call(self.warper(0.3), rows)[:, 1] == GONE
        assert cut.float().mean().item() == pytest.approx(0.3, abs=0.026)  # 4 standard errors
        assert not (call(self.warper(0.0), rows) == GONE).any()
        assert (call(self.warper(1.0), rows)[:, 1] == GONE).all()

    def test_the_global_generator_draws_one_number_a_row(self):
        torch.manual_seed(3)
        numbers = torch.rand(50)
        torch.manual_seed(3)
        after = call(self.warper(0.4), self.SCORES.repeat(50, 1))
        assert (after[:, 1] == GONE).tolist() == (numbers < 0.4).tolist()
        torch.manual_seed(3)
        call(self.warper(0.4, threshold=0.9), self.SCORES.repeat(50, 1))  # needs none
        following = torch.rand(1)
        torch.manual_seed(3)
        assert following == torch.rand(51)[-1]

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("threshold", [0.01, 0.05, 0.2])
    def test_formula(self, seed, threshold):
        scores = random_logits(seed)
        expected = by_row(lambda x: exclude_top(x, threshold), scores)
        assert torch.equal(call(self.warper(threshold=threshold), scores), expected)


def zipf_logits(generator, *, num_ids=1000):
    """One step of a made-up text: the law's exponent and the order of the tokens change."""
    s = 0.9 + 0.4 * torch.rand(1, generator=generator)
    ranks = torch.randperm(num_ids, generator=generator) + 1
    return (-s * ranks.log())[None]


def draw_text(warper, *, rows, steps, seed=0, **kwargs):
    """Draw from Zipf-like logits; the logits, the cut logits and the tokens of each step."""
    generator = torch.Generator().manual_seed(seed)
    ids, trace = torch.zeros(rows, 1, dtype=torch.long), []
    for _ in range(steps):
        logits = torch.cat([zipf_logits(generator, **kwargs) for _ in range(rows)])
        cut = warper(ids, logits)
        token = torch.multinomial(cut.softmax(-1), 1, generator=generator)
        trace.append((logits, cut, token))
        ids = torch.cat([ids, token], dim=1)
    return trace


def surprises(trace, *, after_the_cut):
    """Bits, shape (steps, rows)."""
    steps = [
        -torch.log2((cut if after_the_cut else logits).double().softmax(-1).gather(-1, token))
        for logits, cut, token in trace
    ]
    return torch.cat(steps, dim=1).T


def v1_top_k(x, mu, m):
    """Algorithm 1 as it is printed, for one row of logits."""
    p = np.sort(softmax(x))[::-1][:m]
    i = np.arange(1, len(p))
    t, b = np.log((i + 1) / i), np.log(p[:-1] / p[1:])
    s = (t * b).sum() / (t * t).sum()
    k = ((s - 1) * 2**mu / (1 - len(x) ** -(s - 1))) ** (1 / s)
    return int(min(max(round(k), 1), len(x)))


class TestMirostat:
    HALVES = logits_of(1 / 2, 1 / 4, 1 / 8, 1 / 8)  # 1, 2, 3 and 3 bits

    def warper(self, tau=1.1, eta=0.5):
        return MirostatWarper(mirostat_tau=tau, mirostat_eta=eta)

    def test_first_cut_by_hand(self):
        for tau, ids in ((0.3, [0]), (0.6, [0]), (1.1, [0, 1]), (1.6, [0, 1, 2, 3])):
            assert kept(call(self.warper(tau), self.HALVES)) == [ids]  # at 2 tau

    def test_second_cut_by_hand(self):
        """Drawn of 2/3 and 1/3: the second is log2 3 = 1.585 bits, mu 2.2 - 0.5 * 0.485 = 1.958.

        Before the cut it is 2 bits, which would make 1.75.
        """
        for drawn, bits, ids in (
            (1, 1.85, [0, 1]),
            (1, 2.05, [0]),
            (0, 2.4, [0, 1]),
            (0, 2.5, [0]),
        ):
            warper = self.warper()
            warper(ids_of([5]), self.HALVES)
            p = 2**-bits
            after = warper(ids_of([5, drawn]), logits_of(0.7, p, 0.3 - p))
            assert kept(after) == [ids]

    @pytest.mark.parametrize("tau", [2.0, 4.0])
    def test_mean_surprise_nears_tau(self, tau):
        trace = draw_text(self.warper(tau, 0.1), rows=3, steps=500)
        means = surprises(trace, after_the_cut=True).mean(0)
        assert means.tolist() == pytest.approx([tau] * 3, rel=0.1)
        free = draw_text(lambda ids, logits: logits, rows=3, steps=100)
        assert surprises(free, after_the_cut=True).mean() > 6

    @pytest.mark.parametrize("seed", SEEDS)
    def test_formula(self, seed):
        tau, eta = 2.5, 0.3
        trace = draw_text(self.warper(tau, eta), rows=2, steps=40, seed=seed, num_ids=60)
        for row in range(2):
            mu = 2 * tau
            for logits, cut, token in trace:
                p = softmax(logits[row].double().numpy())
                keep = -np.log2(p) <= mu
                keep[p.argmax()] = True
                assert kept(cut)[row] == np.flatnonzero(keep).tolist()
                mu -= eta * (-np.log2(p[token[row, 0]] / p[keep].sum()) - tau)

    def test_on_a_model(self, model, tokenizer):
        tau, prompt = 1.0, torch.tensor([[5, 9, 11]]).repeat(16, 1)
        torch.manual_seed(0)
        means = {}
        for name, ours in (("free", []), ("steered", [self.warper(tau, 0.4)])):
            config = GenerationConfig(
                do_sample=True, top_k=0, max_new_tokens=44, pad_token_id=0, eos_token_id=None
            )
            output = model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=config,
                logits_processor=LogitsProcessorList(ours),
                output_scores=True,
                return_dict_in_generate=True,
            )
            new = output.sequences[:, 3:]
            probs = torch.stack(output.scores, dim=1).softmax(-1).gather(-1, new[..., None])
            means[name] = -torch.log2(probs)[:, 10:].mean().item()
        assert means["steered"] == pytest.approx(tau, rel=0.15)
        assert means["free"] > 1.5 * tau


class TestMirostatV1:
    def warper(self, tau=1.0, eta=0.5, m=100):
        return MirostatV1Warper(mirostat_tau=tau, mirostat_eta=eta, mirostat_m=m)

    def test_exponent_by_hand(self):
        # ratios 2 and 2 of ranks 2/1 and 3/2: ln2 (ln2 + ln1.5) / (ln2**2 + ln1.5**2)
        log_probs = (torch.tensor([[8.0, 4.0, 2.0, 1.0, 1.0]]) / 16).log()
        assert zipf_exponent(log_probs, mirostat_m=3).item() == pytest.approx(1.180886, abs=1e-5)

    @pytest.mark.parametrize("s", [0.5, 1.0, 1.7])
    def test_exponent_of_an_exact_law(self, s):
        logits = -s * torch.arange(1, 301).log()[None]
        for m in (2, 50, 1000):
            fitted = zipf_exponent(logits.log_softmax(-1), mirostat_m=m)
            assert fitted.item() == pytest.approx(s, abs=1e-3)

    def test_k_by_hand(self):
        # s 1.180886, N 5, mu 2: (0.180886 * 4 / (1 - 5**-0.180886)) ** (1 / 1.180886) = 2.438
        scores = logits_of(8 / 16, 4 / 16, 2 / 16, 1 / 16, 1 / 16)
        assert kept(call(self.warper(1.0, m=3), scores)) == [[0, 1]]
        # mu 2.6: k 3.467; mu 8: more than there are
        assert kept(call(self.warper(1.3, m=3), scores)) == [[0, 1, 2]]
        assert kept(call(self.warper(4.0, m=3), scores)) == [[0, 1, 2, 3, 4]]

    def test_k_at_exponent_one_is_the_limit(self):
        s, mu = torch.tensor([[1.0], [1.001], [0.999]]), torch.tensor([[6.0]] * 3)
        n = torch.tensor([[1000]] * 3)
        k = mirostat_top_k(s, mu, num_tokens=n)  # 64 / ln 1000 = 9.26
        assert k.tolist() == [[9], [9], [9]]

    def test_k_never_leaves_the_vocabulary(self):
        s = torch.tensor([[0.0], [0.0], [1e-9], [50.0], [1.0], [1.0]])
        mu = torch.tensor([[1.0], [30.0], [500.0], [1e4], [-1e4], [1e4]])
        k = mirostat_top_k(s, mu, num_tokens=torch.tensor([[9]] * 6)).flatten().tolist()
        assert k == [1, 9, 9, 9, 1, 9]

    def test_surprise_is_taken_before_the_cut(self):
        """mu is 2, token 1 drawn of 2: 2 bits before the cut, log2 3 after it."""
        scores = logits_of(8 / 16, 4 / 16, 2 / 16, 1 / 16, 1 / 16)
        warper = self.warper(1.0, eta=1.0, m=3)
        warper(ids_of([0]), scores)
        following = logits_of(8 / 16, 4 / 16, 2 / 16, 1 / 16, 1 / 16)
        # 2 - (2 - 1) = 1: k 1.355, 1 token. With log2 3, 1.415: k 1.728, 2 tokens.
        assert kept(warper(ids_of([0, 1]), following)) == [[0]]

    @pytest.mark.parametrize("tau", [3.0, 5.0])
    def test_mean_surprise_nears_tau(self, tau):
        trace = draw_text(self.warper(tau, 0.1), rows=3, steps=500)
        means = surprises(trace, after_the_cut=False).mean(0)
        assert means.tolist() == pytest.approx([tau] * 3, rel=0.1)
        free = draw_text(lambda ids, logits: logits, rows=3, steps=100)
        assert surprises(free, after_the_cut=False).mean() > 6

    @pytest.mark.parametrize("seed", SEEDS)
    def test_formula(self, seed):
        tau, eta, m = 3.0, 0.3, 20
        generator = torch.Generator().manual_seed(seed)
        warper, ids, mu = self.warper(tau, eta, m), torch.zeros(4, 1, dtype=torch.long), [6.0] * 4
        for step in range(20):
            scores = random_logits(100 * seed + step)
            cut = warper(ids, scores)
            token = torch.multinomial(cut.softmax(-1), 1, generator=generator)
            for row, x in enumerate(scores.double().numpy()):
                there = np.flatnonzero(x > GONE)
                k = v1_top_k(x[there], mu[row], m)
                assert kept(cut)[row] == sorted(there[np.argsort(-x[there])[:k]].tolist())
                p = softmax(x)
                mu[row] -= eta * (-np.log2(p[token[row, 0]]) - tau)
            ids = torch.cat([ids, token], dim=1)


@pytest.fixture(params=["v1", "v2"])
def remembering(request):
    """A new mirostat processor each time it is called."""
    if request.param == "v2":
        return lambda: MirostatWarper(mirostat_tau=1.1, mirostat_eta=0.9)
    return lambda: MirostatV1Warper(mirostat_tau=1.5, mirostat_eta=0.9, mirostat_m=10)


class TestWhatMirostatRemembers:
    TEXT = (3, 0, 0, 0, 0)  # the likeliest again and again: the cut gets wider

    SCORES = logits_of(0.6, 0.2, 0.1, 0.06, 0.04)

    def along(self, warper, text, *, start=1):
        """How many tokens are kept after each token of a text, from the `start`th on."""
        ends = range(start, len(text) + 1)
        return [len(kept(warper(ids_of(text[:end]), self.SCORES))[0]) for end in ends]

    def test_it_moves(self, remembering):
        sizes = self.along(remembering(), self.TEXT)
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]

    def test_replaying_a_text_gives_the_same_cuts(self, remembering):
        warper = remembering()
        first = self.along(warper, self.TEXT)
        assert self.along(warper, self.TEXT) == first
        assert self.along(remembering(), self.TEXT) == first

    def test_a_new_text_starts_anew(self, remembering):
        fresh = self.along(remembering(), (3,))
        # shorter, of the same length, longer by two, and longer by one but another text
        for other in ((4,), (3, 0, 0, 0, 1), (3,) + (0,) * 6, (4, 0, 0, 0, 0, 0)):
            warper = remembering()
            assert self.along(warper, self.TEXT)[-1] > fresh[0]
            assert self.along(warper, other, start=len(other)) == fresh

    def test_another_number_of_rows_starts_anew(self, remembering):
        warper = remembering()
        self.along(warper, self.TEXT)
        ids = ids_of((*self.TEXT, 0), (*self.TEXT, 0))
        after = kept(warper(ids, self.SCORES.repeat(2, 1)))
        assert [len(row) for row in after] == self.along(remembering(), (3,)) * 2

    def test_each_row_has_its_own(self, remembering):
        together, texts = remembering(), ((3, 0, 0, 0, 0), (3, 1, 0, 1, 0))
        alone = [self.along(remembering(), text) for text in texts]
        for end in range(1, 6):
            ids = ids_of(*(text[:end] for text in texts))
            after = kept(together(ids, self.SCORES.repeat(2, 1)))
            assert [len(row) for row in after] == [sizes[end - 1] for sizes in alone]
        assert alone[0] != alone[1]

    def test_a_row_that_ended_stays_a_row(self, remembering):
        """Its padding, here 4, was cut and couldn't be drawn."""
        warper, alone = remembering(), self.along(remembering(), self.TEXT)
        for end in range(1, 6):
            ids = ids_of(self.TEXT[:end], (3, 4, 4, 4, 4)[:end])
            after = warper(ids, self.SCORES.repeat(2, 1))
            assert not after.isnan().any()
            assert [len(row) for row in kept(after)] == [alone[end - 1], alone[0]]


class TestFrequencyPresence:
    def test_by_hand(self):
        processor = frequency_presence_penalty(
            frequency_penalty=0.5, presence_penalty=0.25, prompt_length=2
        )
        scores = torch.tensor([[1.0, 1.0, 1.0, GONE], [1.0, 1.0, 1.0, 1.0]])
        ids = ids_of([0, 0, 1, 1, 2, 3], [1, 2, 3, 3, 3, 3])
        assert processor(ids, scores).tolist() == [
            [1.0, -0.25, 0.25, GONE],
            [1.0, 1.0, 1.0, -1.25],
        ]

    def test_nothing_written_nothing_taken(self):
        processor = frequency_presence_penalty(
            frequency_penalty=2.0, presence_penalty=2.0, prompt_length=3
        )
        scores = random_logits(0)
        assert torch.equal(processor(torch.ones(4, 3, dtype=torch.long), scores), scores)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_formula(self, seed):
        scores = random_logits(seed)
        ids = torch.randint(0, 40, (4, 60), generator=torch.Generator().manual_seed(seed))
        processor = frequency_presence_penalty(
            frequency_penalty=0.3, presence_penalty=-0.7, prompt_length=20
        )
        counts = np.stack([np.bincount(row[20:], minlength=40) for row in ids.numpy()])
        expected = scores.numpy() - 0.3 * counts + 0.7 * (counts > 0)
        assert torch.allclose(processor(ids, scores), torch.tensor(expected).float(), atol=1e-5)


def dry_statement(text, breakers, num_ids, *, multiplier, base, allowed):
    """For every token and length: did this end of the text stand before the token before?"""
    taken = np.zeros(num_ids)
    for token in set(range(num_ids)) - set(breakers):
        for n in range(1, len(text)):
            end = text[-n:]
            before = any(text[i : i + n + 1] == [*end, token] for i in range(len(text) - n))
            if n >= allowed and before and not set(end) & set(breakers):
                taken[token] = multiplier * base ** (n - allowed)
    return taken


class TestDry:
    def penalty(self, *, multiplier=0.5, base=2.0, allowed=2, last_n=0, breakers=()):
        return dry_penalty(
            dry_multiplier=multiplier,
            dry_base=base,
            dry_allowed_length=allowed,
            dry_penalty_last_n=last_n,
            breaker_ids=breakers,
        )

    def taken(self, text, num_ids=10, **kwargs):
        """What is taken off each token that loses something."""
        after = self.penalty(**kwargs)(ids_of(text), torch.zeros(1, num_ids))[0]
        return {i: -x for i, x in enumerate(after.tolist()) if x}

    def test_by_hand(self):
        # 1 2 3 came before 4, and alone 3 before 5
        text = [1, 2, 3, 4, 3, 5, 0, 1, 2, 3]
        assert self.taken(text) == {4: 1.0}  # 0.5 * 2 ** (3 - 2)
        assert self.taken(text, allowed=3) == {4: 0.5}
        assert self.taken(text, allowed=1) == {4: 2.0, 5: 0.5}
        assert self.taken(text, allowed=4) == {}

    def test_the_longest_repeat_before_a_token_counts(self):
        assert self.taken([2, 3, 9, 1, 2, 3, 9, 0, 1, 2, 3]) == {9: 1.0}
        assert self.taken([1, 2, 3, 9, 0, 2, 3, 9, 0, 1, 2, 3]) == {9: 1.0}

    def test_a_repeat_may_overlap_itself(self):
        assert self.taken([7, 7, 7, 7]) == {7: 1.0}  # 7 7 7 before the last 7

    def test_breakers(self):
        text = [1, 2, 3, 4, 3, 5, 0, 1, 2, 3]
        assert self.taken(text, breakers=[1]) == {4: 0.5}  # only 2 3 is left of the repeat
        assert self.taken(text, breakers=[2]) == {}
        assert self.taken(text, breakers=[2], allowed=1) == {4: 0.5, 5: 0.5}
        assert self.taken(text, breakers=[3]) == {}  # the text ends in it
        assert self.taken(text, breakers=[4], allowed=1) == {5: 0.5}  # it extends nothing

    def test_how_far_back(self):
        text = [1, 2, 3, 4, 0, 0, 1, 2, 3]
        assert self.taken(text, last_n=9) == self.taken(text, last_n=0) == {4: 1.0}
        assert self.taken(text, last_n=8) == {4: 0.5}  # begins with 2
        assert self.taken(text, last_n=6) == {}
        assert self.taken(text, last_n=1) == {}

    def test_short_texts(self):
        assert self.taken([1], allowed=1) == {}
        assert self.taken([1, 1], allowed=1) == {1: 0.5}

    def test_removed_tokens_stay_so(self):
        scores = torch.zeros(1, 10)
        scores[0, 4] = GONE
        after = self.penalty()(ids_of([1, 2, 3, 4, 0, 1, 2, 3]), scores)
        assert torch.equal(after, scores)

    @pytest.mark.parametrize("base", [1.0, 1.75, 1e30])
    def test_long_repeats_stay_finite(self, base):
        text = [*range(8)] * 60
        after = self.penalty(base=base, multiplier=100.0)(ids_of(text), torch.zeros(1, 10))
        assert after.isfinite().all()
        assert kept(after) == [[*range(10)]]
        assert after[0].argmin() == 0
        assert after[0, 0] <= -100.0

    def test_the_allowed_length_may_be_long(self):
        assert self.taken([*range(100)] * 2, num_ids=100, allowed=100) == {0: 0.5}

    def test_length_is_looked_at_up_to_the_longest(self):
        assert repeat_lengths([7] * 30, breaker_ids=[], longest=9) == {7: 9}
        assert repeat_lengths([7] * 30, breaker_ids=[], longest=99) == {7: 29}
        assert repeat_lengths([], breaker_ids=[], longest=9) == {}

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("num_ids", [2, 4])
    def test_formula(self, seed, num_ids):
        rng = np.random.default_rng(seed)
        texts = rng.integers(0, num_ids, size=(4, 30)).tolist()
        scores = torch.tensor(rng.normal(size=(4, num_ids)), dtype=torch.float32)
        for breakers in ((), (num_ids - 1,)):
            processor = self.penalty(multiplier=0.8, base=1.75, breakers=breakers)
            taken = [
                dry_statement(text, breakers, num_ids, multiplier=0.8, base=1.75, allowed=2)
                for text in texts
            ]
            expected = scores - torch.tensor(np.array(taken)).float()
            assert torch.allclose(processor(ids_of(*texts), scores), expected, rtol=1e-4)


class TestAllowedTokens:
    def test_by_hand(self):
        scores = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, GONE, 4.0]])
        after = call(allowed_tokens([0, 2, 2]), scores)
        assert after.tolist() == [[1.0, GONE, 3.0, GONE], [1.0, GONE, GONE, GONE]]

    def test_a_row_without_any_of_them_has_none_left(self):
        scores = torch.tensor([[GONE, 2.0, GONE], [1.0, 2.0, 3.0]])
        after = call(allowed_tokens([0]), scores)
        assert after.tolist() == [[GONE, GONE, GONE], [1.0, GONE, GONE]]

    def test_formula(self):
        scores = random_logits(0)
        allowed = [3, 7, 30, 31]
        expected = np.where(np.isin(np.arange(40), allowed), scores.numpy(), GONE)
        assert torch.equal(call(allowed_tokens(allowed), scores), torch.tensor(expected))


class TestLogitBias:
    def test_by_hand(self):
        scores = torch.tensor([[1.0, 2.0, 3.0, 4.0], [GONE, 2.0, 3.0, 4.0]])
        after = call(logit_bias({0: 1.5, 3: -100}), scores)
        assert after.tolist() == [[2.5, 2.0, 3.0, -96.0], [GONE, 2.0, 3.0, -96.0]]

    def test_none(self):
        scores = random_logits(0)
        assert torch.equal(call(logit_bias({}), scores), scores)
