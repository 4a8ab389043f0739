"""Prompts and the model's own chat template -> the ids of conversations, up to their answers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gptft.errors import ConfigError, DataError
from gptft.tokenization.chat_encoder import ChatEncoder


class ChatPrompt(NamedTuple):
    """A prompt in its template.

    Attributes:
        ids: of all of it.
        num_before: how many of them stand before what the user says, 0 where that can't be told.
    """

    ids: list[int]
    num_before: int


class _Question(NamedTuple):
    role: str
    content: str


def chat_problem(settings: Mapping[str, Any]) -> str | None:
    """The setting that can't be had in a conversation, and why; None where there is none.

    >>> chat_problem({"token_healing": True})
    "token_healing doesn't go with a chat template, which ends a prompt itself. Leave it out."
    """
    if settings.get("context"):
        return "context doesn't go with a chat template. Put it into the prompt."
    if settings.get("token_healing"):
        return (
            "token_healing doesn't go with a chat template, which ends a prompt itself. Leave it "
            "out."
        )
    return None


def encode_chats(encoder: ChatEncoder, prompts: Sequence[str]) -> list[ChatPrompt]:
    """The ids of conversations that prompts open, each up to where the answer begins.

    What a user types stays text, `<|im_end|>` too: only the template writes control tokens. The ids
    are those that training makes of the same message.

    Raises:
        ConfigError: the template refuses a prompt, or doesn't show where the prompt is, which has
            control tokens in it.
    """
    encoded = []
    for prompt in prompts:
        try:
            written = encoder.write(
                [_Question("user", prompt)], add_generation_prompt=True, find_contents=True
            )
            (chat,) = encoder.encode([written])
        except DataError as error:
            raise ConfigError(f"The prompt can't be put into a conversation: {error}.") from None
        begin = written.contents[0][0] if written.contents else 0
        encoded.append(ChatPrompt(chat.ids, sum(stop <= begin for stop in chat.stops)))
    return encoded
