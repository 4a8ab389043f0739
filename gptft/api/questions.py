"""A config of conversations without prompts for samples -> the same with some of its questions."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from gptft.api.check import CheckResult
from gptft.documents.read import read_conversations
from gptft.documents.scan import scan_texts
from gptft.documents.sources import VALIDATION
from gptft.errors import DataError

_NUMBER = 3
_LONGEST = 500  # characters of a question: samples are to be read


def with_questions(checked: CheckResult) -> CheckResult:
    """A checked config that samples answers to its first questions, held-out ones where it can.

    One that has prompts of its own, or no conversations, stays as it is.
    """
    config = checked.config
    if config.samples.prompts or not checked.is_chat:
        return checked
    questions = [*dict.fromkeys(islice(_questions(checked), _NUMBER))]
    samples = config.samples.model_copy(update={"prompts": questions})
    return replace(checked, config=config.model_copy(update={"samples": samples}))


def _questions(checked: CheckResult) -> Iterator[str]:
    """What users say first, in held-out files if there are any."""
    data = checked.plan.data
    texts = scan_texts(checked.texts.texts, data, cache_dir=checked.plan.cache_dir)
    held_out = [text for text in texts if text.source.number == VALIDATION]
    for text in held_out or texts:
        with suppress(DataError):  # which preparing has told
            for conversation in read_conversations(text, data):
                role, question = conversation.messages[0]
                if role == "user" and question.strip() and len(question) <= _LONGEST:
                    yield question
