"""Scanned texts of conversations and their format -> ids on disk, with marks on what is learned.

They are kept as `gptft.data.encoded_documents` keeps documents; the highest bit of an id says that
the token is learned.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from gptft.config.data import DataConfig
from gptft.data.encoded_documents import DOCUMENT, EncodedStats, write_stats
from gptft.data.marked_ids import TRAINED, mark
from gptft.documents.conversations import Conversation
from gptft.documents.read import read_conversations
from gptft.documents.scan import Progress, ScannedText
from gptft.errors import DataError
from gptft.terminal.words import count
from gptft.tokenization.chat_encoder import ChatEncoder, EncodedChat, Written
from gptft.tokenization.chat_format import ChatFormat, make_encoder
from gptft.tokenization.encoder import slow_engine_name
from gptft.tokenization.token_ids import TokenIds
from gptft.tokenization.tokenizer import TextTokenizer

_AT_ONCE = 256  # conversations that are encoded together, on all cores
_PLAIN = "{{ eos_token }}"  # of pairs that no template is put around: only their control tokens


@dataclass(frozen=True)
class _Prepared:
    """A conversation, and where it stands.

    Attributes:
        number: of its text.
        where: its place, for messages.
        conversation: what is said.
        written: by the template; None where none is put around.
    """

    number: int
    where: str
    conversation: Conversation
    written: Written | None

    @property
    def text(self) -> str:
        """All of it, the template's own words among it."""
        return self.conversation.text if self.written is None else self.written.text


class EncodedConversation(NamedTuple):
    """A conversation as ids, EOS at its end.

    Attributes:
        number: of its text.
        where: its place, for messages.
        text: what is encoded.
        ids: its ids.
        learned: of each, whether it is learned.
        num_answers: how many answers of it may be learned.
    """

    number: int
    where: str
    text: str
    ids: list[int]
    learned: list[bool]
    num_answers: int


def encode_conversations(
    texts: Sequence[ScannedText],
    data: DataConfig,
    chat: ChatFormat,
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    progress: Progress | None = None,
) -> EncodedStats:
    """Read and encode all conversations of `texts` into `folder`.

    One of which nothing is learned is left out and counted. Each ends with EOS, which is put behind
    it where the template doesn't end it so.

    Raises:
        DataError: a record is wrong, or the template can't write a conversation; a text changed
            since it was scanned.
        ModelError: the tokenizer has no EOS.
    """
    documents, unanswered = [0] * len(texts), [0] * len(texts)
    read_before = [0, *accumulate(text.facts.num_bytes for text in texts)]
    num_bytes = num_answers = 0
    with (folder / "tokens.bin").open("wb") as tokens, (folder / "documents.bin").open("wb") as out:
        for batch in encoded_batches(texts, data, chat, tokenizer):
            rows = []
            for one in batch:
                if not any(one.learned):
                    unanswered[one.number] += 1
                    continue
                size = len(one.text.encode())
                num_bytes += size
                num_answers += one.num_answers
                ids, learned = np.array(one.ids, np.uint32), np.array(one.learned)
                marked: TokenIds = mark(ids, learned, TRAINED)
                raw = marked.tobytes()
                tokens.write(raw)
                documents[one.number] += 1
                rows.append((len(ids) - 1, size, len(one.text), xxhash.xxh3_64(raw).intdigest()))
            out.write(np.array(rows, dtype=DOCUMENT).tobytes())
            if progress:
                done = max(read_before[batch[-1].number], num_bytes)
                progress("tokenizing", min(done, read_before[-1]), read_before[-1])
    stats = EncodedStats(
        slow_engine_name(), "uint32", tuple(documents), (0,) * len(texts), marked=True,
        unanswered=tuple(unanswered), answers=num_answers,
    )  # fmt: skip
    write_stats(folder, stats)
    return stats


def encoded_batches(
    texts: Sequence[ScannedText], data: DataConfig, chat: ChatFormat, tokenizer: TextTokenizer
) -> Iterator[list[EncodedConversation]]:
    """Every conversation of some texts, in order, some hundreds at a time.

    Raises:
        DataError: see `encode_conversations`.
        ModelError: the tokenizer has no EOS.
    """
    encoder = make_encoder(tokenizer, chat.template or _PLAIN)
    eos = tokenizer.require_eos()
    for batch in _batches(_prepared(texts, data, chat, encoder)):
        found = []
        for one, encoded in zip(batch, _encoded(batch, encoder), strict=True):
            ids, learned = _learned(one, encoded, chat, eos=eos)
            answers = one.conversation.num_answers
            found.append(
                EncodedConversation(one.number, one.where, one.text, ids, learned, answers)
            )
        yield found


def _prepared(
    texts: Sequence[ScannedText], data: DataConfig, chat: ChatFormat, encoder: ChatEncoder
) -> Iterator[_Prepared]:
    for number, text in enumerate(texts):
        for place, conversation in enumerate(read_conversations(text, data), start=1):
            where = f"{text.source.name}, record {place:,}"
            written = None
            if chat.template is not None:
                try:
                    written = encoder.write(conversation.messages)
                    written = of_completion(conversation, written)
                except DataError as error:
                    raise DataError(f"{where}: {error}.") from None
            yield _Prepared(number, where, conversation, written)


def _batches(prepared: Iterator[_Prepared]) -> Iterator[list[_Prepared]]:
    while batch := list(islice(prepared, _AT_ONCE)):
        yield batch


def _encoded(batch: Sequence[_Prepared], encoder: ChatEncoder) -> list[EncodedChat]:
    written = [one.written for one in batch if one.written is not None]
    if written:
        return encoder.encode(written)
    return [as_it_is(one.conversation, encoder) for one in batch]


def as_it_is(conversation: Conversation, encoder: ChatEncoder) -> EncodedChat:
    """A prompt and its completion, each encoded by itself: no token reaches over the border."""
    prompt, completion = (encoder.encode_text(m.content) for m in conversation.messages)
    is_answer = [False] * len(prompt) + [True] * len(completion)
    return EncodedChat([*prompt, *completion], is_answer, [])


def _learned(
    one: _Prepared, found: EncodedChat, chat: ChatFormat, *, eos: int
) -> tuple[list[int], list[bool]]:
    """The ids of a conversation, EOS at its end, and which of them are learned."""
    ids, learned = found.ids, found.is_answer
    is_bare = one.written is None  # a completion that no template ends
    if not ids or ids[-1] != eos or is_bare:
        ids, learned = [*ids, eos], [*learned, is_bare]
    return ids, [True] * len(ids) if chat.loss_on == "all" else learned


def of_completion(conversation: Conversation, written: Written) -> Written:
    """What is written, with the answers of the completion alone.

    Raises:
        DataError: the template marks more or fewer answers than there are.
    """
    roles = [message.role for message in conversation.messages]
    passed = roles[: conversation.num_prompt].count("assistant")
    if passed and len(written.answers) != roles.count("assistant"):
        raise DataError(
            f"the chat template marks {count(len(written.answers), 'answer')} where there are "
            f"{roles.count('assistant'):,}, so that those of the prompt can't be told. Give the "
            "conversation as messages, or name another template"
        )
    return replace(written, answers=written.answers[passed:])
