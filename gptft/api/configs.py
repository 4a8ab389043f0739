"""A YAML file, or none -> a `Config`, its `generation` read by the settings of every strategy."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gptft.config import load, schema
from gptft.config.data import DataConfig
from gptft.config.load import ConfigFile, Override
from gptft.config.sections import Config
from gptft.config.settings import Setting
from gptft.errors import GptftError


def read_config(path: Path, *, overrides: Sequence[Override] = ()) -> ConfigFile:
    """Read a YAML file, or make the config of a text file or folder to train on.

    Args:
        path: a YAML file, a text file, or a folder of texts.
        overrides: `section.key=value` each, the value as YAML reads it; the last one wins.

    Raises:
        ConfigError: the file can't be read or isn't YAML, or an override has no key.
    """
    return load.read_config(
        path, overrides=overrides, generation=_generation, holds_chats=_holds_chats
    )


def _holds_chats(path: Path) -> bool:
    """Whether a file or folder holds conversations; where it can't be read, that is told later."""
    from gptft.documents.record_format import find_format  # here: most configs are YAML
    from gptft.documents.sources import find_texts

    with suppress(GptftError):
        data = DataConfig.model_validate({"train": str(path)})
        return find_format(find_texts(data), data).format != "text"
    return False


def load_config(path: Path, *, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML config file and check every setting in it.

    Args:
        path: a YAML file.
        overrides: `section.key=value` each, the value as YAML reads it; the last one wins.

    Raises:
        ConfigError: every problem found, each with where it is and what to change.
    """
    return load.read_file(path, overrides=overrides, generation=_generation).checked()


def default_config(*, overrides: Sequence[str] = (), text: Path | None = None) -> Config:
    """The config of someone who wrote none; `text` is a file or folder to train on.

    Raises:
        ConfigError: an override is wrong.
    """
    return load.default_file(text, overrides=overrides, generation=_generation).checked()


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a config, as a plain dictionary (2020-12)."""
    return schema.config_schema(_generation())


def generation_config(path: Path | None, *, overrides: Sequence[str] = ()) -> Config:
    """The config that says how text is generated, its own strategies checked.

    Args:
        path: a YAML file; None for the default config.
        overrides: `section.key=value` each.

    Raises:
        ConfigError: every problem found.
    """
    from gptft.decoding.settings import check_strategies

    config = load_config(path, overrides=overrides) if path else default_config(overrides=overrides)
    check_strategies(config.strategies)
    return config


def _generation() -> Mapping[str, Setting]:
    """Every setting of every strategy; reading their files takes longer than most commands."""
    from gptft.decoding.strategies import GENERATION

    return GENERATION
