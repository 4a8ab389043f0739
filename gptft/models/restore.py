"""A checkpoint's weights -> a model that is there, each tensor proved to be the one that was saved.

A stored tensor needn't have the name or the shape it has in memory: transformers 5 saves by the
names of the hub and converts while loading (GPT-NeoX's `embed_out` is `lm_head`; Mixtral's experts
are one tensor in memory). Matching by name would leave such a weight as it was, without a word.
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from gptft.errors import RunError
from gptft.panics import no_panic

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes an element


@torch.no_grad()
def restore_weights(model: PreTrainedModel, folder: Path) -> None:
    """Give `model` the weights that `save_pretrained` wrote of it.

    Args:
        model: of the very config it had then; its tensors are filled in place.
        folder: with safetensors.

    Raises:
        RunError: saving `model` again would not write what the folder holds, bit for bit.
    """
    restored = _load_like(model, folder)
    for name, tensor in model.state_dict().items():
        tensor.copy_(restored[name])
    _refuse(model, folder, _changed(model, folder))


def check_restorable(model: PreTrainedModel, folder: Path) -> None:
    """Prove that `restore_weights` will find in `folder` what `model` holds now.

    Where all is stored by its name in memory, no conversion could go wrong, and nothing is read.

    Raises:
        RunError: it won't.
    """
    ours = model.state_dict()
    stored = [name for name, _ in _stored(folder)]
    if ours.keys() >= set(stored):
        places = {ours[name].data_ptr() for name in stored}  # a tied tensor is stored once
        if all(tensor.data_ptr() in places for tensor in ours.values()):
            return
    restored = _load_like(model, folder)
    _refuse(model, folder, (name for name in ours if not is_same(ours[name], restored[name])))


def stored_weights(model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """What `restore_weights` would fill `model` with, on the CPU, by the names in memory.

    Raises:
        RunError: `folder` doesn't hold just that.
    """
    return _load_like(model, folder)


def _load_like(model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of a model in `folder`, on the CPU, by their names in memory."""
    try:
        found: Any = type(model).from_pretrained(
            str(folder), config=deepcopy(model.config), dtype=model.dtype, use_safetensors=True,
            local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    except RuntimeError as error:  # what can't be converted
        raise RunError(f"{folder} doesn't restore this {type(model).__name__}: {error}") from error
    loaded, info = found
    restored: dict[str, torch.Tensor] = loaded.state_dict()
    lost = {*info["missing_keys"], *info["unexpected_keys"]}
    lost |= {name for name, *_ in info["mismatched_keys"]}  # each with its two shapes
    _refuse(model, folder, sorted(lost | (model.state_dict().keys() ^ restored.keys())))
    return restored


def _changed(model: PreTrainedModel, folder: Path) -> Iterator[str]:
    """The stored tensors that saving `model` would not write again, bit for bit."""
    would_save = revert_weight_conversion(model, model.state_dict())
    for name, file in _stored(folder):
        if name not in would_save or not is_same(would_save[name], file.get_tensor(name)):
            yield name


def _stored(folder: Path) -> Iterator[tuple[str, Any]]:
    """The name of every tensor in a folder's safetensors, with the open file it is in."""
    for path in sorted(folder.glob("*.safetensors")):
        with no_panic(f"{path} can't be read"), safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it isn't a mapping)
                yield name, file


def is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit, NaN and the sign of 0 included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    bits = _BITS[one.element_size()]
    return torch.equal(one.cpu().contiguous().view(bits), other.cpu().contiguous().view(bits))


def _refuse(model: PreTrainedModel, folder: Path, lost: Iterable[str]) -> None:
    if names := list(lost):
        raise RunError(
            f"{folder}: {len(names)} of its tensors don't restore this {type(model).__name__}, "
            f"{names[0]} among them: transformers {version('transformers')} can't load what it "
            "saves of this architecture."
        )
