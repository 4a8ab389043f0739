"""A model's config -> its rates of dropout: set for training, and put back as they were stored.

With a GPT-2's own 0.1, attention leaves its fast path and keeps masks: nearly half of a step's time
and twice its memory on a CPU, and nothing gained in a fine-tuning (docs/experiments.md).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gptft.config.sections import is_dropout

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def rates(fields: Mapping[str, Any]) -> dict[str, float]:
    """Those of the fields that are rates of dropout, by their names."""
    return {
        name: value
        for name, value in fields.items()
        if is_dropout(name) and isinstance(value, int | float) and not isinstance(value, bool)
    }


def set_dropout(config: "PreTrainedConfig", rate: float, *, but: Collection[str] = ()) -> None:
    """Let a model that is made of `config` drop out at `rate`.

    Args:
        config: changed in place, and the one of its language model, where that has its own.
        rate: from 0 to below 1.
        but: names of fields that stay as they are.
    """
    for part in _parts(config):
        for name in rates(part.to_dict()):
            if name not in but:
                setattr(part, name, rate)


def restore_dropout(
    config: "PreTrainedConfig", stored: "PreTrainedConfig", *, but: Collection[str] = ()
) -> None:
    """Give `config` the rates of dropout that `stored`, of the same type, has.

    Args:
        config: changed in place; what was made of it stays as it is.
        stored: the base's config as its file has it.
        but: names of fields that stay as they are.
    """
    for part, before in zip(_parts(config), _parts(stored), strict=True):
        for name, rate in rates(before.to_dict()).items():
            if name not in but:
                setattr(part, name, rate)


def _parts(config: "PreTrainedConfig") -> Iterator["PreTrainedConfig"]:
    """A config, and the one of its language model."""
    yield config
    text: PreTrainedConfig = config.get_text_config(decoder=True)
    if text is not config:
        yield text
