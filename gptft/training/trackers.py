"""The trackers of report_to -> where they write, under what name, and what they get of ours.

Each writes into the run folder, apart from its checkpoints, and sends nothing anywhere: everything
of that only where the user set nothing.
"""

import logging
import math
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import integration_utils

from gptft.console import Notify, is_first_process
from gptft.errors import ConfigError

# Trackers that write files, each with the variable that says where (transformers 5.23, wandb 0.31,
# trackio 0.43); without it TensorBoard's events land among the checkpoints.
_VARIABLES = {
    "tensorboard": "TENSORBOARD_LOGGING_DIR",
    "trackio": "TRACKIO_DIR",
    "wandb": "WANDB_DIR",
}
_QUIET = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}  # it asks for a key, and advertises
_SAME_RUN = ("WANDB_RUN_ID", "WANDB_RESUME")
_SHOWN_PROMPT = 40  # characters of a prompt in the name of a sample
_logger = logging.getLogger(__name__)


@contextmanager
def tracking_in(run_dir: Path, training: Mapping[str, Any]) -> Iterator[None]:
    """Let trackers write into a folder of their own each, where nobody says another place.

    Args:
        run_dir: the run's folder; each makes its own in `trackers/` when it writes.
        training: its `report_to` names them; `all` stands for each that is installed.
    """
    named = trackers_of(training)
    wanted = {
        variable: str(run_dir / "trackers" / name)
        for name, variable in _VARIABLES.items()
        if named & {name, "all"}
    }
    if named & {"wandb", "all"}:
        wanted |= _QUIET
    owned = (*wanted, *_SAME_RUN)
    before = {variable: os.environ.get(variable) for variable in owned}
    os.environ.update({name: value for name, value in wanted.items() if name not in os.environ})
    try:
        yield
    finally:
        for variable, value in before.items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value


def trackers_of(training: Mapping[str, Any]) -> set[str]:
    """The trackers that a `training` section names, `all` among them."""
    named = training.get("report_to") or ()
    return ({named} if isinstance(named, str) else {*named}) - {"none"}


def try_trackers(training: Mapping[str, Any], notify: Notify) -> None:
    """Load each tracker and look whether it can write, before anything else takes time.

    To be called within `tracking_in`.

    Args:
        training: its `report_to` names them.
        notify: told where each writes.

    Raises:
        ConfigError: one can't be used.
    """
    named = trackers_of(training)
    if "all" in named:
        named = {*integration_utils.get_available_reporting_integrations()}
    if not is_first_process():
        return
    for name in sorted(named):
        try:
            integration_utils.INTEGRATION_TO_CALLBACK[name]()
            if name == "wandb":
                _check_key()
        except Exception as error:  # each has errors of its own
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(
                f"training.report_to: {name} can't be used: {said}. Mend that, or leave it out."
            ) from error
        if name in _VARIABLES:
            notify(_place(name))


def _check_key() -> None:
    """Refuse to send runs to wandb without a key: it would ask for one, or fail once it begins."""
    if os.environ.get("WANDB_MODE", "online") != "online" or os.environ.get("WANDB_API_KEY"):
        return
    wandb: Any = sys.modules["wandb"]
    if not wandb.api.api_key:
        raise ValueError("WANDB_MODE is online, and there is no key. Log in: wandb login")


def _place(name: str) -> str:
    """Where a tracker writes.

    Raises:
        ConfigError: nothing can be written there.
    """
    folder = Path(os.environ[_VARIABLES[name]]).expanduser()
    there = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ConfigError(
            f"training.report_to: {name} can't write to {folder}: {there} is no folder that can be "
            f"written. Set {_VARIABLES[name]} to another."
        )
    mode = os.environ.get("WANDB_MODE")
    offline = f" ({mode}; WANDB_MODE=online sends it)" if name == "wandb" and mode else ""
    return f"{name} writes to {folder}{offline}."


def tracker_facts(run_dir: Path, training: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json keeps, so that a run that is resumed is the same one to its trackers."""
    if not trackers_of(training):
        return {}
    name = f"{run_dir.name}-{secrets.token_hex(4)}"
    return {"trackers": {"run_name": training.get("run_name") or name, "id": secrets.token_hex(4)}}


def name_run(args: TrainingArguments, facts: Mapping[str, Any]) -> None:
    """Let trackers begin the run, or go on with it, by what `tracker_facts` gave.

    To be called within `tracking_in`.
    """
    known = facts.get("trackers")
    if not isinstance(known, Mapping):
        return
    if vars(args).get("trackio_static_space_id", False) is None:
        args.trackio_static_space_id = False  # else a public page of the hub, at push_to_hub
    if args.run_name is None:
        args.run_name = known.get("run_name")
    if "WANDB_RUN_ID" not in os.environ and isinstance(known.get("id"), str):
        os.environ["WANDB_RUN_ID"] = known["id"]
        os.environ.setdefault("WANDB_RESUME", "allow")


def add_perplexity(logs: MutableMapping[str, Any]) -> None:
    """What a log step's loss is as perplexity, for those who draw it."""
    loss = logs.get("loss")
    if isinstance(loss, float) and loss < 700:  # beyond it exp overflows
        logs["perplexity"] = math.exp(loss)


def track_samples(
    callbacks: Iterable[TrainerCallback],
    prompts: Sequence[str],
    texts: Sequence[str],
    *,
    step: int,
) -> None:
    """Give samples to the trackers that take text; one that fails ends no training.

    Args:
        callbacks: of the Trainer, trackers among them.
        prompts: what was continued.
        texts: how.
        step: of the model that did.
    """
    for callback in callbacks:
        track = _TAKES_TEXT.get(type(callback).__name__)
        if track is None:
            continue
        try:
            track(callback, [*zip(prompts, texts, strict=True)], step)
        except Exception as error:  # each has errors of its own
            _logger.warning("samples of step %d weren't tracked: %r", step, error)


def _to_tensorboard(callback: Any, samples: Sequence[tuple[str, str]], step: int) -> None:
    for number, (prompt, text) in enumerate(samples, start=1):
        # Text there is Markdown; indented by four spaces it is shown as it is.
        shown = "\n".join(f"    {line}" for line in f"{prompt}{text}".splitlines())
        callback.tb_writer.add_text(_name(number, prompt), shown, step)
    callback.tb_writer.flush()


def _to_wandb(callback: Any, samples: Sequence[tuple[str, str]], step: int) -> None:
    wandb: Any = sys.modules["wandb"]
    rows = [[step, prompt, text] for prompt, text in samples]
    table = wandb.Table(columns=["step", "prompt", "continuation"], data=rows)
    wandb.log({"samples": table, "train/global_step": step})


def _to_trackio(callback: Any, samples: Sequence[tuple[str, str]], step: int) -> None:
    trackio: Any = sys.modules["trackio"]
    texts = {_name(n, prompt): f"{prompt}{text}" for n, (prompt, text) in enumerate(samples, 1)}
    trackio.log({**texts, "train/global_step": step})


def _name(number: int, prompt: str) -> str:
    r"""A name that folders and pages can bear.

    >>> _name(1, "Мороз / и\nсолнце")
    'samples/1 Мороз   и солнце'
    """
    letters = "".join(mark if mark.isalnum() else " " for mark in prompt[:_SHOWN_PROMPT])
    return f"samples/{number} {letters}".strip()


_TAKES_TEXT = {
    "TensorBoardCallback": _to_tensorboard,
    "WandbCallback": _to_wandb,
    "TrackioCallback": _to_trackio,
}
