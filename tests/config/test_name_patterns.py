"""Patterns of names: what they mean is written out here by hand."""

import re

import pytest

from gptft.config.name_patterns import check_pattern, matching, pattern_problem

GPT2 = [
    "transformer.wte.weight", "transformer.wpe.weight",
    *(f"transformer.h.{n}.{own}" for n in range(12) for own in ("ln_1.weight", "attn.c_attn.bias")),
    "transformer.ln_f.weight", "lm_head.weight",
]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("transformer.wte", ["transformer.wte.weight"]),
        ("wte", ["transformer.wte.weight"]),
        ("wte.weight", ["transformer.wte.weight"]),
        ("ln_f", ["transformer.ln_f.weight"]),
        ("h.0", ["transformer.h.0.ln_1.weight", "transformer.h.0.attn.c_attn.bias"]),
        ("h.1", ["transformer.h.1.ln_1.weight", "transformer.h.1.attn.c_attn.bias"]),
        ("h.9-10.ln_1", ["transformer.h.9.ln_1.weight", "transformer.h.10.ln_1.weight"]),
        ("transformer.h.11-11.attn", ["transformer.h.11.attn.c_attn.bias"]),
        ("transformer", GPT2[:-1]),
        ("te", []),
        ("h.12", []),
        ("attn.h", []),
    ],
)
def test_what_a_pattern_means(pattern: str, expected: list[str]) -> None:
    assert matching(pattern, GPT2) == expected
    assert (pattern_problem(pattern, GPT2) is None) == bool(expected)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("transformer.wtf", "names nothing of the model. Did you mean transformer.wte?"),
        ("model.layers.0-5", "It has transformer.wte, transformer.wpe, transformer.h.0-11, "
         "transformer.ln_f, lm_head."),
        ("h.0-12", "goes beyond the model, which has no h.12. It has .*transformer.h.0-11"),
        ("h.10-999999999.attn", "which has no h.12. It has"),
        ("h.20-30", "names nothing of the model"),
    ],
)  # fmt: skip
def test_what_is_said_of_one_that_means_nothing(pattern: str, said: str) -> None:
    problem = pattern_problem(pattern, GPT2)
    assert problem is not None
    assert re.search(said, problem)


@pytest.mark.parametrize("pattern", ["", ".", "h.", ".h", "h..0", "h.5-0", " h", "h .0"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"no name of a module|ends before it begins"):
        check_pattern(pattern)
