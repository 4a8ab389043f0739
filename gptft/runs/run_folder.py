"""A run folder, claimed by one process; one that holds anything is never touched unasked."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gptft.console import is_first_process
from gptft.errors import ConfigError, RunError
from gptft.inputs import is_file
from gptft.version import __version__

EARLIER = "earlier"
LOCK = ".lock"
_FAILED = ".failed"
_PATIENCE = 0.5  # seconds: `is_held` may have the lock for a moment
# All that a run folder ever holds; anything else there is not ours.
_OURS = (
    "run.json", "config.yaml", "metrics.jsonl", "samples.jsonl", "log.txt", "checkpoints",
    "trackers", "profile", "model", "adapter", ".model.partial", ".model.old", ".adapter.partial",
    ".adapter.old", "report.html", EARLIER, LOCK, _FAILED,
)  # fmt: skip
_PACKAGES = ("transformers", "torch", "tokenizers", "accelerate", "datasets", "safetensors")


@contextmanager
def hold(run_dir: Path) -> Iterator[None]:
    """Keep other processes out of a run folder; only the first process of a run does.

    Raises:
        ConfigError: another process holds it.
        RunError: the folder can't be made.
    """
    if not is_first_process():
        yield
        return
    _refuse_file(run_dir)
    from filelock import FileLock, Timeout  # it takes a moment, and few commands lock

    folders = (run_dir / "checkpoints", run_dir, *run_dir.parents)
    absent = [folder for folder in folders if not folder.exists()]
    lock = FileLock(run_dir / LOCK, timeout=_PATIENCE)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"Another process is training in {run_dir}; nothing in it was touched. Wait for it, "
            "or name another training.output_dir."
        ) from None
    except OSError as error:
        raise _cannot_make(run_dir, error) from None
    try:
        yield
    finally:
        (run_dir / LOCK).unlink(missing_ok=True)  # while it is held: nobody else can hold it now
        lock.release()
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()  # it is empty: nothing came of it


def _refuse_file(run_dir: Path) -> None:
    if run_dir.exists() and not run_dir.is_dir():
        raise ConfigError(f"{run_dir} is a file. Name another training.output_dir.")


def _cannot_make(run_dir: Path, error: OSError) -> RunError:
    return RunError(f"{run_dir} can't be made: {error.strerror}. Name another training.output_dir.")


def is_held(run_dir: Path) -> bool:
    """Whether a process is at work in a run folder; nothing is opened for writing.

    Where the system lists locks (Linux), none is taken for it. Elsewhere, and of a lock that it
    doesn't list, such as one of another machine, a shared one is tried for a moment, which
    `hold` waits for.
    """
    lock = run_dir / LOCK
    if not is_file(lock):
        return False
    if sys.platform == "win32":
        return _is_held_on_windows(lock)
    import fcntl

    if _is_listed(lock):
        return True
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # nobody trains in a folder that can't be read
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _is_listed(lock: Path) -> bool:
    """Whether Linux names a lock of this file: `1: FLOCK  ADVISORY  WRITE 7150 fe:00:2337518 …`."""
    try:
        stat = lock.stat()
        listing = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    wanted = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    return any(
        "FLOCK" in words and wanted in words for words in map(str.split, listing.split("\n"))
    )


def _is_held_on_windows(path: Path) -> bool:
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # a disk that can't be written: nobody trains there
        return False
    lock.release()
    return False


def check_free(run_dir: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is in use, before anything is loaded or written.

    Args:
        run_dir: where the run is to go.
        overwrite: whether an earlier run there may be replaced; other folders never are.

    Raises:
        ConfigError: the folder isn't free, or can't be one.
    """
    _refuse_file(run_dir)
    if _is_empty(run_dir):
        return
    if is_foreign(run_dir):
        raise ConfigError(
            f"{run_dir} isn't empty and isn't a run of gptft; nothing in it was touched. "
            "Name another training.output_dir."
        )
    names = {path.name for path in run_dir.iterdir()} - {*_OURS}
    others = sorted(name for name in names if not _is_scrap(name))
    if overwrite and others:
        raise ConfigError(
            f"{run_dir} holds a run and something else ({', '.join(others[:3])}); nothing in it "
            "was touched. Name another training.output_dir."
        )
    if not overwrite:
        raise ConfigError(
            f"{run_dir} holds an earlier run; nothing in it was touched. Resume it "
            "(--resume), name another folder (--set training.output_dir=...), or replace that run "
            "with --overwrite."
        )


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds something, and no run."""
    is_run = any((one / "run.json").is_file() for one in (folder, folder / EARLIER))
    return not is_run and not _is_empty(folder)


def run_around(folder: Path) -> Path | None:
    """The run that a folder is within, there or not."""
    is_run = ("run.json", "config.yaml")  # one of them may be another program's
    above = Path(os.path.abspath(folder)).parents
    return next((p for p in above if all((p / name).is_file() for name in is_run)), None)


def _is_empty(folder: Path) -> bool:
    return not any(path.is_file() and not _is_scrap(path.name) for path in folder.rglob("*"))


def _is_scrap(name: str) -> bool:
    """Whether a file is the lock, or half of a file that a killed process was writing."""
    return name == LOCK or name in {f".{ours}.partial" for ours in _OURS}


def claim(run_dir: Path, *, overwrite: bool) -> None:
    """Make an empty run folder, after a last `check_free`.

    An earlier run there is set aside as `earlier/` in the new one; `drop_earlier` removes it once
    the new run has a model. Of a folder only what gptft writes there is ever moved.

    Raises:
        ConfigError: another process has taken the folder meanwhile.
        RunError: the folder can't be made.
    """
    check_free(run_dir, overwrite=overwrite)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        if (run_dir / "run.json").is_file():
            _set_aside(run_dir)
        with suppress(OSError):
            (run_dir / "checkpoints").rmdir()  # Trainer makes it, used or not
    except OSError as error:
        raise _cannot_make(run_dir, error) from None


def _set_aside(run_dir: Path) -> None:
    """Move a run into `earlier/`; a failed one doesn't replace the intact one kept there."""
    earlier = run_dir / EARLIER
    if earlier.is_dir() and not any((run_dir / name).is_dir() for name in ("model", "adapter")):
        earlier = run_dir / _FAILED
    shutil.rmtree(earlier, ignore_errors=True)
    earlier.mkdir()
    # run.json goes last: as long as it is there, this is a run.
    for name in reversed([name for name in _OURS if name not in (EARLIER, LOCK, _FAILED)]):
        if (run_dir / name).exists():
            (run_dir / name).rename(earlier / name)
    shutil.rmtree(run_dir / _FAILED, ignore_errors=True)


def drop_earlier(run_dir: Path) -> None:
    """Remove the run that `claim` set aside."""
    shutil.rmtree(run_dir / EARLIER, ignore_errors=True)


def circumstances(**facts: Any) -> dict[str, Any]:
    """What a run is done with: the given facts, the versions and the number of processes."""
    return {
        "gptft": __version__,
        "created": now(),
        **facts,
        "working_dir": working_dir(),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        "versions": {"python": platform.python_version(), **versions()},
    }


def working_dir() -> str | None:
    """Where relative names in the config are looked for; None where that folder is gone."""
    try:
        return os.getcwd()
    except OSError:
        return None


def versions() -> dict[str, str]:
    """The installed versions of the libraries a run rests on."""
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):  # a library may be installed under another name
            found[package] = version(package)
    return found


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
