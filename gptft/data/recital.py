"""A block store -> the documents that a model is to recite: how each begins, and what follows."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate, islice

from tokenizers import Tokenizer

from gptft.data.store import BlockStore
from gptft.data.stored_documents import StoredDocument, stored_documents
from gptft.tokenization.token_bytes import TokenBytes

# Of a text that `samples.recite: true` has recited: what takes seconds beside minutes of training.
MAX_DOCUMENTS = 16
MAX_TOKENS = 8_192
_LONGEST_START = 16  # tokens of a document without lines that are given
_WITHIN_CHARACTERS = {bytes([byte]) for byte in range(0x80, 0xC0)}  # in UTF-8, all but their first


@dataclass(frozen=True)
class Passage:
    """A document, or as much of it as fits a block.

    Attributes:
        prompt: how it begins: its first line, or more where others begin with the same.
        prompt_ids: what the model is given: that, with the ids before it that begin a document.
        text: what follows, to the end of the document or of the last line that fits.
        num_tokens: that the model may write: those that follow, EOS among them.
    """

    prompt: str
    prompt_ids: tuple[int, ...]
    text: str
    num_tokens: int


def find_passages(
    store: BlockStore,
    *,
    asked: bool | int | None,
    tokenizer: Tokenizer,
    eos_token_id: int,
    bos: Sequence[int] = (),
) -> list[Passage]:
    """The documents to recite; equal ones once, none of a single token, and no further pieces.

    Args:
        store: the training split.
        asked: `samples.recite`: a number of documents, the first ones; True for all of a small
            text, and none of a larger one.
        tokenizer: what encoded the store.
        eos_token_id: what ends a document.
        bos: ids that begin one.
    """
    if not asked or (asked is True and store.num_tokens > MAX_TOKENS):
        return []
    every = stored_documents(store, eos_token_id=eos_token_id, bos=bos)
    found = (document for document in every if not document.is_piece)
    wanted = MAX_DOCUMENTS + 1 if asked is True else asked
    documents = [*islice(found, wanted)]
    if asked is True and len(documents) > MAX_DOCUMENTS:
        return []
    different = {document.ids.tobytes(): document for document in documents}
    written = TokenBytes.of(tokenizer)
    room = store.block_size - len(bos)
    opened = [_Opened.of(document, written, room=room) for document in different.values()]
    made = (one.passage(bos=bos, others=opened) for one in opened)
    return [passage for passage in made if passage is not None]


@dataclass(frozen=True)
class _Opened:
    """A document with its bytes.

    Attributes:
        ids: as many of its ids as fit a block.
        data: their bytes.
        ends: of each token, one past its last byte.
        is_cut: whether there is more of it than fits.
        is_ended: whether EOS follows.
    """

    ids: tuple[int, ...]
    data: bytes
    ends: tuple[int, ...]
    is_cut: bool
    is_ended: bool

    @classmethod
    def of(cls, document: StoredDocument, written: TokenBytes, *, room: int) -> "_Opened":
        ids = document.ids[:room].tolist()
        raws = written.of_ids(ids)
        ends = tuple(accumulate(map(len, raws)))
        is_ended = document.is_whole and len(document.ids) < room  # EOS takes a place, too
        is_cut = len(ids) < len(document.ids) or not document.is_whole
        return cls(tuple(ids), b"".join(raws), ends, is_cut, is_ended)

    def passage(self, *, bos: Sequence[int], others: Sequence["_Opened"]) -> Passage | None:
        """What of the document is recited; None where nothing would follow its start."""
        starts = [n for n in self._line_ends() if n < len(self.ids)] or [self._some_words()]
        own = (n for n in starts if not self._is_shared(n, others))
        given = next(own, starts[0])
        if given >= len(self.ids):
            return None
        border = self.ends[given - 1]
        text = self.data[border:].decode(errors="ignore")
        if self.is_cut and "\n" in text:  # the line that the block's end cuts is not counted
            text = text[: text.rindex("\n")]
        prompt = self.data[:border].decode(errors="ignore")
        num_tokens = len(self.ids) - given + self.is_ended
        return Passage(prompt, (*bos, *self.ids[:given]), text, num_tokens)

    def _line_ends(self) -> list[int]:
        """How many tokens reach to the end of the first line with text in it, the second, ..."""
        ends, at = [], 0
        for line in self.data.split(b"\n"):
            at += len(line)
            if line.strip():
                ends.append(bisect_left(self.ends, at) + 1)
            at += 1
        return ends

    def _some_words(self) -> int:
        """How many tokens to give of a document without lines: a quarter, to the end of a word."""
        given = min(max(len(self.ids) // 4, 1), _LONGEST_START)
        whole = [
            n for n in range(given, len(self.ids)) if self._byte_after(n) not in _WITHIN_CHARACTERS
        ]
        words = (n for n in whole if n <= 2 * given and self._byte_after(n).isspace())
        return next(words, whole[0] if whole else len(self.ids))

    def _byte_after(self, given: int) -> bytes:
        """The first byte behind so many tokens."""
        at = self.ends[given - 1]
        return self.data[at : at + 1]

    def _is_shared(self, given: int, others: Sequence["_Opened"]) -> bool:
        """Whether another document begins as this one's first `given` tokens do."""
        start = self.data[: self.ends[given - 1]]
        return any(one is not self and one.data.startswith(start) for one in others)


def lines_of(text: str) -> list[str]:
    r"""The lines that have text in them, white space at their ends left out.

    >>> lines_of("\nМороз \n\nи солнце\r\n")
    ['Мороз', 'и солнце']
    """
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def count_recited(written: str, text: str) -> int:
    r"""How many lines of `text` stand in `written` word for word, in their order.

    That is what `gptft novelty` counts as copied, by whole lines of one document.

    >>> count_recited("\na\nx\nc\nb", "\na\nb\nc"), count_recited("", "\na")
    (2, 0)
    """
    lines = lines_of(written), lines_of(text)
    return sum(block.size for block in SequenceMatcher(None, *lines, False).get_matching_blocks())
