"""A tokenizer and a short text -> the text's tokens and what it costs."""

from dataclasses import dataclass
from typing import Any

from gptft.files import JsonFields
from gptft.tokenization.tokenizer import TextTokenizer
from gptft.tokenization.tokens import TextCost, Token, is_lossless, split_tokens, text_cost

_CONTEXTS = (512, 1024, 2048)  # of small models, to hold a text against


@dataclass(frozen=True)
class MeasuredText(JsonFields):
    """What one tokenizer makes of a text.

    Attributes:
        model: the tokenizer's name.
        tokens: in order.
        cost: how many there are for how much text.
        lossless: the tokens' bytes are the text's.
        context: the most tokens the model sees at once, or None where it doesn't say.
        before: ids and tokens the model is given before a text, BOS mostly; they aren't counted.
        after: those it is given after one, where the tokenizer adds any.
    """

    model: str
    tokens: tuple[Token, ...]
    cost: TextCost
    lossless: bool
    context: int | None
    before: tuple[tuple[int, str], ...] = ()
    after: tuple[tuple[int, str], ...] = ()

    @property
    def context_used(self) -> dict[int, float]:
        """The share of each of some usual contexts, and the model's own, that the text fills."""
        own = () if self.context is None else (self.context,)
        return {size: self.cost.num_tokens / size for size in sorted({*_CONTEXTS, *own})}

    @property
    def num_partial(self) -> int:
        """Tokens that aren't whole characters, so that they are text only together with others."""
        return sum(token.text is None for token in self.tokens)

    def json_fields(self) -> dict[str, Any]:
        """Its tokens and figures, and what it would cost in other units, one token each.

        What stands around it only where something does.
        """
        around = {"before": self.before, "after": self.after}
        return {
            "model": self.model,
            "tokens": self.tokens,
            **self.cost.json_fields(),
            "lossless": self.lossless,
            "num_partial": self.num_partial,
            "one_token_each": self.cost.one_token_each,
            "context": self.context,
            "context_used": self.context_used,
            **{
                name: [{"id": i, "token": token} for i, token in tokens]
                for name, tokens in around.items()
                if tokens
            },
        }


def measure_text(tokenizer: TextTokenizer, text: str) -> MeasuredText:
    """Split `text` into tokens and count.

    Raises:
        ConfigError: the text holds a lone surrogate.
    """
    tokens = split_tokens(tokenizer, text)
    before, after = (
        tuple((i, tokenizer.backend.id_to_token(i) or "") for i in ids) for ids in tokenizer.framing
    )
    return MeasuredText(
        model=tokenizer.name,
        tokens=tuple(tokens),
        cost=text_cost(text, num_tokens=len(tokens)),
        lossless=is_lossless(tokens, text),
        context=tokenizer.context,
        before=before,
        after=after,
    )
