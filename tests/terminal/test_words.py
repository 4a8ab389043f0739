"""Numbers and values in words."""

import pytest

from gptft.terminal.words import count, first_of, percent, probability, short_value, wrong_value


@pytest.mark.parametrize(
    ("share", "whole", "tenths"),
    [
        (0.0, "0%", "0%"),
        (1e-9, "<1%", "<0.1%"),
        (0.0004, "<1%", "<0.1%"),
        (0.0005, "<1%", "<0.1%"),
        (0.0006, "<1%", "0.1%"),
        (0.004, "<1%", "0.4%"),
        (0.005, "<1%", "0.5%"),
        (0.006, "1%", "0.6%"),
        (0.5, "50%", "50.0%"),
        (0.9946, "99%", "99.5%"),
        (0.9994, ">99%", "99.9%"),
        (0.9999999, ">99%", ">99.9%"),
        (1.0, "100%", "100%"),
        (25.349, "2,535%", "2,535%"),
        (None, "-", "-"),
    ],
)
def test_none_and_all_are_said_only_of_none_and_all(
    share: float | None, whole: str, tenths: str
) -> None:
    assert percent(share, decimals=0) == whole
    assert percent(share) == tenths


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.09994, "9.99%"), (0.09996, "10.0%"), (0.1, "10.0%"), (0.00004, "<0.01%"), (0.5, "50.0%")],
)
def test_probabilities_have_three_digits(value: float, shown: str) -> None:
    assert probability(value) == shown


def test_a_probability_never_takes_more_than_6_cells() -> None:
    values = [10**-power for power in range(0, 9)] + [0.09995, 0.0999499, 0.99949, 0.5, 0.0]
    assert max(len(probability(value)) for value in values) <= 6
    assert max(len(probability(n / 9973)) for n in range(9974)) == 6


def test_counts_agree_with_their_nouns() -> None:
    assert [count(n, "block") for n in (0, 1, 2, 1000)] == [
        "0 blocks", "1 block", "2 blocks", "1,000 blocks",
    ]  # fmt: skip
    assert count(2, "copy", "copies") == "2 copies"
    assert first_of(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert first_of(["a", "b"], 2) == "a, b"
    assert first_of([], 2) == ""


def test_values_as_yaml_has_them() -> None:
    assert short_value({"да": -1.5, "нет": [True, None]}) == "{да: -1.5, нет: [true, null]}"
    assert short_value("a\nb") == "'a\\nb'"
    assert short_value(" ") == "' '"
    assert short_value("Мороз") == "Мороз"
    assert short_value(1e-05) == "1e-05"


def test_wrong_values_say_what_kind_they_are() -> None:
    assert wrong_value("5") == "the text '5'"
    assert wrong_value(5) == "5"
    assert wrong_value(False) == "false"
    assert wrong_value(["x", ""]) == "['x', '']"
    assert wrong_value(("x",)) == "['x']"
    assert wrong_value([]) == "a list"
    assert wrong_value(["x" * 99]) == "a list"
    assert wrong_value({"a": 1}) == "a mapping"
    assert wrong_value(None) == "null"
