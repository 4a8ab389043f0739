"""Some documents of the training text -> how far the loss of each fell, and which fell least."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gptft.console import stage
from gptft.data.document_sample import SampledDocument, sample_documents
from gptft.runs.documents import DocumentLoss, DocumentLosses, fell_least
from gptft.runs.read import as_float
from gptft.terminal.words import count
from gptft.tokenization.token_bytes import TokenBytes
from gptft.training.dataset import IGNORED, collate_blocks
from gptft.training.evaluation import row_losses
from gptft.training.setup import Setup

_BATCH_TOKENS = 1_024  # padding included
_START_TOKENS, _START_CHARACTERS = 60, 160  # of a document that are shown


class DocumentLossKeeper:
    """Measures the same documents before and after training."""

    def __init__(self, setup: Setup) -> None:
        """Pick documents of the training text; none where several processes train a model."""
        self._setup = setup
        self._documents: Sequence[SampledDocument] = ()
        self._before: list[float] = []
        if setup.trainer.args.world_size == 1:
            self._documents = sample_documents(
                setup.store,
                eos_token_id=int(setup.ledger.get("eos_token_id", -1)),
                bos=tuple(setup.ledger.get("bos_token_ids", ())),
            )

    def begin(self) -> None:
        """Measure the model before training."""
        self._before = self._measure()

    def resume(self, before: Mapping[str, Any]) -> None:
        """Take up what was measured before training; else measure, the model being as it was then.

        Args:
            before: what run.json has of before training.
        """
        kept = before.get("documents")
        losses = [as_float(one) for one in kept] if isinstance(kept, list) else []
        known = [loss for loss in losses if loss is not None]
        if len(known) == len(self._documents):
            self._before = known
        else:
            self.begin()

    def as_facts(self) -> list[float]:
        """The losses before training, for run.json."""
        return self._before

    def finish(self) -> DocumentLosses | None:
        """Measure the model after training, and compare; None where there is nothing to."""
        if not self._documents:
            return None
        written = TokenBytes.of(self._setup.tokenizer.backend_tokenizer)
        rows = zip(self._documents, self._before, self._measure(), strict=True)
        return fell_least(
            [
                DocumentLoss(_start(document, written), document.num_predicted, before, after)
                for document, before, after in rows
            ]
        )

    def _measure(self) -> list[float]:
        """The loss of each document alone, in nats a predicted token.

        The model's mode and the random state are left as they were.
        """
        trainer, model = self._setup.trainer, self._setup.model
        devices = [trainer.args.device] if trainer.args.device.type == "cuda" else []
        was_training = model.training
        losses = [0.0] * len(self._documents)
        doing = f"Measuring {count(len(self._documents), 'document')}, each alone"
        with stage(doing), torch.random.fork_rng(devices=devices):
            model.eval()
            try:
                for places in self._batches():
                    ids = [self._documents[place].ids.astype("int64") for place in places]
                    batch = collate_blocks([torch.from_numpy(one) for one in ids])
                    for row, place in enumerate(places):
                        if (trained := self._documents[place].trained) is not None:
                            labels = batch["labels"][row, : len(trained)]
                            labels[~torch.from_numpy(trained)] = IGNORED
                    sums, counts = row_losses(trainer, model, batch)
                    for place, total, number in zip(places, sums, counts, strict=True):
                        losses[place] = float(total) / max(int(number), 1)
            finally:
                model.train(was_training)
        return losses

    def _batches(self) -> list[list[int]]:
        """Places of documents, those of like length together."""
        batches: list[list[int]] = []
        longest = 0
        for place in sorted(
            range(len(self._documents)), key=lambda n: -len(self._documents[n].ids)
        ):
            if not batches or (len(batches[-1]) + 1) * longest > _BATCH_TOKENS:
                batches.append([])
                longest = len(self._documents[place].ids)
            batches[-1].append(place)
        return batches


def _start(document: SampledDocument, written: TokenBytes) -> str:
    raws = written.of_ids(document.text_ids[:_START_TOKENS].tolist())
    return b"".join(raws).decode(errors="ignore")[:_START_CHARACTERS]
