import random

import pytest

from gptft.decoding.candidates import best_of_n, chrf, minimum_bayes_risk, self_consistency
from gptft.errors import ConfigError


def vote(texts, pattern=None, num_return=1):
    return self_consistency(texts, answer_pattern=pattern, num_return=num_return)


# Best of n


def test_the_likeliest_come_first_and_equals_in_their_order():
    assert best_of_n([-1.0, -3.0, -0.5, -1.0], num_return=4) == [2, 0, 3, 1]
    assert best_of_n([-1.0, -3.0, -0.5, -1.0], num_return=2) == [2, 0]


def test_a_log_probability_that_is_no_number_comes_last():
    assert best_of_n([float("nan"), -9.0, float("-inf")], num_return=3) == [1, 0, 2]


def test_no_more_are_returned_than_there_are():
    assert best_of_n([-1.0], num_return=5) == [0]
    assert best_of_n([], num_return=1) == []


# Self-consistency


def test_the_answer_most_texts_give_wins():
    result = vote(["so it is 18.", "18 - 2 = 26", "that makes 26 in all", "it is 26"], num_return=2)
    assert result.answer == "26"
    assert dict(result.counts) == {"26": 3, "18": 1}
    assert list(result.counts) == ["26", "18"]
    assert result.indices == (1, 2)
    assert not result.whole_texts


def test_further_texts_are_those_of_the_next_answers_and_then_those_without():
    texts = ["A: x", "nothing", "A: y", "A: z", "A: z", "A: y", "A: z"]
    assert vote(texts, r"A: (\w)", num_return=9).indices == (3, 4, 6, 2, 5, 0, 1)


def test_of_equals_the_answer_that_came_up_first_wins():
    assert vote(["2", "1", "1", "2"]).answer == "2"
    assert vote(["3", "1", "2"]).indices == (0,)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("first 3, then 4 apples.", "4"),
        ("x = -5", "-5"),
        ("x = −5", "-5"),
        ("10-5", "5"),
        ("это 3,14", "3,14"),
        ("$1,234.50.", "1,234.50"),
        ("4 of x2", "4"),
        ("**7** кг", "7"),
        ("no  Number\nhere ", "no number here"),
    ],
)
def test_without_a_pattern_the_last_number_is_the_answer_or_the_whole_text(text, number):
    assert vote([text]).answer == number
    assert not vote([text]).whole_texts


@pytest.mark.parametrize(
    ("pattern", "text", "answer"),
    [
        (r"\d+", "1 then 22", "22"),
        (r"answer is (\w+)", "the answer is No, the answer is YES!", "yes"),
        (r"(a)(b)", "ab", "a"),
        (r"(?:a|b)c", "ac bc", "bc"),
        (r"is (.*)", "it is  Вечер \t Тих ", "вечер тих"),
        (r"\d*", "7 and on", "7"),  # it matches nothing at the end as well
        (r"(\d)|none", "1 or none", "1"),  # the last match has no group 1
    ],
)
def test_the_last_match_of_a_pattern_or_of_its_first_group_is_the_answer(pattern, text, answer):
    result = vote([text], pattern)
    assert result.answer == answer
    assert not result.whole_texts


def test_texts_without_an_answer_do_not_vote():
    result = vote(["hm", "hm", "hm", "A: 4"], r"A: (\d)")
    assert (result.answer, dict(result.counts), result.indices) == ("4", {"4": 1}, (3,))


def test_blank_texts_do_not_vote():
    result = vote(["", " \n", "blue"])
    assert (result.answer, dict(result.counts), result.indices) == ("blue", {"blue": 1}, (2,))


def test_where_no_text_has_an_answer_whole_texts_are_counted_and_the_result_says_so():
    result = vote(["Oui 1", "non", "oui  1 "], r"A: (\d)")
    assert result.whole_texts
    assert (result.answer, dict(result.counts)) == ("oui 1", {"oui 1": 2, "non": 1})
    assert result.indices == (0,)


def test_blank_texts_alone_have_no_answer():
    result = vote(["", " "], num_return=2)
    assert (result.answer, dict(result.counts), result.indices) == ("", {}, (0, 1))
    assert result.whole_texts


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("ab(c", "unterminated subpattern at position 2"),
        ("a**", "multiple repeat at position 2"),
        ("[a-", "position 0"),
    ],
)
def test_a_pattern_that_is_none_is_refused_with_its_position(pattern, says):
    with pytest.raises(ConfigError, match=says):
        vote(["a"], pattern)


def test_a_pattern_too_big_to_use_is_refused():
    with pytest.raises(ConfigError, match="is no regular expression: its repeats"):
        vote(["a"], "a{99999999999999999999}")


def test_a_pattern_that_takes_forever_is_refused(monkeypatch):
    monkeypatch.setattr("gptft.decoding.candidates._MATCH_SECONDS", 0.05)
    with pytest.raises(ConfigError, match=r"takes more than 0.05 s on a text of 901 characters"):
        vote(["a" * 900 + "!"], "(a|aa)+$")


# chrF


def test_chrf_by_hand():
    # n=1: a, b | a, b, c share 2; n=2: ab | ab, bc share 1; n=3: the hypothesis has none
    precision, recall = 1.0, (2 / 3 + 1 / 2) / 2
    assert chrf("ab", "abc") == pytest.approx(5 * precision * recall / (4 * precision + recall))
    # n=1: P 2/3; n=2: P 1/2; R 1 both
    assert chrf("abc", "ab") == pytest.approx(5 * (7 / 12) / (4 * 7 / 12 + 1))


def test_an_n_gram_counts_as_often_as_it_is_in_the_other_text():
    # n=1: aaa | a share 1: P 1/3, R 1; the reference has no more
    assert chrf("aaa", "a") == pytest.approx(5 * (1 / 3) / (4 / 3 + 1))


def test_n_grams_of_seven_do_not_count():
    # Two of length 7 that differ in the first letter: n=6 shares 1 of 2, and there it ends
    shares = [6 / 7, 5 / 6, 4 / 5, 3 / 4, 2 / 3, 1 / 2]
    assert chrf("xbcdefg", "abcdefg") == pytest.approx(sum(shares) / 6)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "percent"),
    [
        ("the cat sat on the mat", "the cat is on the mat", 64.5779420625287),
        ("Буря мглою небо кроет", "Буря небо мглою кроет", 49.856442577030805),
        ("ab", "abc", 63.636363636363626),
    ],
)
def test_chrf_is_that_of_sacrebleu(hypothesis, reference, percent):
    """What sacreBLEU 2.6.0 prints with char_order=6, word_order=0, beta=2."""
    assert chrf(hypothesis, reference) * 100 == pytest.approx(percent)


@pytest.mark.parametrize("text", ["a", "мороз и солнце", "aaaaaaaa"])
def test_a_text_is_all_like_itself_whatever_its_spaces(text):
    assert chrf(text, text) == 1
    assert chrf(text, f" {text.replace(' ', '  ')}\n") == 1


def test_texts_that_share_nothing_and_blank_ones():
    assert chrf("abc", "xyz") == 0
    assert chrf("", "abc") == chrf("abc", " ") == 0
    assert chrf("", " \n") == 1


# Minimum Bayes risk


def test_the_text_most_like_the_others_wins():
    texts = ["go home", "the cat sat on the mat", "the cat sat on a mat", "the cat is on the mat"]
    utilities = [sum(chrf(one, other) for other in texts) for one in texts]
    order = minimum_bayes_risk(texts, num_return=4)
    assert order == sorted(range(4), key=lambda i: -utilities[i])
    assert order[0] == 1
    assert order[-1] == 0


def test_a_cluster_that_is_the_majority_wins():
    assert minimum_bayes_risk(["xyz", "abc", "xyw", "abd", "abc"], num_return=2) == [1, 4]


def test_what_is_read_is_a_hypothesis_and_the_others_are_references():
    # chrf(ab, abc) + chrf(ab, ab) is less than chrf(abc, ab) + 1: recall counts more
    assert minimum_bayes_risk(["ab", "abc"], num_return=1) == [1]


def test_of_equal_texts_the_first_is_returned():
    assert minimum_bayes_risk(["same"] * 3, num_return=2) == [0, 1]
    assert minimum_bayes_risk([""] * 3, num_return=1) == [0]
    assert minimum_bayes_risk([], num_return=1) == []


def test_texts_as_like_the_others_as_each_other_keep_their_order():
    turned = ["abcd", "bcda", "cdab", "dabc"]  # each stands to the others as the one before does
    assert minimum_bayes_risk(turned, num_return=4) == [0, 1, 2, 3]


def test_the_order_of_the_texts_does_not_matter():
    texts = ["день чудесный", "день прекрасный", "ночь чудесная", "день чудный", "буря"]
    best = texts[minimum_bayes_risk(texts, num_return=1)[0]]
    rng = random.Random(0)
    for _ in range(5):
        rng.shuffle(texts)
        assert texts[minimum_bayes_risk(texts, num_return=1)[0]] == best
