"""Weights that were pickled (`pytorch_model.bin`) -> the same tensors as safetensors, in the cache.

Repositories of 2019 to 2022 hold nothing else. A pickle may run any code while it is opened, so
torch's weights-only unpickler alone reads it, which makes tensors and refuses everything else; and
once only, since what comes of it is kept beside the checksum of its source.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gptft.console import stage
from gptft.errors import ModelError
from gptft.files import write_json
from gptft.models.headers import is_computed
from gptft.models.kept import kept_weights
from gptft.models.model_files import PICKLED, pickled_files
from gptft.terminal.text import shown_path
from gptft.terminal.words import bytes_text, count

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def unpickled(folder: Path, *, name: str) -> Path:
    """A folder with the same weights as safetensors.

    Args:
        folder: a model's, without safetensors.
        name: what a person calls the model.

    Returns:
        a folder in the cache; made at first use, found at every other one without opening a pickle.

    Raises:
        ModelError: there are no pickled weights, or they hold anything but tensors, or they can't
            be read or written again.
    """
    sources = pickled_files(folder)
    if not sources:
        raise ModelError(
            f"{folder} holds no weights: neither .safetensors files nor {PICKLED}. Copy them from "
            "where the model comes from."
        )
    return unpickled_files(sources, name=name)


def unpickled_files(sources: Sequence[Path], *, name: str) -> Path:
    """A folder with the tensors of pickled files as safetensors; as `unpickled`."""
    size = sum(path.stat().st_size for path in sources)

    def write(made: Path) -> str:
        with stage(f"Converting {shown_path(sources[0])} to safetensors"):
            dropped = _write_all(sources, made)
        left_out = f"; {count(dropped, 'buffer')} that models compute left out" if dropped else ""
        converted = f"{sources[0].name} ({bytes_text(size)}) was converted to safetensors"
        return f"{name}: {converted}{left_out}"

    return kept_weights(sources, name=name, write=write, size=size)


def _write_all(sources: Sequence[Path], folder: Path) -> int:
    """Write the tensors of each file to one of its own; how many buffers were left out."""
    weight_map: dict[str, str] = {}
    dropped = total = 0
    for number, path in enumerate(sources, start=1):
        tensors = _read(path)
        kept = {
            key: tensor for key, tensor in tensors.items() if not is_computed(key, tensor.dim())
        }
        dropped += len(tensors) - len(kept)
        single = len(sources) == 1
        file = "model.safetensors" if single else _shard(number, len(sources))
        save_file(apart(kept), folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(kept, file)
        total += sum(tensor.nbytes for tensor in kept.values())
    if len(sources) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)
    return dropped


def _shard(number: int, of: int) -> str:
    return f"model-{number:05}-of-{of:05}.safetensors"


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a pickled file, by name.

    Raises:
        ModelError: it holds anything else, or is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # storages of old formats, which torch reads all the same
            stored = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        if wanted := _GLOBAL.search(str(error)):
            raise ModelError(
                f"{path} would call {wanted[1]} while it is opened, and weights need nothing but "
                "tensors. It wasn't opened. Get the model as safetensors, from someone you trust."
            ) from None
        raise ModelError(_unreadable(path, error)) from None
    except Exception as error:  # torch, zipfile and pickle raise a dozen types
        raise ModelError(_unreadable(path, error)) from None
    return _tensors(stored, path)


def _unreadable(path: Path, error: Exception) -> str:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return (
        f"{path} can't be read as weights: {reason[:300].rstrip('.')}. Copy it again from where "
        "the model comes from."
    )


def _tensors(stored: Any, path: Path) -> dict[str, torch.Tensor]:
    if isinstance(stored, Mapping):
        found = {key: value for key, value in stored.items() if isinstance(value, torch.Tensor)}
        if found and len(found) == len(stored) and all(isinstance(key, str) for key in found):
            return {str(key): value.detach() for key, value in found.items()}
        names = ", ".join(repr(key) for key in [*stored][:3])
        held = f"a table of {names}" if stored else "an empty table"
    else:
        held = f"a {type(stored).__name__}"
    raise ModelError(
        f"{path} holds {held}, and a model's weights are a table of tensors by name. Save the "
        "model again with save_pretrained."
    )


def apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors, each with a memory of its own, as safetensors wants them."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        is_whole = tensor.untyped_storage().nbytes() == tensor.nbytes
        if place in seen or not is_whole:
            tensor = tensor.clone()
        seen.add(place)
        found[name] = tensor.contiguous()
    return found
