"""A record of a conversation, or of a prompt and its completion -> its messages, checked.

The names are those of TRL's datasets: `messages` of `role` and `content`, `prompt` and
`completion`. Records of `from` and `value` (ShareGPT) are read as well.
"""

import reprlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from gptft.documents.records import checked_text, type_name
from gptft.errors import DataError
from gptft.terminal.words import first_of

RecordFormat = Literal["text", "messages", "prompt_completion"]

MESSAGES = ("messages", "conversations", "conversation")  # fields that hold a list of messages
PAIR = ("prompt", "completion")
_ROLES = {
    "system": "system", "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant",
    "model": "assistant", "tool": "tool", "function": "tool",
}  # fmt: skip
_CALLS = ("tool_calls", "function_call")


class Message(NamedTuple):
    """What one says.

    Attributes:
        role: system, user, assistant or tool.
        content: the text.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Messages in order.

    Attributes:
        messages: at least one.
        num_prompt: how many of them are a prompt, of which nothing is learned, answers neither.
        is_plain: whether it is a prompt and a completion that no template is to be put around.
    """

    messages: tuple[Message, ...]
    num_prompt: int = 0
    is_plain: bool = False

    @property
    def num_answers(self) -> int:
        """How many answers may be learned."""
        return sum(message.role == "assistant" for message in self.messages[self.num_prompt :])

    @property
    def text(self) -> str:
        """What is said, without roles."""
        between = "" if self.is_plain else "\n\n"
        return between.join(message.content for message in self.messages)


@dataclass(frozen=True)
class RecordConversation:
    """How a record becomes a conversation.

    Attributes:
        format: what records are.
    """

    format: Literal["messages", "prompt_completion"]

    def columns(self, there: Collection[str], where: str) -> tuple[str, ...]:
        """The fields that are read, of those that are there.

        Raises:
            DataError: one that is needed isn't there.
        """
        if not self.fits(there):
            raise self._missing(there, where)
        if self.format == "prompt_completion":
            return PAIR
        return (next(name for name in MESSAGES if name in there),)

    def fits(self, there: Collection[str]) -> bool:
        """Whether a record of these fields has all that is needed."""
        if self.format == "prompt_completion":
            return all(name in there for name in PAIR)
        return any(name in there for name in MESSAGES)

    def type_problem(self, column: str, kind: Any) -> str | None:
        """Why a column of an Arrow type can't be read; None where it can."""
        import pyarrow as pa

        of = pa.types
        lists = (of.is_list, of.is_large_list, of.is_fixed_size_list, of.is_list_view, of.is_null)
        texts = (of.is_string, of.is_large_string, of.is_string_view, of.is_dictionary)
        passing = lists if self.format == "messages" else (*lists, *texts)
        if any(is_kind(kind) for is_kind in passing):
            return None
        return f"is of type {kind}, and must hold a list of messages, each with role and content."

    def of(self, record: Mapping[str, Any], where: str) -> Conversation:
        """The conversation of one record.

        Raises:
            DataError: it has none, or one that can't be read; the message says which message of it.
        """
        columns = self.columns(record, where)
        if self.format == "messages":
            return Conversation(tuple(_messages(record[columns[0]], f"{where}: {columns[0]!r}")))
        prompt, completion = (record[name] for name in PAIR)
        if isinstance(prompt, str) and isinstance(completion, str):
            texts = (checked_text(record[name], f"{where}: the field {name!r}") for name in PAIR)
            pair = map(Message, ("user", "assistant"), texts)
            return Conversation(tuple(pair), num_prompt=1, is_plain=True)
        if isinstance(prompt, str) or isinstance(completion, str):
            kinds = " and ".join(f"{name!r} is {type_name(record[name])}" for name in PAIR)
            raise DataError(f"{where}: {kinds}. Both must be strings, or both lists of messages.")
        before = (*_messages(prompt, f"{where}: 'prompt'"),)
        after = (*_messages(completion, f"{where}: 'completion'"),)
        return Conversation(before + after, num_prompt=len(before))

    def _missing(self, there: Collection[str], where: str) -> DataError:
        named = first_of([*map(reprlib.repr, there)], 5) if there else "none at all"
        wanted = f"a field {MESSAGES[0]!r} or {MESSAGES[1]!r}"
        if self.format == "prompt_completion":
            wanted = f"the fields {PAIR[0]!r} and {PAIR[1]!r}"
        return DataError(
            f"{where}: data.format is {self.format}, which needs {wanted}, and there are only "
            f"{named}. Rename the fields, or set data.format."
        )


def _messages(value: Any, where: str) -> Iterator[Message]:
    """The messages of a list."""
    if type(value) is not list:
        raise DataError(
            f"{where} is {type_name(value)} ({reprlib.repr(value)}), not a list of messages, each "
            'with role and content: [{"role": "user", "content": "..."}, ...].'
        )
    if not value:
        raise DataError(f"{where} is an empty list. Leave that record out.")
    for number, message in enumerate(value, start=1):
        yield _message(message, f"{where}, message {number:,}")


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, Mapping):
        raise DataError(f"{where} is {type_name(value)}, not an object with role and content.")
    if call := next((name for name in _CALLS if value.get(name)), None):
        raise DataError(
            f"{where} has {call!r}: calls of tools can't be trained on. Write them into the "
            "content as the model is to write them, or leave that record out."
        )
    role_name, content_name = ("from", "value") if "from" in value else ("role", "content")
    for name in (role_name, content_name):
        if name not in value:
            there = first_of([*map(reprlib.repr, value)], 5) if value else "none at all"
            raise DataError(f"{where} has no field {name!r}, only {there}.")
    role = value[role_name]
    known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise DataError(
            f"{where}: {reprlib.repr(role)} is no role. It must be system, user, assistant or "
            "tool; human and gpt are read as user and assistant."
        )
    content = value[content_name]
    if isinstance(content, list):
        content = "".join(_parts(content, f"{where}: {content_name!r}"))
    return Message(known, checked_text(content, f"{where}: {content_name!r}"))


def _parts(content: list[Any], where: str) -> Iterator[str]:
    """The texts of a content in parts, as models that also see pictures are given it."""
    for part in content:
        kind = part.get("type", "text") if isinstance(part, Mapping) else type_name(part)
        if kind != "text" or not isinstance(part, Mapping):
            raise DataError(
                f"{where} has a part that is {reprlib.repr(kind)}; text alone can be trained on."
            )
        yield checked_text(part.get("text"), f"{where}: a part's text")
