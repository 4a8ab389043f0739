"""Token ids as `generate` hands them over -> the text, shown while it is generated.

Synchronous: no thread, so that an error or Ctrl-C ends it like any other code.
"""

from collections.abc import Callable, Collection

import torch
from transformers import PreTrainedTokenizerBase
from transformers.generation.streamers import BaseStreamer

from gptft.decoding.encoding import continuation


class TextStreamer(BaseStreamer):
    """Hands on the prompt, then each stretch of the continuation that has whole characters."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompt: str,
        eos_token_ids: Collection[int],
        on_text: Callable[[str], None],
    ) -> None:
        """Tell `on_text` of `prompt` and what follows it, up to one of `eos_token_ids`."""
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._eos_token_ids = frozenset(eos_token_ids)
        self._on_text = on_text
        self._prompt_ids: list[int] | None = None
        self._new_ids: list[int] = []
        self._num_shown = 0

    def put(self, value: torch.Tensor) -> None:
        """Take the ids of the prompt, shape (1, T), at first, then those of each step, shape (1,).

        A byte-level token may end in the middle of a character: it waits for the rest.
        """
        ids = value.flatten().tolist()
        if self._prompt_ids is None:
            self._prompt_ids = ids
            self._on_text(self._prompt)
            return
        self._new_ids += [i for i in ids if i not in self._eos_token_ids]
        text = continuation(self._tokenizer, self._prompt_ids, self._new_ids)
        if len(text) > self._num_shown:
            self._on_text(text[self._num_shown :])
            self._num_shown = len(text)

    def end(self) -> None:
        """Nothing is left to show: bytes still waiting are no character."""
