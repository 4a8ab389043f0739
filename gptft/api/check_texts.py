"""The texts of a config -> what preparing them would refuse, as far as that is quickly found."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gptft.config.sections import Config
from gptft.console import stage
from gptft.data.plan import PackingPlan
from gptft.documents.first_look import DocumentCounts, look_at_texts
from gptft.documents.sources import FoundTexts
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer

_PACKED = 200_000  # bytes of text that are packed to see whether they can be
_THROUGH = 8_000_000  # bytes that `config check` takes seconds for; training finds them done


@dataclass(frozen=True)
class Looked:
    """What looking through the texts has shown.

    Attributes:
        store_dir: of their blocks, where they were prepared for it.
        said: a sentence on what wasn't looked at.
    """

    store_dir: Path | None = None
    said: tuple[str, ...] = ()


def look(
    texts: FoundTexts, plan: PackingPlan
) -> tuple[DocumentCounts | None, TextTokenizer | None]:
    """Look at the texts, and pack few of them where that alone shows whether it can be done.

    Returns:
        how many documents there are, and the tokenizer where one was trained on them.

    Raises:
        DataError: see `look_at_texts` and `prepare_blocks`.
    """
    documents = look_at_texts(texts, plan.data, cache_dir=plan.cache_dir)
    if documents is None or not _is_open(plan) or texts.num_bytes > _PACKED:
        return documents, None
    from gptft.data.prepare import prepare_blocks

    prepared = prepare_blocks(plan)
    return documents, None if plan.tokenizer else load_tokenizer(str(prepared.path / "tokenizer"))


def look_through(config: Config, plan: PackingPlan, texts: FoundTexts) -> Looked:
    """Find what only encoding shows: all of it where it takes seconds, else the beginning's.

    Args:
        config: with samples, which a tokenizer that is still to be trained may not take.
        plan: how the texts are to be packed.
        texts: that `look` has found nothing wrong with.

    Raises:
        GptftError: as `prepare_blocks`.
    """
    is_small = texts.num_bytes <= _PACKED and all(text.path for text in texts.texts)
    if is_small or not _is_open(plan):
        return Looked()  # which `look` did
    from gptft.data.trial import is_prepared, try_texts

    if is_prepared(plan, texts):
        return Looked()
    if texts.num_bytes <= _THROUGH and all(text.path for text in texts.texts):
        from gptft.data.prepare import prepare_blocks

        with stage("Preparing the texts, to see whether they can be"):
            return Looked(prepare_blocks(plan).path)
    done = 0
    if plan.chat is not None or plan.data.long_documents == "refuse":
        with stage("Looking through the texts"):
            done = try_texts(plan, texts, at_most=_THROUGH)
    unseen = [*_unseen(config, plan)]
    if not unseen:
        return Looked()
    first = f" but the first {done / 1e6:,.1f} MB" if done else ""
    size = f"{texts.num_bytes / 1e6:,.1f} MB" if texts.num_bytes else "a dataset of the hub"
    said = f"Not checked of {size}{first}: {', '.join(unseen)}. gptft prepare shows it."
    return Looked(said=(said,))


def _is_open(plan: PackingPlan) -> bool:
    """Whether texts that can be read may be such that they can't be packed."""
    is_open = plan.data.tail == "drop" or plan.tokenizer_train is not None
    return is_open or plan.chat is not None or plan.data.long_documents == "refuse"


def _unseen(config: Config, plan: PackingPlan) -> Iterator[str]:
    """What isn't known before all of the texts are encoded."""
    if plan.data.long_documents == "refuse":
        yield "whether a document is longer than a block"
    if plan.chat is not None and plan.chat.template is not None:
        yield "whether the chat template can write every conversation"
    if plan.data.tail == "drop":
        yield "whether each split fills a block (data.tail: drop)"
    if plan.tokenizer is None and config.samples.prompts:
        yield "whether the samples fit, by the tokenizer that is to be trained"
