"""A model's files that a library reads -> what it gives, or one line on why it can't."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import GenerationConfig, PreTrainedConfig

from gptft.console import notice
from gptft.errors import ModelError
from gptft.panics import no_panic
from gptft.terminal.commands import with_our_extras


@contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Read with a library in this.

    Args:
        folder: the model's.
        what: of it is read: weights, say.

    Raises:
        ModelError: the library can't.
    """
    try:
        with no_panic():
            yield
    except Exception as error:  # transformers, tokenizers, safetensors raise a dozen types
        raise ModelError(f"{folder}: its {what} can't be read: {first_line(error)}") from None


def first_line(error: Exception) -> str:
    """Why a library failed; a `KeyError` is no more than the word that it looked for."""
    if isinstance(error, KeyError):
        return f"{error} is unknown or missing"
    return next(iter(with_our_extras(str(error)).strip().splitlines()), type(error).__name__)


def generation_config(
    folder: Path, config: PreTrainedConfig, *, is_needed: bool
) -> GenerationConfig | None:
    """What the folder suggests to generate by, which is never in force; None where it can be read.

    Args:
        folder: the model's.
        config: its config, which stands in for a file that can't be read.
        is_needed: whether the library doesn't find it by itself.
    """
    path = folder / "generation_config.json"
    generation: GenerationConfig
    if not path.is_file():
        if not is_needed:
            return None
        generation = GenerationConfig.from_pretrained(
            str(folder), config_file_name="config.json", _from_model_config=True
        )
        return generation
    try:
        generation = GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # of its JSON, and of each field that contradicts another
        notice(f"{path} can't be used, and is left out: {first_line(error)}")
        return GenerationConfig.from_model_config(config)
    return generation if is_needed else None
