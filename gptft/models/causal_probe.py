"""A model -> whether its logits at a token move when the tokens after it do.

An architecture may be causal or not depending on its config (BERT is only with `is_decoder`), and
transformers says nothing: the loss falls to 0, and what is generated is noise.
"""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from gptft.errors import ModelError
from gptft.models.causal import not_causal
from gptft.models.model_files import context_length

SEES = 3.0  # tolerances; where tokens matter less to each other, no leak could be told
_LENGTH = 12  # tokens of the probe


@dataclass(frozen=True)
class CausalProbe:
    """What the probe measured.

    Attributes:
        difference: the largest between logits at the same place when later tokens are others.
        tolerance: the most that rounding explains.
        influence: the largest when earlier tokens are others; what a leak could show at most.
    """

    difference: float
    tolerance: float
    influence: float


def check_causal(model: PreTrainedModel, *, name: str) -> CausalProbe:
    """Refuse a model whose logits at a token depend on the tokens after it.

    Three rows of a few random tokens are run, on the model's device and in its dtype: the second
    has others after the middle, the third before it. Where even these hardly matter, a float32 copy
    with noise on its weights is run instead.

    Args:
        model: to be probed; its mode and the random state are left as they were.
        name: what a message calls it.

    Raises:
        ModelError: it isn't causal.
    """
    found = _refuse_leak(_probe(model), model, name=name)
    if found.influence < SEES * found.tolerance:
        found = _refuse_leak(_probe(with_noise(model)), model, name=name)
    return found


@contextmanager
def _no_outliers(model: PreTrainedModel) -> Iterator[None]:
    """Let int8 layers round each token by itself.

    They keep a column in 16 bits for all tokens where one of them is large (LLM.int8(),
    2208.07339), so that a token's rounding depends on those after it.
    """
    states = [m.state for m in model.modules() if hasattr(getattr(m, "state", None), "threshold")]
    before = [state.threshold for state in states]  # type: ignore[union-attr]
    try:
        for state in states:
            state.threshold = 0.0  # type: ignore[union-attr]
        yield
    finally:
        for state, threshold in zip(states, before, strict=True):
            state.threshold = threshold  # type: ignore[union-attr]


@torch.no_grad()
def leaves_labels_to_be_moved(model: PreTrainedModel) -> bool:
    """Whether a model hands its labels to `loss_function`, which moves them to the next token.

    The decoders of BART, Whisper, XLM and others compute a loss of their own (transformers 5.23),
    in which the label is of the very token that is read: they would learn to copy it.

    Args:
        model: to be probed; its mode and the random state are left as they were.
    """
    labels = _plain_ids(model)[None, :_LENGTH].to(model.device)  # (1, T)
    handed_over: list[object] = []
    stock, was_training = model.loss_function, model.training

    def take(*args: object, **kwargs: object) -> torch.Tensor:
        handed_over.extend((*args, *kwargs.values()))
        return torch.zeros((), device=model.device)

    model.loss_function = take
    model.eval()
    try:
        with _unchanged_randomness(model.device):
            model(input_ids=labels, labels=labels, use_cache=False)
    finally:
        model.loss_function = stock
        model.train(was_training)
    return any(isinstance(one, torch.Tensor) and torch.equal(one, labels) for one in handed_over)


def _refuse_leak(found: CausalProbe, model: PreTrainedModel, *, name: str) -> CausalProbe:
    if found.difference > found.tolerance:  # NaN is the weights' fault, and said while they load
        raise ModelError(not_causal(name, model.config.model_type, {}, section=""))
    return found


def _probe(model: PreTrainedModel) -> CausalProbe:
    length = min(_LENGTH, context_length(model.config.to_dict()) or _LENGTH)
    half = length // 2
    generator = torch.Generator().manual_seed(0)
    ids = _plain_ids(model)
    one, other = (ids[torch.randint(len(ids), (length,), generator=generator)] for _ in range(2))
    rows = (one, torch.cat([one[:half], other[half:]]), torch.cat([other[:half], one[half:]]))
    was_training = model.training
    model.eval()
    try:
        with _no_outliers(model):
            logits, changed_after, changed_before = (_logits(model, row) for row in rows)  # (T, V)
    finally:
        model.train(was_training)
    return CausalProbe(
        difference=float((changed_after - logits)[:half].abs().max()),
        tolerance=rounding(model) * float((logits - logits.mean(-1, keepdim=True)).abs().max()),
        influence=float((changed_before - logits)[half:].abs().max()),
    )


def _plain_ids(model: PreTrainedModel) -> torch.Tensor:
    """The ids that have an embedding and no role in the config, such as padding or an image."""
    fields = {**model.config.to_dict(), **model.config.get_text_config().to_dict()}
    roles = [value for name, value in fields.items() if name.endswith(("_id", "_index"))]
    ids = torch.arange(len(model.get_input_embeddings().weight))  # type: ignore[arg-type]
    return ids[~torch.isin(ids, torch.tensor([role for role in roles if isinstance(role, int)]))]


def _logits(model: PreTrainedModel, row: torch.Tensor) -> torch.Tensor:
    """Logits of shape (T, V) in float32, on the CPU; what is drawn is the same for every row."""
    with torch.no_grad(), _unchanged_randomness(model.device):
        output = model(input_ids=row[None].to(model.device), use_cache=False)
    logits: torch.Tensor = output.logits[0].float().cpu()
    return logits


def _unchanged_randomness(device: torch.device) -> AbstractContextManager[None]:
    manager: AbstractContextManager[None]
    manager = torch.random.fork_rng([device] if device.type == "cuda" else [])
    return manager


def rounding(model: PreTrainedModel) -> float:
    """What rounding may change in logits, as a share of the largest, their mean taken off.

    Measured on 9 architectures of 2 to 12 layers: below 1e-6 in float32, 1e-3 in float16 and 5e-3
    in bfloat16; leaks are above 5e-3 in weights just drawn and above 0.4 in weights with noise. On
    an accelerator float32 products may be TF32, which has float16's mantissa.
    """
    if model.dtype == torch.bfloat16:
        return 5e-2
    if model.dtype == torch.float16 or model.device.type != "cpu":
        return 1e-2
    return 1e-4


def with_noise(model: PreTrainedModel) -> PreTrainedModel:
    """A float32 copy whose matrices are all far from zero, so that attention does something."""
    shaken: PreTrainedModel = copy.deepcopy(model)
    if not getattr(model, "is_quantized", False):  # else float layers alone are shaken
        shaken = shaken.float()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in shaken.parameters():
            if weight.dim() > 1 and weight.is_floating_point():
                noise = torch.randn(weight.shape, generator=generator)
                weight.add_((noise / weight.shape[-1] ** 0.5).to(weight.device))
    return shaken
