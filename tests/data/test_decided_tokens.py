"""Which tokens what stands before them decides: counted from the text by a plain search."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptft.data.decided_tokens import windows_of

EOS = 0


class Store:
    """As much of a block store as windows need."""

    def __init__(self, ids: list[int], block_size: int) -> None:
        self._ids = np.array(ids, dtype=np.uint16)
        self.num_tokens = len(ids)
        self.block_size = min(block_size, len(ids))
        self.is_fitted = False

    def flag_span(self, column: str, start: int, length: int) -> None:
        return None

    def span(self, start: int, length: int) -> Any:
        return self._ids[start : start + length]


def windows(
    ids: list[int],
    *,
    block_size: int = 100,
    isolated: bool = True,
    shifted: bool = False,
    bos: Any = (),
) -> Any:
    store: Any = Store(ids, block_size)
    return windows_of(store, isolated=isolated, shifted=shifted, eos_token_id=EOS, bos=bos)


def shown(ids: list[int], **settings: Any) -> list[tuple[list[int], str]]:
    return [
        (one.ids.tolist(), "".join("x" if flag else "." for flag in one.decided))
        for one in windows(ids, **settings)
    ]


@pytest.mark.parametrize(
    ("ids", "isolated", "expected"),
    [
        # Two documents that begin alike: what follows 7 is chance, what follows 7 5 isn't.
        ([7, 5, 4, 0, 7, 6, 0], True, [([7, 5, 4, 0], "..xx"), ([7, 6, 0], "..x")]),
        # In one stream the second 7 comes after 7 5 4 0.
        ([7, 5, 4, 0, 7, 6, 0], False, [([7, 5, 4, 0, 7, 6, 0], "..xxxxx")]),
        # A word of the text's midst that a document begins with.
        ([7, 5, 7, 0], True, [([7, 5, 7, 0], "..xx")]),
        # Equal documents: every token but the first is decided.
        ([7, 5, 0, 7, 5, 0], True, [([7, 5, 0], ".xx")] * 2),
        # One is the beginning of the other: where it ends is chance.
        ([7, 5, 0, 7, 5, 4, 0], True, [([7, 5, 0], ".x."), ([7, 5, 4, 0], ".x.x")]),
    ],
)
def test_a_token_is_decided_where_no_other_ever_follows_the_same(
    ids: list[int], isolated: bool, expected: Any
):
    assert shown(ids, isolated=isolated) == expected


def test_bos_belongs_to_a_document():
    assert shown([1, 7, 5, 0, 1, 7, 6, 7, 4, 0], bos=(1,)) == [
        ([1, 7, 5, 0], ".x.x"),  # after BOS 7 it is chance; 7 alone in the midst doesn't count
        ([1, 7, 6, 7, 4, 0], ".x.xxx"),
    ]


def test_a_long_document_is_seen_in_halves_of_a_block():
    found = shown([*range(10, 20), 0], block_size=4)
    assert found == [
        ([10, 11, 12, 13], ".xxx"),
        ([12, 13, 14, 15], "..xx"),
        ([14, 15, 16, 17], "..xx"),
        ([16, 17, 18, 19], "..xx"),
        ([18, 19, 0], "..x"),
    ]


def test_a_text_that_is_cut_elsewhere_each_epoch_is_a_ring():
    """Its first token comes after its end, as in all epochs but the first."""
    ring = {"block_size": 4, "isolated": False, "shifted": True}
    assert shown([*range(10, 15), 0], **ring) == [
        ([14, 0, 10, 11], "..xx"),
        ([10, 11, 12, 13], "..xx"),
        ([12, 13, 14, 0], "..xx"),
    ]
    assert shown([0, 10, 11, 12, 13, 0], bos=(0,), **ring)[0] == ([13, 0, 10, 11], "..xx")
    plain = [([10, 11, 12, 13], ".xxx"), ([12, 13, 14, 0], "..xx")]
    assert shown([*range(10, 15), 0], **{**ring, "shifted": False}) == plain
    # Cut by data.tail, it isn't joined; one block is never cut elsewhere; documents are apart.
    assert shown([*range(10, 16)], **ring)[0] == ([10, 11, 12, 13], ".xxx")
    assert shown([10, 11, 12, 0], **ring) == [([10, 11, 12, 0], ".xxx")]
    assert shown([10, 11, 0, 12, 0], **{**ring, "isolated": True})[0] == ([10, 11, 0], ".xx")


@given(
    ids=st.lists(st.integers(0, 4), min_size=2, max_size=40),
    block_size=st.integers(2, 9),
    isolated=st.booleans(),
)
def test_every_token_that_can_be_decided_counts_once(
    ids: list[int], block_size: int, isolated: bool
):
    """Against a search of the text for every context."""
    block_size = min(block_size, len(ids))
    found = windows(ids, block_size=block_size, isolated=isolated)
    for window in found:
        assert len(window.ids) <= block_size
        own = window.ids.tolist()
        for n in range(1, len(own)):
            followers = {ids[at + n] for at in range(len(ids) - n) if ids[at : at + n] == own[:n]}
            if window.decided[n]:
                assert followers == {own[n]}
            elif n >= block_size - block_size // 2:
                assert len(followers) > 1
    assert not any(window.decided[0] for window in found)


def test_counts_of_windows_cover_a_text_without_repetition():
    ids = [*range(5, 100), 0, *range(100, 130), 0]
    counted = sum(int(window.decided.sum()) for window in windows(ids, block_size=8))
    assert counted == len(ids) - 2  # all but the first of each document
