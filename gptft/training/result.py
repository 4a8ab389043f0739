"""What a run did: its figures before and after training, and the prompts it continued."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gptft.files import JsonFields
from gptft.runs.documents import DocumentLosses
from gptft.runs.held_out import BestStep
from gptft.runs.model_folder import MODEL
from gptft.runs.read import BeforeAfter, Sample
from gptft.runs.recital import Recital


@dataclass(frozen=True)
class TrainResult(JsonFields):
    """What a run did.

    Attributes:
        run_dir: its folder.
        steps: optimizer updates.
        planned_steps: of the run, had it gone to its end.
        is_memorized: whether it ended since every token of the text was memorized.
        model_step: the step that the model kept is of: the last, or that of the best checkpoint.
        seconds: of training itself.
        num_tokens: trained on, every epoch counted.
        num_text_tokens: of the training text, which are those of one epoch.
        train: on the training part, or 64 blocks spread over a longer one.
        validation: on the validation part, where there is one.
        best: where the loss on the validation part was lowest.
        samples: prompts with their continuations.
        recital: what the model recites of the training text, where it is asked to.
        general: on the general texts, by language, where they could be measured.
        documents: of some documents of the training text those whose loss fell least.
        remarks: sentences on what became worse, and what to change.
        model_folder: the name of the folder in the run's that holds the model.
        is_chat: whether it was tuned to answer, by a chat template.
        averaged: how the model kept is a mean of weights, by `ema_decay` or of `checkpoints`, their
            steps; None where it isn't one.
        ended: why training ended: `steps`, all were made; `memorized`; `early_stopping`.
        without_improvement: evaluations before an early end that had not lowered held-out loss.
    """

    run_dir: Path
    steps: int
    planned_steps: int
    is_memorized: bool
    model_step: int
    seconds: float
    num_tokens: int
    num_text_tokens: int
    train: BeforeAfter
    validation: BeforeAfter | None
    best: BestStep | None
    samples: tuple[Sample, ...]
    recital: Recital | None = None
    general: Mapping[str, BeforeAfter] = field(default_factory=dict)
    documents: DocumentLosses | None = None
    remarks: tuple[str, ...] = ()
    model_folder: str = MODEL
    is_chat: bool = False
    averaged: Mapping[str, Any] | None = None
    ended: str = "steps"
    without_improvement: int | None = None

    json_names = (
        "run_dir", "model_dir", "steps", "planned_steps", "is_memorized", "ended",
        "without_improvement", "averaged", "model_step", "seconds",
        "num_tokens", "text_share", "tokens_per_second", "train", "validation", "best",
        "samples", "recital", "general", "documents",
    )  # fmt: skip
    json_digits: ClassVar = {"seconds": 2, "text_share": 6, "tokens_per_second": 1}

    @property
    def model_dir(self) -> Path:
        """The folder that transformers opens, or peft where nothing is merged."""
        return self.run_dir / self.model_folder

    @property
    def text_share(self) -> float:
        """How much of the training text was seen: 1 is one epoch."""
        return self.num_tokens / max(self.num_text_tokens, 1)

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on a second."""
        return self.num_tokens / max(self.seconds, 1e-9)
