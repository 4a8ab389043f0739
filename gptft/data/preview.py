"""Prepared blocks -> one block of the training split: its text, borders, and what is predicted."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gptft.data.pack import Prepared
from gptft.data.packing import document_starts
from gptft.data.plan import PackingPlan
from gptft.data.store import BlockStore
from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.terminal.text import harmless
from gptft.tokenization.framing import keeps_apart
from gptft.tokenization.token_bytes import TokenBytes, drop_first_space
from gptft.tokenization.token_ids import TokenIds
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer


@dataclass(frozen=True)
class PreviewDocument(JsonFields):
    """The part of a document that lies in a block.

    Attributes:
        data: what its tokens spell, BOS and EOS left out; a character may be cut at either end.
        num_tokens: its tokens in the block, BOS and EOS among them.
        begins: whether it begins in the block.
        ends: whether its EOS is in the block.
        untrained: bytes in front whose token is never predicted, up to the end of a character.
        first_is_untrained: whether its first token, which may be EOS, is never predicted.
    """

    data: bytes
    num_tokens: int
    begins: bool
    ends: bool
    untrained: int
    first_is_untrained: bool

    json_names = ("text", "num_tokens", "begins", "ends")

    @property
    def text(self) -> str:
        """The text as it is, but for stray bytes and what JSON doesn't escape."""
        return harmless(self.data, keeps=lambda character: not "\x7f" <= character <= "\x9f")


@dataclass(frozen=True)
class BlockPreview(JsonFields):
    """One block of the training split, decoded.

    Attributes:
        block: its number, from 1.
        of: how many blocks there are, a shorter last one among them.
        block_size: tokens of a full block.
        token_ids: its tokens.
        documents: its documents, in order; their tokens add up to the block's.
        trained_tokens: its tokens that are predicted, and so trained on.
        eos: the text of the EOS token.
        bos: the text of what stands before each document, unless it is EOS; "" for nothing.
        isolated: whether documents don't see each other (data.isolate_documents).
        shifted: whether later epochs cut the text elsewhere (data.shift_blocks).
    """

    block: int
    of: int
    block_size: int
    token_ids: tuple[int, ...]
    documents: tuple[PreviewDocument, ...]
    trained_tokens: int
    eos: str
    bos: str
    isolated: bool
    shifted: bool

    json_names = ("block", "of", "num_tokens", "trained_tokens", "token_ids", "documents")

    @property
    def num_tokens(self) -> int:
        """Tokens of the block."""
        return len(self.token_ids)


def preview_block(plan: PackingPlan, prepared: Prepared, number: int) -> BlockPreview:
    """Decode one block of the training split.

    Args:
        plan: what the blocks were prepared by.
        prepared: the blocks.
        number: from 1, the shorter last block counted; -1 is the last, -2 the one before.

    Raises:
        ConfigError: there is no such block.
        DataError: the blocks can't be read.
        ModelError: the tokenizer can't be opened.
    """
    store = BlockStore(prepared.path)
    of = len(store)
    if not 1 <= abs(number) <= of:
        raise ConfigError(
            f"--preview {number}: there is no such block. The training split has "
            + (f"{of:,} blocks: give 1 to {of}" if of > 1 else "1 block: give 1")
            + ", or -1 for the last."
        )
    index = number - 1 if number > 0 else of + number
    tokenizer = plan.tokenizer or load_tokenizer(str(prepared.path / "tokenizer"))
    bos = prepared.ledger.bos_token_ids
    isolated = keeps_apart(
        plan.isolation, bos=bos, eos_token_id=tokenizer.require_eos(), packing=plan.packing,
        num_documents=prepared.ledger.documents - prepared.ledger.validation_documents,
    )  # fmt: skip
    before = int(store[index - 1][-1]) if index else None
    documents = tuple(
        _documents(store[index], tokenizer, before=before, plan=plan, isolated=isolated)
    )
    shown = [tokenizer.backend.id_to_token(i) or "" for i in bos if i != tokenizer.eos_token_id]
    return BlockPreview(
        block=index + 1,
        of=of,
        block_size=prepared.ledger.block_size,
        token_ids=tuple(store[index].tolist()),
        documents=documents,
        trained_tokens=len(store[index]) - sum(d.first_is_untrained for d in documents),
        eos=harmless(tokenizer.special_tokens["eos_token"].encode()),
        bos=harmless("".join(shown).encode()),
        isolated=isolated,
        shifted=plan.data.shifts(plan.packing) and of > 1,
    )


def _documents(
    ids: TokenIds,
    tokenizer: TextTokenizer,
    *,
    before: int | None,
    plan: PackingPlan,
    isolated: bool,
) -> Iterator[PreviewDocument]:
    """Cut a block of shape (T,) where documents begin; the bytes of each.

    Args:
        ids: of the block.
        tokenizer: what encoded it.
        before: the last token of the block before it; None in the first block.
        plan: what the blocks were prepared by.
        isolated: whether documents don't see each other.
    """
    eos_token_id = tokenizer.require_eos()
    written = TokenBytes.of(tokenizer.backend)
    unshown = {eos_token_id, *plan.bos}
    bytes_by_id = {i: _with_space(i, written) for i in {*ids.tolist()} - unshown}
    bos = [*plan.bos] if plan.begins_each else []
    is_start = document_starts(ids, before=before, eos_token_id=eos_token_id, bos=bos)
    if before is None and not plan.begins_each:
        is_start[1] = False  # what stands before it is the first document's BOS, no end
    for start, end in pairwise([0, *(np.flatnonzero(is_start[1:]) + 1).tolist(), len(ids)]):
        own = ids[start:end].tolist()
        begins = bool(is_start[start])
        raws = [bytes_by_id[i] for i in own if i not in unshown]
        if (written.drops_first_space or written.prefix) and begins:
            drop_first_space(raws)
        first_is_untrained = start == 0 or isolated
        yield PreviewDocument(
            data=b"".join(raws),
            num_tokens=len(own),
            begins=begins,
            ends=own[-1] == eos_token_id and not (begins and own == bos[: len(own)]),
            untrained=_first_bytes(raws) if first_is_untrained and own[0] not in unshown else 0,
            first_is_untrained=first_is_untrained,
        )


def _with_space(token_id: int, written: TokenBytes) -> bytes:
    """The bytes of a token, with a space where it has a mark for the edge of a word instead."""
    entry = written.backend.id_to_token(token_id) or ""
    before = written.prefix and not entry.startswith(written.prefix)
    after = written.suffix and entry.endswith(written.suffix)
    return b" " * bool(before) + written.of_entry(entry, token_id) + b" " * bool(after)


def _first_bytes(raws: list[bytes]) -> int:
    r"""The bytes of the first token, to the end of the character that it begins.

    >>> _first_bytes([b"a", b"b"]), _first_bytes([b"a\xd0", b"\xb4", b"b"])
    (1, 3)
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    length = 0
    for raw in raws:
        try:
            decoder.decode(raw)
        except UnicodeDecodeError:
            break
        length += len(raw)
        if not decoder.getstate()[0]:
            return length
    return len(raws[0]) if raws else 0
