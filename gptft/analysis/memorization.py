"""A run and texts its model wrote -> how much of them is copied from the text it was trained on.

A share is no verdict by itself: short n-grams are common property, and new text, too, has many of
its 4-grams in common with a large corpus of its kind. What new text shares is therefore the measure
of what a model's text shares. Where the run held a part of its text out, excerpts of it as long as
the texts are measured in the same way: a text with longer spans and more 8-grams and 16-grams than
those have was memorized in part. Where nothing was held out, spans of a dozen tokens and more still
say so; shares of 4-grams say nothing.

Source: McCoy et al. 2021, "How much do language models copy from their training data?"
(2111.09509), for n-gram novelty and its comparison with held-out text; Carlini et al. 2022
(2202.07646) for verbatim spans.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gptft.analysis.ngram_search import SIZES, Copied
from gptft.analysis.run_names import StartingPlace
from gptft.analysis.span_places import Place
from gptft.analysis.training_text import EncodedText, TrainingText, WrittenText
from gptft.console import Notify, silent, stage
from gptft.errors import ConfigError, GptftError, RunError
from gptft.files import JsonFields
from gptft.models.adapters import base_of, is_adapter
from gptft.models.hub import find_folder
from gptft.models.model_files import ModelFiles
from gptft.models.source import resolve_model
from gptft.runs.read import read_facts


@dataclass(frozen=True)
class CopiedStretch:
    """A stretch of a text all of which is in 4-grams of the training text.

    Attributes:
        start_character: offset in prompt and continuation, in code points.
        end_character: offset one past its last character.
        num_tokens: its tokens.
    """

    start_character: int
    end_character: int
    num_tokens: int


@dataclass(frozen=True)
class TextMemorization(JsonFields):
    """How much of one text is copied.

    Attributes:
        text: what was measured.
        num_tokens: of its continuation.
        copied: what of them stands in the training text.
        quote: the longest span, as it stands in the text.
        place: where that span stands first; None where there is none.
        start_character: where the span begins in prompt and continuation, in code points.
        stretches: of the text in 4-grams that stand in the training text.
    """

    text: WrittenText
    num_tokens: int
    copied: Copied
    quote: str
    place: Place | None
    start_character: int = 0
    stretches: tuple[CopiedStretch, ...] = ()

    @classmethod
    def of(
        cls, text: WrittenText, encoded: EncodedText, copied: Copied, place: Place | None
    ) -> "TextMemorization":
        """What was found of a text."""
        span = (copied.start, copied.start + copied.longest)
        (start, _), *_ = encoded.characters([span] if copied.longest else []) or [(0, 0)]
        found = zip(copied.stretches, encoded.characters(copied.stretches), strict=True)
        stretches = tuple(CopiedStretch(*places, stop - first) for (first, stop), places in found)
        quote = encoded.quote(copied.start, copied.longest)
        return cls(text, len(encoded.ids), copied, quote, place, start, stretches)

    def json_fields(self) -> dict[str, Any]:
        """Prompt, continuation, the longest span and the shares, by their names in JSON."""
        where = vars(self.place) if self.place else dict.fromkeys(Place.__dataclass_fields__)
        return {
            **vars(self.text),
            "num_tokens": self.num_tokens,
            "longest": {
                "num_tokens": self.copied.longest,
                "num_characters": len(self.quote),
                "text": self.quote,
                "start_character": self.start_character if self.copied.longest else None,
                "num_places": self.copied.num_places,
                "place_in_stream": self.copied.place_in_stream,
                **where,
            },
            "shares": self.copied.shares,
            "copied": self.stretches,
        }


@dataclass(frozen=True)
class MemorizationSummary:
    """How much of several texts is copied.

    Attributes:
        num_texts: how many there are.
        num_tokens: of all together.
        longest: tokens of the longest span copied.
        median_longest: the median over the texts of each one's longest span.
        shares: by n, of all their n-grams together; None where there are none.
    """

    num_texts: int
    num_tokens: int
    longest: int
    median_longest: float
    shares: dict[int, float | None]

    @classmethod
    def of(cls, copies: Sequence[Copied], *, num_tokens: int) -> "MemorizationSummary":
        """Add up one or more texts."""
        totals = {n: sum(copied.ngrams[n] for copied in copies) for n in SIZES}
        found = {n: sum(copied.found[n] for copied in copies) for n in SIZES}
        lengths = [copied.longest for copied in copies]
        shares = {n: found[n] / total if total else None for n, total in totals.items()}
        return cls(len(copies), num_tokens, max(lengths), float(median(lengths)), shares)


@dataclass(frozen=True)
class Memorization(JsonFields):
    """How much of what a run's model wrote is copied.

    Attributes:
        run_dir: the run.
        num_training_tokens: that the texts were compared with.
        texts: each text.
        summary: of all texts.
        held_out: the same of text the model never saw; None where the run held none out.
        held_out_duplicates: held-out documents that stand in the training split as well.
        why_no_files: why no file is named, in a sentence; None where they are.
    """

    run_dir: Path
    num_training_tokens: int
    texts: tuple[TextMemorization, ...]
    summary: MemorizationSummary
    held_out: MemorizationSummary | None
    held_out_duplicates: int
    why_no_files: str | None

    def json_fields(self) -> dict[str, Any]:
        """The fields; the summary of all texts is "all" in JSON."""
        return {"all" if name == "summary" else name: value for name, value in vars(self).items()}


def measure_memorization(
    run_dir: Path, texts: Sequence[WrittenText], *, notify: Notify = silent
) -> Memorization:
    """Measure how much of what a run's model wrote is copied from its training text.

    Args:
        run_dir: the run.
        texts: at least one.
        notify: told in a sentence what a user should know.

    Raises:
        ConfigError: a text is no Unicode.
        RunError: the run's training text isn't available.
    """
    training = TrainingText.open_run(run_dir, notify=notify)
    encoded = [training.encode(text) for text in texts]
    lengths = [len(one.ids) for one in encoded]
    excerpts = training.held_out_excerpts(length=round(sum(lengths) / len(lengths)))
    with stage("Looking for copies in the training text"):
        copies = training.copies([*(one.ids for one in encoded), *excerpts])
    ours, theirs = copies[: len(texts)], copies[len(texts) :]
    places, why_no_files = training.places(ours)
    measured = [
        TextMemorization.of(text, one, copied, place)
        for text, one, copied, place in zip(texts, encoded, ours, places, strict=True)
    ]
    num_held_out = sum(map(len, excerpts))
    held_out = MemorizationSummary.of(theirs, num_tokens=num_held_out) if theirs else None
    return Memorization(
        run_dir=run_dir,
        num_training_tokens=training.num_tokens,
        texts=tuple(measured),
        summary=MemorizationSummary.of(ours, num_tokens=sum(lengths)),
        held_out=held_out,
        held_out_duplicates=int(training.ledger.get("held_out_duplicates", 0)) if held_out else 0,
        why_no_files=why_no_files,
    )


def training_text_of(model_name: str, *, notify: Notify = silent) -> TrainingText | None:
    """The training text of a model, where it is a run whose text is available.

    Args:
        model_name: of any model.
        notify: told why a run's text isn't available.
    """
    if read_facts(Path(model_name)) is None:
        return None
    try:
        return TrainingText.open_run(Path(model_name), notify=notify)
    except RunError as error:
        notify(str(error))
        return None


def base_model_of(model_name: str) -> str | None:
    """What a run or an adapter was tuned from, where it can still be found; None for others."""
    facts = read_facts(Path(model_name))
    try:
        if facts is None and is_adapter(Path(model_name)):
            own = ModelFiles(model_name, Path(model_name))
            return base_of(own, lambda name, at: find_folder(name, revision=at), before=[]).name
        base = facts["config"]["model"]["name"] if facts else None
        if facts is None or not isinstance(base, str):
            return None
        base = StartingPlace.of(Path(model_name), facts).model(base)
        return base if resolve_model(base) is not None else None
    except (KeyError, TypeError, GptftError):
        return None


def model_beside(model_name: str, named: str) -> str:
    """The model that a person names beside another: "base" is what that one was tuned from.

    Raises:
        ConfigError: it is no run and no adapter, or its base can't be found.
    """
    if named != "base" or Path(named).exists():
        return named
    if (found := base_model_of(model_name)) is None:
        raise ConfigError(
            f"{model_name} is no run and no adapter whose base can be found. Name the model to "
            "compare it with."
        )
    return found
