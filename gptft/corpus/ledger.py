"""The account of a prepared corpus: where every byte and token went.

In: counts. Out: a frozen `Ledger`, its sentences for a person, its dictionary for a script.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Ledger:
    """What went into a block store, and what came out.

    For both parts together: tokens + num_eos = num_blocks * block_size + tail_tokens +
    dropped_tokens, the validation part's counts included in each.

    Attributes:
        files: text files read.
        skipped_files: files passed over in named folders: hidden, excluded, or of other suffixes.
        documents: texts that were not empty.
        empty_documents: texts of nothing but white space, left out.
        bytes: of the documents in UTF-8.
        characters: of the documents (Unicode code points).
        tokens: of the documents, without EOS.
        num_eos: EOS tokens added, one a document.
        block_size: tokens a block.
        num_blocks: full blocks of the training part.
        tail_tokens: tokens in the training part's last, shorter block, where it was kept.
        dropped_tokens: training tokens in no block.
        validation_documents: documents in the validation part.
        validation_blocks: full blocks of the validation part.
        validation_tail_tokens: tokens in its shorter last block.
        validation_dropped_tokens: validation tokens in no block.
        vocab_size: of the tokenizer.
        eos_token_id: the id that ends each document.
        tail: what the config asked for, `keep` or `drop`.
    """

    files: int
    skipped_files: int
    documents: int
    empty_documents: int
    bytes: int
    characters: int
    tokens: int
    num_eos: int
    block_size: int
    num_blocks: int
    tail_tokens: int
    dropped_tokens: int
    validation_documents: int
    validation_blocks: int
    validation_tail_tokens: int
    validation_dropped_tokens: int
    vocab_size: int
    eos_token_id: int
    tail: Literal["keep", "drop"]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Ledger | None":
        """The ledger in `values`, or None where another version of gptft wrote it."""
        names = {field.name for field in fields(cls)}
        known = {name: value for name, value in values.items() if name in names}
        return cls(**known) if set(known) == names else None

    def to_dict(self) -> dict[str, Any]:
        """All counts by name."""
        return asdict(self)

    def sentences(self) -> list[str]:
        """The account in plain words, one fact a sentence."""
        said = [
            f"{_count(self.files, 'file')}, {_count(self.documents, 'document')}: "
            f"{self.bytes:,} bytes, {self.characters:,} characters.",
            f"{self.tokens:,} tokens ({self.bytes / self.tokens:.2f} bytes a token) + "
            f"{self.num_eos:,} EOS, one after each document.",
            self._blocks_sentence(),
        ]
        if self.validation_documents:
            said.append(self._validation_sentence())
        if self.empty_documents:
            said.append(f"{_count(self.empty_documents, 'empty document')} left out.")
        if self.skipped_files:
            said.append(
                f"{_count(self.skipped_files, 'file')} passed over: hidden, excluded, "
                "a README, or neither .txt nor .md."
            )
        return said

    def _blocks_sentence(self) -> str:
        blocks = f"{_count(self.num_blocks, 'block')} of {self.block_size:,} tokens"
        if not self.num_blocks and self.tail_tokens:
            return (
                f"The text is shorter than one block of {self.block_size:,} tokens: all "
                f"{self.tail_tokens:,} are kept as one shorter block, nothing is padded."
            )
        if self.tail_tokens:
            return f"{blocks} and a last, shorter one of {self.tail_tokens:,}; nothing is padded."
        if self.dropped_tokens:
            return f"{blocks}; {_count(self.dropped_tokens, 'token')} beyond them dropped."
        return f"{blocks}; nothing is left over."

    def _validation_sentence(self) -> str:
        blocks = self.validation_blocks + (self.validation_tail_tokens > 0)
        return (
            f"Held out for validation: {_count(self.validation_documents, 'document')}, "
            f"{_count(blocks, 'block')}."
        )


def _count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> _count(1, "block"), _count(2000, "block")
    ('1 block', '2,000 blocks')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
