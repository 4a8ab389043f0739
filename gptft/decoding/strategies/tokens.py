"""Words and ids that are banned, allowed or biased, for every strategy."""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gptft.config.settings import Flag, Setting, Texts, Weights, whole_numbers
from gptft.decoding import define
from gptft.decoding.known_model import KnownModel, ModelIds, problems
from gptft.errors import ConfigError
from gptft.terminal.words import short_value

if TYPE_CHECKING:
    from torch import Tensor

_stock = define.stock_processors


def allowed_tokens(allowed_ids: Collection[int]) -> define.Process:
    """A processor that keeps only `allowed_ids`; EOS must be among them where a text is to end."""

    def process(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        logits = scores.float()
        allowed = logits.new_zeros(logits.shape[-1]).bool()  # (V,)
        allowed[list(allowed_ids)] = True
        return logits.masked_fill(~allowed, float("-inf"))

    return process


def logit_bias(biases: Mapping[int, float]) -> define.Process:
    """A processor that adds numbers to the logits of some tokens, by id."""

    def process(input_ids: "Tensor", scores: "Tensor") -> "Tensor":
        logits = scores.float()
        added = logits.new_zeros(logits.shape[-1])  # (V,)
        added[list(biases)] = logits.new_tensor(list(biases.values()))
        return logits + added

    return process


def _word_ids(model: ModelIds, text: str, *, setting: str) -> list[list[int]]:
    """The ids of a word at the beginning of a text and after a space.

    Raises:
        ConfigError: the tokenizer has no ids for it, or the model no embedding for one of them.
    """
    texts = [text] if text[0].isspace() else [text, f" {text}"]
    # A dict, as two ways to write a word may have the same ids.
    encoded = {tuple(model.encode(text)): None for text in texts}
    found = [model.checked_ids(list(ids), setting) for ids in encoded if ids]
    if not found:
        raise ConfigError(f"{setting}: {text!r} has no tokens in this model's vocabulary.")
    return found


def _words(settings: define.Values, model: ModelIds, *, setting: str) -> list[list[int]]:
    return [ids for word in settings[setting] for ids in _word_ids(model, word, setting=setting)]


def _sequence_bias(settings: define.Values, batch: define.BatchContext) -> Any:
    return _stock().SequenceBiasLogitsProcessor([
        [ids, weight]
        for text, weight in settings["sequence_bias"].items()
        for ids in _word_ids(batch, text, setting="sequence_bias")
    ])  # fmt: skip


def _logit_bias(settings: define.Values, batch: define.BatchContext) -> define.Process:
    weights = settings["logit_bias"]
    return logit_bias({_one_id(batch, key): weight for key, weight in weights.items()})


def _one_id(model: ModelIds, key: str) -> int:
    """The id that a key of logit_bias names: by its number or its text."""
    is_number = key.isascii() and key.isdigit()  # ² is a digit, too, and no number for int()
    ids = model.checked_ids([int(key)] if is_number else model.encode(key), "logit_bias")
    if len(ids) != 1:
        raise ConfigError(
            f"logit_bias: {key!r} is {len(ids)} tokens, {short_value(ids)}, and a bias is for one. "
            "Name one of them by its id, or use sequence_bias."
        )
    return ids[0]


def _bad_words(settings: define.Values, batch: define.BatchContext) -> Any:
    banned = _words(settings, batch, setting="bad_words")
    return _stock().NoBadWordsLogitsProcessor(banned, list(batch.eos) or None)


def _allowed_words(settings: define.Values, batch: define.BatchContext) -> define.Process:
    allowed = _words(settings, batch, setting="allowed_words")
    return allowed_tokens({*batch.eos, *(i for ids in allowed for i in ids)})


def _check(settings: define.Values) -> Iterator[str]:
    begin = settings["begin_suppress_tokens"]
    if begin and set(begin) <= set(settings["suppress_tokens"]):
        yield "begin_suppress_tokens are all in suppress_tokens already. Leave them out."


def _check_model(settings: define.Values, model: KnownModel) -> Iterator[str]:
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        yield from problems(partial(model.checked_ids, settings[name], name))
    for name in ("bad_words", "allowed_words", "sequence_bias"):
        for text in settings[name]:
            yield from problems(partial(_word_ids, model, text, setting=name))
    for key in settings["logit_bias"]:
        yield from problems(partial(_one_id, model, key))


METHOD = define.Method(
    group="tokens",
    settings=(
        Setting("bad_words", Texts, [], "Words that never appear.", aliases=("bad_words_ids",)),
        Setting("allowed_words", Texts, [], "Only the tokens of these words appear."),
        Setting("sequence_bias", Weights, {},
                "Added to the logit of the token that ends one of these texts."),
        Setting("logit_bias", Weights, {},
                "Added to the logit of a token, given by its id or its text."),
        Setting("suppress_tokens", whole_numbers(ge=0), [], "Ids that never appear."),
        Setting("begin_suppress_tokens", whole_numbers(ge=0), [], "Ids that don't come first."),
        Setting("token_healing", Flag, False,
                "Let the model end the prompt's last word its own way."),
    ),
    processors=(
        define.Processor("sequence_bias", define.BIAS + 10, _sequence_bias, sees_padding=True),
        define.Processor("logit_bias", define.BIAS + 20, _logit_bias),
        define.Processor("bad_words", define.BAN + 10, _bad_words, sees_padding=True),
        define.Processor("allowed_words", define.BAN + 20, _allowed_words),
        define.Processor("suppress_tokens", define.BAN + 30, lambda s, b: (
            _stock().SuppressTokensLogitsProcessor(
                b.checked_ids(s["suppress_tokens"], "suppress_tokens"), device=b.device))),
        define.Processor("begin_suppress_tokens", define.BAN + 40, lambda s, b: (
            _stock().SuppressTokensAtBeginLogitsProcessor(
                b.checked_ids(s["begin_suppress_tokens"], "begin_suppress_tokens"),
                b.prompt_length, device=b.device))),
    ),
    check=_check,
    check_model=_check_model,
)  # fmt: skip
