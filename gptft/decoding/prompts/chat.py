"""A prompt and the model's own chat template -> the ids of a conversation, up to its answer."""

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from gptft.decoding.encoding import decode, encode_bare, explained
from gptft.errors import ConfigError
from gptft.models.load import special_ids

_MARK = "\ue000\uf8ff\ue001"  # stands for a prompt; of Unicode's private use


class ChatPrompt(NamedTuple):
    """A prompt in its template.

    Attributes:
        ids: of all of it.
        num_before: how many of them stand before what the user says, 0 where that can't be told.
    """

    ids: list[int]
    num_before: int


def encode_chat(tokenizer: PreTrainedTokenizerBase, prompt: str) -> ChatPrompt:
    """The ids of a conversation that a prompt opens, up to where the answer begins.

    What a user types stays text, `<|im_end|>` too, wherever the tokenizer can keep it so: only the
    template writes control tokens.

    Raises:
        ConfigError: the tokenizer has no chat template, or one that refuses the prompt, or doesn't
            show where the prompt is, which has control tokens in it.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            "This model's tokenizer has no chat template: it was never tuned to hold a "
            "conversation. Leave --chat out; --template dialogue frames a prompt for any model."
        )
    text, marked = (_rendered(tokenizer, said) for said in (prompt, _marked(prompt)))
    before, *after = marked.split(_MARK)
    is_framed = len(after) == 1 and text.startswith(before) and text.endswith(after[0])
    ids, head = _encoded(tokenizer, text), _encoded(tokenizer, before if is_framed else "")
    control = special_ids(tokenizer)
    places = [place for place, i in enumerate(ids) if i in control]
    first, of_template = (
        sum(i in control for i in part) for part in (head, _encoded(tokenizer, marked))
    )
    typed = places[first : first + len(places) - of_template]
    if typed and not is_framed:
        names = ", ".join({_shown(tokenizer, ids[place]) for place in typed})
        raise ConfigError(
            f"The prompt holds {names}, and the model's chat template doesn't write a prompt once "
            "and as it is: control tokens in it can't be told from the template's own. Leave them "
            "out of the prompt."
        )
    for place in reversed(typed):
        ids[place : place + 1] = _as_text(tokenizer, _shown(tokenizer, ids[place]))
    same = takewhile(lambda pair: pair[0] == pair[1], zip(ids, head, strict=False))
    return ChatPrompt(ids, len([*same]))


def _rendered(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    chat = [{"role": "user", "content": prompt}]
    from gptft.tokenization.chat_template import render_chat  # here: few texts need Jinja

    try:
        template = tokenizer.get_chat_template()
        special = tokenizer.special_tokens_map
        return render_chat(template, chat, add_generation_prompt=True, special_tokens=special)
    except Exception as error:  # a template is a program: it raises what it likes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"The model's chat template can't frame the prompt: {reason}") from None


def _marked(prompt: str) -> str:
    """The mark in a prompt's place, with its white space, which some templates take off."""
    core = prompt.strip()
    return prompt.replace(core, _MARK, 1) if core else _MARK


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of what a template wrote, as `apply_chat_template` makes them."""
    with explained(tokenizer):
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _shown(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    return decode(tokenizer, [token_id], skip_special_tokens=False)


def _as_text(tokenizer: PreTrainedTokenizerBase, text: str) -> Sequence[int]:
    """The ids of a text in the midst of another: some tokenizers put a space before a text."""
    anchor, together = (encode_bare(tokenizer, t) for t in ("a", f"a{text}"))
    is_whole = together[: len(anchor)] == anchor
    return together[len(anchor) :] if is_whole else encode_bare(tokenizer, text)
