"""A GGUF file -> its header: the key-value pairs, and where each tensor lies.

The `gguf` package isn't used: its reader (0.19) makes an array of every string, 9 s and 660 MB for
the vocabulary of Llama 3 where this takes 0.2 s, and accepts files that are cut off.

Source: the GGUF specification, versions 2 and 3, of the ggml project.
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from gptft.errors import ModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)  # the first has other widths and was given up within weeks
_MAX_KEY = 65_535  # bytes, says the specification
_MAX_SIDES = 4
_BOOL, _STRING, _ARRAY = 7, 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", _BOOL: "B"}
_NUMBERS |= {10: "<Q", 11: "<q", 12: "<d"}
# Types of tensors by number: name, values a block, bytes a block (ggml.c, type_traits).
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file.

    Attributes:
        shape: as torch has it, rows first; the file has it the other way round.
        type: Q4_K, say.
        start: of its bytes in the file.
        size: in bytes.
    """

    shape: tuple[int, ...]
    type: str
    start: int
    size: int


class DamagedError(Exception):
    """What is wrong with a header, in words that follow the file's name."""


def read_gguf_header(path: Path) -> dict[str, Any]:
    """The key-value pairs of a GGUF file; arrays of numbers are lists.

    Raises:
        ModelError: it isn't a GGUF file of version 2 or 3, or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file, path.stat().st_size).header()
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}.") from None
    except DamagedError as error:
        raise ModelError(f"{path} {error}.") from None


def read_gguf(path: Path) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """The key-value pairs of a GGUF file, and its tensors by name.

    Raises:
        ModelError: it isn't a GGUF file of version 2 or 3, is damaged or cut off, or has a tensor
            of a type that is unknown.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            reader = _Reader(file, size)
            pairs = reader.header()
            return pairs, reader.tensors(pairs, size=size)
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}.") from None
    except DamagedError as error:
        raise ModelError(f"{path} {error}.") from None


def gguf_header_end(path: Path) -> int | None:
    """How many bytes of a GGUF file its header has; None where `path` holds only a part of that.

    Args:
        path: the file, or its beginning.

    Raises:
        ModelError: it isn't a GGUF file of version 2 or 3, or is damaged.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            reader = _Reader(file, size)
            reader.header()
            reader.places()
            return size - reader.left
    except _CutOffError:
        return None
    except DamagedError as error:
        raise ModelError(f"{path} {error}.") from None


class _CutOffError(DamagedError):
    """The file ends within its header."""


class _Reader:
    """Takes values off a file, never more than it holds."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.left, self._tensors = file, size, 0

    def header(self) -> dict[str, Any]:
        if self.left < len(_MAGIC) or self._take(len(_MAGIC)) != _MAGIC:
            raise DamagedError("is not a GGUF file: it doesn't begin with GGUF")
        version = self._number("<I")
        if version not in _VERSIONS:
            if int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS:
                raise DamagedError("is a big-endian GGUF file. Convert it to little-endian")
            raise DamagedError(f"is GGUF version {version:,}; only 2 and 3 can be read")
        self._tensors = self._number("<Q")
        pairs: dict[str, Any] = {}
        for _ in range(self._number("<Q")):
            key = self._string(at_most=_MAX_KEY)
            if key in pairs:
                raise DamagedError(f"is damaged: its header has {key!r} twice")
            pairs[key] = self._value(self._number("<I"))
        return pairs

    def tensors(self, pairs: dict[str, Any], *, size: int) -> dict[str, StoredTensor]:
        """The tensors of a file of `size` bytes, whose header was just read."""
        found = self.places()
        alignment = pairs.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise DamagedError(f"is damaged: its general.alignment is {alignment!r}")
        begin = -(-(size - self.left) // alignment) * alignment
        return {
            name: _placed(name, shape, number, start=begin + offset, end=size)
            for name, (shape, number, offset) in found.items()
        }

    def places(self) -> dict[str, tuple[tuple[int, ...], int, int]]:
        """The shape of each tensor by its name, the number of its type, and where it lies."""
        found: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for _ in range(self._tensors):
            name = self._string(at_most=_MAX_KEY)
            if name in found:
                raise DamagedError(f"is damaged: it has the tensor {name} twice")
            sides = self._number("<I")
            if not 1 <= sides <= _MAX_SIDES:
                raise DamagedError(f"is damaged: its tensor {name} has {sides:,} dimensions")
            shape = tuple(self._number("<Q") for _ in range(sides))[::-1]
            found[name] = shape, self._number("<I"), self._number("<Q")
        return found

    def _value(self, kind: int) -> Any:
        if kind != _ARRAY:
            return self._values(kind, 1)[0]
        kind, length = self._number("<I"), self._number("<Q")
        if kind == _ARRAY:
            raise DamagedError("has an array of arrays in its header, which no tokenizer needs")
        return self._values(kind, length)

    def _values(self, kind: int, length: int) -> list[Any]:
        if kind == _STRING:
            return [self._string() for _ in range(length)]
        if kind not in _NUMBERS:
            raise DamagedError(f"is damaged: its header has a value of the unknown type {kind:,}")
        code = _NUMBERS[kind]
        raw = self._take(length * struct.calcsize(code))
        values = [value for (value,) in struct.iter_unpack(code, raw)]
        if kind != _BOOL:
            return values
        if (greatest := max(values, default=0)) > 1:
            raise DamagedError(f"is damaged: its header has {greatest} for true or false")
        return [*map(bool, values)]

    def _string(self, *, at_most: int | None = None) -> str:
        length = self._number("<Q")
        if at_most is not None and length > at_most:
            raise DamagedError(f"is damaged: its header has a name of {length:,} bytes")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise DamagedError("is damaged: its header has a text that isn't UTF-8") from None

    def _number(self, code: str) -> Any:
        return struct.unpack(code, self._take(struct.calcsize(code)))[0]

    def _take(self, length: int) -> bytes:
        if length > self.left:
            raise _CutOffError("is damaged or cut off: it ends within its header")
        self.left -= length
        return self._file.read(length)


def _placed(
    name: str, shape: tuple[int, ...], number: int, *, start: int, end: int
) -> StoredTensor:
    if number not in _TYPES:
        raise DamagedError(
            f"holds the tensor {name} in the type {number:,}, which isn't known. Take a file in "
            "Q8_0 or F16"
        )
    kind, values, length = _TYPES[number]
    if shape[-1] % values:
        raise DamagedError(
            f"is damaged: rows of {shape[-1]:,} values in its tensor {name} are no whole blocks "
            f"of {kind}, which have {values}"
        )
    size = prod(shape) // values * length
    if start + size > end:
        raise DamagedError(f"is cut off: its tensor {name} ends {start + size - end:,} bytes later")
    return StoredTensor(shape, kind, start, size)
