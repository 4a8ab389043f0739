"""Names in a run.json that are relative to where its run was started -> names that hold here."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any

from gptft.config.data import DataConfig
from gptft.config.sections import Config
from gptft.documents.sources import HUB_PREFIX
from gptft.errors import DataError
from gptft.models.source import BUNDLED_MODELS
from gptft.terminal.words import first_of

_MAX_NAMED = 3


@dataclass(frozen=True)
class StartingPlace:
    """Where a run was started.

    Attributes:
        recorded: the folder, as run.json says; None in one of an older gptft.
        moved: the folder that the run's own relative name hints at, where it was moved with it.
    """

    recorded: Path | None
    moved: Path | None

    @classmethod
    def of(cls, run_dir: Path, facts: Mapping[str, Any]) -> "StartingPlace":
        """What a run's folder and its run.json say."""
        recorded, config = facts.get("working_dir"), facts.get("config")
        training = config.get("training") if isinstance(config, Mapping) else None
        name = training.get("output_dir") if isinstance(training, Mapping) else None
        moved = None
        if isinstance(name, str) and name and not os.path.isabs(name):
            path = run_dir if run_dir.is_absolute() else (_current_folder() or Path()) / run_dir
            path = Path(os.path.normpath(path))
            parts = Path(os.path.normpath(name)).parts
            if ".." not in parts and path.parts[-len(parts) :] == parts:
                moved = Path(*path.parts[: -len(parts)])
        return cls(Path(recorded) if isinstance(recorded, str) and recorded else None, moved)

    def folders(self) -> list[Path]:
        """Where relative names are looked for, in order, none twice."""
        folders = (self.recorded, _current_folder(), self.moved)
        return list(dict.fromkeys(folder for folder in folders if folder is not None))

    def locate(self, config: Config) -> Config:
        """The config with its relative names of texts, model and tokenizer as they hold here.

        Raises:
            DataError: its texts are in none of the folders.
        """
        model = config.model.model_copy(update={"name": self.model(config.model.name)})
        tokenizer, data = config.tokenizer, config.data
        if tokenizer.name is not None:
            tokenizer = tokenizer.model_copy(update={"name": self.model(tokenizer.name)})
        if data is not None:
            data = self._texts(data)
        return config.model_copy(update={"model": model, "tokenizer": tokenizer, "data": data})

    def model(self, name: str) -> str:
        """A model's name, as a path that is there where it is one."""
        if name in BUNDLED_MODELS or not _is_relative(name):
            return name
        there = next((one for one in self.folders() if (one / name).exists()), None)
        return name if there is None or there == _current_folder() else str(there / name)

    def _texts(self, data: DataConfig) -> DataConfig:
        held_out = data.validation if isinstance(data.validation, list) else []
        names = [one.path for one in data.train] + list(held_out)
        names = [name for name in names if _is_relative(name)]
        folders = self.folders()
        home = next((one for one in folders if all(_is_there(name, one) for name in names)), None)
        if names and home is None:
            raise DataError(self._gone(names, folders))
        if home is None or home == _current_folder():
            return data

        def at_home(name: str) -> str:
            if not _is_relative(name):
                return name
            whole = home / name
            return str(whole) if whole.exists() else os.path.join(escape(str(home)), name)

        train = [one.model_copy(update={"path": at_home(one.path)}) for one in data.train]
        update: dict[str, Any] = {"train": train}
        # One with a folder in it is compared with whole paths.
        update["exclude"] = [
            os.path.join(escape(str(home)), one) if "/" in one and one[0] not in "/*" else one
            for one in data.exclude
        ]
        if held_out:
            update["validation"] = [*map(at_home, held_out)]
        return data.model_copy(update=update)

    def _gone(self, names: Sequence[str], folders: Sequence[Path]) -> str:
        gone = [name for name in names if not folders or not _is_there(name, folders[0])]
        where = " and ".join(map(str, folders))
        said = f"{first_of(gone, _MAX_NAMED)}: no such file or folder (looked from {where})."
        if self.recorded is None:
            return (
                f"{said} Its run.json doesn't say where it was started: stand in the folder that "
                "holds them, and give the run by its path from there."
            )
        return f"{said} Put them back, or stand in the folder that holds them."


def _current_folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed
        return None


def _is_relative(name: str) -> bool:
    return not (os.path.isabs(name) or name.startswith(("~", HUB_PREFIX)))


def _is_there(name: str, folder: Path) -> bool:
    try:
        if os.path.exists(folder / name):
            return True
        return has_magic(name) and bool(glob(os.path.join(escape(str(folder)), name)))
    except (OSError, ValueError):
        return False
