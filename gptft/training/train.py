"""A block store and a base model -> a run folder: what `gptft train` does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers.utils import logging as transformers_logging

from gptft.config.sections import Config
from gptft.config.training_fields import without_auto
from gptft.console import Notify, silent
from gptft.errors import Interrupted
from gptft.models.precision import pick_device
from gptft.runs import run_folder
from gptft.runs.read import as_mapping, read_facts
from gptft.training.blame import blamed, blaming_settings
from gptft.training.general import Measurer
from gptft.training.library_log import LibraryLog, library_log
from gptft.training.memory_allocator import keep_freed_memory
from gptft.training.mixed_precision import is_open
from gptft.training.recital import Reciter
from gptft.training.result import TrainResult
from gptft.training.run import Resume, TrainingRun
from gptft.training.samples import Sampler
from gptft.training.signals import Signals
from gptft.training.trackers import tracking_in, try_trackers

_BATCH_FIELDS = ("training.per_device_train_batch_size", "training.gradient_accumulation_steps")


def train_model(
    config: Config,
    *,
    store_dir: Path,
    run_dir: Path,
    sampler: Sampler,
    reciter: Reciter,
    measurer: Measurer | None = None,
    console: Console,
    overwrite: bool = False,
    resume: Resume | None = None,
    profile_steps: int | None = None,
    notify: Notify = silent,
) -> TrainResult:
    """Train on a block store and leave a run folder.

    Args:
        config: already checked.
        store_dir: a block store made for this config.
        run_dir: where the run goes; see `run_folder.check_free`.
        sampler: continues `samples.prompts`.
        reciter: continues the beginnings of documents that `samples.recite` asks for.
        measurer: measures general texts before and after; None for none.
        console: where progress is shown.
        overwrite: replace an earlier run in `run_dir`.
        resume: how to resume the run in `run_dir`, if there is one.
        profile_steps: how many steps to profile; None for none.
        notify: told in a sentence what happens next.

    Raises:
        ConfigError: settings that don't go together or aren't those of the run to resume, or a run
            folder in use.
        ModelError: the base model can't be read, doesn't fit the blocks, or can't mask documents
            from each other where it is asked to.
        RunError: the run folder can't be written, the disk is full, or training diverged.
        Interrupted: a signal ended it; what was trained is saved.
    """
    signals = Signals()
    with signals.listen(), _prepared(run_dir, config, notify) as log:
        earlier = _earlier(run_dir, resume, overwrite=overwrite)
        config = _as_computed(config, earlier or {})
        while True:
            with blaming_settings(config.training):
                run = TrainingRun(
                    config, store_dir=store_dir, run_dir=run_dir, signals=signals, notify=notify,
                    sampler=sampler, reciter=reciter, measurer=measurer,
                )  # fmt: skip
            try:
                run.begin(earlier, resume or Resume(), overwrite=overwrite)
                log.open()
                return run.finish(run.train(console, profile_steps=profile_steps))
            except torch.OutOfMemoryError as error:
                config, earlier = run.after_out_of_memory(error), run.facts
                resume = resume or Resume()
                resume = replace(resume, allow=(*resume.allow, *_BATCH_FIELDS))
            except (Interrupted, Exception) as error:
                ended = run.ended_by(blamed(error, config.training))
                if ended is error:
                    raise
                raise ended from error


def _earlier(run_dir: Path, resume: Resume | None, *, overwrite: bool) -> dict[str, Any] | None:
    """What run.json says of a run to resume; None to begin one, in a folder that is free."""
    earlier = read_facts(run_dir) if resume else None
    if earlier is None:
        run_folder.check_free(run_dir, overwrite=overwrite)
    return earlier


def _as_computed(config: Config, earlier: Mapping[str, Any]) -> Config:
    """The config of a run to resume: `bf16: auto` means what it meant when the run began."""
    begun = as_mapping(earlier.get("fingerprint"))
    if not is_open(without_auto(config.training), config.model.dtype):
        return config
    meant = {name: begun.get(f"training.{name}") for name in ("bf16", "fp16")}
    found = {name: value for name, value in meant.items() if isinstance(value, bool)}
    given = {name: value for name, value in found.items() if value or name == "bf16"}
    return config.model_copy(update={"training": {**config.training, **given}})


@contextmanager
def _prepared(run_dir: Path, config: Config, notify: Notify) -> Iterator[LibraryLog]:
    """For the block: a run folder that is held, no bars of libraries, and what they say in a log.

    Freed memory is kept for good.
    """
    prepare_process(config)
    log = library_log(run_dir, notify=notify)
    with run_folder.hold(run_dir), log as opened, tracking_in(run_dir, config.training):
        try_trackers(config.training, notify)
        yield opened


def prepare_process(config: Config) -> None:
    """Keep freed memory, and the libraries' own bars off the terminal."""
    if pick_device(use_cpu=bool(config.training.get("use_cpu"))).type == "cpu":
        keep_freed_memory()
    transformers_logging.disable_progress_bar()
