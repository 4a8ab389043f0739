"""Prepared blocks -> one block of the training split: its text, borders, and what is predicted."""

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from gptft.data.marked_ids import Flags
from gptft.data.pack import Prepared
from gptft.data.packing import document_starts
from gptft.data.plan import PackingPlan
from gptft.data.store import BlockStore
from gptft.errors import ConfigError
from gptft.files import JsonFields
from gptft.terminal.text import harmless
from gptft.tokenization.framing import keeps_apart
from gptft.tokenization.token_bytes import TokenBytes, drop_first_space
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer

_CONTINUING = bytes(range(0x80, 0xC0))  # in UTF-8, the bytes of a character but its first


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
        parts: `data` in stretches that are trained on, and that aren't, in turn; None where nothing
            is marked so. No character is cut between two.
        end_is_trained: whether its EOS is trained on.
    """

    data: bytes
    num_tokens: int
    begins: bool
    ends: bool
    untrained: int
    first_is_untrained: bool
    parts: tuple[tuple[bytes, bool], ...] | None = None
    end_is_trained: bool = True

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
        shuffled: whether each epoch has the documents in another order (data.shuffle_documents).
        padding_tokens: EOS that fill the block up; they aren't among `token_ids`.
        trained: of each token, whether it is trained on; None where all are.
        num_pieces: parts of longer documents that were split, none of them a first one.
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
    padding_tokens: int = 0
    trained: tuple[bool, ...] | None = None
    num_pieces: int = 0
    shuffled: bool = False

    json_names = (
        "block", "of", "num_tokens", "padding_tokens", "trained_tokens", "token_ids", "trained",
        "documents",
    )  # fmt: skip

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
    documents = tuple(_documents(store, index, tokenizer, plan=plan, isolated=isolated))
    ids, trained = store[index], store.trained(index)
    num_trained = len(ids) - sum(d.first_is_untrained for d in documents)
    if trained is not None:
        starts = [0, *accumulate(d.num_tokens for d in documents)]
        firsts = [n for n, d in zip(starts, documents, strict=False) if d.first_is_untrained]
        num_trained = int(trained.sum()) - int(trained[firsts].sum())
    shown = [tokenizer.backend.id_to_token(i) or "" for i in bos if i != tokenizer.eos_token_id]
    return BlockPreview(
        block=index + 1,
        of=of,
        block_size=prepared.ledger.block_size,
        token_ids=tuple(ids.tolist()),
        documents=documents,
        trained_tokens=num_trained,
        eos=harmless(tokenizer.special_tokens["eos_token"].encode()),
        bos=harmless("".join(shown).encode()),
        isolated=isolated,
        shifted=plan.data.shifts(plan.packing) and of > 1,
        shuffled=plan.data.shuffles(plan.packing),
        padding_tokens=store.block_size - len(ids) if index < store.num_blocks else 0,
        trained=None if trained is None else tuple(trained.tolist()),
        num_pieces=0 if (split := store.continues(index)) is None else int(split.sum()),
    )


def _documents(
    store: BlockStore,
    index: int,
    tokenizer: TextTokenizer,
    *,
    plan: PackingPlan,
    isolated: bool,
) -> Iterator[PreviewDocument]:
    """Cut a block where documents begin; the bytes of each.

    Args:
        store: the training split.
        index: of the block.
        tokenizer: what encoded it.
        plan: what the blocks were prepared by.
        isolated: whether documents don't see each other.
    """
    ids, trained = store[index], store.trained(index)
    eos_token_id = tokenizer.require_eos()
    written = TokenBytes.of(tokenizer.backend)
    unshown = {eos_token_id, *plan.bos}
    bytes_by_id = {i: _with_space(i, written) for i in {*ids.tolist()} - unshown}
    within = dict.fromkeys(unshown, b"")  # EOS within a conversation is shown, as BOS never is
    within[eos_token_id] = tokenizer.special_tokens["eos_token"].encode()
    bos = [*plan.bos] if plan.begins_each else []
    is_start = _starts(store, index, eos_token_id=eos_token_id, plan=plan)
    continues = store.continues(index)
    for start, end in pairwise([0, *(np.flatnonzero(is_start[1:]) + 1).tolist(), len(ids)]):
        own = ids[start:end].tolist()
        begins = bool(is_start[start]) and not (continues is not None and continues[start])
        ends = own[-1] == eos_token_id and not (begins and own == bos[: len(own)])
        first_is_untrained = start == 0 or isolated
        raws = [bytes_by_id[i] for i in own if i not in unshown]
        if trained is not None:
            raws = [bytes_by_id[i] if i in bytes_by_id else within[i] for i in own]
            raws[-1] = b"" if ends else raws[-1]
            if begins and own[: len(bos)] == bos:
                raws[: len(bos)] = [b""] * len(bos)
        if (written.drops_first_space or written.prefix) and begins:
            drop_first_space(raws)
        parts = None
        if trained is not None:
            flags = trained[start:end].copy()
            flags[0] &= not first_is_untrained
            parts = _parts(raws, flags.tolist())
        yield PreviewDocument(
            data=b"".join(raws),
            num_tokens=len(own),
            begins=begins,
            ends=ends,
            untrained=_first_bytes(raws) if first_is_untrained and own[0] not in unshown else 0,
            first_is_untrained=first_is_untrained,
            parts=parts,
            end_is_trained=trained is None or bool(trained[end - 1]),
        )


def _starts(store: BlockStore, index: int, *, eos_token_id: int, plan: PackingPlan) -> Flags:
    """Which tokens of a block are the first of a document."""
    if (begins := store.begins(index)) is not None:
        return begins
    before = int(store[index - 1][-1]) if index else None
    bos = plan.bos if plan.begins_each else ()
    is_start = document_starts(store[index], before=before, eos_token_id=eos_token_id, bos=bos)
    if before is None and not plan.begins_each:
        is_start[1] = False  # what stands before it is the first document's BOS, no end
    return is_start


def _parts(raws: Sequence[bytes], flags: Sequence[bool]) -> tuple[tuple[bytes, bool], ...]:
    r"""The bytes of tokens in stretches of one flag, each to the end of a character.

    >>> _parts([b"a", b"b\xd0", b"\xb4c", b"d"], [False, False, True, True])
    ((b'ab\xd0\xb4', False), (b'cd', True))
    """
    stretches: list[tuple[bytes, bool]] = []
    for raw, flag in zip(raws, flags, strict=True):
        if stretches and stretches[-1][1] != flag:
            # The bytes of a character that the stretch before has begun.
            rest = raw.lstrip(_CONTINUING)
            if cut := raw[: len(raw) - len(rest)]:
                stretches[-1] = (stretches[-1][0] + cut, stretches[-1][1])
            raw = rest
        if raw and (not stretches or stretches[-1][1] != flag):
            stretches.append((raw, flag))
        elif raw:
            stretches[-1] = (stretches[-1][0] + raw, flag)
    return tuple(stretches)


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
