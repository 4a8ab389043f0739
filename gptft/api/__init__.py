"""What the commands do, one function each, joining rooms that know nothing of each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptft.api.check import CheckResult
    from gptft.config.load import ConfigFile
    from gptft.config.sections import Config


def read_config(path: Path, *, overrides: Sequence[str] = ()) -> "ConfigFile":
    """Read a YAML file, or make the config of a text file or folder to train on.

    Args:
        path: a YAML file, a text file, or a folder of texts.
        overrides: `section.key=value` each, the value as YAML reads it; the last one wins.

    Raises:
        ConfigError: the file can't be read or isn't YAML, or an override has no key.
    """
    from gptft.config import load
    from gptft.decoding.strategies import GENERATION

    return load.read_config(path, overrides=overrides, generation=GENERATION)


def check_config(path: Path, *, overrides: Sequence[str] = ()) -> "CheckResult":
    """Check all that `gptft train` needs of a config, without torch.

    Args:
        path: a YAML config, or a text file or folder to train on.
        overrides: `section.key=value` each.

    Raises:
        ConfigError: every problem found, each with its place in the file.
    """
    from gptft.api.check import check_file

    return check_file(read_config(path, overrides=overrides))


def load_config(path: Path, *, overrides: Sequence[str] = ()) -> "Config":
    """Read a YAML config file and check every setting in it.

    Args:
        path: a YAML file.
        overrides: `section.key=value` each, the value as YAML reads it; the last one wins.

    Raises:
        ConfigError: every problem found, each with where it is and what to change.
    """
    from gptft.config import load
    from gptft.decoding.strategies import GENERATION

    return load.load_config(path, overrides=overrides, generation=GENERATION)


def default_config(*, overrides: Sequence[str] = (), text: Path | None = None) -> "Config":
    """The config of someone who wrote none; `text` is a file or folder to train on.

    Raises:
        ConfigError: an override is wrong.
    """
    from gptft.config import load
    from gptft.decoding.strategies import GENERATION

    return load.default_config(overrides=overrides, text=text, generation=GENERATION)


def config_schema() -> dict[str, Any]:
    """The JSON Schema of a config, as a plain dictionary (2020-12)."""
    from gptft.config import schema
    from gptft.decoding.strategies import GENERATION

    return schema.config_schema(GENERATION)
