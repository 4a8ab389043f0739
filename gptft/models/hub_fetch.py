"""A repository and names of its files -> these files in the hub client's cache."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from glob import escape
from threading import Event
from time import monotonic, sleep

from gptft.console import Notify, notice, shows_stages, stage
from gptft.errors import Interrupted, ModelError
from gptft.files import free_bytes
from gptft.inputs import why_unusable
from gptft.models.hub_blob import Wanted, fetch_file, partial_bytes
from gptft.models.hub_cache import CARD, Snapshot, cache_folder, find_snapshot, is_text
from gptft.models.hub_errors import asked_to_wait, endpoint, is_passing, status_of
from gptft.terminal.words import bytes_text, count, duration

_TEXT_BYTES = 10**7  # a larger file is fetched as weights are
_CONNECTIONS = 4
_SPARE = 2**26  # bytes that are left free on the disk
_TICK = 0.5  # seconds between two looks at how far it is
_EVERY = 60.0  # seconds between two lines, where no terminal shows it
_TOLD = 10**8  # bytes from which on a fetch is worth a line
_WAITS = (1.0, 2.0, 4.0)  # seconds
_LONGEST_WAIT = 60.0  # seconds


def fetch_listing(repo: str, revision: str) -> Snapshot:
    """Ask the hub which commit a revision is, and which files that has; both are kept in the cache.

    Raises:
        ModelError: the cache can't be written.
        Exception: the hub's client's own; see `why_unavailable`.
    """
    from huggingface_hub import HfApi, constants, snapshot_download

    cache = cache_folder()
    if unusable := why_unusable(cache):
        raise ModelError(
            f"The model hub's cache can't be used: {cache} {unusable}. Set HF_HOME to a folder "
            "that can be written to."
        )
    with _quiet(), stage(f"Asking {endpoint()} for {repo}"):
        for seconds in (*_WAITS, None):
            try:
                # Asked for itself, since the client's own request would wait for ever (2.4).
                HfApi().repo_info(repo, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
                break
            except Exception as error:
                asked = asked_to_wait(error)
                if seconds is None or not is_passing(error) or asked > _LONGEST_WAIT:
                    raise
                if status_of(error) is None and seconds != _WAITS[0]:
                    raise  # no network, and perhaps a folder was meant: twice is enough
                sleep(max(seconds, asked))
        snapshot_download(repo, revision=revision, allow_patterns=[])  # the listing alone
    found = find_snapshot(repo, revision)
    if found is None or found.sizes is None:
        raise ModelError(
            f"What {repo} holds can't be kept in the model hub's cache, {cache}. Make room there, "
            "or set HF_HOME to a folder that can be written to."
        )
    return found


def fetch_files(found: Snapshot, names: Sequence[str]) -> None:
    """Fetch files of a repository; what is there of them but isn't as long as it should be, anew.

    Raises:
        ModelError: the disk is too full, or a file can't be had to its end.
        Exception: the hub's client's own; see `why_unavailable`.
    """
    from huggingface_hub import snapshot_download

    sizes = found.sizes or {}
    for name in names:
        _remove(found, name)
    small = [name for name in names if is_text(name) and sizes[name] < _TEXT_BYTES]
    large = [name for name in names if name not in small]
    with _quiet():
        if small:
            with stage(f"Fetching {found.repo}"):
                card = [CARD] if CARD in sizes and not found.has(CARD) else []
                patterns = [escape(name) for name in (*small, *card)]
                snapshot_download(found.repo, revision=found.commit, allow_patterns=patterns)
        if large:
            _fetch_large(found, {name: sizes[name] for name in large})


def _remove(found: Snapshot, name: str) -> None:
    """Remove a link to nothing, or to a blob that was cut off, which the client would take."""
    path = found.folder / name
    with suppress(OSError):
        if path.exists():
            os.unlink(os.path.realpath(path))
    with suppress(OSError):
        os.unlink(path)


def _fetch_large(found: Snapshot, sizes: dict[str, int]) -> None:
    total, here = sum(sizes.values()), partial_bytes(found.repo)
    if (free := free_bytes(cache_folder())) < total - here + _SPARE:
        raise ModelError(
            f"{found.repo}: {bytes_text(total - here)} are to be fetched into {cache_folder()}, "
            f"where {bytes_text(free)} are free. Make room, or set HF_HOME to a folder on a larger "
            "disk."
        )
    if total >= _TOLD:
        there = f", of which {bytes_text(here)} are here" if here else ""
        notice(
            f"Fetching {count(len(sizes), 'file')} of {found.repo} ({bytes_text(total)}{there}) "
            f"from {endpoint()} into {cache_folder()}."
        )
    stop = Event()
    wanted = [Wanted(found.repo, found.commit, name, size, stop) for name, size in sizes.items()]
    with stage(f"Fetching {found.repo}") as say, ThreadPoolExecutor(_CONNECTIONS) as pool:
        progress = _Progress(found.repo, total)
        tasks = {pool.submit(fetch_file, one) for one in wanted}
        try:
            while tasks:
                done, tasks = wait(tasks, timeout=_TICK, return_when=FIRST_COMPLETED)
                for task in done:
                    task.result()
                progress.show(sum(one.arrived for one in wanted), say)
        except Interrupted as stopped:
            raise Interrupted(
                f"Stopped. What came of {found.repo} is kept: the same command goes on from there.",
                signum=stopped.exit_code - 128,
            ) from None
        finally:
            stop.set()  # each writes what it holds, and the pool waits for that
            for task in tasks:
                task.cancel()


class _Progress:
    """How far a fetch is: on a terminal always to be seen, off one told every minute."""

    def __init__(self, repo: str, total: int) -> None:
        self._repo, self._total = repo, total
        self._began = self._told = monotonic()
        self._first: int | None = None  # what was here before, once it has been looked at

    def show(self, arrived: int, say: Notify) -> None:
        """Say it, where it is time to."""
        now = monotonic()
        if self._first is None and now - self._began >= 2 * _TICK:
            self._first, self._began = arrived, now
        if shows_stages():
            say(self._words(arrived, now))
        elif now - self._told >= _EVERY:
            self._told = now
            notice(f"{self._words(arrived, now)}.")

    def _words(self, arrived: int, now: float) -> str:
        said = f"Fetching {self._repo}: {bytes_text(arrived)} of {bytes_text(self._total)}"
        seconds = now - self._began
        if self._first is None or seconds <= 0 or arrived <= self._first:
            return said
        speed = (arrived - self._first) / seconds
        left = (self._total - arrived) / speed
        return f"{said}, {bytes_text(round(speed))}/s, {duration(left)} left"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the hub client's bars and log lines, which tell of an error a second time."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
        logging,
    )

    is_decided = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None  # by its variable, for good
    verbosity, has_bars = logging.get_verbosity(), not (is_decided or are_progress_bars_disabled())
    try:
        logging.set_verbosity(logging.CRITICAL)
        if has_bars:
            disable_progress_bars()
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            enable_progress_bars()
