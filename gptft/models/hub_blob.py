"""One file of a repository -> a blob in the hub client's cache, resumed where it broke off.

huggingface_hub (2.4) removes what it has of a file when a download fails or is stopped. Here it is
kept, as `<checksum>.incomplete`, for as long as it takes; and since it may be made in several
sessions, by several processes, its SHA-256 is compared before it becomes a blob.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import BinaryIO

from gptft.console import notice
from gptft.errors import ModelError
from gptft.models.hub_cache import cache_folder, repository_folder
from gptft.models.hub_errors import (
    asked_to_wait,
    is_passing,
    status_of,
    why_unavailable,
)
from gptft.terminal.words import bytes_text

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 50 * 10**9  # bytes; what the hub gives by HTTP (huggingface_hub 2.4, MAX_HTTP_...)
_HEAD = 2**22  # bytes of a file's beginning that are fetched first
_PART = 2**20  # bytes read at a time to tell the checksum of what is there
_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # seconds, while nothing comes
_LONGEST_WAIT = 600.0  # seconds; a hub that asks for more is asked again by the person
_POLL = 1.0  # seconds
_NO_SUCH_RANGE = 416


class StoppedError(Exception):
    """Another file failed, or the person stopped the command: no word is needed of this one."""


@dataclass
class Wanted:
    """A file that is to be fetched.

    Attributes:
        repo: owner/name.
        commit: of the repository.
        name: of the file in it.
        size: in bytes, as the repository lists it.
        arrived: how many of them are here, for who shows it.
        stop: is set where the others needn't go on.
    """

    repo: str
    commit: str
    name: str
    size: int
    stop: Event
    arrived: int = field(default=0, compare=False)


def fetch_file(wanted: Wanted) -> None:
    """Fetch a file into the cache, and link it into its snapshot.

    Raises:
        ModelError: it broke off and nothing more came, or isn't what its checksum says.
        StoppedError: `stop` was set.
        Exception: the hub's client's own, where the hub refuses.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    url = hf_hub_url(wanted.repo, wanted.name, revision=wanted.commit)
    about = get_hf_file_metadata(url, retry_on_errors=True)
    checksum = about.etag or ""
    if _SHA256.fullmatch(checksum) and wanted.size <= _LARGEST:
        _fetch_blob(wanted, url, checksum)
    # Finds the blob and links it; a file without a checksum, or beyond what HTTP gives, is left to
    # the client.
    hf_hub_download(wanted.repo, wanted.name, revision=wanted.commit)
    wanted.arrived = wanted.size


def fetch_head(wanted: Wanted, *, end_of: Callable[[Path], int | None]) -> bytes:
    """Fetch the beginning of a file; what came is kept, and fetching all of it goes on from there.

    Args:
        wanted: the file.
        end_of: tells of the first bytes of the file, in a file of their own, how many of them are
            the beginning; None where more are needed.

    Raises:
        ModelError: as for `fetch_file`; or what `end_of` raises.
        Exception: the hub's client's own, where the hub refuses.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(wanted.repo, wanted.name, revision=wanted.commit)
    checksum = get_hf_file_metadata(url, retry_on_errors=True).etag or ""
    blobs = repository_folder(wanted.repo) / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    partial = blobs / f"{checksum}.incomplete"
    with _only_one(wanted, checksum), _opened(partial) as file:
        download, length, end = _Download(wanted, url, file), _HEAD, None
        while end is None and wanted.arrived < wanted.size:
            download.go_to(min(length, wanted.size))
            end, length = end_of(partial), 4 * length
        file.seek(0)
        return file.read(wanted.arrived if end is None else end)


def partial_bytes(repo: str) -> int:
    """What is kept of files of a repository that broke off."""
    found = 0
    for path in (repository_folder(repo) / "blobs").glob("*.incomplete"):
        with suppress(OSError):
            found += path.stat().st_size if _SHA256.fullmatch(path.stem) else 0
    return found


def _fetch_blob(wanted: Wanted, url: str, checksum: str) -> None:
    from huggingface_hub.file_download import are_symlinks_supported

    kept = repository_folder(wanted.repo)
    place = kept / "blobs" / checksum
    partial = place.with_name(f"{checksum}.incomplete")
    if not are_symlinks_supported(cache_folder()):  # the client would copy it, and keep both
        place = kept / "snapshots" / wanted.commit / wanted.name
    for path in (partial, place):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(wanted, checksum):
        if place.exists():
            return
        with _opened(partial) as file:
            download = _Download(wanted, url, file)
            download.go_to(wanted.size)
            download.require(checksum)
        os.replace(partial, place)


def _opened(partial: Path) -> BinaryIO:
    return partial.open("r+b" if partial.exists() else "w+b")


@contextmanager
def _only_one(wanted: Wanted, checksum: str) -> Iterator[None]:
    """Wait until no other process fetches the same file; the lock is the hub client's."""
    from filelock import FileLock, Timeout

    kept = repository_folder(wanted.repo)
    path = cache_folder() / ".locks" / kept.name / f"{checksum}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock, was_told = FileLock(path, mode=0o664), False
    while True:
        try:
            lock.acquire(timeout=_POLL)
            break
        except Timeout:
            if wanted.stop.is_set():
                raise StoppedError from None
            if not was_told:
                notice(f"{wanted.repo}: another process fetches {wanted.name}; waiting for it.")
            was_told = True
        except NotImplementedError:  # the disk knows no locks; the checksum finds a mix of two
            break
    try:
        yield
    finally:
        lock.release()


class _Download:
    """A file as far as it is here, with the checksum of that."""

    def __init__(self, wanted: Wanted, url: str, file: BinaryIO) -> None:
        self._wanted, self._url, self._file = wanted, url, file
        self._digest = hashlib.sha256()
        while part := file.read(_PART):
            self._digest.update(part)
            self._check_stop()
        wanted.arrived = file.tell()
        if wanted.arrived > wanted.size:
            self._begin_anew()

    def go_to(self, end: int) -> None:
        """Fetch what lacks of the first bytes, however often it breaks off, while any come."""
        wanted, failures = self._wanted, 0
        while wanted.arrived < end:
            before = wanted.arrived
            try:
                self._go_on(end)
                problem: Exception | None = None
            except Exception as error:
                if status_of(error) == _NO_SUCH_RANGE and wanted.arrived:
                    self._begin_anew()
                    continue
                if not is_passing(error):
                    raise
                problem = error
            finally:
                self._file.flush()  # a kill loses nothing that is here
            failures = 0 if wanted.arrived > before else failures + 1
            if wanted.arrived < end:
                self._wait(failures, problem)

    def require(self, checksum: str) -> None:
        """Put the file on the disk, and refuse it where it isn't what its checksum says."""
        wanted = self._wanted
        os.fsync(self._file.fileno())
        if wanted.arrived > wanted.size or self._digest.hexdigest() != checksum:
            self._begin_anew()
            raise ModelError(
                f"{wanted.repo}: {wanted.name} came, but not as it is on the hub: its SHA-256 "
                f"isn't {checksum[:12]}…. It was removed. Run the same again to fetch it anew; "
                "where that fails, too, something between here and the hub changes it."
            )

    def _go_on(self, end: int) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if self._wanted.arrived:
            headers["Range"] = f"bytes={self._wanted.arrived}-"
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        # The address of the repository, not of the store that it leads to: that one expires.
        with get_session().stream("GET", self._url, headers=headers, timeout=timeout) as answer:
            hf_raise_for_status(answer)
            if self._wanted.arrived and answer.status_code != 206:  # all of it comes again
                self._begin_anew()
            for part in answer.iter_bytes():
                self._file.write(part)
                self._digest.update(part)
                self._wanted.arrived += len(part)
                self._check_stop()
                if self._wanted.arrived >= end:
                    return

    def _wait(self, failures: int, problem: Exception | None) -> None:
        wanted = self._wanted
        seconds = max(asked_to_wait(problem) if problem else 0.0, 0.0)
        if failures > len(_WAITS) or seconds > _LONGEST_WAIT:
            why = "nothing more came"
            if problem is not None:
                why, _ = why_unavailable(problem, repo=wanted.repo, revision=wanted.commit)
            raise ModelError(
                f"{wanted.repo}: {wanted.name} broke off at {bytes_text(wanted.arrived)} of "
                f"{bytes_text(wanted.size)} ({why}). What came is kept in {cache_folder()}: run "
                "the same again to go on from there."
            )
        if wanted.stop.wait(max(seconds, _WAITS[max(failures, 1) - 1])):
            raise StoppedError

    def _begin_anew(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._digest, self._wanted.arrived = hashlib.sha256(), 0

    def _check_stop(self) -> None:
        if self._wanted.stop.is_set():
            raise StoppedError
