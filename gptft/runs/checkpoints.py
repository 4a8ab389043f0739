"""Checkpoints on disk: whole and verified, or not there.

In: a folder that the Trainer has just filled. Out: `checkpoint-N` folders, each with a manifest of
every file's SHA-256, that appear by one rename when all of them is on the disk, and go by one when
they are rotated away. Knows nothing of models; must not import torch or transformers.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from gptft.data.store import sync_folder

MANIFEST = "MANIFEST.json"
STAGING = ".staging"
_TRASH = ".trash-"
_NAME = re.compile(r"checkpoint-(\d+)")
_FORMAT = 1
_HASHERS = 4  # files read at a time


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint.

    Attributes:
        path: its folder.
        step: the optimizer updates behind it.
    """

    path: Path
    step: int

    @property
    def notes(self) -> dict[str, Any]:
        """What the run wrote down beside the Trainer's own state."""
        notes: dict[str, Any] = _read_manifest(self.path)["notes"]
        return notes


@dataclass(frozen=True)
class Skipped:
    """A checkpoint that can't be used, and why."""

    name: str
    reason: str


def commit_checkpoint(
    staging: Path, folder: Path, *, step: int, notes: dict[str, Any]
) -> Checkpoint:
    """Turn a filled staging folder into `folder/checkpoint-<step>`.

    Every file is on the disk, and its checksum in the manifest, before the rename.

    Args:
        staging: what the Trainer has written; on the same file system as `folder`.
        folder: where checkpoints are.
        step: the optimizer updates so far.
        notes: plain values to keep with it.

    Raises:
        OSError: the disk is full, or fails; nothing of the name is there then.

    A folder of that name without a manifest of ours is renamed to `checkpoint-<step>-old-1`.
    """
    files = _files(staging)
    with ThreadPoolExecutor(max_workers=_HASHERS) as pool:
        entries = dict(zip([_name(p, staging) for p in files], pool.map(_seal, files), strict=True))
    manifest = {"format": _FORMAT, "step": step, "notes": notes, "files": entries}
    manifest["sha256"] = _digest_of(manifest)
    path = staging / MANIFEST
    with path.open("w", encoding="utf-8") as file:
        file.write(_as_text(manifest))
        file.flush()
        os.fsync(file.fileno())
    for inner in {path.parent for path in files} | {staging}:
        sync_folder(inner)
    final = folder / f"checkpoint-{step}"
    if (final / MANIFEST).is_file():  # of a run that was cut off after this very step, or damaged
        _discard(final)
    elif final.exists():  # somebody's own, or too damaged to tell: it gives way, and stays
        final.rename(_free_name(final))
    staging.rename(final)
    sync_folder(folder)
    return Checkpoint(final, step)


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, with the file's name; None where every byte is right."""
    try:
        manifest = _read_manifest(path)
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except OSError:
        return f"{MANIFEST} can't be read"
    except ValueError:
        return f"{MANIFEST} isn't what was written"
    if manifest.pop("sha256", None) != _digest_of(manifest):
        return f"{MANIFEST} isn't what was written"
    if path.name != f"checkpoint-{manifest['step']}":
        return f"{MANIFEST} is of step {manifest['step']}"
    entries: dict[str, dict[str, Any]] = manifest["files"]
    strangers = {_name(file, path) for file in _files(path)} - set(entries)
    if strangers:
        return f"{min(strangers)} was put there by something else"
    for name, entry in entries.items():
        problem = byte_problem(path / name, entry)
        if problem is not None:
            return f"{name} {problem}"
    return None


def size_problem(path: Path, entry: Mapping[str, Any]) -> str | None:
    """What is wrong with a file of a checkpoint, as far as its size tells."""
    try:
        size, written = path.stat().st_size, int(entry["size"])
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None if size == written else f"has {size:,} bytes, not {written:,}"


def byte_problem(path: Path, entry: Mapping[str, Any]) -> str | None:
    """What is wrong with a file of a checkpoint; reads all of it."""
    if (problem := size_problem(path, entry)) is not None:
        return problem
    try:
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None if same else "isn't what was written"


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """All folders named like checkpoints, the newest first; whole or not."""
    if not folder.is_dir():
        return []
    found = [
        Checkpoint(path, int(match[1]))
        for path in folder.iterdir()
        if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    ]
    return sorted(found, key=lambda checkpoint: -checkpoint.step)


def newest_valid(folder: Path) -> tuple[Checkpoint | None, list[Skipped]]:
    """The newest checkpoint whose every byte is right, and the newer ones that aren't."""
    skipped: list[Skipped] = []
    for checkpoint in list_checkpoints(folder):
        damage = find_damage(checkpoint.path)
        if damage is None:
            return checkpoint, skipped
        skipped.append(Skipped(checkpoint.path.name, damage))
    return None, skipped


def rotate_checkpoints(folder: Path, *, keep: int, best: Path | None = None) -> None:
    """Remove the oldest of our checkpoints until `keep` are left; never the best one.

    A folder without a manifest of ours is somebody's own: it isn't counted, and it stays.
    """
    ours = [c for c in list_checkpoints(folder) if (c.path / MANIFEST).is_file()]
    spare = [c for c in ours if best is None or c.path.resolve() != best.resolve()]
    room = keep - (len(ours) - len(spare))
    for checkpoint in spare[max(room, 1) :]:
        _discard(checkpoint.path)


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left: a half-filled staging folder, and trash."""
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    if folder.is_dir():
        for path in folder.glob(f"{_TRASH}*"):
            shutil.rmtree(path, ignore_errors=True)


def _discard(path: Path) -> None:
    """Take a checkpoint away in one rename, and only then remove its files."""
    trash = path.with_name(f"{_TRASH}{path.name}")
    shutil.rmtree(trash, ignore_errors=True)
    path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def _free_name(path: Path) -> Path:
    """A name beside `path` that is nobody's and no checkpoint's."""
    names = (path.with_name(f"{path.name}-old-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _digest_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _as_text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=2) + "\n"


def _read_manifest(path: Path) -> dict[str, Any]:
    text = (path / MANIFEST).read_text(encoding="utf-8")
    manifest = json.loads(text)
    if not isinstance(manifest, dict) or text != _as_text(manifest):
        raise ValueError("not what was written")
    return manifest


def _seal(path: Path) -> dict[str, int | str]:
    """Put a file on the disk; its size and checksum."""
    with path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return {"size": file.tell(), "sha256": digest}


def _files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in _walk(folder) if path.name != MANIFEST)


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
