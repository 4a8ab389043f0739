"""Names of texts, without a config -> the scanned texts and the settings to read them with."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gptft.config.data import DataConfig
from gptft.documents.scan import Progress, ScannedText, scan_texts
from gptft.documents.sources import find_texts
from gptft.errors import ConfigError, DataError
from gptft.files import default_cache_dir
from gptft.terminal.text import shown_path
from gptft.text.unicode import text_problem


def find_corpus(
    names: Sequence[str],
    *,
    data: DataConfig | None = None,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> tuple[DataConfig, list[ScannedText], Mapping[str, int]]:
    """Find and scan the texts that names stand for.

    Args:
        names: at least one.
        data: how they are read, whatever texts it names itself; as they stand if not given.
        cache_dir: where scans are remembered; the user's own cache by default.
        progress: told ("reading", bytes done, bytes in all).

    Returns:
        the settings to read them with, the texts, and how many files were skipped, by reason.

    Raises:
        ConfigError: no name, or an empty one.
        DataError: some name nothing, or can't be read.
    """
    if not names or not all(names):
        raise ConfigError("There is no text. Name a file, a folder or a glob.")
    if no_text := [name for name in names if text_problem(name)]:
        raise DataError(
            f"{shown_path(no_text[0])}: its name isn't UTF-8. Name its folder, or a glob that "
            "matches it, or rename it."
        )
    given = {} if data is None else data.model_dump(exclude_unset=True)
    data = DataConfig.model_validate({**given, "train": list(names), "validation": None})
    found = find_texts(data)
    cache_dir = cache_dir or default_cache_dir()
    texts = scan_texts(found.texts, data, cache_dir=cache_dir, progress=progress)
    return data, texts, found.skipped
