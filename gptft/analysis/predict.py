"""A model and a prompt -> what it would continue with, and what settings make of that.

Nothing is drawn: each step takes the token that is likeliest after all processors.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gptft.analysis.scored_tokens import token_reader
from gptft.console import stage
from gptft.decoding.batch import batch_context
from gptft.decoding.cached_model import CachedModel
from gptft.decoding.define import Process
from gptft.decoding.engine import encode_all, load_model
from gptft.decoding.loaded_model import open_model
from gptft.decoding.logprobs import check_logits, log_probabilities
from gptft.decoding.processors import named_processors
from gptft.decoding.settings import Settings, with_seed
from gptft.decoding.special_tokens import check_ids
from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.models.load import context_of
from gptft.models.precision import DtypeName
from gptft.terminal.text import harmless, quoted
from gptft.terminal.words import count
from gptft.tokenization.tokens import Token

NamedProcessors = Sequence[tuple[str, Process]]


@dataclass(frozen=True)
class PredictedToken(JsonFields):
    """A token that may come next.

    Attributes:
        token_id: the token.
        text: as `gptft tokenize` shows it.
        probability: as the model alone has it.
        final_probability: after all processors.
        cut_by: the first processor that removed it for good, or None.
        other_probability: as the other model alone has it, where there is one.
    """

    token_id: int
    text: str
    probability: float
    final_probability: float
    cut_by: str | None
    other_probability: float | None = None

    def json_fields(self) -> dict[str, Any]:
        """As JSON has them; the other model's only where there is one."""
        names = {"token_id": "id", "text": "piece"}
        values = {names.get(name, name): value for name, value in vars(self).items()}
        return _without_missing(values, "other_probability")


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
class PredictedStep(JsonFields):
    """One step.

    Attributes:
        text: what it follows, without BOS; a byte that is no character stands as ⟨d0⟩.
        entropy_bits: of the model's own distribution.
        rows: the likeliest tokens, as the model alone has it, likeliest first; those of the other
            model among them, and the one chosen.
        kept: by processor, in order.
        chosen: the id of the token that is likeliest after all processors.
        text_after: the text with that token.
        other_entropy_bits: of the other model's distribution, where there is one.
    """

    json_names = (
        "text", "text_after", "entropy_bits", "other_entropy_bits", "chosen", "kept", "rows"
    )  # fmt: skip

    text: str
    entropy_bits: float
    rows: tuple[PredictedToken, ...]
    kept: tuple[Kept, ...]
    chosen: int
    text_after: str
    other_entropy_bits: float | None = None

    def json_fields(self) -> dict[str, Any]:
        """As JSON has them; the other model's only where there is one."""
        return _without_missing(super().json_fields(), "other_entropy_bits")


@dataclass(frozen=True)
class Prediction(JsonFields):
    """What a model would continue with, step by step.

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
    steps: tuple[PredictedStep, ...]

    def json_fields(self) -> dict[str, Any]:
        """As `gptft predict --json` prints them."""
        return {
            "model": self.model,
            "other_model": self.other_model,
            "prompt": self.prompt,
            "strategy": self.settings.strategy,
            "settings": self.settings.to_dict(),
            "seed": self.settings.seed if self.settings.do_sample else None,
            "steps": self.steps,
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
        steps: tokens to append, each the likeliest after all processors.
        top: tokens to show a step.
        other_model_name: of a model with the same vocabulary; no processor touches it.
        dtype: of the weights.
        revision: branch, tag or commit of a hub model.
        use_cpu: run on the CPU even if an accelerator is available.

    Raises:
        ConfigError: the prompt is too long or no Unicode, the vocabularies differ, or the settings
            don't fit the model or leave no token.
        ModelError: a model can't be found or read, or its logits are not numbers.
    """
    _check_counts(prompt, steps=steps, top=top)
    settings = with_seed(settings)
    loaded = load_model(
        model_name, settings=settings, dtype=dtype, revision=revision, use_cpu=use_cpu
    )
    model, tokenizer = loaded.model, loaded.tokenizer
    (ids,) = encode_all(loaded, [prompt], settings)
    check_ids(model, [ids])
    _check_room(model, ids, prompt=prompt, steps=steps)
    processors = named_processors(settings, batch_context(loaded, [ids], rows=1))
    other = None
    if other_model_name is not None:
        other, other_tokenizer = open_model(other_model_name, dtype=dtype, use_cpu=use_cpu)
        _check_vocabularies((model_name, tokenizer), (other_model_name, other_tokenizer))
        check_ids(other, [ids])
        _check_room(other, ids, prompt=prompt, steps=steps)
    torch.manual_seed(settings.seed or 0)  # a processor may draw
    with stage("Predicting"):
        found = predict_steps(
            model, tokenizer, ids, processors=processors, steps=steps, top=top,
            eos=loaded.special.eos, other=other, num_before=len(loaded.special.prefix),
        )  # fmt: skip
    return Prediction(model_name, other_model_name, prompt, settings, tuple(found))


@torch.no_grad()
def predict_steps(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    *,
    processors: NamedProcessors = (),
    steps: int,
    top: int = 10,
    eos: Collection[int] = (),
    other: PreTrainedModel | None = None,
    num_before: int = 0,
) -> list[PredictedStep]:
    """Continue step by step, each time with the token that is likeliest after all processors.

    Args:
        model: a causal one, in eval mode.
        tokenizer: its tokenizer.
        prompt_ids: T >= 1 token ids; T + steps - 1 must fit the models' context.
        processors: with their names; called once a step, in order, with ids of shape (1, t) and
            float32 scores of shape (1, V).
        steps: how many to take.
        top: tokens to keep a step.
        eos: ids that end the text.
        other: a model of the same vocabulary, that reads the same text.
        num_before: ids of the prompt that stand before its text, BOS.

    Raises:
        ConfigError: the processors leave no token.
        ModelError: the logits are not numbers.
    """
    read = token_reader(tokenizer)
    ids, unread = list(prompt_ids), list(prompt_ids)
    models = [CachedModel.of(each) for each in (model, other) if each is not None]
    found: list[PredictedStep] = []
    while len(found) < steps:
        is_last = len(found) == steps - 1
        logits = []
        for each in models:
            new_ids = torch.tensor([unread], device=each.model.device)
            logits.append(each.next_logits(new_ids, is_last=is_last))  # (1, V)
            check_logits(logits[-1])
        step = _step(read, ids, logits, processors=processors, top=top, num_before=num_before)
        found.append(step)
        if step.chosen in eos:
            break
        unread = [step.chosen]
        ids.append(step.chosen)
    return found


def _step(
    read: Callable[[int], Token],
    ids: Sequence[int],
    logits: Sequence[Tensor],
    *,
    processors: NamedProcessors,
    top: int,
    num_before: int,
) -> PredictedStep:
    """What follows `ids`, from logits (1, V) of the model and of the other one, if any."""
    input_ids = torch.tensor([ids], device=logits[0].device)
    final, kept, cut = _process(processors, input_ids, logits[0])
    chosen = int(final.argmax())
    own, *others = [torch.softmax(each[0], dim=-1).cpu() for each in logits]  # (V,) each
    after = final[0].exp().cpu()
    rows = []
    for i in _shown_ids([own, *others], chosen=chosen, top=top):
        cut_by = processors[int(cut[i])][0] if i < len(cut) and cut[i] >= 0 else None
        other = _at(others[0], i) if others else None
        rows.append(PredictedToken(i, read(i).shown, _at(own, i), _at(after, i), cut_by, other))
    raws = [read(i).bytes for i in [*ids[num_before:], chosen]]
    text, text_after = _as_text(raws[:-1]), _as_text(raws)
    bits, *other_bits = map(_entropy_bits, [own, *others])
    return PredictedStep(text, bits, tuple(rows), kept, chosen, text_after, *other_bits)


def _process(
    processors: NamedProcessors, input_ids: Tensor, logits: Tensor
) -> tuple[Tensor, tuple[Kept, ...], Tensor]:
    """Send logits of shape (1, V) through all processors, noting which tokens each removes.

    Returns:
        log-probabilities of shape (1, V), what each processor kept, and by token the number of the
        processor that removed it, or -1, shape (V,).
    """
    scores = logits
    cut = torch.full_like(logits[0], -1, dtype=torch.long)
    kept = []
    for number, (name, processor) in enumerate(processors):
        before = scores[0] > -torch.inf  # (V,)
        probabilities = log_probabilities(scores)[0].exp()
        # A processor may write into what it is given.
        scores = processor(input_ids, scores.clone()).float()
        after = scores[0] > -torch.inf
        cut[before & ~after] = number
        cut[after] = -1
        num_after = int(after.sum())
        if not num_after:
            raise ConfigError(
                f"{name} leaves no token to continue with: it removes each of the "
                f"{int(before.sum()):,} that came to it. Loosen it."
            )
        share = min(float(probabilities[after].sum()), 1.0)
        kept.append(Kept(name, int(before.sum()), num_after, share))
    return log_probabilities(scores), tuple(kept), cut


def _shown_ids(raws: Sequence[Tensor], *, chosen: int, top: int) -> list[int]:
    """The likeliest ids of every model and the chosen one, likeliest for the first model first."""
    ids = {chosen}
    for probabilities in raws:
        ids.update(probabilities.topk(min(top, len(probabilities))).indices.tolist())
    return sorted(ids, key=lambda i: (-_at(raws[0], i), i))


def _at(probabilities: Tensor, token_id: int) -> float:
    """Models with one tokenizer may have more or fewer embeddings than it has tokens."""
    return float(probabilities[token_id]) if token_id < len(probabilities) else 0.0


def _entropy_bits(probabilities: Tensor) -> float:
    """-sum p log2 p of a distribution of shape (V,), in float64."""
    exact = probabilities.double()
    return float(-torch.special.xlogy(exact, exact).sum()) / math.log(2)


def _as_text(raws: Sequence[bytes]) -> str:
    """Bytes as text; those of no character as they are shown."""
    return harmless(b"".join(raws), keeps=lambda character: True)


def _without_missing(values: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name or value is not None}


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
            f"The prompt {quoted(prompt, at_most=30)} has {count(len(ids), 'token')}, and with "
            f"{count(steps, 'step')} it doesn't fit the model's context of {context:,}. Shorten "
            "the prompt" + (", or lower --steps." if steps > 1 and len(ids) <= context else ".")
        )


def _check_vocabularies(*named: tuple[str, PreTrainedTokenizerBase]) -> None:
    (name, ours), (other, theirs) = ((n, tokenizer.get_vocab()) for n, tokenizer in named)
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        what = f"{name} has {len(ours):,} tokens and {other} {len(theirs):,}"
    else:
        what = f"{name} and {other} have {len(ours):,} tokens each, but not the same ones"
    raise ConfigError(
        f"{what}: their probabilities can't be compared token by token. Take two models of one "
        "family."
    )
