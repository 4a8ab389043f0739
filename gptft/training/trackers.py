"""The trackers of report_to -> where in the run folder they write, apart from its checkpoints."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Trackers that write files, each with the variable that says where (transformers 5.23, wandb 0.31,
# trackio 0.43); without it TensorBoard's events land among the checkpoints.
_VARIABLES = {
    "tensorboard": "TENSORBOARD_LOGGING_DIR",
    "trackio": "TRACKIO_DIR",
    "wandb": "WANDB_DIR",
}


@contextmanager
def tracking_in(run_dir: Path, training: Mapping[str, Any]) -> Iterator[None]:
    """Let trackers write into a folder of their own each, where nobody says another place.

    Args:
        run_dir: the run's folder; each makes its own in `trackers/` when it writes.
        training: its `report_to` names them; `all` stands for each that is installed.
    """
    named = training.get("report_to") or ()
    named = {named} if isinstance(named, str) else {*named}
    places = {
        variable: str(run_dir / "trackers" / name)
        for name, variable in _VARIABLES.items()
        if named & {name, "all"} and variable not in os.environ
    }
    os.environ.update(places)
    try:
        yield
    finally:
        for variable in places:
            os.environ.pop(variable, None)
