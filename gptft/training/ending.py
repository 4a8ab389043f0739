"""Why a run's training ends, as it ends, in its checkpoints, and in its result."""

from collections.abc import Callable, Mapping
from typing import Any

from gptft.runs.checkpoints import Checkpoint
from gptft.runs.endings import EARLY, MEMORIZED
from gptft.training.early_stopping import EarlyStopping, Losses, without_improvement

KNOWN = 0.9  # probability of a token that is memorized


class Ending:
    """Whether training has ended before its last step, and why.

    Attributes:
        is_memorized: since every token of the text was memorized.
        is_early: since held-out loss fell no more.
        early_stopping: by which losses it ends, or None.
    """

    def __init__(
        self, early_stopping: EarlyStopping | None, *, losses: Callable[[], Losses]
    ) -> None:
        """End as `early_stopping` has it, by the evaluations so far."""
        self.is_memorized = self.is_early = False
        self.early_stopping, self._losses = early_stopping, losses

    @property
    def _num_without_improvement(self) -> int:
        threshold = 0.0 if self.early_stopping is None else self.early_stopping.threshold
        return without_improvement(self._losses(), threshold=threshold)

    @property
    def why(self) -> str:
        """Why training ended early, in sentences; empty where it didn't."""
        if self.is_memorized:
            return f"every token of the text has p >= {KNOWN:g}, nothing is left to learn."
        if self.is_early and self.early_stopping is not None:
            return self.early_stopping.words(self._losses())
        return ""

    def look(self) -> bool:
        """Whether training is to end after the evaluations so far, which is kept in mind."""
        self.is_early = self.early_stopping is not None and self.early_stopping.is_due(
            self._losses()
        )
        return self.is_early

    def as_notes(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "memorized": self.is_memorized,
            "without_improvement": self._num_without_improvement,
        }

    def as_result(self) -> dict[str, Any]:
        """What the result of the run says of it."""
        if self.is_memorized:
            return {"ended": MEMORIZED}
        if self.is_early:
            return {"ended": EARLY, "without_improvement": self._num_without_improvement}
        return {"ended": "steps"}

    def came_with(self, checkpoint: Checkpoint, training: Mapping[str, Any]) -> bool:
        """Whether training ended early with a checkpoint, by the settings as they are now."""
        notes = checkpoint.notes
        if training.get("stop_when_memorized") and notes.get("memorized"):
            return True
        if self.early_stopping is None or notes.get("evaluation_due"):
            return False
        return int(notes.get("without_improvement", 0)) >= self.early_stopping.patience
