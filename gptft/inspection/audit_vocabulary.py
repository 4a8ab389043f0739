"""Tokenizer files -> findings on whether they can be read and the vocabulary is sound in itself."""

from collections.abc import Iterator, Mapping
from typing import Any

from gptft.inspection.audit_files import TokenizerFiles, more_than_once
from gptft.inspection.audit_finding import Finding, fault, ok, shown, some, warning
from gptft.terminal.words import count


def check_readable(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether every file can be read."""
    for file, problem in files.unreadable.items():
        yield fault(problem, file, "Repair the file, or take it from its source again.")


def check_vocabulary(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether tokens, merges and added tokens are there, each once."""
    found = [*_repeated(files), *_check_merges(files), *_check_added(files)]
    yield from found
    if files.tokenizer is not None and not found:
        kind = type(files.tokenizer.backend.model).__name__
        size = files.tokenizer.backend.get_vocab_size(with_added_tokens=True)
        yield ok(f"The vocabulary is sound: {kind}, {size:,} tokens, each once.", files.source)


def check_options(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether the file drops merges, cuts texts or pads them."""
    if dropout := files.model.get("dropout"):
        what = f"Merges are dropped at random ({dropout}): no two encodings are alike."
        do = "Set it to null; BPE-dropout is for training from scratch."
        yield fault(what, f"{files.source}:model.dropout", do)
    for key, effect in (("truncation", "cuts every text"), ("padding", "fills texts up")):
        if files.document.get(key):
            what = f"The file itself {effect} when it is opened by the tokenizers library."
            yield warning(what, f"{files.source}:{key}", "Set it to null. gptft turns it off.")


def _repeated(files: TokenizerFiles) -> Iterator[Finding]:
    vocab, where = files.model.get("vocab"), f"{files.source}:model.vocab"
    names = _unigrams(vocab) if isinstance(vocab, list) else []
    repeated = [*files.repeated, *more_than_once(names)]
    if repeated:
        what = f"The same entry stands twice: {some(repeated)}. Only the last one counts."
        yield fault(what, where, "Leave one of each, with the id its embedding has.")
    twice = [*map(str, more_than_once(_vocab(files.model).values()))]
    if twice:
        what = f"Several tokens have one id: {some(twice)}."
        do = "Give each token an id of its own: decoding can give only one of them back."
        yield fault(what, where, do)


def _vocab(model: Mapping[str, Any]) -> dict[str, int]:
    """The vocabulary as a table, whatever kind of model it is of."""
    vocab = model.get("vocab")
    if isinstance(vocab, list):  # Unigram: the place is the id
        return {token: number for number, token in enumerate(_unigrams(vocab))}
    pairs = vocab.items() if isinstance(vocab, dict) else ()
    return {token: i for token, i in pairs if isinstance(i, int)}


def _unigrams(vocab: list[Any]) -> list[str]:
    return [str(entry[0]) if isinstance(entry, list) and entry else "" for entry in vocab]


def _check_merges(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether each merge joins tokens that are there to one that is there."""
    vocab, merges = _vocab(files.model), files.model.get("merges")
    where = f"{files.source}:model.merges"
    prefix = len(str(files.model.get("continuing_subword_prefix") or ""))
    missing: dict[str, None] = {}
    pairs: list[tuple[str, str]] = []
    for merge in merges if isinstance(merges, list) else []:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2:
            continue  # the library refuses the file, which is found by `check_readable`
        left, right = map(str, pair)
        pairs.append((left, right))
        missing |= {t: None for t in (left, right, left + right[prefix:]) if t not in vocab}
    if missing:
        named = count(len(missing), "token that isn't there", "tokens that aren't there")
        what = f"Merges name {named}: {some([*missing])}."
        do = "Add them to model.vocab, or take the merges out: the library refuses such a file."
        yield fault(what, where, do)
    again = [*map("".join, more_than_once(pairs))]
    if again:
        what = f"Merges stand twice: {some(again)}. Only the last place of each counts."
        yield warning(what, where, "Leave the first of each: its rank is the one that was learned.")


def _check_added(files: TokenizerFiles) -> Iterator[Finding]:
    """Whether each added token is there once, under the id that is written."""
    added = files.document.get("added_tokens")
    entries = [e for e in added if isinstance(e, dict)] if isinstance(added, list) else []
    where = f"{files.source}:added_tokens"
    twice = more_than_once(str(entry.get("content")) for entry in entries)
    if twice:
        do = "Leave one of each, with the id its embedding has."
        yield fault(f"Tokens are added twice: {some(twice)}.", where, do)
    by_id = {i: token for token, i in _vocab(files.model).items()}
    for entry in entries:
        content, token_id = str(entry.get("content")), entry.get("id")
        there = by_id.get(token_id) if isinstance(token_id, int) else None
        actual = files.default.token_to_id(content) if files.default is not None else token_id
        if (there is not None and there != content) or actual != token_id:
            is_really = f"is {shown(there)}" if there not in (None, content) else "isn't its id"
            what = f"{shown(content)} is written as id {token_id}, which {is_really}"
            what += f"; the library gives it {actual}." if actual != token_id else "."
            yield fault(what, where, "Give it the id its embedding has.")
