"""A dataset of the Hugging Face hub, or a folder laid out like one -> the text of each row.

A text is what `datasets` makes of it: its text builder keeps a byte order mark and takes lines as
documents, its csv builder reads "NA" as null and "007" as 7. Code that comes with a dataset is
never run.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gptft.documents.arrow_tables import check_table, read_table
from gptft.documents.records import D, RecordReader
from gptft.documents.sources import HUB_PREFIX
from gptft.errors import DataError
from gptft.files import file_checksum
from gptft.inputs import expand_user, is_file, is_folder

_ROWS_A_BATCH = 1000
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
# train, train[:10%], train[:10%](pct1_dropremainder)
_ONE_SPLIT = r"\w[\w.-]*(\[[\w%:+-]*\](\(\w+\))?)?"
_SPLIT = re.compile(rf"{_ONE_SPLIT}(\+{_ONE_SPLIT})*")
_SLICE = re.compile(r"\[[^\]]*\](\(\w+\))?")
_GUESSED = ("csv", "json")  # builders of datasets that guess types
_CARDS = ("README.md", ".huggingface.yaml", "dataset_infos.json")  # they say how a folder is read


@dataclass(frozen=True)
class HubSource:
    """A dataset as `hub:` names it.

    Attributes:
        name: an id on the hub, or a folder.
        config: its configuration; None for its only or default one.
        split: its split; also train+test or, unless streaming, train[:10%].
    """

    name: str
    config: str | None
    split: str

    @classmethod
    def parse(cls, source: str) -> "HubSource":
        r"""Take "hub:NAME", "hub:NAME:config", "hub:NAME:config:split" or "hub:NAME::split" apart.

        Raises:
            DataError: it is none of these.

        >>> HubSource.parse("hub:org/poems::test")
        HubSource(name='org/poems', config=None, split='test')
        >>> HubSource.parse(r"hub:C:\poems").name
        'C:\\poems'
        """
        rest = source.removeprefix(HUB_PREFIX)
        drive = rest[:2] if _DRIVE.match(rest) else ""
        # A split may hold a colon of its own: train[:10%].
        name, config, split = (*rest[len(drive) :].split(":", 2), "", "")[:3]
        name, config, split = drive + name.strip(), config.strip(), split.strip() or "train"
        if not source.startswith(HUB_PREFIX) or not name:
            raise DataError(f"{source!r} names no dataset. Write hub:NAME, hub:NAME:config:split.")
        if not _SPLIT.fullmatch(split):
            raise DataError(
                f"{source}: {split!r} is not a split. Write hub:NAME:config:split or "
                f"hub:NAME::split, with a split such as train, train+test or train[:10%]."
            )
        return cls(name, config or None, split)

    def __str__(self) -> str:
        return f"{HUB_PREFIX}{self.name}:{self.config or ''}:{self.split}"


def hub_fingerprint(source: HubSource, *, streaming: bool) -> str:
    """What decides the texts that `read_hub` gives, as 32 hexadecimal digits.

    For a dataset of the hub: its name and the commit that is read. For a folder: the names and
    bytes of its data files and of the files that say how to read them, so that the same folder
    elsewhere has the same fingerprint, and a file changed within one tick of the clock another.
    Both with the configuration, the split, `streaming` and the version of datasets, which guesses
    types.

    Raises:
        DataError: the dataset or its configuration can't be found.
    """
    import datasets

    with _asking(source):
        builder = _find(source)
        folder = _folder(source)
        origin = _digest(builder, folder) if folder else f"{source.name}@{builder.hash}"
    parts = (origin, builder.config_id, source.split, str(streaming), datasets.__version__)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def read_hub(source: HubSource, *, streaming: bool, reader: RecordReader[D]) -> Iterator[D]:
    """The documents of a dataset, row by row.

    Args:
        source: which.
        streaming: read over the network as they are asked for, instead of from a copy on disk,
            which is made at the first use.
        reader: makes a document of a row.

    Raises:
        DataError: the dataset, its configuration or split can't be found or read; a column is
            missing or isn't text; a text is null. Rows are counted from 1.
    """
    with _asking(source):
        builder = _find(source)
    _check_split(source, builder, streaming=streaming)
    with _asking(source):
        dataset = _open(source, builder, streaming=streaming)
        if reader.fits(there := dataset.column_names or ()):
            dataset = dataset.select_columns(list(reader.columns(there, str(source))))
        tables = iter(dataset.with_format("arrow").iter(batch_size=_ROWS_A_BATCH))
    row, name = 1, str(source)
    while True:
        with _asking(source):
            table = next(tables, None)
        if table is None:
            return
        with _said_strictly(builder):
            check_table(table.schema, name=name, reader=reader)
            yield from read_table(table, name=name, first_row=row, reader=reader)
        row += table.num_rows


def _folder(source: HubSource) -> Path | None:
    """The folder that a source names, if there is one.

    Raises:
        DataError: it names a file, or a folder that isn't there or that `datasets` can't read.
    """
    try:
        path = expand_user(source.name)
    except OSError as error:
        raise DataError(f"{source}: {error.strerror}. Give the whole path.") from None
    if is_folder(path):
        if (path / "state.json").exists():
            raise DataError(
                f"{source}: {path} was written by save_to_disk. Name it without {HUB_PREFIX}"
            )
        return path.resolve()
    if is_file(path):
        raise DataError(f"{source}: {path} is a file. Name it without {HUB_PREFIX}")
    if path.is_absolute() or source.name.startswith((".", "~")) or source.name.count("/") > 1:
        raise DataError(f"{source}: no such folder (looked from {Path.cwd()}).")
    return None


def _find(source: HubSource) -> Any:
    """The builder of datasets that knows the files of `source`."""
    import datasets

    folder = _folder(source)
    if folder is None:
        return _find_on_hub(source.name, source.config)
    builder = datasets.load_dataset_builder(str(folder), name=source.config)
    # datasets names its copy after paths and times of change alone, and would take a stale one for
    # a file changed within one tick, or one that was put in place with an older file's time.
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "gptft" / _digest(builder, folder)[:16]
    return datasets.load_dataset_builder(str(folder), name=source.config, cache_dir=str(cache))


@lru_cache(maxsize=64)  # the fingerprint and the texts of a process are of one commit
def _find_on_hub(name: str, config: str | None) -> Any:
    import datasets
    from datasets import packaged_modules

    if name in getattr(packaged_modules, "_PACKAGED_DATASETS_MODULES", ()):
        raise DataError(
            f"{HUB_PREFIX}{name}: {name!r} is a file format to datasets, and no dataset. Name "
            f"files without {HUB_PREFIX}"
        )
    return datasets.load_dataset_builder(name, name=config)


def _digest(builder: Any, folder: Path) -> str:
    """SHA-256 over the names and bytes of the files that decide what a folder's texts are."""
    digest = hashlib.sha256()
    of_splits = builder.config.data_files or {}
    named = [(split, file) for split, files in of_splits.items() for file in files]
    for split, file in [*named, *(("", str(folder / card)) for card in _CARDS)]:
        path = Path(file)
        if path.is_file():
            content = file_checksum(path)
            inside = path.relative_to(folder) if path.is_relative_to(folder) else path
            digest.update(f"{split}\0{inside.as_posix()}\0{content}\0".encode())
        elif split:  # an address: datasets hashes what its server says of it
            digest.update(f"{split}\0{file}\0{builder.hash}\0".encode())
    return digest.hexdigest()


def _check_split(source: HubSource, builder: Any, *, streaming: bool) -> None:
    """See that the split is there, where that can be told, before anything is downloaded."""
    if streaming and "[" in source.split:
        raise DataError(
            f"{source}: a slice of a split can't be streamed. Set data.streaming: false, or name "
            f"the whole split."
        )
    there = [str(name) for name in (builder.config.data_files or builder.info.splits or ())]
    for name in _SLICE.sub("", source.split).split("+"):
        if there and name not in there and name != "all":
            raise DataError(
                f"{source}: no split {name!r}, only {', '.join(there)}. "
                f"Write hub:NAME:config:split."
            )


def _open(source: HubSource, builder: Any, *, streaming: bool) -> Any:
    if streaming:
        return builder.as_streaming_dataset(split=source.split)
    builder.download_and_prepare()
    return builder.as_dataset(split=source.split)


@contextmanager
def _asking(source: HubSource) -> Iterator[None]:
    """Quiet, with whatever datasets and the network raise turned into one line.

    Its progress bars are left out unless its environment variable has decided about them, its log
    lines because they tell of an error a second time.
    """
    import datasets
    from datasets.utils import logging

    decided = datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is not None
    has_bars = not (decided or datasets.are_progress_bars_disabled())
    verbosity = logging.get_verbosity()
    try:
        if has_bars:
            datasets.disable_progress_bars()
        logging.set_verbosity(logging.CRITICAL)
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{source}: {_reason(source, error)}") from None
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            datasets.enable_progress_bars()


def _reason(source: HubSource, error: Exception) -> str:
    import datasets
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError

    cause = error.__cause__ if error.__cause__ is not None else error
    message = " ".join(str(error).split())
    if isinstance(error, DatasetNotFoundError):
        return (
            f"{message} Nor is there a folder of that name (looked from {Path.cwd()}). Check the "
            f"name, or log in with hf auth login."
        )
    if isinstance(error, EmptyDatasetError | DataFilesNotFoundError):
        return "it holds no file that datasets can read (.parquet, .jsonl, .csv, .txt, ...)."
    if isinstance(error, ConnectionError) and datasets.config.HF_HUB_OFFLINE:
        return (
            f"HF_HUB_OFFLINE is set, and the dataset isn't in the cache "
            f"({datasets.config.HF_DATASETS_CACHE}). Nor is there a folder of that name (looked "
            f"from {Path.cwd()}). Unset HF_HUB_OFFLINE, or check the name."
        )
    if isinstance(error, ConnectionError):
        return f"the hub can't be reached, and the dataset isn't in the cache. {message}"
    if found := re.search(r"BuilderConfig '.*' not found\. Available: \[(.*)\]", message):
        there = found[1].replace("'", "")
        return f"no configuration {source.config!r}, only {there}. Write hub:NAME:config."
    if found := re.search(r"available configs: \[(.*?)\]", message):
        there = found[1].replace("'", "")
        return f"it has several configurations: {there}. Name one: hub:NAME:config."
    reason = " ".join(str(cause).split()) or message
    return f"datasets can't read it: {type(cause).__name__}: {reason}"


@contextmanager
def _said_strictly(builder: Any) -> Iterator[None]:
    """Add to an error about a value that datasets may have made it what it is."""
    try:
        yield
    except DataError as error:
        if builder.name not in _GUESSED or "has no field" in str(error):
            raise
        raise DataError(
            f"{error} datasets guesses types (NA becomes null, 007 becomes 7): a .csv or .jsonl "
            f"file named without {HUB_PREFIX} is read as it stands."
        ) from None
