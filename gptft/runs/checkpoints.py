"""A folder that the Trainer has filled -> `checkpoint-N` with a manifest, complete or absent.

It appears by one rename when every byte is on the disk, and goes by one when it is rotated away.
"""

import json
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import gptft.files as files
from gptft.terminal.cells import cut

MANIFEST = "MANIFEST.json"
_NEVER_READ = ("Thumbs.db", "desktop.ini", "tokenizer.json", "tokenizer_config.json")
STAGING = ".staging"
_TRASH = ".trash-"
_NAME = re.compile(r"checkpoint-(\d+)")
_FORMAT = 1
_SHOWN = 200  # columns of a file's name, which a damaged manifest may have made of anything


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
        """What the run keeps beside the Trainer's own state."""
        notes: dict[str, Any] = files.read_json(self.path / MANIFEST)["notes"]
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

    Every file is on the disk, and its checksum in the manifest, before the rename. A folder of that
    name without a manifest is not ours: it is renamed to `checkpoint-<step>-old-1`.

    Args:
        staging: what the Trainer has written; on the same file system as `folder`.
        folder: where checkpoints are.
        step: the optimizer updates so far.
        notes: plain values to keep with it.

    Raises:
        OSError: the disk is full, or fails; nothing of the name is there then.
    """
    sealed = files.seal_files(staging)
    manifest = {"format": _FORMAT, "step": step, "notes": notes, "files": sealed}
    manifest["sha256"] = files.json_checksum(manifest)
    files.write_text(staging / MANIFEST, _as_text(manifest))
    final = folder / f"checkpoint-{step}"
    if (final / MANIFEST).is_file():  # of a run that was stopped after this very step, or damaged
        _discard(final)
    elif final.exists():
        names = (final.with_name(f"{final.name}-old-{number}") for number in count(1))
        final.rename(next(name for name in names if not name.exists()))
    staging.rename(final)
    files.sync_folder(folder)
    return Checkpoint(final, step)


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, with the file's name; None where every byte is right."""
    return next(all_damage(path), None)


def find_size_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint as far as names and sizes tell, which takes no time."""
    manifest, problem = _open_manifest(path)
    return problem or next(_differences(path, manifest, files.size_problem), None)


def all_damage(path: Path) -> Iterator[str]:
    """What is wrong with each file of a checkpoint; reads every byte."""
    manifest, problem = _open_manifest(path)
    if problem is None and not _is_sealed(path, manifest):
        problem = f"{MANIFEST} isn't what was written"
    if problem is not None:
        yield problem
    if manifest:
        yield from _differences(path, manifest, files.byte_problem)
        others = files.list_files(path).keys() - {MANIFEST, *manifest["files"]}
        foreign = sorted(name for name in others if not _is_harmless(name))
        yield from (f"{name} was put there by something else" for name in foreign)


def _is_harmless(name: str) -> bool:
    """Whether resuming never reads a file of that name, so that it can't change a run.

    File managers and file systems leave such files wherever somebody looks; a tokenizer is put
    there to generate with the checkpoint.
    """
    parts = name.split("/")
    return any(part.startswith(".") for part in parts) or parts[-1] in _NEVER_READ


def _open_manifest(path: Path) -> tuple[dict[str, Any], str | None]:
    """A manifest, and what is wrong with it; empty where it can't be used."""
    try:
        manifest = files.read_json(path / MANIFEST)
        is_manifest = isinstance(manifest["files"], dict)
    except FileNotFoundError:
        return {}, f"it has no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError):
        is_manifest = False
    return (manifest, None) if is_manifest else ({}, f"{MANIFEST} can't be read")


def _is_sealed(path: Path, manifest: dict[str, Any]) -> bool:
    content = {name: value for name, value in manifest.items() if name != "sha256"}
    is_same = (path / MANIFEST).read_text(encoding="utf-8") == _as_text(manifest)
    return is_same and manifest.get("sha256") == files.json_checksum(content)


def _differences(
    path: Path,
    manifest: dict[str, Any],
    problem_of: Callable[[Path, Mapping[str, Any]], str | None],
) -> Iterator[str]:
    """What `problem_of` finds in the files that a manifest names."""
    if path.name != f"checkpoint-{manifest.get('step')}":
        yield f"{MANIFEST} is of step {manifest.get('step')}"
    for name, entry in manifest["files"].items():
        try:
            problem = problem_of(path / name, entry)
        except (KeyError, TypeError, ValueError, AttributeError):
            problem = f"isn't described in {MANIFEST}"
        if problem:
            yield f"{cut(name, _SHOWN)} {problem}"


def _as_text(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=2) + "\n"


def list_checkpoints(folder: Path) -> list[Checkpoint]:
    """All folders named like checkpoints, the newest first; intact or not."""
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


def due_checkpoints(folder: Path, *, step: int) -> list[Checkpoint]:
    """The checkpoints up to a step that were saved as the settings say, the newest first.

    What a signal saved in between isn't among them: where it comes is chance.
    """
    found = []
    for checkpoint in list_checkpoints(folder):
        manifest, problem = _open_manifest(checkpoint.path)
        notes = manifest.get("notes")
        is_due = isinstance(notes, dict) and notes.get("due", True)
        if problem is None and is_due and checkpoint.step <= step:
            found.append(checkpoint)
    return found


def rotate_checkpoints(
    folder: Path,
    *,
    step: int,
    keep: int,
    best: Path | None = None,
    needed: Collection[Path] = (),
) -> None:
    """Remove the oldest of our checkpoints until `keep` are left; never the best one.

    What isn't counted stays: a folder without a manifest, which is not ours, and what was damaged
    beyond `step` when the run was resumed from before it.

    Args:
        folder: where checkpoints are.
        step: of the one that was written last.
        keep: at least 1.
        best: the folder of the best one, if that is known.
        needed: folders that stay besides.
    """
    made = (c for c in list_checkpoints(folder) if c.step <= step)
    ours = [c for c in made if (c.path / MANIFEST).is_file()]
    spare = [c for c in ours if best is None or c.path.resolve() != best.resolve()]
    room = keep - (len(ours) - len(spare))
    for checkpoint in spare[max(room, 1) :]:
        if checkpoint.path not in needed:
            _discard(checkpoint.path)


def clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left: a half-filled staging folder, and trash."""
    shutil.rmtree(folder / STAGING, ignore_errors=True)
    for path in folder.glob(f"{_TRASH}*"):
        shutil.rmtree(path, ignore_errors=True)


def _discard(path: Path) -> None:
    """Rename a checkpoint, and only then remove its files, so that it is never half there."""
    trash = path.with_name(f"{_TRASH}{path.name}")
    shutil.rmtree(trash, ignore_errors=True)
    path.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)
