"""Stop strings: ids as they grow -> which texts hold one, and a text cut before it."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from gptft.decoding.encoding import continuation


class StopTexts(StoppingCriteria):
    """Ends a text once its continuation holds a stop string, wherever its tokens begin and end."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        *,
        prompts: Sequence[Sequence[int]],
        prompt_length: int,
    ) -> None:
        """Look for `texts` in what follows `prompts`.

        Args:
            tokenizer: of the model.
            texts: any of them ends a text.
            prompts: the ids of each prompt, without padding.
            prompt_length: of the batch, padding included.
        """
        self._tokenizer, self._texts = tokenizer, tuple(texts)
        self._prompts, self._prompt_length = prompts, prompt_length

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: object
    ) -> torch.BoolTensor:
        """Which texts are finished, shape (B,)."""
        rows = len(input_ids) // len(self._prompts)
        new = input_ids[:, self._prompt_length :].tolist()
        done = [
            any(
                text in continuation(self._tokenizer, self._prompts[i // rows], ids)
                for text in self._texts
            )
            for i, ids in enumerate(new)
        ]
        return torch.tensor(done, device=input_ids.device)  # type: ignore[return-value]


def cut_at(text: str, stop_strings: Sequence[str]) -> str:
    r"""The text before the first of the stop strings in it.

    >>> cut_at("Paris.\nQ: And", ["\nQ:", "\n\n"])
    'Paris.'
    """
    places = [place for stop in stop_strings if (place := text.find(stop)) >= 0]
    return text[: min(places, default=len(text))]
