"""A tokenizer, and words or texts to learn them from -> the same with more tokens."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from gptft.config.numbers import MAX_VOCAB_SIZE
from gptft.documents.scan import Progress
from gptft.errors import ConfigError, ModelError
from gptft.terminal.words import short_number
from gptft.text.encoding import read_text
from gptft.text.unicode import text_problem
from gptft.tokenization.evaluation import Cost, measure_cost, split_corpus
from gptft.tokenization.new_words import learn_words
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer, save_tokenizer
from gptft.tokenization.training import check_held_out, refuse_full

_DEFAULT_CONTEXT = 1024


@dataclass(frozen=True)
class ExtendedTokenizer:
    """A tokenizer with more tokens.

    Attributes:
        path: its folder.
        model: the tokenizer it was.
        added: the new tokens, by text, with their ids.
        embeddings: how many the model has; None where its files don't say.
        needed: how many it needs now.
        asked: how many tokens were to be learned; fewer may have been found.
        learned: how many were.
        before: what the held-out part of the texts cost before; None where no text was given.
        after: what it costs now.
        held_out: passages that were held out of learning; 0 where all were learned from.
    """

    path: Path
    model: str
    added: dict[str, int]
    embeddings: int | None
    needed: int
    asked: int = 0
    learned: int = 0
    before: Cost | None = None
    after: Cost | None = None
    held_out: int = 0


def read_tokens(path: Path) -> list[str]:
    """The tokens of a file, one a line, white space kept.

    Raises:
        DataError: the file can't be read as text.
        ConfigError: a line is empty.
    """
    text = read_text(path, line_ends="lf")
    lines = text.removesuffix("\n").split("\n") if text else []
    empty = [number for number, line in enumerate(lines, start=1) if not line.strip()]
    if empty:
        raise ConfigError(f"{path}:{empty[0]}  is an empty line, which can't be a token.")
    return lines


def extend_tokenizer(
    name: str,
    out_dir: Path,
    *,
    tokens: Sequence[str] = (),
    learn: Sequence[str] = (),
    num: int = 0,
    held_out: float = 0.05,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> ExtendedTokenizer:
    """Add tokens to a tokenizer, and write it to a folder of its own.

    A new token is found in a text as it stands, inside words, too, before anything else is done to
    the text. tokenizer_config.json is written anew: the special tokens by name and the context.

    Args:
        name: what a person calls the model.
        out_dir: where tokenizer.json and tokenizer_config.json are written.
        tokens: what to add.
        learn: texts whose frequent and expensive words are added.
        num: how many of those.
        held_out: the share of the texts' passages that is measured on and not learned from.
        cache_dir: where scans of files are remembered.
        progress: told (what is being done, bytes done, bytes in all).

    Raises:
        ConfigError: nothing to add, tokens that can't be added, or a folder that holds a tokenizer.
        DataError: texts are missing, can't be read, or hold nothing.
        ModelError: the tokenizer can't be opened or extended.
    """
    _check(tokens, learn, num, held_out)
    refuse_full(out_dir)
    tokenizer = load_tokenizer(name)
    extended = add_tokens(tokenizer, tokens)
    corpus = None
    learned: list[str] = []
    if learn:
        corpus = split_corpus(learn, held_out=held_out, cache_dir=cache_dir, progress=progress)
        learned = learn_words(
            extended, corpus, num=num, progress=progress, can_be_added=is_addable(extended)
        )
        extended = add_tokens(extended, learned)
    extended = replace(extended, name=out_dir.name or str(out_dir))
    vocab = extended.backend.get_vocab()
    # Measured before anything is written: a tokenizer that breaks on the text leaves no folder.
    result = ExtendedTokenizer(
        path=out_dir,
        model=name,
        added={token: vocab[token] for token in (*tokens, *learned)},
        embeddings=tokenizer.num_embeddings,
        needed=extended.vocab_size,
        asked=num,
        learned=len(learned),
        before=measure_cost(tokenizer, corpus, progress=progress) if corpus else None,
        after=measure_cost(extended, corpus, progress=progress) if corpus else None,
        held_out=corpus.num_held_out if corpus else 0,
    )
    save_tokenizer(extended, out_dir, model_max_length=tokenizer.context or _DEFAULT_CONTEXT)
    return result


def _check(tokens: Sequence[str], learn: Sequence[str], num: int, held_out: float) -> None:
    if bool(learn) != bool(num) or num < 0:
        raise ConfigError("To learn words, give both the texts and how many, 1 or more.")
    if num > MAX_VOCAB_SIZE:
        asked = short_number(num)
        raise ConfigError(f"{asked} words are to be learned; {MAX_VOCAB_SIZE:,} are the most.")
    if not tokens and not learn:
        raise ConfigError("There is nothing to add. Give tokens, or texts to learn them from.")
    if problem := check_held_out(held_out):
        raise ConfigError(problem)


def added_token(text: str, *, special: bool = False) -> AddedToken:
    """A token that is found in a text as it stands, or a control token, which no text is read as.

    The same for our tokenizers and for those of transformers, so that both give the same ids.
    """
    return AddedToken(text, single_word=False, normalized=False, special=special)


def add_tokens(
    tokenizer: TextTokenizer, tokens: Sequence[str], *, special: Sequence[str] = ()
) -> TextTokenizer:
    """A copy of a tokenizer with more tokens; the one that is given stays as it is.

    Args:
        tokenizer: what is added to.
        tokens: found in a text as they stand.
        special: control tokens, whose ids come behind those of `tokens`.

    Raises:
        ConfigError: some are empty, given twice, tokens already, or wouldn't survive decoding.
        ModelError: the vocabulary has gaps, so that new ids would be old ones, or a token has
            characters that the tokenizer can't encode.
    """
    earlier = tokenizer.backend.get_vocab(with_added_tokens=True)
    backend = Tokenizer.from_str(tokenizer.backend.to_str())
    backend.encode_special_tokens = True
    kinds = [*((text, False) for text in tokens), *((text, True) for text in special)]
    tokens = [text for text, _ in kinds]
    with tokenizer.explained():
        found = [_problem(token, backend) for token in dict.fromkeys(tokens)]
    problems = [problem for problem in found if problem]
    problems += [f"{t!r} is given twice." for t, number in Counter(tokens).items() if number > 1]
    if problems:
        raise ConfigError(*problems)
    backend.add_tokens([added_token(text, special=is_special) for text, is_special in kinds])
    now = backend.get_vocab(with_added_tokens=True)
    new = {now[token] for token in tokens}
    if not (earlier.items() <= now.items()) or new & {*earlier.values()} or len(new) < len(tokens):
        raise ModelError(
            f"The tokenizer of {tokenizer.name} has gaps in its ids, so new tokens would get the "
            "ids of others. It can't be extended."
        )
    with tokenizer.explained():
        survives = {
            token: is_special or _survives(token, backend)  # no text holds a control token
            for token, is_special in kinds
        }
    lost = [
        f"{token!r} can't be added: this tokenizer would take its letters for bytes and decode "
        f"it to something else. With a space in front it can: {f' {token.strip()}'!r}."
        for token in tokens
        if not survives[token]
    ]
    if lost:
        raise ConfigError(*lost)
    return replace(tokenizer, backend=backend)


def is_addable(tokenizer: TextTokenizer) -> Callable[[str], bool]:
    """What tells whether a token can be added to a tokenizer."""

    def can_be_added(token: str) -> bool:
        with tokenizer.explained():
            return not _problem(token, tokenizer.backend)

    return can_be_added


def _problem(token: str, backend: Tokenizer) -> str | None:
    """Why a token can't be added, or None."""
    if not token.strip():
        return f"{token!r} can't be a token: there is nothing in it but white space."
    if problem := text_problem(token):
        return f"{token!r} is no text: it {problem}."
    number = backend.token_to_id(token)
    if number is None:
        ids = backend.encode(token, add_special_tokens=False).ids
        if len(ids) == 1 and backend.decode(ids, skip_special_tokens=False) == token:
            number = ids[0]
    return None if number is None else f"{token!r} is a token already: its id is {number:,}."


def _survives(token: str, backend: Tokenizer) -> bool:
    """Whether decoding gives the token back where it stands in a text."""
    ids = backend.encode(f"a{token}a", add_special_tokens=False).ids
    return token.strip() in backend.decode(ids, skip_special_tokens=False)
