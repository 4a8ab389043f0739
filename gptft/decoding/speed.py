"""A model that is watched while it generates -> how fast it was, and how often it was called.

Only calls of the very model count: those of a draft model, or of a view of its first layers, don't.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from gptft.decoding.engine import Generated
from gptft.files import JsonFields
from gptft.models.load import context_of
from gptft.terminal.words import count, percent


@dataclass(frozen=True)
class Speed(JsonFields):
    """How fast texts were generated.

    Attributes:
        num_tokens: new ones, an EOS that ended a text among them; of the texts that were returned.
        seconds: from the prompt as text to the text.
        seconds_to_first_token: to the end of the model's first call, the draft before it included.
        model_calls: of the model, for whatever reason: a second prompt (guidance) and the scoring
            of candidates count, too; a batch is one call.
        draft_acceptance: drafted tokens that were kept by all that were drafted; None where nothing
            was, or where a window slid over the text.
    """

    json_names = (
        "tokens_per_s", "seconds", "seconds_to_first_token", "model_calls", "tokens_per_call",
        "draft_acceptance",
    )  # fmt: skip

    num_tokens: int
    seconds: float
    seconds_to_first_token: float
    model_calls: int
    draft_acceptance: float | None

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second, the reading of the prompt included."""
        return self.num_tokens / self.seconds

    @property
    def tokens_per_call(self) -> float:
        """Tokens a call of the model: 1 for greedy, above 1 where drafts were kept."""
        return self.num_tokens / self.model_calls if self.model_calls else 0.0

    def sentence(self) -> str:
        """All of it in a line.

        >>> Speed(60, 0.5, 0.02, 20, 0.8).sentence()
        '60 tokens in 0.50 s: 120.0 a second, first after 0.020 s; 3.00 a call, 80% of drafts kept'
        """
        share = self.draft_acceptance
        kept = "" if share is None else f", {percent(share, decimals=0)} of drafts kept"
        first = self.seconds_to_first_token
        return (
            f"{count(self.num_tokens, 'token')} in {self.seconds:.2f} s: "
            f"{self.tokens_per_s:,.1f} a second, first after {first:.3f} s; "
            f"{self.tokens_per_call:.2f} a call{kept}"
        )


class SpeedMeter:
    """Watches a model from the beginning of a `with` block to its end."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Watch nothing yet."""
        self._model = model
        self._handles: list[RemovableHandle] = []
        self._lengths: list[int] = []  # of the input of each call, in tokens
        self._start = self._first = self._end = 0.0

    def __enter__(self) -> "SpeedMeter":
        """Begin to count."""

        # A view of the first layers is a copy of the model, hooks included.
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if module is self._model:
                self._lengths.append(_input_length(args, kwargs))

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if module is self._model and not self._first:
                self._first = self._now()

        self._handles = [
            self._model.register_forward_pre_hook(before, with_kwargs=True),
            self._model.register_forward_hook(after),
        ]
        self._lengths = []
        self._first = self._end = 0.0
        self._start = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop counting, and leave the model as it was."""
        self._end = self._now()
        for handle in self._handles:
            handle.remove()

    @property
    def num_calls(self) -> int:
        """Calls of the model so far."""
        return len(self._lengths)

    @property
    def input_lengths(self) -> tuple[int, ...]:
        """By call, how many tokens the model was given, padding included."""
        return tuple(self._lengths)

    def speed(self, texts: Sequence[Generated]) -> Speed:
        """How fast `texts`, all that was generated while the model was watched, were generated."""
        num_tokens = sum(map(_num_generated, texts))
        to_first = max(self._first - self._start, 0.0)
        acceptance = self._acceptance(texts, num_tokens)
        return Speed(num_tokens, self._end - self._start, to_first, self.num_calls, acceptance)

    def _acceptance(self, texts: Sequence[Generated], num_tokens: int) -> float | None:
        """The share of drafted tokens that were kept.

        A text's first call reads the prompt and a draft, each later one the last token and a
        draft; each call adds one token of the model's own to what it keeps of the draft.
        """
        context = context_of(self._model)
        for text in texts:
            settings = text.settings
            drafts = settings.row.draft is not None or settings["prompt_lookup_num_tokens"]
            fits = context is None or len(text.prompt_ids) + _num_generated(text) - 1 <= context
            if not drafts or not fits:
                return None
        prompts = sum(len(text.prompt_ids) for text in texts)
        drafted = sum(self._lengths) - prompts - (self.num_calls - len(texts))
        return max(num_tokens - self.num_calls, 0) / drafted if drafted > 0 else None

    def _now(self) -> float:
        """The time in seconds once the device has finished its work."""
        if self._model.device.type != "cpu":
            torch.accelerator.synchronize(self._model.device)
        return time.perf_counter()


def _input_length(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """T of a model's input: ids of shape (B, T), or embeddings of shape (B, T, C)."""
    given = [kwargs.get("input_ids"), kwargs.get("inputs_embeds"), *args[:1]]
    return next((int(t.shape[1]) for t in given if isinstance(t, torch.Tensor)), 0)


def _num_generated(text: Generated) -> int:
    return text.num_new_tokens + (text.stopped == "eos")
