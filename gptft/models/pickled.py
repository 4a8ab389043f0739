"""Weights that were pickled (`pytorch_model.bin`) -> the same tensors as safetensors, in the cache.

Repositories of 2019 to 2022 hold nothing else. A pickle may run any code while it is opened, so
torch's weights-only unpickler alone reads it, which makes tensors and refuses everything else; and
once only, since what comes of it is kept beside the checksum of its source.
"""

import json
import os
import pickle
import re
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gptft.console import notice, stage
from gptft.errors import ModelError
from gptft.files import default_cache_dir, file_checksum, free_bytes, read_json, write_json
from gptft.models.model_files import PICKLED, pickled_files
from gptft.terminal.text import shown_path
from gptft.terminal.words import bytes_text, count

_FORMAT = 1  # of what is kept; another one is made anew
_SPARE = 2**26  # bytes that are left free on the disk
_RECORD = "source.json"
# Causal masks of GPT-2, GPT-Neo, GPT-J and GPT-NeoX, (1, 1, T, T), and what they masked with.
_MASK = re.compile(r"(^|\.)(attn|attention|attn\.attention)\.(bias|masked_bias)$")
_COMPUTED = re.compile(r"(^|\.)(rotary_emb\.inv_freq|position_ids)$")
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
    cache = default_cache_dir() / "weights"
    try:
        known = cache / "known" / f"{_stamp(sources)}.json"
        digest = _known_digest(known, cache)
        if digest is None:
            with stage(f"Reading {shown_path(sources[0])}"):
                digest = _digest(sources)
            if not (cache / digest / _RECORD).is_file():
                _convert(sources, cache / digest, name=name)
            known.parent.mkdir(parents=True, exist_ok=True)
            write_json(known, {"weights": digest})
    except OSError as error:
        raise ModelError(
            f"The weights of {name} can't be kept as safetensors in {cache}: {error.strerror}. "
            "Set GPTFT_CACHE to a folder that can hold them."
        ) from None
    return cache / digest


def _stamp(sources: Sequence[Path]) -> str:
    """What changes when one of the files does, told without reading them."""
    seen = [(str(path.resolve()), *_seen(path)) for path in sources]
    return _short(json.dumps([_FORMAT, seen]))


def _seen(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _short(text: str) -> str:
    from xxhash import xxh3_128_hexdigest

    return str(xxh3_128_hexdigest(text.encode()))


def _digest(sources: Sequence[Path]) -> str:
    return _short(json.dumps([_FORMAT, [file_checksum(one, "xxh3_128") for one in sources]]))


def _known_digest(known: Path, cache: Path) -> str | None:
    with suppress(ValueError, OSError):
        digest = read_json(known).get("weights")
        if isinstance(digest, str) and (cache / digest / _RECORD).is_file():
            return digest
    return None


def _convert(sources: Sequence[Path], folder: Path, *, name: str) -> None:
    """Write `folder`, whole or not at all."""
    size = sum(path.stat().st_size for path in sources)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (free := free_bytes(folder.parent)) < size + _SPARE:
        raise ModelError(
            f"{name}: its weights, {bytes_text(size)}, are to be kept as safetensors in "
            f"{folder.parent}, where {bytes_text(free)} are free. Make room, or set GPTFT_CACHE."
        )
    made = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    try:
        with stage(f"Converting {shown_path(sources[0])} to safetensors"):
            dropped = _write_all(sources, made)
        write_json(made / _RECORD, {"format": _FORMAT, "sources": [p.name for p in sources]})
        try:
            os.replace(made, folder)
        except OSError:  # another process was faster; both made the same
            if not (folder / _RECORD).is_file():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    left_out = f"; {count(dropped, 'buffer')} that models compute left out" if dropped else ""
    notice(
        f"{name}: {sources[0].name} ({bytes_text(size)}) was converted to safetensors{left_out}. "
        f"From now on {shown_path(str(folder))} is used."
    )


def _write_all(sources: Sequence[Path], folder: Path) -> int:
    """Write the tensors of each file to one of its own; how many buffers were left out."""
    weight_map: dict[str, str] = {}
    dropped = total = 0
    for number, path in enumerate(sources, start=1):
        tensors = _read(path)
        kept = {key: tensor for key, tensor in tensors.items() if not _is_computed(key, tensor)}
        dropped += len(tensors) - len(kept)
        single = len(sources) == 1
        file = "model.safetensors" if single else _shard(number, len(sources))
        save_file(_apart(kept), folder / file, metadata={"format": "pt"})
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


def _is_computed(name: str, tensor: torch.Tensor) -> bool:
    """Whether a model computes this buffer itself, as all of today's do."""
    if _COMPUTED.search(name):
        return True
    return bool(_MASK.search(name)) and tensor.dim() in (0, 4)


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
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
