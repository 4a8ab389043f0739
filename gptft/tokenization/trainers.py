"""Texts -> a new tokenizer, by kind.

Byte-level BPE and Unigram keep every text byte for byte; WordPiece doesn't.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gptft.panics import no_panic
from gptft.tokenization.tokenizer import END_OF_TEXT, TextTokenizer, byte_level

Kind = Literal["bpe", "unigram", "wordpiece"]
Texts = Callable[[], Iterator[str]]  # begins the training documents anew
_UNKNOWN = "[UNK]"
_CONTINUES = "##"  # what is within a word
# Special tokens that every tokenizer of a kind has, in the order of their ids.
OWN_SPECIAL: Mapping[Kind, tuple[str, ...]] = {
    "bpe": (END_OF_TEXT,),
    "unigram": (END_OF_TEXT,),
    "wordpiece": (END_OF_TEXT, _UNKNOWN),
}


def train_bpe(
    texts: Iterator[str], *, vocab_size: int, min_frequency: int, special: Sequence[str] = ()
) -> TextTokenizer:
    """Train a byte-level BPE tokenizer like GPT-2's, with `<|endoftext|>` as id 0.

    Args:
        texts: the training documents.
        vocab_size: ids in all: 256 bytes, EOS and the merges; a small text may give fewer.
        min_frequency: a pair seen fewer times is not merged.
        special: further special tokens, which have the ids from 1 on.

    Source: Sennrich et al. 2016 (1508.07909); bytes as in Radford et al. 2019, section 2.2.
    """
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[END_OF_TEXT, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return _trained(byte_level(models.BPE()), trainer, texts)


def train_unigram(
    texts: Texts, *, vocab_size: int, min_frequency: int, special: Sequence[str]
) -> TextTokenizer:
    """Unigram over GPT-2's byte alphabet, all of which it keeps, so that no text is unknown.

    It prunes by likelihood: `min_frequency`, which the other kinds go by, changes nothing.

    Source: Kudo 2018 (1804.10959); bytes as in Radford et al. 2019, section 2.2.
    """
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, *special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return _trained(byte_level(models.Unigram()), trainer, texts())


def train_wordpiece(
    texts: Texts, *, vocab_size: int, min_frequency: int, special: Sequence[str]
) -> TextTokenizer:
    """WordPiece as BERT has it, case and accents kept.

    The library numbers the characters that continue a word in the order of a hash table, another in
    each process (tokenizers 0.23), and by their ids it chooses among pairs that are as frequent. So
    a first pass collects them, and they get their ids before the second.

    Source: Devlin et al. 2019 (1810.04805), section 3, and the published code of that model.
    """

    def trained(vocab_size: int, numbered: Sequence[str]) -> TextTokenizer:
        backend = Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=[*own, *numbered],
            show_progress=False,
        )
        return _trained(backend, trainer, texts(), unk_token=_UNKNOWN)

    own = [*OWN_SPECIAL["wordpiece"], *special]
    characters = trained(0, ()).backend.get_vocab(with_added_tokens=False).keys() - {*own}
    numbered = sorted(one for one in characters if one.startswith(_CONTINUES))
    tokenizer = trained(vocab_size, numbered)
    stored = json.loads(tokenizer.backend.to_str())
    stored["added_tokens"] = [one for one in stored["added_tokens"] if one["content"] in own]
    backend = Tokenizer.from_str(json.dumps(stored))
    backend.encode_special_tokens = True
    return replace(tokenizer, backend=backend)


def _trained(
    backend: Tokenizer, trainer: trainers.Trainer, texts: Iterator[str], **special_tokens: str
) -> TextTokenizer:
    """Train a tokenizer whose EOS is `<|endoftext|>`; `special_tokens` are others by name."""
    with no_panic("A tokenizer can't be trained"):
        backend.train_from_iterator(texts, trainer)
    backend.encode_special_tokens = True
    return TextTokenizer(
        backend, {"eos_token": END_OF_TEXT, **special_tokens}, None, "tokenizer.train"
    )


TRAINERS: Mapping[Kind, Callable[..., TextTokenizer]] = {
    "bpe": lambda texts, **settings: train_bpe(texts(), **settings),
    "unigram": train_unigram,
    "wordpiece": train_wordpiece,
}
