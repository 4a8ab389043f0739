import numpy as np
import pytest

from gptft.analysis.compare.diversity import distinct_n, seq_rep_n
from gptft.errors import ConfigError

VERSE = ["to", "be", "or", "not", "to", "be"]  # 6 words, 4 of them different


@pytest.mark.parametrize(
    ("n", "share"),
    [(1, 4 / 6), (2, 4 / 5), (3, 1.0), (6, 1.0)],  # the pair "to be" comes twice
)
def test_distinct_n_by_hand(n, share):
    assert distinct_n(VERSE, n=n) == pytest.approx(share)
    assert seq_rep_n(VERSE, n=n) == pytest.approx(1 - share)


def test_a_loop_repeats_all_but_its_first_round():
    ids = [7, 8] * 50  # 97 runs of four, 2 of them different
    assert seq_rep_n(ids) == pytest.approx(95 / 97)
    assert distinct_n(ids, n=1) == pytest.approx(2 / 100)


def test_the_order_of_the_tokens_counts():
    assert distinct_n([1, 2, 2, 1], n=2) == 1
    assert distinct_n([1, 2, 1, 2], n=2) == pytest.approx(2 / 3)


def test_ids_may_come_in_an_array():
    assert distinct_n(np.array([3, 3, 3, 3]), n=2) == pytest.approx(1 / 3)


@pytest.mark.parametrize("tokens", [[], [1], [1, 2, 3]])
def test_a_text_too_short_has_no_share(tokens):
    assert distinct_n(tokens, n=4) is None
    assert seq_rep_n(tokens) is None


def test_a_text_of_one_n_gram_has_one():
    assert distinct_n([1, 1, 1, 1], n=4) == 1
    assert seq_rep_n([1, 1, 1, 1]) == 0


@pytest.mark.parametrize("measure", [distinct_n, seq_rep_n])
def test_n_below_1_is_refused(measure):
    with pytest.raises(ConfigError, match="n is 0"):
        measure([1, 2], n=0)
