"""A config of conversations without prompts for samples -> the same with some of its questions."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

from gptft.api.check import CheckResult
from gptft.api.samples import fitting_prompts
from gptft.console import Notify
from gptft.documents.read import read_conversations
from gptft.documents.scan import scan_texts
from gptft.documents.sources import VALIDATION
from gptft.errors import DataError
from gptft.tokenization.tokenizer import load_tokenizer

_NUMBER = 3
_TRIED = 1_000  # questions, of which so many may fit
_LONGEST = 500  # characters of a question: samples are to be read


def with_questions(checked: CheckResult, *, store_dir: Path, notify: Notify) -> CheckResult:
    """A checked config that samples answers to its first questions, held-out ones where it can.

    One that has prompts of its own, or no conversations, stays as it is.

    Args:
        checked: the config.
        store_dir: of its blocks, where a tokenizer lies that was trained.
        notify: told where no question leaves the model room for an answer.
    """
    config, template = checked.config, checked.plan.template
    if config.samples.prompts or template is None:
        return checked
    tokenizer = checked.plan.tokenizer or load_tokenizer(str(store_dir / "tokenizer"))
    asked = dict.fromkeys(islice(_questions(checked), _TRIED))
    fitting = fitting_prompts(
        asked, config, checked.settings, tokenizer=tokenizer, template=template
    )
    questions = [*islice(fitting, _NUMBER)]
    if not questions:
        notify(
            "No samples: no question of the texts leaves the model's context room for "
            f"generation.max_new_tokens {checked.settings['max_new_tokens']:,}. Set fewer, or "
            "samples.prompts."
        )
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
