"""Token healing: a prompt that ends within a word gets the token the model would have used there.

As transformers' own, but for tokenizers whose tokens aren't spelled as the text they stand for, and
without stripping the prompt.
"""

from collections.abc import Sequence

import torch

from gptft.decoding.cached_model import CachedModel
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.prompts.room import last_of
from gptft.models.load import context_of
from gptft.tokenization.token_bytes import whole_text


def heal(loaded: LoadedModel, ids: Sequence[int]) -> list[int]:
    """Replace a prompt's last token by the likeliest that begins with its text.

    A prompt of one token, or one whose last token is a part of a character, stays as it is. Of a
    prompt beyond the model's context the model sees BOS and the end.

    Source: Lundberg 2023, The Art of Prompt Design: Prompt Boundaries and Token Healing.
    """
    token_bytes = loaded.vocabulary.token_bytes
    tail = token_bytes.get(ids[-1])
    if len(ids) < 2 or not tail or whole_text(tail) is None:
        return list(ids)
    room = context_of(loaded.model) or len(ids)
    visible = last_of(ids[:-1], room=room, kept=loaded.special.num_before(ids))
    prompt = torch.tensor([visible], device=loaded.model.device)  # (1, T)
    logits = CachedModel.of(loaded.model).next_logits(prompt, is_last=True)[0]  # (V,)
    longer = [
        i
        for i, raw in token_bytes.items()
        if raw.startswith(tail) and whole_text(raw) is not None and i < len(logits)
    ]
    return [*ids[:-1], longer[int(logits[longer].argmax())]]
