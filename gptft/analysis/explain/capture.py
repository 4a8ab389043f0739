"""A model and token ids -> all that one forward pass computes on the way, by name.

The parts are found by what they compute, not by what an architecture calls them: the norm before
the head is the module whose output the head reads, and what an attention module adds to a layer is
what the numbers say it adds. What can't be found is None.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from gptft.decoding.early_exit import decoder_layers
from gptft.errors import ModelError

_NAME = "gptft_capture"  # of our attention function


@dataclass(frozen=True)
class Attention:
    """What one layer's attention computed; T tokens, H heads of D numbers.

    Attributes:
        module: the layer's attention module.
        weights: how much each token takes of each, shape (H, T, T); rows sum to 1.
        query: after positions are applied, shape (H, T, D); None where it can't be had.
        key: the same, each shared key repeated for every head that reads it.
        scaling: what their product is multiplied by.
        heads_output: what the heads fetched, one after another, shape (T, H * D).
        project: turns it into what the module returns, shape (T, C).
    """

    module: nn.Module
    weights: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    scaling: float | None = None
    heads_output: Tensor | None = None
    project: nn.Module | None = None


@dataclass
class LayerPass:
    """What went into and came out of one decoder layer, shapes (T, C).

    Attributes:
        before: the residual stream before it.
        after: the residual stream after it.
        attention: None where the layer has none, or doesn't give its weights.
        calls: the modules in the layer that were called with one tensor, with it and what they
            gave, in the order in which they ended.
    """

    before: Tensor
    after: Tensor
    attention: Attention | None = None
    calls: list[tuple[nn.Module, Tensor, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass over T tokens.

    Attributes:
        token_ids: shape (T,).
        logits: float32, shape (T, V).
        layers: in order; none where they can't be told apart.
        head: the module that makes logits of vectors.
        head_input: what it read, shape (T, C).
        norm: the module before the head, or None where the last layer's output is read as it is.
        token_embeddings: what the embedding gave for the tokens, shape (T, C).
        other_embeddings: other embeddings, of positions mostly, and what they gave, shape (T, C).
        logit_scale: what the model multiplies the head's logits by.
        logit_cap: what it bends them to stay below, by tanh; None for no cap.
    """

    token_ids: Tensor
    logits: Tensor
    layers: tuple[LayerPass, ...]
    head: nn.Module
    head_input: Tensor
    norm: nn.Module | None
    token_embeddings: Tensor
    other_embeddings: tuple[tuple[nn.Embedding, Tensor], ...]
    logit_scale: float = 1.0
    logit_cap: float | None = None

    @property
    def head_dtype(self) -> torch.dtype:
        """What the head and the norm compute in."""
        return next((one.dtype for one in self.head.parameters()), torch.float32)

    def finish(self, logits: Tensor) -> Tensor:
        """What the model makes of what its head gives, by the factor or the cap it has.

        Args:
            logits: as the head gives them, shape (..., V).
        """
        logits = logits * self.logit_scale
        cap = self.logit_cap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    @property
    def has_residual(self) -> bool:
        """Whether the stream between layers is what the norm, or the head, reads at last."""
        if not self.layers:
            return False
        last = self.layers[-1].after
        read = last if self.norm is None else self.norm(last.to(self.head_dtype)[None])[0]
        return same(read, self.head_input)


@torch.no_grad()
def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, but for rounding."""
    if one.shape != other.shape:
        return False
    scale = float(other.abs().max()) or 1.0
    return float((one.float() - other.float()).abs().max()) <= 1e-4 * scale


@torch.no_grad()
def forward_pass(model: PreTrainedModel, token_ids: Sequence[int]) -> ForwardPass:
    """Run a model over a text and keep what it computes.

    Args:
        model: a causal one, in eval mode.
        token_ids: at least one; all must fit its context.

    Raises:
        ModelError: it has no embeddings or head that can be found.
    """
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if not isinstance(head, nn.Module) or not isinstance(embeddings, nn.Embedding):
        raise ModelError(
            f"{type(model).__name__} has no embedding or no head that can be looked into. Take a "
            "GPT-2, a Llama or another model made of decoder layers."
        )
    try:
        layers = list(decoder_layers(model)[2])
    except ModelError:
        layers = []
    recorder = _Recorder(model, head, embeddings, layers)
    ids = torch.tensor([list(token_ids)], device=model.device)
    with recorder.recording(), _our_attention(model, recorder.attend) as is_ours:
        output: Any = model(input_ids=ids, use_cache=False, output_attentions=not is_ours)
    weights = getattr(output, "attentions", None) or ()
    return recorder.result(ids[0], output.logits[0].float(), weights)


@contextmanager
def _our_attention(model: PreTrainedModel, attend: Callable[..., Any]) -> Iterator[bool]:
    """Let attention go through a function of ours; False where the architecture has none of it."""
    config = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, eager_mask)
    try:
        with _quiet():
            model.set_attn_implementation(_NAME if _has_interface(model) else "eager")
        yield config._attn_implementation == _NAME
    finally:
        with _quiet():
            model.set_attn_implementation(before)


@contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _has_interface(model: PreTrainedModel) -> bool:
    """Whether the attention of all of a model's layers goes through the library's table."""
    return bool(model._supports_attention_backend) and hasattr(
        sys.modules[type(model).__module__], "eager_attention_forward"
    )


class _Recorder:
    """Hooks on a model that keep what its modules are given and give."""

    def __init__(
        self,
        model: PreTrainedModel,
        head: nn.Module,
        embeddings: nn.Embedding,
        layers: Sequence[nn.Module],
    ) -> None:
        self._model, self._head, self._embeddings = model, head, embeddings
        self._layers = layers
        self._passes: dict[int, LayerPass] = {}
        self._current: int | None = None
        self._head_input: Tensor | None = None
        self._outer: list[tuple[nn.Module, Tensor]] = []
        self._embedded: list[tuple[nn.Embedding, Tensor]] = []
        self._pending: dict[int, dict[str, Any]] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what is computed."""
        inner = {id(part) for layer in self._layers for part in layer.modules()}
        with ExitStack() as stack:
            for number, layer in enumerate(self._layers):
                for hook in (
                    layer.register_forward_pre_hook(self._begin(number), with_kwargs=True),
                    layer.register_forward_hook(self._end(number)),
                ):
                    stack.callback(hook.remove)
                for part in layer.modules():
                    if part is not layer:
                        hook = part.register_forward_hook(self._keep_call, with_kwargs=True)
                        stack.callback(hook.remove)
            for part in self._model.modules():
                if id(part) not in inner and part not in (self._model, self._head):
                    hook = part.register_forward_hook(self._keep_outer, with_kwargs=True)
                    stack.callback(hook.remove)
            hook = self._head.register_forward_pre_hook(self._keep_head_input)
            stack.callback(hook.remove)
            yield

    def _begin(self, number: int) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
            given = _first_tensor(args) if args else kwargs.get("hidden_states")
            self._current = number
            if given is not None:
                stream = given[0].float().clone()
                self._passes[number] = LayerPass(stream, stream)

        return keep

    def _end(self, number: int) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            self._current = None
            given = _first_tensor(output)
            if given is not None and number in self._passes:
                self._passes[number].after = given[0].float().clone()

        return keep

    def _keep_call(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self._current is None or self._current not in self._passes:
            return
        given = _first_tensor(args) if args else kwargs.get("hidden_states")
        made = _first_tensor(output)
        rows, outcome = _rows(given), _rows(made)
        if rows is not None and outcome is not None:
            self._passes[self._current].calls.append((module, rows, outcome))

    def _keep_outer(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        made = _first_tensor(output)
        if isinstance(module, nn.Embedding) and made is not None:
            self._embedded.append((module, made.reshape(-1, made.shape[-1]).float().clone()))
        elif made is not None and made.dim() == 3:
            self._outer.append((module, made[0].float().clone()))

    def _keep_head_input(self, module: nn.Module, args: Any) -> None:
        given = _first_tensor(args)
        if given is not None:
            self._head_input = given[0].float()

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kwargs: Any
    ) -> Any:
        """Compute attention as the architecture itself does, and keep it.

        Shapes: query (1, H, T, D), key and value (1, H of keys, T, D).
        """
        own = sys.modules[type(module).__module__].eager_attention_forward
        output, weights = own(module, query, key, value, mask, **kwargs)
        if self._current is not None and weights is not None:
            scaling = kwargs.get("scaling")
            self._pending[self._current] = {
                "module": module,
                "weights": weights[0].float(),
                "query": query[0].float(),
                "key": _repeated(key[0].float(), query.shape[1]),
                "scaling": query.shape[-1] ** -0.5 if scaling is None else float(scaling),
                "heads_output": output[0].reshape(output.shape[1], -1).float(),
            }
        return output, weights

    def result(self, ids: Tensor, logits: Tensor, weights: Sequence[Any]) -> ForwardPass:
        """What was kept."""
        if self._head_input is None or not any(o is self._embeddings for o, _ in self._embedded):
            raise ModelError(
                f"{type(self._model).__name__} hands its head nothing that can be looked into. "
                "Take a GPT-2, a Llama or another model made of decoder layers."
            )
        passes = [self._passes[n] for n in range(len(self._layers)) if n in self._passes]
        if len(passes) != len(self._layers):
            passes = []
        for number, layer in enumerate(passes):
            layer.attention = self._attention(number, layer, weights)
        head_input = self._head_input
        norm, head_input = self._norm(head_input)
        own = [made for one, made in self._embedded if one is self._embeddings]
        others = tuple(entry for entry in self._embedded if entry[0] is not self._embeddings)
        found = ForwardPass(
            ids, logits, tuple(passes), self._head, head_input, norm, own[0], others
        )
        with torch.no_grad():
            raw = self._head(head_input[-1:].to(found.head_dtype)).float()[0]
        config = self._model.config.get_text_config(decoder=True)
        cap = getattr(config, "final_logit_softcapping", None)
        capped = replace(found, logit_cap=float(cap)) if cap else found
        plain = raw if cap is None else capped.finish(raw)
        if same(plain[None], logits[-1:]):
            return capped
        scale = float((logits[-1] @ raw) / (raw @ raw).clamp_min(1e-20))
        return replace(found, logit_scale=scale)

    def _norm(self, head_input: Tensor) -> tuple[nn.Module | None, Tensor]:
        """The module before the head, and what it gave; the head may read a multiple of that."""
        for module, made in reversed(self._outer):
            if isinstance(module, PreTrainedModel) or made.shape != head_input.shape:
                continue
            scale = float((head_input * made).sum() / (made * made).sum().clamp_min(1e-20))
            if same(made * scale, head_input):
                return module, made
        return None, head_input

    def _attention(self, number: int, layer: LayerPass, weights: Sequence[Any]) -> Attention | None:
        if (kept := self._pending.get(number)) is not None:
            flat: Tensor = kept["heads_output"]
            reads_it = (one for one, given, _ in layer.calls if _reads(given, flat))
            return Attention(**kept, project=next(reads_it, None))
        if number < len(weights) and isinstance(weights[number], Tensor):
            found = weights[number][0].float()
            modules = [one for one, *_ in layer.calls if "attention" in type(one).__name__.lower()]
            return Attention(modules[-1], found) if found.dim() == 3 and modules else None
        return None


def _rows(given: Tensor | None) -> Tensor | None:
    """A tensor of one text as (T, C), copied, as a later module may write into it."""
    if given is None or given.dim() not in (2, 3):
        return None
    return (given[0] if given.dim() == 3 else given).float().clone()


def _reads(given: Tensor, flat: Tensor) -> bool:
    return given.shape == flat.shape and torch.equal(given, flat)


def _repeated(keys: Tensor, num_heads: int) -> Tensor:
    """Keys (H of keys, T, D) as each of `num_heads` heads reads them, (H, T, D)."""
    return keys.repeat_interleave(num_heads // len(keys), dim=0)


def _first_tensor(value: Any) -> Tensor | None:
    """The tensor that a module was given or gave first, in a tuple or not."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, tuple | list) and value:
        return _first_tensor(value[0])
    return None
