"""What is known of one prompt in one model, step by step: values alone, without torch.

T is the number of tokens, L of layers, H of heads, C the width of a vector, D that of a head, V the
number of ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gptft.analysis.explain.values import (
    ArrayFields,
    Candidate,
    NamedToken,
    Neighbour,
    RandomLikeness,
)
from gptft.analysis.span_places import Place
from gptft.files import JsonFields
from gptft.runs.titles import ModelTitle

HeadName = Literal["previous token", "first token", "itself", "induction", "same token", "mixed"]
# The share of its weight from which a head is called by what it does.
NAMED_FROM = 0.35
PartKind = Literal[
    "token", "position", "embedding", "attention", "feed-forward", "layer", "norm", "head"
]


@dataclass(frozen=True)
class ExplainedToken(JsonFields):
    """A token of the prompt.

    Attributes:
        token: the token.
        bytes: what it stands for; none for a control token.
        character: where it holds a part of a character only: the number, from 0, of the group of
            neighbours that spell one together; else None.
        is_special: whether it is a control token, such as BOS.
        neighbours: the tokens of the nearest vectors, nearest first.
        length: Euclidean length of its vector.
    """

    token: NamedToken
    bytes: bytes
    character: int | None
    is_special: bool
    neighbours: tuple[Neighbour, ...]
    length: float


@dataclass(frozen=True)
class Shuffled(JsonFields):
    """What happens if the words of the prompt change places.

    Attributes:
        bits: a token of the prompt as it is, by the model, on average.
        shuffled_bits: the mean over the shuffled texts.
        text: one of them.
        next_tokens: what it would be continued with, likeliest first.
        num_texts: how many there were.
    """

    bits: float
    shuffled_bits: float
    text: str
    next_tokens: tuple[Candidate, ...]
    num_texts: int


@dataclass(frozen=True)
class Positions(ArrayFields):
    """How the model knows where a token stands.

    Attributes:
        kind: learned, rotary, alibi, sinusoidal, relative or none; None where it isn't known.
        places: the positions that `likeness` compares.
        likeness: cosine between the learned vectors of `places`; None without any.
        turns: by pair of a head's numbers, the angle in radians that rotary positions turn it by
            from one token to the next; None for other kinds.
        shuffled: None where the prompt has fewer than three words.
    """

    kind: str | None
    places: tuple[int, ...]
    likeness: np.ndarray | None
    turns: np.ndarray | None
    shuffled: Shuffled | None


@dataclass(frozen=True)
class Fetched(JsonFields):
    """What one head brings to the last token.

    Attributes:
        from_tokens: the number in the prompt of each token that it takes most of, and its weight.
        raises: the tokens that become likelier by it, by how much their logits grow, most first.
    """

    from_tokens: tuple[tuple[int, float], ...]
    raises: tuple[tuple[NamedToken, float], ...]


@dataclass(frozen=True)
class OpenedBlock(ArrayFields):
    """The heads of one layer, with their numbers.

    Attributes:
        layer: from 0.
        head: the one shown first.
        at: the token that asks, shown first.
        looks_at: the token that it looks at, shown first.
        query: after positions are applied, float32, shape (H, T, D).
        key: the same, shared keys repeated, shape (H, T, D).
        scaling: what their product is multiplied by.
        weights: what the softmax makes of it, shape (H, T, T).
        fetched: by head, for the last token; none where it can't be told.
        has_other_terms: whether more than the scaled product goes into the softmax: a bias for the
            distance, a cap, a sink.
    """

    layer: int
    head: int
    at: int
    looks_at: int
    query: np.ndarray
    key: np.ndarray
    scaling: float
    weights: np.ndarray
    fetched: tuple[Fetched, ...]
    has_other_terms: bool


@dataclass(frozen=True)
class Head(JsonFields):
    """What a head does.

    Attributes:
        layer: from 0.
        head: from 0.
        name: of what it does most on a random sequence that is repeated, or mixed.
        scores: by name, the share of its weight that goes there, from 0 to 1.
    """

    layer: int
    head: int
    name: HeadName
    scores: Mapping[HeadName, float]


@dataclass(frozen=True)
class LensCell(JsonFields):
    """What a layer would say if it were the last.

    Attributes:
        token: the likeliest next token.
        probability: its.
        final_probability: that of the token that the whole model finds likeliest there.
    """

    token: NamedToken
    probability: float
    final_probability: float


@dataclass(frozen=True)
class Lens(JsonFields):
    """What each layer would say if it were the last.

    Attributes:
        cells: by what is read, the embeddings first and then each layer's output, and by token.
        decided: by token, the first row from which on the likeliest token is the final one.
    """

    cells: tuple[tuple[LensCell, ...], ...]
    decided: tuple[int, ...]

    def half_from(self, at: int) -> int:
        """The first row from which on the final token never has less than half of its probability.

        Args:
            at: the number of the token that asks.
        """
        column = [row[at].final_probability for row in self.cells]
        short = [row for row, value in enumerate(column) if value < column[-1] / 2]
        return short[-1] + 1 if short else 0


@dataclass(frozen=True)
class Part(JsonFields):
    """What one part of the model adds to a logit.

    Attributes:
        kind: of the part.
        layer: from 0; None for what belongs to none.
        value: what it adds, in logits.
    """

    kind: PartKind
    layer: int | None
    value: float


@dataclass(frozen=True)
class Attribution(ArrayFields):
    """What each part adds to the logit of the likeliest next token. The parts sum to it.

    Attributes:
        token: the likeliest next token.
        logit: of it, before a cap or a factor of the head that `note` names.
        parts: in the order of the model.
        heads: what each head adds, shape (L, H), nan where it can't be told; None for no layer.
        note: what the model does to the logits afterwards: cap or scale; None for nothing.
    """

    token: NamedToken
    logit: float
    parts: tuple[Part, ...]
    heads: np.ndarray | None
    note: str | None


@dataclass(frozen=True)
class Distribution(ArrayFields):
    """The logits of the next token.

    Attributes:
        logits: of all V ids, largest first, float32.
        tokens: those of the largest, in the same order; as many as a page shows.
        entropy_bits: of their softmax.
    """

    logits: np.ndarray
    tokens: tuple[NamedToken, ...]
    entropy_bits: float


@dataclass(frozen=True)
class ChangedToken(JsonFields):
    """A next token, before and after tuning.

    Attributes:
        token: the token.
        before: its probability in the base.
        after: its probability in the tuned model.
    """

    token: NamedToken
    before: float
    after: float


@dataclass(frozen=True)
class BaseComparison(ArrayFields):
    """The model beside what it was tuned from, on the same prompt.

    Attributes:
        base: its name.
        lens: the base's.
        lens_bits: how far apart the two lenses are, Kullback-Leibler divergence of the tuned from
            the base in bits, shape (L + 1, T); None where either has no lens.
        heads: how far apart the attention of a head is in both, half the sum of absolute
            differences, averaged over tokens, from 0 to 1, shape (L, H); None without attention.
        weights: by layer, the norm of the change of its weights by the norm of the weights.
        gained: next tokens that became likelier, by how much of the probability, most first.
        lost: the others, most first.
        bits: a token of the prompt in the base, on average.
        tuned_bits: the same in the tuned model.
    """

    base: str
    lens: Lens | None
    lens_bits: np.ndarray | None
    heads: np.ndarray | None
    weights: tuple[float, ...]
    gained: tuple[ChangedToken, ...]
    lost: tuple[ChangedToken, ...]
    bits: float
    tuned_bits: float


@dataclass(frozen=True)
class Passage(JsonFields):
    """A place of the training text that has a piece of the prompt in it.

    Attributes:
        before: the text before what is shared.
        shared: the piece of the prompt that stands there, word for word.
        after: how the training text goes on.
        num_tokens: of what is shared.
        place: where the shared piece stands.
    """

    before: str
    shared: str
    after: str
    num_tokens: int
    place: Place


@dataclass(frozen=True)
class TrainingMatch(JsonFields):
    """What the training text has of the prompt and of what the model goes on with.

    Attributes:
        passages: the places nearest to the prompt.
        continuation: the likeliest next tokens one after another, as text.
        spans: its stretches that stand in the training text, each with whether it does.
        longest: tokens of the longest of them.
        num_training_tokens: of the text.
        why_no_files: why a place has no file, in a sentence; None where each has one.
    """

    passages: tuple[Passage, ...]
    continuation: str
    spans: tuple[tuple[str, bool], ...]
    longest: int
    num_training_tokens: int
    why_no_files: str | None


@dataclass(frozen=True)
class Explanation(ArrayFields):
    """What each part of a model does to the next token of one prompt.

    Attributes:
        model: its name, as it was given.
        title: what a page calls it.
        model_type: its architecture, as transformers calls it.
        prompt: as it was given.
        tokens: with what stands before the prompt, BOS.
        random_likeness: what the likeness of a neighbour is to be compared with.
        num_parameters: weights of the model.
        num_layers: of the model; 0 where they can't be told apart.
        heads_by_layer: heads of attention; 0 for a layer that gives no weights of attention.
        width: numbers of a token's vector.
        positions: how it knows the order.
        attentions: shape (L, H, T, T); None where the model gives none.
        opened: one layer with its numbers; None where they can't be had.
        heads: what each does; none where there are none.
        lens: None where there is no stream from layer to layer that the head could read.
        attribution: None where the logit can't be taken apart.
        distribution: of the next token.
        next_tokens: the likeliest.
        base: beside what it was tuned from, or None.
        training: beside what it was trained on, or None.
        missing: what can't be shown of this model, a sentence each.
    """

    model: str
    title: ModelTitle
    model_type: str
    prompt: str
    tokens: tuple[ExplainedToken, ...]
    random_likeness: RandomLikeness
    num_parameters: int
    num_layers: int
    heads_by_layer: tuple[int, ...]
    width: int
    positions: Positions
    attentions: np.ndarray | None
    opened: OpenedBlock | None
    heads: tuple[Head, ...]
    lens: Lens | None
    attribution: Attribution | None
    distribution: Distribution
    next_tokens: tuple[Candidate, ...]
    base: BaseComparison | None
    training: TrainingMatch | None
    missing: tuple[str, ...]
