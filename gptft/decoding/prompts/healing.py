"""Token healing: a prompt that ends within a word, given the token the model would have used.

In: a prompt's ids. Out: the same with another last token that begins as the old one did. As
transformers' own, but for tokenizers whose tokens aren't spelled as the text they stand for, and
without stripping the prompt.
"""

from collections.abc import Sequence

import torch

from gptft.decoding.loaded_model import LoadedModel


def heal(loaded: LoadedModel, ids: Sequence[int]) -> list[int]:
    """Replace a prompt's last token by the likeliest that begins with its text.

    A prompt of one token, or one whose last token is a part of a character, stays as it is.

    Source: Lundberg 2023, The Art of Prompt Design: Prompt Boundaries and Token Healing.
    """
    spelled = loaded.vocabulary.spelled
    tail = spelled.get(ids[-1])
    if len(ids) < 2 or not tail or not _is_whole(tail):
        return list(ids)
    longer = [i for i, data in spelled.items() if data.startswith(tail) and _is_whole(data)]
    head = torch.tensor([ids[:-1]], device=loaded.model.device)
    with torch.no_grad():
        logits = loaded.model(head).logits[0, -1]
    return [*ids[:-1], longer[int(logits[longer].argmax())]]


def _is_whole(data: bytes) -> bool:
    """Whether bytes are characters, none of them cut."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
