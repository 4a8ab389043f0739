"""A matcher and a tokenizer -> a logits processor that leaves only what may follow a text.

EOS is left where the text is complete.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from gptft.decoding.define import BatchContext
from gptft.decoding.encoding import explained
from gptft.decoding.matchers import Matcher, Vocabulary, vocabulary_of
from gptft.errors import ConfigError

_KEPT_MASKS = 512  # texts whose masks are remembered; rows of a batch share them


def read_vocabulary(
    tokenizer: PreTrainedTokenizerBase, *, leave_out: Collection[int] = ()
) -> Vocabulary:
    """What each token of a tokenizer adds to a text; see `vocabulary_of`.

    Args:
        tokenizer: of any kind.
        leave_out: ids that add nothing here, whatever they decode to: EOS above all.

    Raises:
        ModelError: no token of the tokenizer is a word or a letter.
    """
    without = {*leave_out, *tokenizer.all_special_ids}
    known = sorted({i for i in tokenizer.get_vocab().values() if i not in without})

    def decode(rows: list[list[int]]) -> list[str]:
        with explained(tokenizer, "decode its tokens"):
            texts = tokenizer.batch_decode(
                rows, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        return [str(text) for text in texts]

    names = tokenizer.convert_ids_to_tokens(known)
    return vocabulary_of(dict(zip(known, names, strict=True)), decode=decode)


def check_eos(eos_token_ids: Collection[int], *, who: str) -> None:
    """Refuse a model that can't end a text.

    Raises:
        ConfigError: it has no EOS, which `who` ("grammar needs") says who needs.
    """
    if not eos_token_ids:
        raise ConfigError(
            f"{who} an EOS token to end the text with, and this model has none. Set eos_token in "
            "its tokenizer_config.json."
        )


def keep_allowed(scores: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Scores (B, V) with -inf for what isn't allowed (B, V).

    Where other settings forbid everything that is allowed, all of it is equally likely.
    """
    kept = scores.masked_fill(~allowed, -torch.inf)
    stuck = (kept == -torch.inf).all(dim=-1, keepdim=True)  # (B, 1)
    return kept.masked_fill(stuck & allowed, 0.0)


class TextConstraint:
    """Keeps what is written behind the prompt within what a matcher allows.

    Where other settings forbid everything that is allowed (`min_new_tokens` the end of a short
    choice, say) what the matcher allows is written all the same.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        matcher: Matcher,
        *,
        prompt_length: int,
        eos_token_ids: Sequence[int],
    ) -> None:
        """Constrain what follows the first `prompt_length` ids of each row, padding included.

        Args:
            tokenizer: the model's.
            matcher: see `allowed_by_choices` and `allowed_by_regex`.
            prompt_length: T of the batch's prompts, padded.
            eos_token_ids: any of them ends a text.

        Raises:
            ConfigError: there is no EOS, or the tokenizer can't write such a text.
            ModelError: the tokenizer has no usable token.
        """
        check_eos(eos_token_ids, who="choices and regex need")
        self._eos = tuple(eos_token_ids)
        self._vocabulary = read_vocabulary(tokenizer, leave_out=self._eos)
        self._matcher = matcher
        self._prompt_length = prompt_length
        self._masks: dict[tuple[bytes | None, int], np.ndarray] = {}
        matcher.check(self._vocabulary)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Set the scores, shape (B, V), of what isn't allowed behind ids (B, T) to -inf.

        Raises:
            ConfigError: nothing can follow a text that isn't complete.
        """
        rows = input_ids[:, self._prompt_length :].tolist()
        masks = np.stack([self._mask(self._written(row), scores.shape[-1]) for row in rows])
        return keep_allowed(scores, torch.from_numpy(masks).to(scores.device))

    def _written(self, new_ids: Sequence[int]) -> bytes | None:
        """The bytes of a row; None where it has ended, or holds what was never allowed."""
        added = [self._vocabulary.token_bytes.get(i) for i in new_ids]
        return None if None in added else b"".join(data for data in added if data)

    def _mask(self, written: bytes | None, num_ids: int) -> np.ndarray:
        """Whether each id may follow, shape (V,)."""
        key = (written, num_ids)
        if key not in self._masks:
            if len(self._masks) >= _KEPT_MASKS:
                self._masks.clear()
            ids, may_end = (
                ((), True)
                if written is None
                else self._matcher.allowed(written, vocabulary=self._vocabulary)
            )
            mask = np.zeros(num_ids, dtype=bool)
            mask[[i for i in ids if i < num_ids]] = True
            if may_end or not mask.any():
                mask[list(self._eos)] = True
            self._masks[key] = mask
        return self._masks[key]


def constrain(batch: BatchContext, matcher: Matcher) -> TextConstraint:
    """The constraint of a batch's new tokens to what a matcher allows, see `TextConstraint`."""
    length = batch.prompt_length
    return TextConstraint(batch.tokenizer, matcher, prompt_length=length, eos_token_ids=batch.eos)
