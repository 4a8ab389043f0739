"""Files, folders, globs and `hub:` datasets -> the list of texts, in the same order everywhere.

Looks at names and folders only, and gives the reason for everything that is skipped.
"""

import glob
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from gptft.config.data import DataConfig
from gptft.documents.formats.registry import SUFFIXES, format_of, suffix_of
from gptft.errors import DataError
from gptft.inputs import expand_user, near_names
from gptft.terminal.commands import command_line, install_command, path_word, quoted_word
from gptft.terminal.text import shown_path
from gptft.terminal.words import account_of_skipped, count, first_of
from gptft.text.streams import is_compressed

HUB_PREFIX = "hub:"
_MAX_NAMED = 5  # so many compressed files are named in a message, the rest are counted
_DATASET = {"dataset_info.json", "state.json"}  # what `save_to_disk` puts beside its .arrow files
_RUN = {"run.json", "config.yaml"}  # what every run folder has
_TOKENIZER = {"tokenizer.json", "tokenizer_config.json"}
# What programs write that people read, and the program that makes text of it.
_CONVERTERS = {
    **dict.fromkeys((".odt", ".rtf"), "pandoc -t plain"),
    ".pdf": "pdftotext",
    ".doc": "libreoffice --headless --convert-to txt",
}
VALIDATION = -1  # the source number of what data.validation names


@dataclass(frozen=True)
class TextInput:
    """One thing to read: a file, or a dataset of the hub.

    Attributes:
        name: as a message shows it; always printable.
        path: the file; None for a dataset of the hub.
        number: the index of the source in data.train that named it, VALIDATION for a held-out one.
    """

    name: str
    path: Path | None
    number: int

    @property
    def num_bytes(self) -> int:
        """The size of the file; 0 where it is gone, which is said when it is examined."""
        try:
            return self.path.stat().st_size if self.path is not None else 0
        except OSError:
            return 0


@dataclass(frozen=True)
class FoundTexts:
    """What the `data` section names.

    Attributes:
        texts: the training split's, then the validation split's; none twice.
        skipped: how many files of named folders were skipped, by reason.
    """

    texts: tuple[TextInput, ...]
    skipped: Mapping[str, int]

    @property
    def num_bytes(self) -> int:
        """The size of all files together; what is gone counts nothing."""
        return sum(text.num_bytes for text in self.texts)

    @property
    def num_train(self) -> int:
        """How many of `texts` are the training split's."""
        return sum(text.number != VALIDATION for text in self.texts)


def find_texts(data: DataConfig) -> FoundTexts:
    """Find all that `data.train` and `data.validation` name.

    A file is taken whatever its suffix; a folder gives the texts and records in it, recursively,
    without hidden files and without READMEs, which speak about a corpus and aren't part of it; a
    glob gives what it matches (`**` for any depth). A file named for validation is never in the
    training split, even where its folder is.

    Raises:
        DataError: sources that name nothing or a compressed file of a binary format, one line
            each; an `exclude` that leaves nothing out; nothing to train on.
    """
    finder = _Finder(data.exclude)
    held_out: dict[str, TextInput] = {}
    if not isinstance(data.validation, float | None):
        held_out = finder.collect(data.validation, VALIDATION)
    train: dict[str, TextInput] = {}
    num_named_twice = 0
    for number, source in enumerate(data.train):
        for key, text in finder.collect([source.path], number).items():
            if key in train:
                num_named_twice += 1
            elif key not in held_out:
                train[key] = text
    unused = [pattern for pattern in data.exclude if pattern in finder.unused_excludes]
    problems = [f"data.exclude: {pattern!r} matches none of the files." for pattern in unused]
    if problem := _missing_package([*train.values(), *held_out.values()]):
        problems.append(problem)
    if finder.problems or problems:
        raise DataError(*finder.problems, *problems)
    if not train and held_out:
        raise DataError(
            f"data.validation names all {count(len(held_out), 'file')} of data.train, which leaves "
            "nothing to train on. Name fewer."
        )
    if not train:
        raise DataError(f"data.exclude leaves nothing of {data.train_names}. Exclude less.")
    texts = (*train.values(), *held_out.values())
    # Another source may name what one has skipped.
    taken = {os.path.abspath(text.path) for text in texts if finder.skipped and text.path}
    skipped = Counter(reason for path, reason in finder.skipped.items() if path not in taken)
    if num_named_twice:
        skipped["named twice"] = num_named_twice
    return FoundTexts(texts, dict(skipped))


class _Finder:
    """Finds the files of sources, and keeps what else was met.

    Attributes:
        skipped: the reason by absolute path.
        unused_excludes: patterns that have left out nothing so far.
        problems: sources that name nothing or what can't be read, a message each.
    """

    def __init__(self, exclude: Sequence[str]) -> None:
        self._exclude = exclude
        self._real_folder = cache(os.path.realpath)
        self.skipped: dict[str, str] = {}
        self.unused_excludes = set(exclude)
        self.problems: list[str] = []

    def collect(self, names: Sequence[str], number: int) -> dict[str, TextInput]:
        """The texts of some sources, files by real path and datasets by name."""
        collected: dict[str, TextInput] = {}
        for name in names:
            if name.startswith(HUB_PREFIX):
                collected.setdefault(name, TextInput(name, None, number))
                continue
            skipped: dict[str, str] = {}
            try:
                paths = list(_candidates(name, skipped))
                if not paths:
                    self.problems.append(_nothing_found(name, skipped))
            except DataError as error:
                self.problems.append(str(error))
                continue
            self.skipped.update((os.path.abspath(at), why) for at, why in skipped.items())
            compressed: list[str] = []  # those whose format can't be
            for path in paths:
                matching = {pattern for pattern in self._exclude if _matches(path, pattern)}
                self.unused_excludes -= matching
                if matching:
                    self.skipped[os.path.abspath(path)] = "excluded"
                elif is_compressed(path) and format_of(path).is_binary:
                    compressed.append(shown_path(path))
                else:
                    # Folders from memory: `realpath` asks about every folder above.
                    is_link, (folder, name) = path.is_symlink(), os.path.split(path)
                    whole = os.path.join(self._real_folder(folder), name)
                    key = os.path.realpath(path) if is_link else whole
                    collected.setdefault(key, TextInput(shown_path(path), path, number))
            if compressed:
                self.problems.append(
                    f"{first_of(compressed, _MAX_NAMED)}: a binary format can't be read "
                    "compressed. Decompress the file, or leave it out with data.exclude."
                )
        return collected


def _missing_package(texts: Sequence[TextInput]) -> str | None:
    """What to say where a package isn't installed that some of the files are read with."""
    missing: dict[str, list[str]] = {}
    for text in texts:
        package = format_of(text.path).package if text.path is not None else ""
        if package and find_spec(package) is None:
            missing.setdefault(package, []).append(text.name)
    if not missing:
        return None
    package, names = next(iter(missing.items()))
    return (
        f"{first_of(names, _MAX_NAMED)}: read with {package}, which isn't installed. Install it, "
        f"{install_command(package)}, or leave what takes it out with data.exclude."
    )


def _candidates(name: str, skipped: dict[str, str]) -> Iterator[Path]:
    """The files one source names, in order; why others were skipped goes by their path."""
    path = _expand(name)
    kind = _kind(path)
    if kind == "folder":
        yield from _walk(path, skipped)
    elif kind == "file":
        yield path
    elif kind == "absent":
        for match in sorted(glob.glob(str(path), recursive=True), key=_order):
            if _kind(Path(match)) == "folder":
                yield from _walk(Path(match), skipped)
            elif _kind(Path(match)) == "file":
                yield Path(match)
            else:
                skipped[match] = "no files"
    else:
        raise DataError(f"{shown_path(path)} is {kind}, not a file. Save its text to a file first.")


def _expand(name: str) -> Path:
    try:
        return expand_user(name)
    except OSError:
        raise DataError(f"{name}: there is no such user. Give the whole path.") from None


def _kind(path: Path) -> str:
    """`file`, `folder`, `absent`, or what else stands there, in words.

    Raises:
        DataError: the path can't even be asked about.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a link to nothing" if path.is_symlink() else "absent"
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{shown_path(path)} can't be read: {reason}.") from None
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _walk(folder: Path, skipped: dict[str, str]) -> Iterator[Path]:
    """The texts and records below a folder, links followed, no folder twice."""
    seen: set[tuple[int, int]] = set()
    taken: list[Path] = []

    def failed(error: OSError) -> None:
        raise DataError(f"{shown_path(error.filename)} can't be read: {error.strerror}.")

    for where, folders, files in os.walk(folder, followlinks=True, onerror=failed):
        status = os.stat(where)
        if (status.st_dev, status.st_ino) in seen:
            skipped[where] = "links back"
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        if kind := _kind_of_ours({*files}):
            if Path(where) == folder:
                raise _not_texts(folder, kind)
            skipped[where] = f"{kind}s"
            folders.clear()
            continue
        for name in folders:
            if name.startswith("."):
                skipped[os.path.join(where, name)] = "hidden folders"
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        saved = _of_datasets(Path(where), files)
        for name in files:
            file = Path(where, name)
            reason = "of datasets" if name in saved else _reason_to_skip(file)
            if reason:
                skipped[os.path.join(where, name)] = reason
            else:
                taken.append(file)
    yield from sorted(taken, key=_order)


def _kind_of_ours(files: Set[str]) -> str:
    """What a folder with these files was written as, where it is no folder of texts."""
    if files >= _RUN:
        return "run"
    if files >= _TOKENIZER:
        return "model"
    has_weights = any(name.endswith((".safetensors", ".bin", ".gguf")) for name in files)
    is_model = "config.json" in files or "adapter_config.json" in files
    return "model" if is_model and has_weights else ""


def _not_texts(folder: Path, kind: str) -> DataError:
    said = f"{shown_path(folder)} is a {kind}, not texts."
    if kind == "run":
        command = command_line("train", path_word(folder / "config.yaml"), "--resume")
        return DataError(f"{said} Resume it: {command}")
    return DataError(
        f"{said} Train it on a text: gptft train TEXT --model {quoted_word(path_word(folder))}"
    )


def _of_datasets(folder: Path, files: Sequence[str]) -> set[str]:
    """The files of a folder that `save_to_disk` put beside texts.

    Raises:
        DataError: it is a DatasetDict with several splits, some of them to be held out.
    """
    if _DATASET.issubset(files):
        return _DATASET
    if "dataset_dict.json" not in files:
        return set()
    splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
    if len(splits) > 1:
        train = folder / ("train" if "train" in splits else splits[0])
        raise DataError(
            f"{shown_path(folder)} is a DatasetDict, with the splits {', '.join(splits)}. Name "
            f"the one to train on, {shown_path(train)} for one; another may be data.validation."
        )
    return {"dataset_dict.json"} if splits else set()


def _reason_to_skip(file: Path) -> str:
    """Why a file of a named folder is no text of the corpus; empty where it is one."""
    if file.name.startswith("."):
        return "hidden"
    try:
        kind = _kind(file)
    except DataError:
        kind = "a link to nothing"  # a chain of links that never ends
    if kind != "file":
        return "links to nothing" if kind == "a link to nothing" else "no files"
    if file.name.lower().split(".")[0] == "readme":
        return "README"
    if suffix_of(file) not in SUFFIXES:
        return suffix_of(file) or "no suffix"
    return ""


def _order(path: str | Path) -> tuple[tuple[str, ...], bytes]:
    """Sorts alike everywhere, also where a file system keeps accents as marks of their own."""
    parts = path.parts if isinstance(path, Path) else Path(path).parts
    if not os.fspath(path).isascii():
        parts = tuple(unicodedata.normalize("NFC", part) for part in parts)
    return parts, os.fsencode(path)  # two files may differ in nothing but their accents' form


def _matches(path: Path, pattern: str) -> bool:
    return fnmatch(path.name, pattern) or fnmatch(path.as_posix(), pattern)


def _nothing_found(name: str, skipped: Mapping[str, str]) -> str:
    path = _expand(name)
    if _kind(path) != "folder":
        if glob.has_magic(name):
            return f"{name} matches no file (looked from {Path.cwd()})."
        return f"{name}: no such file or folder (looked from {Path.cwd()}).{near_names(path)}"
    if not skipped:
        return f"{name} is an empty folder. Put texts in it ({', '.join(SUFFIXES)})."
    reasons = Counter(skipped.values())
    account = account_of_skipped(reasons)
    if known := [suffix for suffix in reasons if suffix in _CONVERTERS]:
        return (
            f"{name} holds no text, only {account}. Convert each {known[0]} to a .txt first "
            f"({_CONVERTERS[known[0]]})."
        )
    return (
        f"{name} holds no text, only {account}. Name a file or a glob to read it whatever its name."
    )
