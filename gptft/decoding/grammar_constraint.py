"""A grammar in llguidance's form -> what keeps a text to it, and what is wrong with it."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from gptft.decoding import define
from gptft.decoding.known_model import problems
from gptft.errors import ConfigError
from gptft.inputs import expand_user, near_names, read_input
from gptft.panics import no_panic
from gptft.terminal.words import count

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

_MAX_BYTES = 10_000_000  # of a file with a grammar or a schema


class GrammarConstraint:
    """Keeps what follows the prompt to a grammar: EOS where it is complete, and only there.

    Where other settings forbid everything that is allowed, what the grammar allows is taken all the
    same.
    """

    def __init__(
        self, batch: define.BatchContext, start: "LLMatcher", *, num_ids: int, setting: str
    ) -> None:
        """Constrain what follows the prompts of a batch.

        Args:
            batch: its prompts' length and the ids that end a text count.
            start: the grammar before the first token.
            num_ids: ids of the tokenizer; what the matcher says of others doesn't count.
            setting: which one the grammar is from.
        """
        self._prompt_length, self._eos = batch.prompt_length, batch.eos
        self._num_ids, self._setting = num_ids, setting
        self._matchers: dict[tuple[int, ...], LLMatcher] = {(): start}

    def __call__(self, input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        """Set the scores, shape (B, V), of what isn't allowed behind ids (B, T) to -inf.

        Raises:
            ConfigError: nothing can follow a text that isn't complete.
        """
        import torch

        from gptft.decoding.constraints import keep_allowed

        num_ids = min(self._num_ids, scores.shape[-1])
        rows = [tuple(row) for row in input_ids[:, self._prompt_length :].tolist()]
        allowed = torch.zeros_like(scores, dtype=torch.bool)
        matchers: dict[tuple[int, ...], LLMatcher] = {(): self._matchers[()]}
        for i, row in enumerate(rows):
            if any(token in self._eos for token in row):
                allowed[i, list(self._eos)] = True
                continue
            matcher = matchers[row] = matchers.get(row) or self._after(row)
            # A byte an id, not 0 where it may follow.
            mask = torch.frombuffer(bytearray(matcher.compute_logit_bias()), dtype=torch.uint8)
            allowed[i, :num_ids] = mask[:num_ids].bool().to(scores.device)
            if reason := _reason(matcher):
                after = count(len(row), "token")
                raise ConfigError(f"{self._setting}: its parser fails after {after}{reason}.")
            # An error leaves EOS allowed (llguidance 1.9).
            if matcher.is_error() or not allowed[i].any():
                raise ConfigError(
                    f"{self._setting}: after {count(len(row), 'token')} no token of this model "
                    "leads to text that fits it. Make it wider."
                )
        self._matchers = matchers
        return keep_allowed(scores, allowed)

    def _after(self, row: tuple[int, ...]) -> "LLMatcher":
        """The matcher after the tokens of a row, from that of the step before where it is there."""
        known = row[:-1] if row[:-1] in self._matchers else ()
        matcher = self._matchers[known].deep_copy()
        matcher.consume_tokens(list(row[len(known) :]))
        return matcher


def constrain_by_grammar(
    batch: define.BatchContext, grammar: str, *, setting: str
) -> GrammarConstraint:
    """A processor that keeps new text to a grammar in llguidance's own form.

    Raises:
        ConfigError: the model has no EOS, or no text fits the grammar.
    """
    from llguidance import LLMatcher

    from gptft.decoding.constraints import check_eos

    check_eos(batch.eos, who=f"{setting} needs")
    tokenizer, num_ids = _byte_tokenizer(batch.tokenizer, batch.eos)
    _check_grammar(tokenizer, grammar, setting=setting)
    fresh = LLMatcher(tokenizer, grammar, log_level=0)
    return GrammarConstraint(batch, fresh, num_ids=num_ids, setting=setting)


def check_grammar(grammar: str, *, setting: str) -> None:
    """Refuse a grammar in llguidance's own form that no text fits, whatever the tokenizer.

    Raises:
        ConfigError: none does.
    """
    from llguidance import LLTokenizer, TokenizerWrapper

    end = 256  # the one token besides every byte
    of_bytes = _Bytes(end, [*(bytes([byte]) for byte in range(end)), b""])
    tokenizer = LLTokenizer(TokenizerWrapper(of_bytes), n_vocab=end + 1, eos_token=end, slices=[])
    _check_grammar(tokenizer, grammar, setting=setting)


def _check_grammar(tokenizer: "LLTokenizer", grammar: str, *, setting: str) -> None:
    from llguidance import LLMatcher

    with no_panic(f"{setting} can't be used"):
        start = LLMatcher(tokenizer, grammar, log_level=0)
        if not start.is_error():
            start.compute_logit_bias()  # what no text can fit shows at the first step
    if start.is_error():
        raise ConfigError(f"{setting}: no text can fit it{_reason(start)}.")


@dataclass(frozen=True)
class _Bytes:
    """What llguidance asks of a tokenizer; a token without bytes is a special one."""

    eos_token_id: int
    tokens: Sequence[bytes]
    bos_token_id: int | None = None

    @cached_property
    def special_token_ids(self) -> list[int]:
        """Ids that add nothing to a text."""
        return [i for i, data in enumerate(self.tokens) if not data]

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {data: i for i, data in reversed(list(enumerate(self.tokens)))}

    def __call__(self, text: str | bytes) -> list[int]:
        """The longest token each time, of text that is certain to come."""
        data, ids = text.encode() if isinstance(text, str) else text, list[int]()
        longest = max(map(len, self.tokens))
        while data:
            sizes = range(min(len(data), longest), 0, -1)
            size = next(size for size in sizes if data[:size] in self._ids)
            ids.append(self._ids[data[:size]])
            data = data[size:]
        return ids


@lru_cache(maxsize=2)  # reading a vocabulary of 50,000 takes half a second
def _byte_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", eos: tuple[int, ...]
) -> "tuple[LLTokenizer, int]":
    """A tokenizer as llguidance sees it, the bytes that each token adds to a text; how many it has.

    Behind the tokenizer's own ids stand the single bytes that it lacks. llguidance 1.9 looks ahead
    byte by byte, and loses one for which there is no token: а and б begin with the same.
    """
    from llguidance import LLTokenizer, TokenizerWrapper

    from gptft.decoding.constraints import read_vocabulary

    bytes_of = read_vocabulary(tokenizer, leave_out=eos).token_bytes
    num_ids = max(max(tokenizer.get_vocab().values()), *eos) + 1
    tokens = [bytes_of.get(i, b"") for i in range(num_ids)]
    tokens += sorted({bytes([byte]) for byte in range(256)} - set(tokens))
    wrapped = TokenizerWrapper(_Bytes(eos[0], tokens))
    return LLTokenizer(wrapped, n_vocab=len(tokens), eos_token=list(eos), slices=[]), num_ids


def _reason(matcher: "LLMatcher") -> str:
    """What the parser says of its error, its first line, with a colon before it."""
    lines = matcher.get_error().splitlines()
    return f": {lines[0].rstrip('.')}" if lines and lines[0] != "NoExtensionBias" else ""


def grammar_problems(
    settings: define.Values, setting: str, grammar_of: Callable[[define.Values], str]
) -> Iterator[str]:
    """Why a setting that is on gives no grammar that a text can fit; the missing package, too.

    Args:
        settings: those in force.
        setting: which one the grammar is from.
        grammar_of: reads it into llguidance's own form.
    """
    if importlib.util.find_spec("llguidance") is None:
        yield f"{setting} needs the package llguidance. Install it: pip install llguidance."
    elif settings.is_on(setting):
        yield from problems(lambda: check_grammar(grammar_of(settings), setting=setting))


def text_or_file(value: str, *, setting: str, is_text: bool) -> tuple[str, str]:
    """A setting's text, its own or that of the file it names, and how a message on it begins.

    Raises:
        ConfigError: there is no such file, or it isn't text.
    """
    if is_text:
        return value, f"{setting}:"
    try:
        content = read_input(expand_user(value), at_most=_MAX_BYTES)
        return content.decode("utf-8-sig"), f"{setting}: {value}:"
    except UnicodeDecodeError:
        why, near = "it isn't text in UTF-8", ""
    except OSError as error:
        why = error.strerror or str(error)
        near = near_names(value) if isinstance(error, FileNotFoundError) else ""
    raise ConfigError(f"{setting}: {value} can't be read: {why}.{near}")
