"""A model and a prompt -> an explanation: what each part of the model does to the next token."""

from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.analysis.explain.attribution import Direction, direction_of, head_parts, parts_of
from gptft.analysis.explain.base_comparison import compare_with_base
from gptft.analysis.explain.capture import ForwardPass, forward_pass
from gptft.analysis.explain.explanation import (
    Attribution,
    BaseComparison,
    Distribution,
    ExplainedToken,
    Explanation,
    Head,
    Shuffled,
    TrainingMatch,
)
from gptft.analysis.explain.heads import attentions_of, name_heads
from gptft.analysis.explain.lens import lens_of
from gptft.analysis.explain.opened import open_block
from gptft.analysis.explain.training_match import match_training_text
from gptft.analysis.explain.values import NamedToken, RandomLikeness
from gptft.analysis.explain.vectors import (
    candidates,
    mean_bits,
    neighbours_of,
    positions_of,
    random_likeness,
    shuffled_texts,
)
from gptft.analysis.memorization import base_model_of, training_text_of
from gptft.analysis.scored_tokens import token_reader
from gptft.analysis.training_text import TrainingText
from gptft.console import Notify, silent, stage
from gptft.decoding.encoding import encode_bare
from gptft.decoding.loaded_model import open_model, open_to_look_into
from gptft.decoding.recite import recite
from gptft.decoding.special_tokens import check_ids, num_embeddings, special_tokens
from gptft.errors import ConfigError, GptftError
from gptft.models.load import context_of, special_ids
from gptft.models.precision import DtypeName
from gptft.runs.titles import title_of
from gptft.terminal.text import quoted
from gptft.tokenization.tokens import Token, group_by_characters, utf8_bytes

MOST_TOKENS = 64  # of a prompt: a page of more can't be taken in
_MOST_SHOWN = 60  # tokens of the distribution that are named
_CONTINUATION = 40  # tokens
_TOP = 10


def explain(
    model_name: str,
    prompt: str,
    *,
    base_name: str | None = None,
    dtype: DtypeName = "auto",
    revision: str | None = None,
    use_cpu: bool = False,
    notify: Notify = silent,
) -> Explanation:
    """Load a model and explain what it makes of a prompt.

    Args:
        model_name: pico, a model or run folder, or a hub id.
        prompt: a text of at least one token and at most 64.
        base_name: a model of the same vocabulary to compare with; None for what a run was tuned
            from.
        dtype: of the weights.
        revision: branch, tag or commit of a hub model.
        use_cpu: run on the CPU even if an accelerator is available.
        notify: told in a sentence what can't be shown, and why.

    Raises:
        ConfigError: the prompt is empty, too long or no Unicode, or the vocabularies differ.
        ModelError: a model can't be found, read or looked into.
    """
    utf8_bytes(prompt)
    opened = open_to_look_into(model_name, dtype=dtype, revision=revision, use_cpu=use_cpu)
    _ids(*opened, prompt)
    base = open_base(model_name, base_name, opened[1], notify, dtype=dtype, use_cpu=use_cpu)
    training = training_text_of(model_name, notify=notify)
    with stage("Looking into the model"):
        return explain_opened(model_name, opened, prompt, base=base, training=training)


def explain_opened(
    model_name: str,
    opened: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    prompt: str,
    *,
    base: tuple[str, PreTrainedModel] | None = None,
    training: TrainingText | None = None,
) -> Explanation:
    """Explain what a model that is loaded makes of a prompt.

    Args:
        model_name: what a person calls it.
        opened: the model and its tokenizer.
        prompt: a text of at least one token and at most 64.
        base: the name of what it is compared with, and the model.
        training: the text it was trained on.

    Raises:
        ConfigError: the prompt is empty, too long or no Unicode.
        ModelError: the model can't be looked into.
    """
    model, tokenizer = opened
    ids, start = _ids(model, tokenizer, prompt)
    found = _Explainer(model, tokenizer, prompt, ids, start)
    return Explanation(
        model=model_name,
        title=title_of(model_name),
        model_type=str(model.config.model_type),
        prompt=prompt,
        tokens=found.tokens(),
        random_likeness=found.random_likeness(),
        num_parameters=model.num_parameters(),
        num_layers=len(found.passed.layers),
        heads_by_layer=found.heads_by_layer(),
        width=int(found.passed.token_embeddings.shape[-1]),
        positions=positions_of(model, found.passed, found.shuffled()),
        attentions=attentions_of(found.passed),
        opened=found.opened,
        heads=found.heads(),
        lens=lens_of(found.passed, found.name),
        attribution=found.attribution(),
        distribution=found.distribution(),
        next_tokens=candidates(found.passed.logits[-1], at_most=_TOP, name=found.name),
        base=found.beside(*base) if base is not None else None,
        training=found.training_match(training) if training is not None else None,
        missing=tuple(found.missing()),
    )


class _Explainer:
    """A forward pass over a prompt, and what each step of the explanation takes of it."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt: str,
        ids: Sequence[int],
        start: int,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._prompt, self._ids, self._start = prompt, ids, start
        self._read = token_reader(tokenizer)
        self._known = min(1 + max(tokenizer.get_vocab().values()), num_embeddings(model))
        self.passed: ForwardPass = forward_pass(model, ids)
        self._next = int(self.passed.logits[-1].argmax())
        self.direction: Direction | None = direction_of(self.passed, self._next)
        self.opened = open_block(self.passed, self.direction, name=self.name)

    def name(self, token_id: int) -> NamedToken:
        """A token as a person is shown it."""
        read = self._read(token_id)
        return NamedToken(token_id, read.shown, read.bytes)

    def tokens(self) -> tuple[ExplainedToken, ...]:
        """The tokens of the prompt."""
        control = special_ids(self._tokenizer)
        near = neighbours_of(self._model, self._ids, known=self._known, name=self.name)
        read = [self._read(i) for i in self._ids]
        groups = _characters(read)
        return tuple(
            ExplainedToken(
                self.name(token.id),
                b"" if token.id in control else token.bytes,
                group,
                token.id in control,
                neighbours,
                length,
            )
            for token, group, (neighbours, length) in zip(read, groups, near, strict=True)
        )

    def random_likeness(self) -> RandomLikeness:
        """How like tokens taken at random are."""
        return random_likeness(self._model, known=self._known)

    def shuffled(self) -> Shuffled | None:
        """What happens if the words change places."""
        texts = shuffled_texts(self._prompt)
        context = context_of(self._model)
        bits, last = [], None
        before = self._ids[: self._start]
        for text in texts:
            ids = [*before, *encode_bare(self._tokenizer, text)]
            if context is None or len(ids) <= context:
                logits = forward_pass(self._model, ids).logits
                bits.append(mean_bits(logits, ids, start=max(self._start, 1)))
                last = last if last is not None else logits[-1]
        if last is None:
            return None
        return Shuffled(
            bits=mean_bits(self.passed.logits, self._ids, start=max(self._start, 1)),
            shuffled_bits=sum(bits) / len(bits),
            text=texts[0],
            next_tokens=candidates(last, at_most=3, name=self.name),
            num_texts=len(bits),
        )

    def heads_by_layer(self) -> tuple[int, ...]:
        """How many heads of attention each layer has that gives its weights."""
        given = (layer.attention for layer in self.passed.layers)
        return tuple(0 if one is None else len(one.weights) for one in given)

    def heads(self) -> tuple[Head, ...]:
        """What each head does."""
        control = special_ids(self._tokenizer)
        ordinary = [i for i in range(self._known) if i not in control]
        return name_heads(self._model, ordinary, before=self._ids[: self._start])

    def attribution(self) -> Attribution | None:
        """What each part adds to the logit of the likeliest next token."""
        if self.direction is None:
            return None
        parts = tuple(parts_of(self.passed, self.direction))
        scale, cap = self.passed.logit_scale, self.passed.logit_cap
        note = "cap" if cap is not None else "scale" if scale != 1.0 else None
        with torch.no_grad():
            read = self.passed.head_input[-1:].to(self.passed.head_dtype)
            logit = float(self.passed.head(read)[0, self._next])
        heads = head_parts(self.passed, self.direction)
        return Attribution(self.name(self._next), logit, parts, heads, note)

    def distribution(self) -> Distribution:
        """The logits of the next token."""
        logits, ids = self.passed.logits[-1].sort(descending=True)
        probabilities = logits.double().softmax(-1)
        entropy = float(
            -torch.special.xlogy(probabilities, probabilities).sum() / torch.log(torch.tensor(2.0))
        )
        named = tuple(self.name(i) for i in ids[:_MOST_SHOWN].tolist())
        return Distribution(logits.cpu().numpy(), named, entropy)

    def beside(self, base_name: str, base: PreTrainedModel) -> BaseComparison:
        """The model beside its base."""
        check_ids(base, [self._ids])
        return compare_with_base(
            (self._model, self.passed), (base, forward_pass(base, self._ids)),
            base_name=base_name, ids=self._ids, start=self._start, name=self.name,
        )  # fmt: skip

    def training_match(self, training: TrainingText) -> TrainingMatch:
        """The prompt and its continuation beside the training text."""
        context = context_of(self._model)
        room = _CONTINUATION if context is None else min(_CONTINUATION, context - len(self._ids))
        text = recite(self._model, self._tokenizer, [self._ids], [room])[0] if room > 0 else ""
        return match_training_text(training, self._prompt, text)

    def missing(self) -> Iterator[str]:
        """What can't be shown of this model."""
        kind = type(self._model).__name__
        if not any(layer.attention for layer in self.passed.layers):
            yield f"{kind} gives no attention weights: its heads can't be drawn."
        elif self.opened is None:
            yield f"{kind} doesn't hand out its queries and keys: no block can be opened."
        if not self.passed.has_residual:
            yield f"{kind} has no stream between layers that its head could read: there is no lens."
        if self.direction is None:
            yield f"The logit of {kind} can't be taken apart."


def open_base(
    model_name: str,
    base_name: str | None,
    tokenizer: PreTrainedTokenizerBase,
    notify: Notify = silent,
    *,
    dtype: DtypeName = "auto",
    use_cpu: bool = False,
) -> tuple[str, PreTrainedModel] | None:
    """The base that was named, or what a run was tuned from; None where there is none.

    Args:
        model_name: the tuned model's.
        base_name: what was named.
        tokenizer: the tuned model's.
        notify: told why what a run was tuned from isn't shown.
        dtype: of the weights.
        use_cpu: run on the CPU even if an accelerator is available.

    Raises:
        ConfigError: what was named has other tokens under the same ids.
        ModelError: what was named can't be found or read.
    """
    named = base_name if base_name is not None else base_model_of(model_name)
    if named is None:
        return None
    try:
        base, theirs = open_model(named, dtype=dtype, use_cpu=use_cpu)
        ours, others = tokenizer.get_vocab(), theirs.get_vocab()
        if any(others.get(token, i) != i for token, i in ours.items()):
            raise ConfigError(
                f"{model_name} and {named} have other tokens under the same ids, and can't be "
                "compared. Name the model that it was tuned from."
            )
    except GptftError as error:
        if base_name is not None:
            raise
        notify(f"The base {named} isn't shown beside the model: {error}")
        return None
    return named, base


def _ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str
) -> tuple[list[int], int]:
    """The ids of a prompt, BOS included, and how many stand before its text.

    Raises:
        ConfigError: it is empty or too long.
        ModelError: the tokenizer belongs to another model.
    """
    special, text_ids = special_tokens(model, tokenizer), encode_bare(tokenizer, prompt)
    ids = [*special.prefix, *text_ids]
    if not text_ids:
        raise ConfigError('The prompt is empty. Give one: -p "Мороз и солнце".')
    if len(text_ids) > MOST_TOKENS:
        raise ConfigError(
            f"The prompt {quoted(prompt, at_most=30)} has {len(text_ids):,} tokens, and at most "
            f"{MOST_TOKENS} can be explained at once. Shorten it."
        )
    context = context_of(model)
    if context is not None and len(ids) > context:
        raise ConfigError(
            f"The prompt {quoted(prompt, at_most=30)} has {len(ids):,} tokens, and the model's "
            f"context is {context:,}. Shorten it."
        )
    check_ids(model, [ids])
    return ids, len(ids) - len(text_ids)


def _characters(tokens: Sequence[Token]) -> list[int | None]:
    """By token, the number of the character that it holds a part of only; see `ExplainedToken`."""
    found: list[int | None] = []
    number = 0
    for group in group_by_characters(tokens):
        found += [number if len(group) > 1 else None] * len(group)
        number += len(group) > 1
    return found
