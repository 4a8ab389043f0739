"""Token ids with marks in their highest bits: trained on or not, first of a document or not.

Ids of conversations are uint32 on the way into a block store. No vocabulary comes near 2**30.
"""

import numpy as np
import numpy.typing as npt

from gptft.tokenization.token_ids import TokenIds

TRAINED = np.uint32(1 << 31)  # the token is trained on, as `data.loss_on` says
BEGINS = np.uint32(1 << 30)  # the token is the first of a document
_ID = np.uint32((1 << 30) - 1)

Flags = npt.NDArray[np.bool_]


def strip(ids: TokenIds) -> TokenIds:
    """The ids without their marks.

    >>> strip(np.array([5, 7], np.uint32) | np.array([TRAINED, BEGINS])).tolist()
    [5, 7]
    """
    return ids & _ID if ids.dtype == np.uint32 else ids


def is_trained(ids: TokenIds) -> Flags:
    """Which of the ids are marked as trained on.

    >>> is_trained(np.array([5, 7], np.uint32) | np.array([TRAINED, 0], np.uint32)).tolist()
    [True, False]
    """
    flags: Flags = (ids & TRAINED) != 0
    return flags


def begins(ids: TokenIds) -> Flags:
    """Which of the ids are marked as the first of a document."""
    flags: Flags = (ids & BEGINS) != 0
    return flags


def mark(ids: TokenIds, flags: Flags, bit: np.uint32) -> TokenIds:
    """The ids as uint32, those of `flags` with a mark more.

    >>> begins(mark(np.array([5, 7], np.uint16), np.array([True, False]), BEGINS)).tolist()
    [True, False]
    """
    return ids.astype(np.uint32) | np.where(flags, bit, np.uint32(0))
