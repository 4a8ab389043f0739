"""Files of safetensors -> name, shape and dtype of every tensor, from their headers alone.

No weight is read, and no torch is needed.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gptft.errors import ModelError
from gptft.inputs import is_file, open_input, parse_json
from gptft.models.model_files import ModelFiles

_MAX_HEADER = 100_000_000  # bytes, the safetensors format's own limit
_MAX_SIDES, _MAX_SIDE = 64, 2**53  # of a tensor that any library makes
_SINGLE = "model.safetensors"
# Causal masks of GPT-2, GPT-Neo, GPT-J and GPT-NeoX, (1, 1, T, T), and what they masked with.
_MASK = re.compile(r"(^|\.)(attn|attention|attn\.attention)\.(bias|masked_bias)$")
_COMPUTED = re.compile(r"(^|\.)(rotary_emb\.inv_freq|position_ids)$")


class Tensor(NamedTuple):
    """What a header says of a tensor.

    Attributes:
        shape: its sides.
        dtype: as torch calls it: float16; as the file does where torch has none of that name.
    """

    shape: tuple[int, ...]
    dtype: str | None

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        product = 1
        for side in self.shape:
            product *= side
        return product


Tensors = Mapping[str, Tensor]

# The format's names (https://github.com/huggingface/safetensors, "Format") as torch's.
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


def read_headers(paths: Iterable[Path]) -> tuple[dict[str, Tensor], list[Path]]:
    """The tensors of some files by name, and the files whose header can't be read.

    Source: the format, 8 bytes of header length, the header, the tensors
    (https://github.com/huggingface/safetensors, "Format").
    """
    found: dict[str, Tensor] = {}
    unreadable = []
    for path in paths:
        try:
            found |= _read_header(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(path)
    return found, unreadable


def _read_header(path: Path) -> dict[str, Tensor]:
    with open_input(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER:
            raise ValueError("it is no header")
        header = parse_json(file.read(length))
    return {name: _tensor(entry) for name, entry in header.items() if name != "__metadata__"}


def _tensor(entry: Mapping[str, object]) -> Tensor:
    shape, dtype = entry["shape"], entry["dtype"]
    if not isinstance(shape, list) or not isinstance(dtype, str) or len(shape) > _MAX_SIDES:
        raise ValueError("it is no tensor")
    if not all(isinstance(side, int) and 0 <= side < _MAX_SIDE for side in shape):
        raise ValueError("it has no size")
    return Tensor(tuple(shape), DTYPES.get(dtype, dtype))


def all_safetensors(folder: Path) -> list[Path]:
    """Every file of safetensors in a folder, by name."""
    return sorted(path for path in folder.glob("*.safetensors") if is_file(path))


def require_openable(folder: Path) -> None:
    """Refuse safetensors that are a FIFO, which a library would wait for, a device or a folder.

    Raises:
        ModelError: one is, or can't be opened.
    """
    for path in sorted(folder.glob("*.safetensors")):
        try:
            open_input(path).close()
        except OSError as error:
            raise ModelError(
                f"{path} can't be read: {error.strerror}. Copy it again from where the model comes "
                "from."
            ) from None


def weight_files(files: ModelFiles) -> list[Path]:
    """The files of safetensors that a model is loaded from: those of its index, or the one.

    A folder may hold the same weights twice, in another form of another library.
    """
    folder = files.folder
    if is_file(folder / _SINGLE):
        return [folder / _SINGLE]
    there = all_safetensors(folder)
    index = files.json("model.safetensors.index.json").get("weight_map")
    if isinstance(index, dict):
        named = {str(name) for name in index.values()}
        return [path for path in there if path.name in named]
    return [path for path in there if not path.name.startswith("adapter")]


def is_computed(name: str, num_sides: int) -> bool:
    """Whether a tensor is a buffer that all of today's models compute themselves."""
    if _COMPUTED.search(name):
        return True
    return bool(_MASK.search(name)) and num_sides in (0, 4)
