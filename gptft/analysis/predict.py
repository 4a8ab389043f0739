"""A model and a prompt -> what it would go on with, and what settings make of that.

In: a model, token ids, named logits processors; or names, a prompt and `Settings`. Out: a frozen
`NextTokens` a step. Nothing is drawn: each step goes on with the token that is likeliest after all
processors.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from gptft.analysis.score import open_model
from gptft.analysis.scored_tokens import shown_token, token_reader
from gptft.decoding.cached_model import CachedModel
from gptft.decoding.logprobs import check_logits, log_probabilities
from gptft.decoding.settings import Settings, with_seed
from gptft.decoding.special_tokens import check_ids, excerpt
from gptft.errors import ConfigError
from gptft.models.load import context_of
from gptft.models.precision import DtypeName
from gptft.terminal.text import visible

NamedProcessors = Sequence[tuple[str, LogitsProcessor]]


@dataclass(frozen=True)
class TokenRow:
    """A token that may come next.

    Attributes:
        token_id: the token.
        piece: what it spells, as `gptft tokenize` shows it.
        probability: as the model alone has it.
        final_probability: after all processors.
        cut_by: the first processor that took it away for good, or None.
        other_probability: as the other model alone has it, where there is one.
    """

    token_id: int
    piece: str
    probability: float
    final_probability: float
    cut_by: str | None
    other_probability: float | None = None


@dataclass(frozen=True)
class Kept:
    """What a processor leaves of what came to it.

    Attributes:
        name: the processor's.
        num_before: tokens that were possible before it.
        num_after: tokens that are possible after it.
        probability: that the latter had together before it.
    """

    name: str
    num_before: int
    num_after: int
    probability: float


@dataclass(frozen=True)
class NextTokens:
    """One step.

    Attributes:
        text: what it goes on from; a byte that is no character stands as ⟨d0⟩.
        entropy_bits: of the model's own distribution.
        rows: the likeliest tokens, as the model alone has it, likeliest first; those of the other
            model among them, and the one chosen.
        kept: by processor, in order.
        chosen: the id of the token that is likeliest after all processors.
        text_after: the text with that token.
        other_entropy_bits: of the other model's distribution, where there is one.
    """

    text: str
    entropy_bits: float
    rows: tuple[TokenRow, ...]
    kept: tuple[Kept, ...]
    chosen: int
    text_after: str
    other_entropy_bits: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as JSON has them; the other model's only where there is one."""
        compared = self.other_entropy_bits is not None
        rows = [
            {
                "id": row.token_id,
                "piece": row.piece,
                "probability": row.probability,
                "final_probability": row.final_probability,
                "cut_by": row.cut_by,
            }
            | ({"other_probability": row.other_probability} if compared else {})
            for row in self.rows
        ]
        return {
            "text": self.text,
            "text_after": self.text_after,
            "entropy_bits": self.entropy_bits,
            **({"other_entropy_bits": self.other_entropy_bits} if compared else {}),
            "chosen": self.chosen,
            "kept": [vars(kept) for kept in self.kept],
            "rows": rows,
        }


@dataclass(frozen=True)
class Prediction:
    """What a model would go on with, step by step.

    Attributes:
        model: its name.
        other_model: the name of the one beside it, or None.
        prompt: as it was given.
        settings: what the processors were made from, the seed included.
        steps: at least one; fewer than asked for where the likeliest token ended the text.
    """

    model: str
    other_model: str | None
    prompt: str
    settings: Settings
    steps: tuple[NextTokens, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as `gptft predict --json` prints them."""
        return {
            "model": self.model,
            "other_model": self.other_model,
            "prompt": self.prompt,
            "strategy": self.settings.strategy,
            "settings": self.settings.to_dict(),
            "seed": self.settings.seed if self.settings.do_sample else None,
            "steps": [step.to_dict() for step in self.steps],
        }


def predict(
    model_name: str,
    prompt: str,
    *,
    settings: Settings,
    steps: int = 1,
    top: int = 10,
    other_model_name: str | None = None,
    dtype: DtypeName = "auto",
    revision: str | None = None,
    use_cpu: bool = False,
) -> Prediction:
    """Load a model, or two, and say what comes after `prompt`.

    Args:
        model_name: pico, a model or run folder, or a hub id.
        prompt: a plain text; an empty one begins with BOS, or EOS.
        settings: what the processors are made from; see `resolve_settings`.
        steps: tokens to go on by, each the likeliest after all processors.
        top: tokens to show a step.
        other_model_name: of a model with the same vocabulary; no processor touches it.
        dtype: of the weights.
        revision: branch, tag or commit of a hub model.
        use_cpu: leave an accelerator alone.

    Raises:
        ConfigError: the prompt is too long or no Unicode, the vocabularies differ, or the settings
            can't be had or leave no token.
        ModelError: a model can't be found or read, or its logits are no numbers.
    """
    _check_counts(prompt, steps=steps, top=top)
    settings = with_seed(settings)
    model, tokenizer, ids, processors, eos = _prepare(
        model_name, prompt, settings=settings, dtype=dtype, revision=revision, use_cpu=use_cpu
    )
    check_ids(model, [ids])
    other = None
    if other_model_name is not None:
        other, other_tokenizer = open_model(other_model_name, dtype=dtype, use_cpu=use_cpu)
        _check_vocabularies(tokenizer, other_tokenizer, names=(model_name, other_model_name))
        check_ids(other, [ids])
    for each in (model, other):
        if each is not None:
            _check_room(each, ids, prompt=prompt, steps=steps)
    torch.manual_seed(settings.seed or 0)  # a processor may draw
    found = walk(
        model, tokenizer, ids, processors=processors, steps=steps, top=top, eos=eos, other=other
    )
    return Prediction(model_name, other_model_name, prompt, settings, tuple(found))


def _prepare(
    model_name: str,
    prompt: str,
    *,
    settings: Settings,
    dtype: DtypeName,
    revision: str | None,
    use_cpu: bool,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, list[int], NamedProcessors, tuple[int, ...]]:
    """The model and its tokenizer, the prompt's ids, the processors and the ids that end a text."""
    from gptft.decoding.batch import batch_context
    from gptft.decoding.engine import encode_all, load_model
    from gptft.decoding.processors import named_processors

    loaded = load_model(
        model_name, settings=settings, dtype=dtype, revision=revision, use_cpu=use_cpu
    )
    (ids,) = encode_all(loaded, [prompt], settings)
    check_ids(loaded.model, [ids])
    processors = named_processors(settings, batch_context(loaded, [ids], rows=1))
    return loaded.model, loaded.tokenizer, ids, processors, loaded.special.eos


def next_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    *,
    processors: NamedProcessors = (),
    top: int = 10,
) -> NextTokens:
    """What a model in eval mode would go on with after T >= 1 tokens: `walk` by one step."""
    return walk(model, tokenizer, prompt_ids, processors=processors, steps=1, top=top)[0]


@torch.no_grad()
def walk(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    *,
    processors: NamedProcessors = (),
    steps: int,
    top: int = 10,
    eos: Collection[int] = (),
    other: PreTrainedModel | None = None,
) -> list[NextTokens]:
    """Go on step by step, each time with the token that is likeliest after all processors.

    Args:
        model: a causal one, in eval mode.
        tokenizer: its tokenizer.
        prompt_ids: T >= 1 token ids; T + steps - 1 must fit the models' context.
        processors: with their names; called once a step, in order, with ids of shape (1, t) and
            float32 scores of shape (1, V).
        steps: how many to take.
        top: tokens to keep a step.
        eos: ids that end the text, and with it the walk.
        other: a model of the same vocabulary, that reads the same text.

    Raises:
        ConfigError: the processors leave no token.
        ModelError: the logits are no numbers.
    """
    read = token_reader(tokenizer)
    ids, unread = list(prompt_ids), list(prompt_ids)
    models = [CachedModel.of(each) for each in (model, other) if each is not None]
    found: list[NextTokens] = []
    while len(found) < steps:
        is_last = len(found) == steps - 1
        logits = []
        for each in models:
            new_ids = torch.tensor([unread], device=each.model.device)
            logits.append(each.next_logits(new_ids, is_last=is_last))  # (1, V)
            check_logits(logits[-1])
        input_ids = torch.tensor([ids], device=model.device)
        final, kept, cut = _process(processors, input_ids, logits[0])
        chosen = int(final.argmax())
        raws = [torch.softmax(each[0], dim=-1).cpu() for each in logits]
        shown = _shown_ids(raws, chosen=chosen, top=top)
        after = final[0].exp().cpu()
        rows = tuple(
            TokenRow(
                token_id=i,
                piece=shown_token(read(i)),
                probability=_at(raws[0], i),
                final_probability=_at(after, i),
                cut_by=processors[int(cut[i])][0] if i < len(cut) and cut[i] >= 0 else None,
                other_probability=_at(raws[1], i) if other is not None else None,
            )
            for i in shown
        )
        found.append(
            NextTokens(
                text=_spelled([read(i).bytes for i in ids]),
                entropy_bits=_entropy_bits(raws[0]),
                rows=rows,
                kept=kept,
                chosen=chosen,
                text_after=_spelled([read(i).bytes for i in [*ids, chosen]]),
                other_entropy_bits=_entropy_bits(raws[1]) if other is not None else None,
            )
        )
        if chosen in eos:
            break
        unread = [chosen]
        ids.append(chosen)
    return found


def _process(
    processors: NamedProcessors, input_ids: torch.Tensor, logits: torch.Tensor
) -> tuple[torch.Tensor, tuple[Kept, ...], torch.Tensor]:
    """Send logits of shape (1, V) through all processors, watching which tokens each takes away.

    Returns:
        log-probabilities of shape (1, V), what each processor kept, and by token the number of the
        processor that took it away, or -1, shape (V,).
    """
    scores = logits
    cut = torch.full_like(logits[0], -1, dtype=torch.long)
    kept = []
    for number, (name, processor) in enumerate(processors):
        before = scores[0] > -torch.inf
        probabilities = log_probabilities(scores)[0].exp()
        # A processor may write into what it is given.
        scores = processor(input_ids, scores.clone()).float()
        after = scores[0] > -torch.inf
        cut[before & ~after] = number
        cut[after] = -1
        num_after = int(after.sum())
        if not num_after:
            raise ConfigError(
                f"{name} leaves no token to go on with: it takes away each of the "
                f"{int(before.sum()):,} that came to it. Loosen it."
            )
        share = min(float(probabilities[after].sum()), 1.0)
        kept.append(Kept(name, int(before.sum()), num_after, share))
    return log_probabilities(scores), tuple(kept), cut


def _shown_ids(raws: Sequence[torch.Tensor], *, chosen: int, top: int) -> list[int]:
    """The likeliest ids of every model and the chosen one, likeliest for the first model first."""
    ids = {chosen}
    for probabilities in raws:
        ids.update(probabilities.topk(min(top, len(probabilities))).indices.tolist())
    return sorted(ids, key=lambda i: (-_at(raws[0], i), i))


def _at(probabilities: torch.Tensor, token_id: int) -> float:
    """Models of one tokenizer may have more or fewer embeddings without a token."""
    return float(probabilities[token_id]) if token_id < len(probabilities) else 0.0


def _entropy_bits(probabilities: torch.Tensor) -> float:
    """-sum p log2 p of a distribution of shape (V,), in float64."""
    exact = probabilities.double()
    return float(-torch.special.xlogy(exact, exact).sum()) / math.log(2)


def _spelled(spelled: Sequence[bytes]) -> str:
    """Bytes as text; those of no character as they are shown."""
    text = b"".join(spelled).decode(errors="surrogateescape")
    return "".join(
        visible(c.encode(errors="surrogateescape")) if "\udc80" <= c <= "\udcff" else c
        for c in text
    )


def _check_counts(prompt: str, *, steps: int, top: int) -> None:
    problems = [
        f"--{name} is {value:,}; it must be 1 or more."
        for name, value in (("steps", steps), ("top", top))
        if value < 1
    ]
    try:
        prompt.encode()
    except UnicodeEncodeError:
        problems.append(f"The prompt {prompt[:30]!r} is not UTF-8 text.")
    if problems:
        raise ConfigError(*problems)


def _check_room(model: PreTrainedModel, ids: Sequence[int], *, prompt: str, steps: int) -> None:
    context = context_of(model)
    if context is not None and len(ids) + steps - 1 > context:
        raise ConfigError(
            f"The prompt {excerpt(prompt)} has {len(ids):,} tokens, and with {steps:,} "
            f"{'step' if steps == 1 else 'steps'} it doesn't fit the model's context of "
            f"{context:,}. Shorten the prompt"
            + (", or lower --steps." if steps > 1 and len(ids) <= context else ".")
        )


def _check_vocabularies(
    tokenizer: PreTrainedTokenizerBase,
    other: PreTrainedTokenizerBase,
    *,
    names: tuple[str, str],
) -> None:
    ours, theirs = tokenizer.get_vocab(), other.get_vocab()
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        what = f"{names[0]} has {len(ours):,} tokens and {names[1]} {len(theirs):,}"
    else:
        what = f"{names[0]} and {names[1]} have {len(ours):,} tokens each, but not the same ones"
    raise ConfigError(
        f"{what}: their probabilities can't be compared token by token. Take two models of one "
        "family."
    )
