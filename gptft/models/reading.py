"""A model's files that a library reads -> what it gives, or one line on why it can't."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

from gptft.console import notice
from gptft.errors import ModelError
from gptft.files import read_json
from gptft.inputs import is_file
from gptft.panics import no_panic
from gptft.terminal.commands import with_our_extras

GENERATION_CONFIG = "generation_config.json"


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
    path = folder / GENERATION_CONFIG
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


def take_special_ids(model: PreTrainedModel, folder: Path) -> list[int]:
    """Let a base begin, end and fill up texts as an adapter's own generation config says.

    Ids that the model has no embedding for are left out, and nothing else of the file is taken:
    its other fields were the base's.

    Args:
        model: the base, with a row for each of the adapter's tokens.
        folder: the adapter's; it may have no such file.

    Returns:
        what ends a text by that file; nothing where it doesn't say.
    """
    path, own = folder / GENERATION_CONFIG, model.generation_config
    if own is None or not is_file(path):
        return []
    try:
        stored = read_json(path)
    except (OSError, ValueError) as error:
        notice(f"{path} can't be used, and is left out: {first_line(error)}")
        return []
    rows = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    known = dict[str, list[int]]()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = stored.get(name)
        ids = value if isinstance(value, list) else [value]
        known[name] = [i for i in ids if type(i) is int and 0 <= i < rows]
        if known[name]:
            is_list = isinstance(value, list) and name == "eos_token_id"
            setattr(own, name, known[name] if is_list else known[name][0])
    return known["eos_token_id"]
