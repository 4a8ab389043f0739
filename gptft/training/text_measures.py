"""A model -> what it recites and how it does on texts, asked before and after training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gptft.console import Notify
from gptft.runs.documents import DocumentLosses
from gptft.runs.read import BeforeAfter
from gptft.runs.recital import Recital
from gptft.training.document_losses import DocumentLossKeeper
from gptft.training.general import GeneralTexts, Measurer
from gptft.training.recital import Recitals, Reciter
from gptft.training.setup import Setup


@dataclass(frozen=True)
class TextResults:
    """What came of it, by the names that `TrainResult` has.

    Attributes:
        recital: what the model recites of the training text, where it is asked to.
        general: on the general texts, by language, where they could be measured.
        documents: of some documents of the training text those whose loss fell least.
    """

    recital: Recital | None
    general: Mapping[str, BeforeAfter]
    documents: DocumentLosses | None


class TextMeasures:
    """All of it; training's random state and mode are left as they were."""

    def __init__(
        self,
        setup: Setup,
        *,
        recite: bool | int | None,
        reciter: Reciter,
        measurer: Measurer | None,
        notify: Notify,
    ) -> None:
        """Ask the model of `setup`; see `train_model` and `samples.recite`."""
        args, tokenizer = setup.trainer.args, setup.tokenizer
        self._model = setup.model
        self._recitals = Recitals(setup.passages(recite), reciter=reciter, tokenizer=tokenizer)
        measurer = None if args.deepspeed or args.fsdp else measurer
        self._general = GeneralTexts(measurer, tokenizer, notify)
        self._documents = DocumentLossKeeper(setup)

    def begin(self) -> None:
        """Ask the model before training."""
        self._recitals.begin(self._model)
        self._general.begin(self._model)
        self._documents.begin()

    def resume(self, before: Mapping[str, Any]) -> None:
        """Take up what was found before training, or find what wasn't.

        Args:
            before: of run.json; the model is as it was then.
        """
        self._recitals.resume(before, self._model)
        self._general.resume(before, self._model)
        self._documents.resume(before)

    def as_facts(self) -> dict[str, Any]:
        """What was found before training, for run.json."""
        return {
            "recital": self._recitals.as_facts(),
            "general": self._general.as_facts(),
            "documents": self._documents.as_facts(),
        }

    def finish(self) -> TextResults:
        """Ask the model after training, and compare."""
        return TextResults(
            self._recitals.finish(self._model),
            self._general.finish(self._model),
            self._documents.finish(),
        )
