"""A run folder -> all that `gptft runs show` says of it, read and never written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.inputs import is_file, is_folder, near_names
from gptft.runs.documents import DocumentLosses, document_losses_of
from gptft.runs.find import cannot_read, find_runs
from gptft.runs.held_out import held_out_curve
from gptft.runs.read import BeforeAfter, Point, Run, look_at_run
from gptft.runs.settings import given_settings
from gptft.runs.status import RunStatus, status_of
from gptft.terminal.commands import command_line, path_word

_MOST_NAMED = 3


@dataclass(frozen=True)
class ShownRun(JsonFields):
    """What a run folder says, as far as it can be read.

    Attributes:
        status: how it stands.
        run: what it holds.
        problems: a sentence for each log that can't be read.
    """

    status: RunStatus
    run: Run
    problems: tuple[str, ...]

    json_names = (
        "status", "created", "finished", "settings", "train", "validation", "general", "curves",
        "documents", "samples", "unreadable", "problems",
    )  # fmt: skip

    @property
    def created(self) -> str | None:
        """When it began."""
        return _text(self.run.facts.get("created"))

    @property
    def finished(self) -> str | None:
        """When it was done."""
        return _text(self.run.facts.get("finished"))

    @property
    def settings(self) -> dict[str, str]:
        """The settings that aren't defaults."""
        return given_settings(self.run.facts)

    @property
    def train(self) -> BeforeAfter | None:
        """The figures of the training text."""
        return self.run.train

    @property
    def validation(self) -> BeforeAfter | None:
        """The figures of the held-out text."""
        return self.run.validation

    @property
    def general(self) -> dict[str, BeforeAfter]:
        """The figures of the general texts, by language."""
        return self.run.general

    @property
    def curves(self) -> dict[str, list[Point]]:
        """Pairs of a step and a loss, by what was measured."""
        return {"training loss": self.run.curve("loss"), "held-out loss": held_out_points(self.run)}

    @property
    def documents(self) -> DocumentLosses | None:
        """The documents of the training text whose loss fell least."""
        return document_losses_of(self.run.facts)

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Every prompt with its last continuation, and the step of the model that wrote it."""
        return [
            {
                "prompt": sample.prompt,
                "step": self.run.sample_step(sample.texts[-1][0]),
                "continuation": sample.after,
            }
            for sample in self.run.samples
        ]

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Lines of logs that hold nothing, such as the last of a killed process."""
        return self.run.unreadable


def held_out_points(run: Run) -> list[Point]:
    """Held-out loss by step; see `held_out_curve`."""
    return held_out_curve(run.curve("eval_loss"), run.validation, model_step=run.model_step)


def show_run(run_dir: Path) -> ShownRun:
    """Read a run, whatever its state, and whatever is damaged in it.

    Raises:
        ConfigError: there is no run in that folder, or it can't be read.
    """
    require_run(run_dir)
    try:
        status = status_of(run_dir)
    except OSError as error:
        raise ConfigError(f"{run_dir} {cannot_read(error)}.") from None
    run, problems = look_at_run(run_dir)
    return ShownRun(status, run, tuple(problems))


def require_run(run_dir: Path) -> None:
    """Refuse what is no run.

    Raises:
        ConfigError: there is no such folder, or no run.json in it; with the runs it may mean.
    """
    try:
        if run_dir.joinpath("run.json").exists():
            return
    except (OSError, ValueError):
        pass  # the listing below says why
    if is_file(run_dir):
        raise ConfigError(f"{run_dir} is a file, not a run. Name the folder of a run.")
    if not is_folder(run_dir):
        near = near_names(run_dir, within=("runs",))
        raise ConfigError(
            f"{run_dir}: no such run.{near or ' `gptft runs` lists those below runs/.'}"
        )
    below, _ = find_runs(run_dir)
    hint = "Give the folder that `gptft train` wrote."
    if below:
        named = " or ".join(str(path) for path in below[:_MOST_NAMED])
        listing = command_line("runs", path_word(run_dir))
        hint = f"Below it are runs: name one, such as {named} (`{listing}` lists them)."
    raise ConfigError(f"{run_dir} is no run: there is no run.json in it. {hint}")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
