"""Counts of a prepared corpus -> the account of where every byte and token went."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from gptft.files import JsonFields
from gptft.terminal.words import account_of_skipped, count, percent

NAMED = 5  # so many of a kind are named one by one, the rest are counted

_LATER = {
    "packing", "padding_tokens", "validation_padding_tokens", "split_documents", "trained_tokens",
    "validation_trained_tokens", "book_files", "answers", "unanswered_documents",
}  # fmt: skip


@dataclass(frozen=True)
class Ledger(JsonFields):
    """What went into a block store, and what came out.

    For both splits together: tokens + num_eos + num_bos + padding_tokens = num_blocks * block_size
    + tail_tokens + dropped_tokens, the validation split's counts included in each. A document that
    a weight repeats counts as often as it stands in the blocks.

    Attributes:
        files: texts read: files, and datasets of the hub.
        skipped_files: files of named folders that were skipped.
        documents: texts in the blocks, none of them empty.
        empty_documents: texts of nothing but white space, left out.
        bytes: of the documents in UTF-8.
        characters: of the documents (Unicode code points).
        tokens: of the documents, without BOS and EOS.
        num_eos: EOS tokens added, one a document.
        block_size: tokens a block.
        num_blocks: full blocks of the training split.
        tail_tokens: tokens in the training split's last, shorter block, where it was kept.
        dropped_tokens: training tokens in no block.
        validation_documents: documents in the validation split.
        validation_blocks: full blocks of the validation split.
        validation_tail_tokens: tokens in its shorter last block.
        validation_dropped_tokens: validation tokens in no block.
        vocab_size: of the tokenizer.
        eos_token_id: the id that ends each document.
        tail: what the config asked for, `keep` or `drop`.
        engine: what encoded the text, with its version.
        max_token_id: the highest id in the blocks.
        num_bos: BOS tokens added; where BOS is EOS, before the first document of a split alone.
        bos_token_ids: the ids that begin a document; none where nothing does.
        validation_tokens: of the validation split, without BOS and EOS.
        repeated_documents: of `documents`, repetitions that weights above 1 ask for.
        unused_documents: left out by weights below 1.
        duplicate_documents: equal to an earlier one; they are kept.
        held_out_duplicates: held-out documents that also stand in the training split.
        decoded_files: files in other encodings than UTF-8.
        crlf_files: files with Windows line ends that are kept.
        book_files: books and pages, of which only the text is read.
        left_out: how much of each kind in them isn't part of their text, such as notes.
        longest_tokens: of the longest document.
        shortest_tokens: of the shortest document.
        packing: how documents became blocks, `stream` or `best_fit`.
        padding_tokens: that fill up the training split's blocks, by best_fit.
        validation_padding_tokens: those of the validation split.
        split_documents: by best_fit, documents longer than a block, which are in several.
        trained_tokens: of the training split, those trained on, where that isn't all.
        validation_trained_tokens: those of the validation split.
        answers: of conversations, that may be learned.
        unanswered_documents: conversations of which nothing is learned; they are left out.
        chat: how conversations are written and learned; empty where documents are texts.
        skipped: files that were skipped, by reason.
        named: some of the texts, by name: empty, duplicate, decoded, crlf, book, longest, shortest.
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
    engine: str = ""
    max_token_id: int = -1
    num_bos: int = 0
    bos_token_ids: tuple[int, ...] = ()
    validation_tokens: int = 0
    repeated_documents: int = 0
    unused_documents: int = 0
    duplicate_documents: int = 0
    held_out_duplicates: int = 0
    decoded_files: int = 0
    crlf_files: int = 0
    book_files: int = 0
    longest_tokens: int = 0
    shortest_tokens: int = 0
    packing: str = "stream"
    padding_tokens: int = 0
    validation_padding_tokens: int = 0
    split_documents: int = 0
    trained_tokens: int = 0
    validation_trained_tokens: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    answers: int = 0
    unanswered_documents: int = 0
    chat: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    named: Mapping[str, list[str]] = field(default_factory=dict)

    json_also = ("bytes_per_token", "validation_share", "fill_share", "trained_share")
    json_digits: ClassVar = {
        "bytes_per_token": 4, "validation_share": 6, "fill_share": 6, "trained_share": 6
    }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Ledger | None":
        """The ledger in `values`, or None where another version of gptft wrote it.

        One that says nothing of BOS is older, and there is none in its blocks; one of a stream of
        text says nothing of padding and of what is trained on.
        """
        names = {field.name for field in fields(cls)}
        bos = tuple(values.get("bos_token_ids", ()))
        absent = {field.name: field.default for field in fields(cls) if field.name in _LATER}
        absent |= {"left_out": {}, "chat": {}}
        values = {"num_bos": 0, **absent, **values, "bos_token_ids": bos}
        known = {name: value for name, value in values.items() if name in names}
        return cls(**known) if set(known) == names else None

    @classmethod
    def counts(cls) -> tuple[str, ...]:
        """The names of the fields that are whole numbers."""
        return tuple(field.name for field in fields(cls) if field.type is int)

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes a token of text spells, on average."""
        return self.bytes / max(self.tokens, 1)

    @property
    def train_tokens(self) -> int:
        """Tokens of the training split's blocks: what one epoch sees."""
        return self.num_blocks * self.block_size + self.tail_tokens - self.padding_tokens

    @property
    def all_padding(self) -> int:
        """Tokens that fill up the blocks of both splits."""
        return self.padding_tokens + self.validation_padding_tokens

    @property
    def fill_share(self) -> float:
        """The share of the training split's blocks that is no padding."""
        room = self.num_blocks * self.block_size + self.tail_tokens
        return self.train_tokens / max(room, 1)

    @property
    def trained_share(self) -> float:
        """The share of the training split's tokens that is trained on."""
        return self.trained_tokens / max(self.train_tokens, 1) if self.trained_tokens else 1.0

    @property
    def validation_share(self) -> float:
        """The share of all text tokens that is held out."""
        return self.validation_tokens / max(self.tokens, 1)

    def sentences(self) -> list[str]:
        """The account in plain words, one fact a sentence."""
        said = [
            f"{count(self.files, 'file')}, {count(self.documents, 'document')}: "
            f"{count(self.bytes, 'byte')}, {count(self.characters, 'character')}.",
            f"{count(self.tokens, 'token')} ({self.bytes_per_token:.2f} bytes a token) + "
            f"{self.num_eos:,} EOS, one after each document{self._bos_words()}.",
            self._blocks_sentence(),
        ]
        if self.chat:
            said.append(self._chat_sentence())
        if self.trained_tokens:
            said.append(
                f"Trained on: {count(self.trained_tokens, 'token')}, "
                f"{percent(self.trained_share)} of the training split's; the others are read only."
            )
        if self.validation_documents:
            said.append(self._validation_sentence())
        if self.documents > 1 and self.longest_tokens:
            said.append(
                f"Longest document: {count(self.longest_tokens, 'token')}{self._names('longest')}; "
                f"shortest: {self.shortest_tokens:,}{self._names('shortest')}."
            )
        if self.repeated_documents:
            repeated = f"{self.repeated_documents:,}"
            said.append(f"{repeated} of the documents are repetitions, by the weights.")
        if self.unused_documents:
            said.append(f"{count(self.unused_documents, 'document')} left out by the weights.")
        return [*said, *self._peculiarities()]

    def _chat_sentence(self) -> str:
        how = "as they are, EOS behind each"
        if self.chat.get("template"):
            how = f"by the chat template {self.chat.get('name')}"
        learned = "answers alone" if self.chat.get("loss_on") == "answers" else "every token"
        return f"Conversations, {how}: {count(self.answers, 'answer')}; {learned} learned."

    def _bos_words(self) -> str:
        if not self.num_bos:
            return ""
        each = "one" if len(self.bos_token_ids) <= 1 else f"{len(self.bos_token_ids):,}"
        where = f"{each} before each"
        if self.num_bos < self.documents:
            where = "before the first of a part; elsewhere that EOS is the BOS of the next"
        return f", + {self.num_bos:,} BOS, {where}"

    def _blocks_sentence(self) -> str:
        blocks = f"{count(self.num_blocks, 'block')} of {self.block_size:,} tokens"
        if self.packing == "best_fit":
            return self._fitted_sentence(blocks)
        if not self.num_blocks and self.tail_tokens:
            return (
                f"The text is shorter than one block of {self.block_size:,} tokens: all "
                f"{self.tail_tokens:,} are kept as one shorter block, nothing is padded."
            )
        if self.tail_tokens:
            return f"{blocks} and a last, shorter one of {self.tail_tokens:,}; nothing is padded."
        if self.dropped_tokens:
            return f"{blocks}; {count(self.dropped_tokens, 'token')} beyond them dropped."
        return f"{blocks}; nothing is left over."

    def _fitted_sentence(self, blocks: str) -> str:
        tail = f" and a shorter one of {self.tail_tokens:,}" if self.tail_tokens else ""
        if not self.num_blocks:
            blocks, tail = f"One block of {self.tail_tokens:,} tokens", ""
        full = percent(self.fill_share)
        said = f"{blocks}{tail}, filled by whole documents: {full} full"
        said += (
            f", {count(self.padding_tokens, 'token')} of padding." if self.padding_tokens else "."
        )
        if self.dropped_tokens:
            said += f" The emptiest block is dropped, of {count(self.dropped_tokens, 'token')}."
        if self.split_documents:
            are = "is" if self.split_documents == 1 else "are"
            said += (
                f" {count(self.split_documents, 'document')} longer than a block {are} split into "
                "full blocks and a rest."
            )
        return said

    def _validation_sentence(self) -> str:
        blocks = self.validation_blocks + (self.validation_tail_tokens > 0)
        share = f" ({percent(self.validation_share)} of the tokens)"
        said = (
            f"Held out for validation: {count(self.validation_documents, 'document')}, "
            f"{count(blocks, 'block')}{share if self.validation_tokens else ''}."
        )
        if self.held_out_duplicates:
            stand = "stands" if self.held_out_duplicates == 1 else "stand"
            said += (
                f" {self.held_out_duplicates:,} of them also {stand} in the training split, word "
                "for word: the held-out loss will look better than it is."
            )
        return said

    def _peculiarities(self) -> list[str]:
        """What a user should know of the texts, where there is anything."""
        equal, crlf = (
            "equal to an earlier one, kept",
            "with Windows line ends (CR LF), kept as they are",
        )
        kinds = (
            ("empty", self.empty_documents, "empty document", "left out", ""),
            (
                "unanswered",
                self.unanswered_documents,
                "conversation",
                "without an answer to learn, left out",
                "",
            ),
            ("duplicate", self.duplicate_documents, "document", equal, ""),
            ("decoded", self.decoded_files, "file", "not in UTF-8, decoded", ""),
            ("book", self.book_files, "file", "of which only the text is read", ""),
            ("crlf", self.crlf_files, "file", crlf, "; data.line_ends: lf makes them LF"),
        )
        said = [
            f"{count(number, noun)} {what}{self._names(kind, number)}{way_out}."
            for kind, number, noun, what, way_out in kinds
            if number
        ]
        if self.book_files > 1 and self.left_out:
            said.append(f"Left out of them: {left_out_words(self.left_out)}.")
        if self.skipped_files:
            known = account_of_skipped(self.skipped) if self.skipped else ""
            said.append(f"Skipped: {known or count(self.skipped_files, 'file')}.")
        return said

    def _names(self, kind: str, total: int = 0) -> str:
        """Some names of a kind in brackets, if any are known."""
        names = self.named.get(kind, [])
        more = f", and {total - len(names):,} more" if total > len(names) else ""
        return f" ({', '.join(names)}{more})" if names else ""


def left_out_words(left_out: Mapping[str, int]) -> str:
    """What isn't part of a text, in words.

    >>> left_out_words({"notes": 1, "images": 1200}), left_out_words({})
    ('notes 1, images 1,200', 'nothing')
    """
    return ", ".join(f"{what} {number:,}" for what, number in left_out.items()) or "nothing"
