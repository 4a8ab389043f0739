"""A base model and a folder with an adapter of peft -> the model with the adapter on it, or in it.

peft takes no notice of weights that it has no place for, or
that are missing, so both are looked for.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from gptft.console import stage
from gptft.errors import GptftError, ModelError
from gptft.models.adapter_fit import require_rank
from gptft.models.adapters import (
    ADAPTER_CONFIG,
    PICKLED_ADAPTER,
    adapter_config,
    adapter_weights,
    has_own_tokenizer,
)
from gptft.models.grow import resize
from gptft.models.model_files import ModelFiles
from gptft.models.pickled import unpickled_files
from gptft.models.reading import first_line, reading, take_special_ids
from gptft.panics import no_panic
from gptft.terminal.text import shown_path
from gptft.terminal.words import count

_MAX_NEW = 65_536  # tokens that an adapter adds to a base
# Of embeddings or a head, what has a row for each token.
_ROWS = (
    "weight", "base_layer.weight", "modules_to_save.weight", "token_adapter.base_layer.weight",
    "lora_B.weight",
)  # fmt: skip
_TRIED = 8  # tokens; every context is longer
_MERGED = 1e-3  # of the largest logit; what merging rounds off is a thousandth of that
_PREFIX = "base_model.model."  # of every name that peft stores


def apply_adapter(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base with an adapter's layers in it, for inference; the same object.

    Raises:
        ModelError: the adapter isn't one for this base, or is damaged, or of a kind that gptft
            doesn't apply.
    """
    inner: PreTrainedModel = _adapted(base, folder).get_base_model()
    inner.eval()
    ends = (inner.get_input_embeddings(), inner.get_output_embeddings())
    if any(_bare(end) is not end and not hasattr(end, "token_adapter") for end in ends):
        _set_tied(inner, False)  # single tokens alone are trained in both
    return inner


def try_adapter(model: PreTrainedModel, folder: Path) -> torch.Tensor:
    """Compute a few tokens, since some of peft's layers look at their settings only then.

    Returns:
        logits of shape (1, T, V).

    Raises:
        ModelError: that fails, or gives no numbers.
    """
    with _by_peft(folder, "applied"):
        logits = few_logits(model)
    if not bool(torch.isfinite(logits).all()):
        raise ModelError(
            f"{folder}: the adapter makes its base's logits NaN or infinite: a number in its "
            f"{ADAPTER_CONFIG} is beyond sense, lora_alpha for one, or it is another base's."
        )
    return logits


@torch.no_grad()
def few_logits(model: PreTrainedModel) -> torch.Tensor:
    """Logits of a few tokens, spread over all ids, shape (1, T, V)."""
    highest = len(model.get_input_embeddings().weight) - 1  # type: ignore[arg-type]
    ids = torch.linspace(0, highest, _TRIED, device=model.device).long()[None]
    logits: torch.Tensor = model(ids, use_cache=False).logits
    return logits


def merge_adapter(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base with an adapter added to its weights: a model like any other, to be trained on.

    Args:
        base: in float32; in 16 bits most of what an adapter adds would be rounded away.
        folder: the adapter's.

    Raises:
        ModelError: as `apply_adapter`, or this adapter can't be merged.
    """
    return merge_scaled(base, folder, scale=1.0)[0]


def merge_scaled(
    base: PreTrainedModel, folder: Path, *, scale: float
) -> tuple[PreTrainedModel, float | None]:
    """As `merge_adapter`, with what the adapter changes of each weight multiplied.

    A weight W that the adapter makes W' of becomes W + scale * (W' - W): for LoRA the product of
    its matrices is multiplied, for DoRA and other kinds it is a point on the line between two
    models. Rows of tokens that the base doesn't have are the adapter's own, whatever the scale.

    Returns:
        the model; and how far its logits are from those of the adapter at that scale, as a share
        of the largest. None where only the weights can be scaled: at 1 it was compared all the
        same.

    Source: Ilharco et al. 2022, "Editing models with task arithmetic" (2212.04089), section 2.
    """
    own = dict[str, torch.Tensor]()
    if scale != 1.0:
        named = base.named_parameters(remove_duplicate=False)
        own = {name: weight.detach().clone() for name, weight in named}
    wrapped = _adapted(base, folder)
    wrapped.eval()
    expected = try_adapter(wrapped.get_base_model(), folder)
    scaled = expected if scale == 1.0 else _scaled_logits(wrapped, folder, scale)
    is_tied = part_ends(wrapped.get_base_model())
    with stage(f"Merging {shown_path(str(folder))}"), _by_peft(folder, "merged"):
        merged: PreTrainedModel = wrapped.merge_and_unload(safe_merge=True)
    merged.requires_grad_(True)
    if is_tied:
        tie_again(merged)
    logits = try_adapter(merged, folder)
    if _apart(logits, expected) > _MERGED:
        raise ModelError(
            f"{folder}: the adapter can't be merged: peft {version('peft')} makes another model of "
            "it than the adapter on its base is. Install a newer one: pip install -U peft"
        )
    if own:
        _towards(merged, own, scale=scale)
        logits = try_adapter(merged, folder)
    return merged, None if scaled is None else _apart(logits, scaled)


def _apart(logits: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, as a share of the largest of those expected."""
    return float((logits - expected).abs().max()) / max(float(expected.abs().max()), 1e-30)


def _scaled_logits(wrapped: Any, folder: Path, scale: float) -> torch.Tensor | None:
    """Logits of the base with an adapter whose layers add `scale` times as much.

    Returns:
        None of an adapter that does other things to weights than to add to them.
    """
    config = wrapped.peft_config["default"]
    parts = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters")
    adds = config.peft_type == "LORA" and getattr(config, "bias", "none") == "none"
    if not adds or any(getattr(config, part, None) for part in parts):
        return None
    layers = [one for one in wrapped.modules() if isinstance(getattr(one, "scaling", None), dict)]
    kept = [dict(one.scaling) for one in layers]
    for layer in layers:
        layer.scaling.update({name: scale * value for name, value in layer.scaling.items()})
    try:
        return try_adapter(wrapped.get_base_model(), folder)
    finally:
        for layer, scaling in zip(layers, kept, strict=True):
            layer.scaling.update(scaling)


@torch.no_grad()
def _towards(merged: PreTrainedModel, own: Mapping[str, torch.Tensor], *, scale: float) -> None:
    """Move a base's weights, in place, so far towards those of the merged model, which are there.

    Args:
        merged: what is changed.
        own: the base's weights, perhaps of fewer tokens.
        scale: 0 is the base, 1 the merged model.
    """
    seen = set[int]()
    for name, weight in merged.named_parameters(remove_duplicate=False):
        if name in own and id(weight) not in seen:
            seen.add(id(weight))
            shared = weight.data[: len(own[name])] if weight.dim() else weight.data
            shared.copy_(own[name] + scale * (shared - own[name]))


def _adapted(base: PreTrainedModel, folder: Path) -> Any:
    """The base within a PeftModel, whose adapter is in place and frozen."""
    if any(weight.is_meta for weight in base.parameters()):  # as FSDP may load it
        raise ModelError(
            f"{folder} is an adapter, and this process hasn't all weights of its base. Train it "
            "without training.fsdp and DeepSpeed."
        )
    stored, tensors = adapter_config(folder), _read(folder)
    require_rank(stored, {name: tuple(one.shape) for name, one in tensors.items()}, folder)
    with _by_peft(folder, "applied"):
        rows = _rows_needed(base, folder, stored, tensors)
        if rows is not None:
            resize(base, rows)
    take_special_ids(base, folder)
    with stage(f"Applying {shown_path(str(folder))}"), torch.random.fork_rng(devices=()):
        with _by_peft(folder, "applied"):
            peft: Any = import_module("peft")
            if stored["peft_type"] not in peft.PEFT_TYPE_TO_CONFIG_MAPPING:
                raise LookupError(f"peft {version('peft')} doesn't know {stored['peft_type']}")
            config = peft.PeftConfig.from_peft_type(**stored)
            config.inference_mode = True
            wrapped = peft.PeftModel(base, config)
            expected = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
        _require_shapes(expected, tensors, folder)
        with _by_peft(folder, "applied"):
            loaded = peft.set_peft_model_state_dict(wrapped, {**tensors})  # which 0.18 changes
    if unplaced := _unplaced(tensors, {_plain(key) for key in loaded.unexpected_keys}):
        raise _unfit(folder, f"{count(len(unplaced), 'weight')} of it have no place", unplaced[0])
    if lacking := _lacking(wrapped, loaded.missing_keys, expected):
        raise _unfit(folder, f"it lacks {count(len(lacking), 'weight')}", lacking[0])
    return wrapped


def _read(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of an adapter, by name."""
    path = adapter_weights(folder)
    if path.name == PICKLED_ADAPTER:
        path = unpickled_files([path], name=str(folder)) / "model.safetensors"
    with reading(folder, "adapter's weights"):
        tensors = load_file(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            wrong = count(int((~torch.isfinite(tensor)).sum()), "value")
            raise ModelError(
                f"{path}: {name} holds {wrong} of {tensor.numel():,} that are NaN or infinite. The "
                "file is damaged, or its training diverged. Take another one."
            )
    return tensors


def _rows_needed(
    base: PreTrainedModel,
    folder: Path,
    stored: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
) -> int | None:
    """How many embeddings the base had when the adapter was trained; None where as many as now.

    Raises:
        ModelError: far more than it has.
    """
    here = len(base.get_input_embeddings().weight)  # type: ignore[arg-type]
    rows = _stored_rows(base, tensors)
    if rows is None:
        named = stored.get("trainable_token_indices")
        lists = named.values() if isinstance(named, Mapping) else [named]
        ids = [i for one in lists if isinstance(one, list) for i in one if isinstance(i, int)]
        own = ModelFiles(folder.name, folder).num_ids if has_own_tokenizer(folder) else 0
        rows = max(here, own, 1 + max(ids, default=-1))
    if rows > here + _MAX_NEW:
        raise ModelError(
            f"{folder} is made for tokens up to id {rows - 1:,}, and its base has {here:,} "
            "embeddings. It was made for another base, or its tokenizer is another one's."
        )
    return None if rows == here else rows


def _stored_rows(base: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> int | None:
    """How many embeddings the adapter's own tensors are made for, where they tell."""
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    names = [name for name, module in base.named_modules() if any(module is one for one in ends)]
    for key, tensor in tensors.items():
        name = key.removeprefix(_PREFIX)
        part = next((name.removeprefix(f"{one}.") for one in names if name.startswith(one)), "")
        if tensor.dim() != 2:
            continue
        if part in _ROWS:
            return tensor.shape[0]
        if part == "lora_embedding_A":
            return tensor.shape[1]
    return None


def _require_shapes(
    expected: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], folder: Path
) -> None:
    for name, tensor in tensors.items():
        if name in expected and expected[name].shape != tensor.shape:
            here, there = tuple(tensor.shape), tuple(expected[name].shape)
            what = f"{here} in the adapter and {there} by its config and the base"
            raise ModelError(
                f"{folder} doesn't fit its base: {name.removeprefix(_PREFIX)} is {what}. It was "
                f"made for another base, or {ADAPTER_CONFIG} isn't its own."
            )


def _unplaced(tensors: Mapping[str, torch.Tensor], unexpected: set[str]) -> list[str]:
    """Which weights have no place, and aren't there once more under a name that has one.

    peft saves a trained embedding under two names or three, and that of a tied head, too (0.21).
    """
    placed = [(key, tensor) for key, tensor in tensors.items() if _plain(key) not in unexpected]
    known = {_plain(key): tensor for key, tensor in tensors.items()}

    def is_double(name: str) -> bool:
        tensor, end = known.get(name), name.rpartition(".")[2]
        return tensor is not None and any(
            key.endswith(end) and torch.equal(tensor, other) for key, other in placed
        )

    return sorted(name for name in unexpected if not is_double(name))


def _lacking(wrapped: Any, missing: list[str], expected: Mapping[str, torch.Tensor]) -> list[str]:
    """Which of the missing weights saving would write; one that another name has, too, isn't."""
    tensors = {
        **dict(wrapped.named_parameters(remove_duplicate=False)),
        **dict(wrapped.named_buffers(remove_duplicate=False)),
    }
    absent = set(missing)
    placed = {tensor.data_ptr() for name, tensor in tensors.items() if name not in absent}
    wanted = {tensor.data_ptr() for tensor in expected.values()} - placed
    return sorted(name for name in absent if name in tensors and tensors[name].data_ptr() in wanted)


def _plain(name: str) -> str:
    """The name of a weight without that of the adapter, which peft puts into it in memory."""
    return name.replace(".default", "")


def _unfit(folder: Path, what: str, name: str) -> ModelError:
    shown = _plain(name).removeprefix(_PREFIX)
    return ModelError(
        f"{folder} doesn't fit its base: {what}, {shown} for one. It was made for another base, or "
        f"its weights and {ADAPTER_CONFIG} aren't of one adapter."
    )


def part_ends(model: PreTrainedModel) -> bool:
    """Give the head weights of its own where it shares them with the embeddings.

    What is merged into the one is for that one alone: LoRA of embeddings leaves the head as it was.

    Returns:
        whether it shared them.
    """
    embeddings, head = _bare(model.get_input_embeddings()), _bare(model.get_output_embeddings())
    if head is None or head.weight is not embeddings.weight:
        return False
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    return True


def _bare(module: Any) -> Any:
    """A module without the layers that peft put around it."""
    while module is not None:
        if hasattr(module, "original_module"):
            module = module.original_module
        elif hasattr(module, "base_layer"):
            module = module.base_layer
        else:
            break
    return module


def tie_again(model: PreTrainedModel) -> None:
    """Let embeddings and head share their weights again, or say in the config that they don't."""
    embeddings: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if is_tied := torch.equal(head.weight, embeddings.weight):
        head.weight = embeddings.weight
    _set_tied(model, is_tied)


def _set_tied(model: PreTrainedModel, is_tied: bool) -> None:
    for config in (model.config, model.config.get_text_config(decoder=True)):
        config.tie_word_embeddings = is_tied


@contextmanager
def _by_peft(folder: Path, done: str) -> Iterator[None]:
    """Call peft in this: it raises a dozen types, and warns of what is meant here."""
    try:
        with no_panic(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except GptftError:
        raise
    except Exception as error:
        reason = first_line(error).rstrip(".")
        if reason.endswith(":"):  # torch tells in the next one which weight it is
            reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder}: the adapter can't be {done}: {reason}.") from None
