"""Files and folders named by a person -> documents.

In: paths, folders and globs. Out: a sorted list of files, and their documents as strict UTF-8 text,
byte for byte but for a byte order mark, which is no text. Knows nothing of tokens.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from gptft.errors import DataError

TEXT_SUFFIXES = (".md", ".txt")
_MAX_NAMED = 5  # so many bad files are named one by one, the rest are counted
_BOM = "\ufeff"


@dataclass(frozen=True)
class FoundFiles:
    """What `find_files` found.

    Attributes:
        files: sorted by path within each source, none twice.
        skipped: files in named folders that were left out, as hidden, as excluded or for their
            suffix.
    """

    files: tuple[Path, ...]
    skipped: tuple[Path, ...]


def find_files(sources: Sequence[str], *, exclude: Sequence[str] = ()) -> FoundFiles:
    """Collect the text files that `sources` name.

    A file is taken whatever its suffix; a folder gives its .txt and .md files, recursively, without
    hidden ones and without READMEs, which speak about a corpus and aren't part of it; a glob gives
    what it matches (`**` for any depth).

    Args:
        sources: files, folders or globs, in the order their documents are to have.
        exclude: globs; a file whose name or whose path matches one is left out.

    Raises:
        DataError: a source names nothing, or nothing is left; one line a source.
    """
    found: dict[Path, Path] = {}  # by real path: no file twice, however it is named
    skipped: dict[Path, None] = {}
    problems = []
    for source in sources:
        candidates, passed_over = _candidates(source)
        kept = [path for path in candidates if not _matches(path, exclude)]
        if not candidates:
            problems.append(_nothing_found(source, passed_over))
        for path in kept:
            found.setdefault(path.resolve(), path)
        skipped.update(dict.fromkeys(passed_over))
        skipped.update(dict.fromkeys(path for path in candidates if path.resolve() not in found))
    if problems:
        raise DataError("\n".join(problems))
    if not found:
        raise DataError(
            f"data.exclude leaves nothing of {', '.join(sources)}: all {len(skipped)} files match."
        )
    left_out = tuple(path for path in skipped if path.resolve() not in found)
    return FoundFiles(tuple(found.values()), left_out)


def _candidates(source: str) -> tuple[list[Path], list[Path]]:
    """The files `source` names and, for a folder, those passed over."""
    path = Path(source).expanduser()
    if path.is_file():
        return [path], []
    if path.is_dir():
        everything = sorted(file for file in path.rglob("*") if file.is_file())
        taken = [file for file in everything if _is_text_name(file, path)]
        names = set(taken)
        return taken, [file for file in everything if file not in names]
    matches = sorted(glob.glob(str(path), recursive=True))
    return [Path(match) for match in matches if Path(match).is_file()], []


def _is_text_name(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    about = file.stem.lower() == "readme"
    return not hidden and not about and file.suffix.lower() in TEXT_SUFFIXES


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path.name, p) or fnmatch(path.as_posix(), p) for p in patterns)


def _nothing_found(source: str, passed_over: Sequence[Path]) -> str:
    path = Path(source).expanduser()
    if not path.is_dir():
        if glob.has_magic(source):
            return f"{source} matches no file (looked from {Path.cwd()})."
        return f"{source}: no such file or folder (looked from {Path.cwd()})."
    if not passed_over:
        return f"{source} is an empty folder. Put .txt or .md files in it."
    suffixes = sorted({file.suffix or file.name for file in passed_over})
    return (
        f"{source} holds no .txt or .md file, only {len(passed_over)} others "
        f"({', '.join(suffixes[:_MAX_NAMED])}). Name a file or a glob to read it whatever its name."
    )


def check_files(files: Sequence[Path]) -> None:
    """Decode every file once, so that all bad ones are named before any work starts.

    Raises:
        DataError: some aren't UTF-8 text; each is named with the offset of its first bad byte.
    """
    problems = []
    for path in files:
        try:
            read_text(path)
        except DataError as error:
            problems.append(str(error))
    if len(problems) > _MAX_NAMED:
        rest = len(problems) - _MAX_NAMED
        problems = [*problems[:_MAX_NAMED], f"... and {rest} more files that can't be read."]
    if problems:
        raise DataError("\n".join([*problems, "data.exclude leaves files out by name."]))


def read_text(path: Path) -> str:
    """Read one file as strict UTF-8, line ends as they are, without its byte order mark.

    Raises:
        DataError: the file can't be opened, isn't UTF-8, or holds NUL characters.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from None
    nul = raw.find(b"\0")
    if nul >= 0:
        raise DataError(
            f"{path} is not a text file in UTF-8: NUL byte at offset {nul:,}. Convert it to UTF-8."
        )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not a text file in UTF-8: byte 0x{raw[error.start]:02x} at offset "
            f"{error.start:,}. Convert it (iconv -f WINDOWS-1251 -t UTF-8, say)."
        ) from None
    return text.removeprefix(_BOM)


def split_documents(text: str, *, separator: str | None) -> tuple[list[str], int]:
    r"""Cut one file's text into documents.

    Args:
        text: a file's text.
        separator: the exact text between two documents, which belongs to neither; None for one
            document.

    Returns:
        the documents, and the number of empty ones (nothing but white space) left out.

    >>> split_documents("a\n---\nb\n---\n", separator="\n---\n")
    (['a', 'b'], 1)
    """
    pieces = [text] if separator is None else text.split(separator)
    documents = [piece for piece in pieces if piece.strip()]
    return documents, len(pieces) - len(documents)
