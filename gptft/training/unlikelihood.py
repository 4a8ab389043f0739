"""Labels -> the tokens that would repeat an n-gram of their document, and what they add to a loss.

After Welleck et al., "Neural Text Generation with Unlikelihood Training"
(2020): their token-level objective is n-grams of one token, where every token seen is a candidate.
Longer ones leave single words alone and cost the likelihood of other text less.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.nn.functional import pad

_LEAST = 1e-5  # of 1 - p, below which rounding would be all of its logarithm


@dataclass
class Unlikelihood:
    """How much a repetition costs, and what is one.

    Attributes:
        weight: of the unlikelihood beside cross-entropy; the paper's alpha.
        ngram_size: how many tokens make a repetition, the candidate being the last.
        eos_token_id: ends a document, where nothing else tells its borders; another document's
            n-grams are no repetition.
    """

    weight: float
    ngram_size: int
    eos_token_id: int
    _documents: torch.Tensor | None = field(default=None, repr=False, compare=False)

    @contextmanager
    def within(self, documents: torch.Tensor | None) -> Iterator[None]:
        """Compute the loss of a batch in this, whose documents labels don't tell.

        The models of the library give their losses labels alone.

        Args:
            documents: of each token of the batch the number of its document, shape (B, T); None
                where EOS is a label and ends each.
        """
        self._documents = documents
        try:
            yield
        finally:
            self._documents = None

    def unwanted(self, tokens: torch.Tensor, *, ignored: int) -> "UnwantedTokens":
        """The repetitions among a batch's labels, moved by one; `ignored` is no token."""
        documents = self._documents
        if documents is not None and documents.shape != tokens.shape:
            documents = None  # of a part of the batch, by torch's DataParallel
        if documents is not None:
            documents = pad(documents, (0, 1))[:, 1:].to(tokens.device)
        places, candidates = repetitions(
            tokens, ngram_size=self.ngram_size, eos_token_id=self.eos_token_id, ignored=ignored,
            documents=documents,
        )  # fmt: skip
        return UnwantedTokens(places, candidates, weight=self.weight)


class UnwantedTokens:
    """Tokens to be made less likely, by the rows of logits that could give them."""

    def __init__(self, places: torch.Tensor, tokens: torch.Tensor, *, weight: float) -> None:
        """Take rows, rising, and tokens, both of shape (C,)."""
        self._places, self._tokens, self._weight = places, tokens, weight

    def add_to(self, probabilities: torch.Tensor, *, start: int) -> torch.Tensor:
        """The loss of a part of the rows, -weight * log(1 - p) for each unwanted token there.

        Args:
            probabilities: shape (rows, V); becomes what they and the loss give to the gradient.
            start: the first row's place among all.
        """
        bounds = torch.tensor([start, start + len(probabilities)], device=self._places.device)
        low, high = torch.searchsorted(self._places, bounds).tolist()
        rows, tokens = self._places[low:high] - start, self._tokens[low:high]
        p = probabilities[rows, tokens]
        rest = (1 - p).clamp(min=_LEAST)
        # d/dz_j of -w log(1 - p_t) is w p_t / (1 - p_t) * ([j = t] - p_j), for logits z.
        pull = self._weight * p / rest
        taken = torch.zeros_like(probabilities[:, 0]).index_add_(0, rows, pull)
        probabilities.mul_((1 - taken)[:, None])
        probabilities.index_put_((rows, tokens), pull, accumulate=True)
        return -self._weight * rest.log().sum()


def repetitions(
    tokens: torch.Tensor,
    *,
    ngram_size: int,
    eos_token_id: int,
    ignored: int,
    documents: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every token that would end an n-gram its document had before, and isn't what comes.

    Args:
        tokens: int64 of shape (B, T).
        ngram_size: at least 1.
        eos_token_id: the last token of a document, where `documents` doesn't tell.
        ignored: the value that is no token.
        documents: the number of each token's document in its row, from 0 to T.

    Returns:
        Places in the flattened tokens, rising, and the candidates there; int64, both of shape (C,).
        A place comes once for each of its candidates.

    >>> a, b, c, d = 1, 2, 3, 4
    >>> repetitions(
    ...     torch.tensor([[a, b, a, c, a, d]]), ngram_size=2, eos_token_id=0, ignored=-100
    ... )
    (tensor([3, 5, 5]), tensor([2, 2, 3]))
    """
    length = tokens.shape[1]
    none = tokens.new_empty(0)
    if length < ngram_size:
        return none, none
    places = torch.arange(tokens.numel(), device=tokens.device).view_as(tokens)
    if documents is None:
        ends = tokens == eos_token_id
        documents = ends.cumsum(dim=1) - ends.long()  # EOS belongs to what it ends
    documents = 2 * places[:, :1] + documents  # numbered through the batch
    ngrams = tokens.unfold(1, ngram_size, 1)  # (B, T - n + 1, n)
    first, last = documents[:, : length - ngram_size + 1], documents[:, ngram_size - 1 :]
    is_complete = (ngrams != ignored).all(dim=2) & (first == last)
    places = places[:, ngram_size - 1 :][is_complete]  # (N,), of the n-grams' last tokens
    if not len(places):
        return none, none
    complete = ngrams[is_complete]
    beginnings = torch.cat([last[is_complete][:, None], complete[:, :-1]], dim=1)
    _, begins_with = beginnings.unique(dim=0, return_inverse=True)  # (N,)
    endings = complete[:, -1]
    kinds, kind_of = torch.stack([begins_with, endings], dim=1).unique(dim=0, return_inverse=True)
    first_place = torch.full_like(kinds[:, 0], tokens.numel())
    first_place = first_place.scatter_reduce(0, kind_of, places, "amin")
    # The kinds stand sorted by their beginnings: each n-gram meets a run of them.
    counts = kinds[:, 0].bincount()
    starts = counts.cumsum(dim=0) - counts
    met = counts[begins_with]
    ngram = torch.arange(len(places), device=tokens.device).repeat_interleave(met)
    within = torch.arange(len(ngram), device=tokens.device) - (met.cumsum(dim=0) - met)[ngram]
    kind = starts[begins_with][ngram] + within
    chosen = (first_place[kind] < places[ngram]) & (kinds[kind, 1] != endings[ngram])
    return places[ngram[chosen]], kinds[kind[chosen], 1]
