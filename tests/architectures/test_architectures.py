"""docs/architectures.md has a row for every causal architecture of the installed transformers."""

import re
from importlib.metadata import version

import pytest
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tests.architectures.__main__ import TABLE
from tests.architectures.models import NOT_TRIED, conversions


@pytest.fixture(scope="module")
def rows() -> dict[str, tuple[str, str]]:
    """Of each architecture in the table whether it is converted, and what came of it."""
    text = TABLE.read_text(encoding="utf-8")
    found = re.findall(r"^\| ([\w-]+) \| (yes)? *\| (.+) \|$", text, re.MULTILINE)
    return {name: (converted, result) for name, converted, result in found}


def test_none_is_missing_and_none_is_gone(rows: dict[str, tuple[str, str]]) -> None:
    assert rows.keys() == set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert f"transformers {version('transformers')}" in TABLE.read_text(encoding="utf-8")


def test_those_that_are_stored_otherwise_than_in_memory_are_marked(
    rows: dict[str, tuple[str, str]],
) -> None:
    """A conversion that transformers adds is one that `make architectures` hasn't tried yet."""
    marked = {name for name, (converted, _) in rows.items() if converted}
    assert marked == set(conversions())


def test_each_is_equal_or_refused_or_not_tried_for_a_reason(
    rows: dict[str, tuple[str, str]],
) -> None:
    for name, (_, result) in rows.items():
        known = ("equal", "right, but", "refused", f"not tried: {NOT_TRIED.get(name)}")
        assert result.startswith(known), f"{name}: {result}"
    assert sum(result == "equal" for _, result in rows.values()) >= 40
