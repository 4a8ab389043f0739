"""The documents of a corpus, in their two parts: training and validation.

In: files and the `data` section. Out: texts, part by part, read from disk each time, so that memory
holds one file at most. The draw of the validation part is the same on every machine.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gptft.config.sections import DataConfig
from gptft.corpus.reader import FoundFiles, find_files, read_text, split_documents
from gptft.errors import DataError

Progress = Callable[[int, int], None]


def find_parts(data: DataConfig) -> tuple[FoundFiles, tuple[Path, ...]]:
    """The files of the training part and of the validation part.

    A file named for validation is never in the training part, even where its folder is.

    Raises:
        DataError: a source names nothing, or validation leaves nothing to train on.
    """
    train = find_files(data.train, exclude=data.exclude)
    if data.validation is None or isinstance(data.validation, float):
        return train, ()
    validation = find_files(data.validation, exclude=data.exclude).files
    held_out = {path.resolve() for path in validation}
    kept = tuple(path for path in train.files if path.resolve() not in held_out)
    if not kept:
        raise DataError(
            f"data.validation names all {len(train.files)} files of data.train, which leaves "
            "nothing to train on. Name fewer."
        )
    return replace(train, files=kept), validation


class Documents:
    """Every document of a corpus, and which of them are held out.

    Attributes:
        num_documents: texts that aren't empty, both parts.
        num_empty: texts of nothing but white space, left out.
        num_validation: documents in the validation part.
        num_bytes: UTF-8 bytes handed out by `counted` so far.
        num_characters: code points handed out by `counted` so far.
    """

    def __init__(
        self,
        data: DataConfig,
        train_files: Sequence[Path],
        validation_files: Sequence[Path],
        progress: Progress | None = None,
    ) -> None:
        """Count the documents and draw the validation part.

        Raises:
            DataError: a part is empty, or there are too few documents to hold any out.
        """
        self.files = (*train_files, *validation_files)
        self._separator = data.document_separator
        self._progress = progress
        self._total_bytes = sum(path.stat().st_size for path in self.files)
        self.num_bytes = self.num_characters = self.num_empty = 0
        counts = [self._count(path) for path in self.files]
        self.num_documents = sum(counts)
        num_train = sum(counts[: len(train_files)])
        if not num_train:
            raise DataError(
                f"{', '.join(data.train)}: {len(train_files)} files, and no text in any of them."
            )
        self._held_out = set(range(num_train, self.num_documents))
        if isinstance(data.validation, float):
            self._held_out = _draw_validation(num_train, data, fraction=data.validation)
        elif validation_files and not self._held_out:
            raise DataError("data.validation: no text in any of its files.")
        self.num_validation = len(self._held_out)

    def _count(self, path: Path) -> int:
        documents, num_empty = split_documents(read_text(path), separator=self._separator)
        self.num_empty += num_empty
        return len(documents)

    def texts(self, part: str) -> Iterator[str]:
        """Yield the documents of `train` or `validation`, in order."""
        number = 0
        for path in self.files:
            documents, _ = split_documents(read_text(path), separator=self._separator)
            for text in documents:
                if (number in self._held_out) == (part == "validation"):
                    yield text
                number += 1

    def counted(self, part: str) -> Iterator[str]:
        """Yield as `texts` does, adding up characters and bytes and telling the progress."""
        for text in self.texts(part):
            self.num_characters += len(text)
            self.num_bytes += len(text.encode())
            if self._progress:
                self._progress(self.num_bytes, self._total_bytes)
            yield text


def _draw_validation(num_documents: int, data: DataConfig, *, fraction: float) -> set[int]:
    """Draw a share of whole documents, at least one, never all.

    The draw is NumPy's PCG64 permutation under `data.seed`.
    """
    if num_documents < 2:
        raise DataError(
            f"data.validation: {fraction:g} needs at least 2 documents, and "
            f"{', '.join(data.train)} is 1. Set data.document_separator to cut it into documents, "
            "name a validation file, or leave data.validation out."
        )
    wanted = min(max(1, round(num_documents * fraction)), num_documents - 1)
    order = np.random.default_rng(data.seed).permutation(num_documents)
    return {int(number) for number in order[:wanted]}
