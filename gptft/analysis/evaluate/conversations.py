"""A tokenizer and conversations -> their ids as the model reads them, and which are answers'."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from gptft.data.encoded_conversations import as_it_is, of_completion
from gptft.documents.conversations import Conversation
from gptft.errors import DataError
from gptft.tokenization.chat_encoder import EncodedChat, chat_encoder
from gptft.tokenization.chat_format import PLAIN, bundled_template


class ConversationEncoder:
    """Encodes conversations by a tokenizer's own chat template, or the plain one.

    Attributes:
        control: the ids of control tokens, which say nothing.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take a tokenizer, with or without a template.

        Raises:
            ConfigError: its template can't be used.
        """
        self._encoder = chat_encoder(tokenizer, without=bundled_template(PLAIN))
        self._eos = tokenizer.eos_token_id
        self.control = self._encoder.control

    def encode(
        self, conversation: Conversation, *, where: str, before: Sequence[int]
    ) -> EncodedChat:
        """The ids of a conversation; of a plain pair those of `before`, its texts and EOS.

        Args:
            conversation: what is said.
            where: its place, for messages.
            before: ids that begin a text.

        Raises:
            DataError: the template can't write it.
        """
        if conversation.is_plain:
            pair = as_it_is(conversation, self._encoder)
            end = [] if self._eos is None else [self._eos]
            is_answer = [False] * len(before) + pair.is_answer + [True] * len(end)
            return EncodedChat([*before, *pair.ids, *end], is_answer, [])
        try:
            written = of_completion(conversation, self._encoder.write(conversation.messages))
        except DataError as error:
            raise DataError(f"{where}: {error}.") from None
        (found,) = self._encoder.encode([written])
        return found
