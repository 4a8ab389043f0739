"""What a second model sees and knows -> why it, or a second prompt, doesn't fit; unloaded."""

from gptft.errors import ConfigError


def check_other_context(
    setting: str, num_tokens: int, *, num_read: int, context: int | None
) -> None:
    """Refuse what another model, or the model after another prompt, can't read.

    Args:
        setting: that names the model or the prompt.
        num_tokens: of its prompt.
        num_read: tokens of the text that are read behind it.
        context: the most tokens that are seen at once; None for any number.

    Raises:
        ConfigError: prompt and text are longer than that.
    """
    if context is None or num_tokens + num_read <= context:
        return
    room = context - num_tokens + 1
    way = f"Set max_new_tokens to {room:,} or less, or shorten" if room > 0 else "Shorten"
    raise ConfigError(
        f"{setting}: its context is {context:,} tokens, and its prompt of {num_tokens:,} and the "
        f"text come to {num_tokens + num_read:,}. {way} the prompt."
    )


def other_tokenizer(setting: str, name: str, *, theirs: int, ours: int) -> str:
    """What to say of a second model whose tokenizer, of so many tokens, isn't the main one's."""
    return (
        f"{setting}: {name} has another tokenizer ({theirs:,} tokens, this model {ours:,}), and "
        "their logits are to be compared token by token. Take a model of the same family."
    )


def other_vocabulary(setting: str, *, theirs: int, ours: int) -> str:
    """What to say of a second model that gives logits for more or fewer ids than the main one."""
    return (
        f"{setting}: it has a vocabulary of {theirs:,}, and the main model one of {ours:,}. Use "
        "one with the same vocabulary."
    )
