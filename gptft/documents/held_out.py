"""A number of documents -> which of them are held out, drawn alike on every machine."""

import numpy as np
import numpy.typing as npt

from gptft.config.data import DataConfig
from gptft.documents.enough import share_size

Mask = npt.NDArray[np.bool_]


def draw_validation(num_documents: int, data: DataConfig, *, fraction: float) -> Mask:
    """Draw a share of whole documents, at least one, never all.

    The draw is NumPy's PCG64 permutation under `data.seed`.

    Raises:
        DataError: there is only one document.
    """
    wanted = share_size(num_documents, data, fraction=fraction)
    held_out = np.zeros(num_documents, dtype=bool)
    held_out[np.random.default_rng(data.seed).permutation(num_documents)[:wanted]] = True
    return held_out
