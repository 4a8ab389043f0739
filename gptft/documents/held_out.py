"""A number of documents -> which of them are held out, drawn alike on every machine."""

import numpy as np
import numpy.typing as npt

from gptft.config.sections import DataConfig
from gptft.errors import DataError

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


def share_size(num_documents: int, data: DataConfig, *, fraction: float) -> int:
    """How many documents a share holds out: at least one, never all.

    Raises:
        DataError: there is only one document.
    """
    if num_documents < 2:
        raise DataError(
            f"data.validation: {fraction:g} needs at least 2 documents, and "
            f"{data.train_names} is 1. Set data.document_separator or data.document_heading to cut "
            "it into documents, name a validation file, or leave data.validation out."
        )
    return min(max(1, round(num_documents * fraction)), num_documents - 1)
