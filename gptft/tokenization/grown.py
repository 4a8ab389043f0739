"""A base's tokenizer and a config's tokenizer section -> the tokenizer of the run."""

from dataclasses import replace

from gptft.config.sections import TokenizerConfig
from gptft.errors import ConfigError, ModelError
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer


def grown_tokenizer(base: TextTokenizer, own: TokenizerConfig) -> TextTokenizer:
    """The longer tokenizer that is named, if one is, or the base's own, with what is added.

    Args:
        base: of a pretrained model, whose embeddings its ids stand for.
        own: the config's section.

    Returns:
        `base` itself where nothing changes it.

    Raises:
        ConfigError: the other tokenizer gives a token of the base's another id, or what is to be
            added can't be.
        ModelError: the other tokenizer can't be opened.
    """
    if own.name is None:
        return with_added(base, own)
    longer = named_tokenizer(own.name)
    theirs = longer.backend.get_vocab()
    for token, number in sorted(base.backend.get_vocab().items(), key=lambda item: item[1]):
        if theirs.get(token) != number:
            now = "none" if token not in theirs else f"id {theirs[token]:,}"
            raise ConfigError(
                f"tokenizer.name: {own.name} has {now} for {token!r}, which is id {number:,} of "
                f"{base.name}. A base takes a longer tokenizer whose first ids are its own, as "
                "gptft tokenizer extend makes it."
            )
    named = replace(longer, name=base.name, context=base.context)
    return with_added(named, own)


def named_tokenizer(name: str) -> TextTokenizer:
    """The tokenizer that `tokenizer.name` names.

    Raises:
        ModelError: it can't be opened, in a message that begins with the setting.
    """
    try:
        return load_tokenizer(name)
    except ModelError as error:
        raise ModelError(f"tokenizer.name: {error}") from None


def with_added(tokenizer: TextTokenizer, own: TokenizerConfig) -> TextTokenizer:
    """A tokenizer with the tokens that a section adds; itself where it adds none.

    Raises:
        ConfigError: some of them can't be added, each in a message that names it.
    """
    if not (own.add_tokens or own.special_tokens):
        return tokenizer
    from gptft.tokenization.extension import add_tokens  # which loads NumPy, and few add any

    try:
        return add_tokens(tokenizer, own.add_tokens, special=own.special_tokens)
    except ConfigError as error:
        name = "tokenizer.add_tokens" if own.add_tokens else "tokenizer.special_tokens"
        raise ConfigError(*(f"{name}: {problem}" for problem in error.problems)) from None
