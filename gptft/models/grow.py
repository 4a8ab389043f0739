"""A base model and a larger tokenizer -> a row of its embeddings for each new token."""

from collections.abc import Mapping, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def new_tokens(
    base: PreTrainedTokenizerBase, larger: PreTrainedTokenizerBase
) -> dict[int, list[int]]:
    """The ids that only the larger tokenizer has, each with the base's ids of the same text."""
    known, added = {*base.get_vocab().values()}, larger.get_added_vocab()
    found = {}
    for token, number in larger.get_vocab().items():
        if number not in known:
            # An added token is its own text; one of the vocabulary stands for bytes.
            text = token if token in added else larger.decode([number])
            pieces = base(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
            found[number] = list(pieces["input_ids"])
    return found


@torch.no_grad()
def add_rows(
    model: PreTrainedModel,
    pieces: Mapping[int, Sequence[int]],
    *,
    num_known: int,
    multiple_of: int = 1,
) -> None:
    """Give each new token an embedding, and a row of the head where that has rows of its own.

    A row begins at the mean of the pieces' rows, which is what the model read and wrote in the
    token's place so far; without pieces, and where rows only fill up, at the mean of all. As the
    exponential of a mean is at most the mean of exponentials, a token of no use so takes at most a
    V-th of the probability at first, where the vocabulary has V tokens.

    Args:
        model: its embeddings are resized in place, and its config says so.
        pieces: of each new id the ids of the base that stood for it.
        num_known: ids that the base's tokenizer has; rows beyond are filling.
        multiple_of: rows are made a multiple of it.

    Source: Hewitt 2021, "Initializing new word embeddings for pretrained language models".
    """
    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    needed = max(rows, 1 + max(pieces, default=0))
    needed = -(-needed // multiple_of) * multiple_of
    if needed > rows:
        model.resize_token_embeddings(needed, mean_resizing=False)
    for matrix in _matrices(model):
        known = matrix[: min(num_known, rows)].clone()
        matrix[rows:] = known.mean(dim=0)
        for number, ids in pieces.items():
            matrix[number] = (known[list(ids)] if ids else known).mean(dim=0)


@torch.no_grad()
def resize(model: PreTrainedModel, rows: int) -> None:
    """Give a model as many embeddings; new ones are the mean of the others."""
    known = int(model.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    model.resize_token_embeddings(rows, mean_resizing=False)
    for matrix in _matrices(model):
        matrix[known:] = matrix[: min(known, rows)].mean(dim=0)


def _matrices(model: PreTrainedModel) -> list[torch.Tensor]:
    """What has an entry for each id: embeddings (V, C), an untied head (V, C), its bias (V,)."""
    embeddings: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    found = [embeddings]
    head = model.get_output_embeddings()
    if head is not None:
        if head.weight.data_ptr() != embeddings.data_ptr():
            found.append(head.weight)
        bias = getattr(head, "bias", None)
        if bias is not None:
            found.append(bias)
    return [one.data for one in found]
