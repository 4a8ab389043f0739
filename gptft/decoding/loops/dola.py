"""DoLa, a loop for `generate`: tokens to which the last layer gives more than an early one."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from gptft.decoding.early_exit import decoder_layers
from gptft.decoding.layers import early_layers
from gptft.decoding.loops.generation_loop import LoopInputs, Sequences, generation_loop
from gptft.errors import ModelError

# A token stays in play from this share of the highest probability on.
_PLAUSIBLE = 0.1


@generation_loop
def dola_decoding(
    inputs: LoopInputs, *, dola_layers: Literal["low", "high"] | Sequence[int], do_sample: bool
) -> torch.Tensor:
    """Continue prompts by what the last layer adds to an early one, chosen anew for each token.

    Processors see the contrasted scores. Where they forbid every token still in play, the last
    layer alone decides.

    Args:
        inputs: what `generate` hands to a loop.
        dola_layers: see `early_layers`.
        do_sample: draw tokens instead of taking the best.

    Returns:
        Ids of shape (B, T + new tokens).

    Raises:
        ConfigError: a layer that the model hasn't.
        ModelError: the model's layers or head can't be found, or the head doesn't read layers.

    Source: Chuang et al. 2023 (2309.03883), section 2; the tenth is from 3.1.
    """
    model, process = inputs.model, inputs.logits_processor
    num_layers = len(decoder_layers(model)[2])
    layers = early_layers(dola_layers, num_layers=num_layers, tied=_is_tied(model))
    texts = Sequences(inputs)
    with _early_exits(model, layers):
        cached, output = inputs.read_prompts()
        while True:
            last, early = _last_and_early(model, output.logits, num_early=len(layers))
            scores = process(texts.ids, contrast(last, early))  # (B, V)
            stuck = (scores == -torch.inf).all(dim=-1, keepdim=True)
            if stuck.any():
                scores = torch.where(stuck, process(texts.ids, last), scores)
            if do_sample:
                texts.check_some_left(scores)
                tokens = torch.multinomial(scores.softmax(dim=-1), num_samples=1)[:, 0]
            else:
                tokens = scores.argmax(dim=-1)
            if texts.append(tokens, scores):
                return texts.ids
            output = cached.feed(texts.ids[:, -1:])


def contrast(last: torch.Tensor, early: torch.Tensor) -> torch.Tensor:
    """Scores of the last layer against the early one that differs most from it, row by row.

    Args:
        last: log-probabilities of shape (B, V).
        early: log-probabilities of E early layers, shape (B, E, V).

    Returns:
        Scores of shape (B, V): log p_last - log p_early, and -inf where p_last is below a tenth of
        the highest.

    Source: Chuang et al. 2023 (2309.03883), section 2; the tenth is from 3.1.
    """
    last_of_each = last[:, None]  # (B, 1, V)
    middle = torch.logaddexp(last_of_each, early) - math.log(2)  # (B, E, V), log of the mean
    # nansum: a token that both rule out adds nothing.
    from_last = (last_of_each.exp() * (last_of_each - middle)).nansum(dim=-1)
    from_early = (early.exp() * (early - middle)).nansum(dim=-1)
    farthest = (from_last + from_early).argmax(dim=1)  # (B,), by Jensen-Shannon divergence
    premature = early[torch.arange(len(early), device=early.device), farthest]
    plausible = last >= last.amax(dim=-1, keepdim=True) + math.log(_PLAUSIBLE)
    return torch.where(plausible, last - premature, -torch.inf)


def _is_tied(model: PreTrainedModel) -> bool:
    embeddings: Any = model.get_input_embeddings()
    head = model.get_output_embeddings()
    if head is None or not model.config.get_text_config(decoder=True).tie_word_embeddings:
        return False
    # Compared by value, since the layers of an adapter compute their weight each time.
    return torch.equal(head.weight, embeddings.weight)


@contextmanager
def _early_exits(model: PreTrainedModel, layers: Sequence[int]) -> Iterator[None]:
    """While open, the logits behind the last position are those of `layers`, in their order.

    Each early state joins what the head reads, so that whatever the model does to logits, such as
    scaling them, is done to all. It doesn't go through the final norm before: "applying language
    heads directly to the hidden states of the middle layers" (2309.03883, section 2), as do the
    authors' code (github.com/voidism/DoLa) and transformers 4.49.
    """
    blocks = decoder_layers(model)[2]
    head = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{type(model).__name__} has no head that could read an early layer.")
    states: dict[int, torch.Tensor] = {}

    def keep_input(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states[0] = (args[0] if args else kwargs["hidden_states"])[:, -1:]

    def keep_output(layer: int, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        states[layer] = (output[0] if isinstance(output, tuple) else output)[:, -1:]

    def join(head: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        last, early = args[0][:, -1:], [states[layer] for layer in layers]
        if any(state.shape != last.shape for state in early):
            raise ModelError(
                f"The head of {type(model).__name__} reads {last.shape[-1]} numbers, and a layer "
                f"gives {early[0].shape[-1]}, so an early layer can't be read. Take another "
                "strategy."
            )
        return (torch.cat([last, *early], dim=1), *args[1:])

    with ExitStack() as hooks:  # each removes itself at its exit
        hooks.enter_context(head.register_forward_pre_hook(join))
        for layer in layers:
            keep = partial(keep_output, layer)
            hooks.enter_context(
                blocks[layer - 1].register_forward_hook(keep)
                if layer
                else blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True)
            )
        yield


def _last_and_early(
    model: PreTrainedModel, logits: torch.Tensor, *, num_early: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the last layer, shape (B, V), and of the early ones, (B, E, V)."""
    if logits.shape[1] != 1 + num_early:
        raise ModelError(
            f"{type(model).__name__} doesn't read its head in one go, so an early layer can't be "
            "read with it. Take another strategy."
        )
    log_probabilities = logits.float().log_softmax(dim=-1)
    return log_probabilities[:, 0], log_probabilities[:, 1:]
