"""Arrays of token ids: their type, and the smallest dtype that holds a vocabulary."""

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.unsignedinteger]


def token_dtype(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The smallest unsigned type that holds every id below `vocab_size`.

    >>> token_dtype(50257).__name__, token_dtype(151936).__name__
    ('uint16', 'uint32')
    """
    return np.uint16 if vocab_size <= 2**16 else np.uint32
