"""A base model and its tokenizer -> an error before the first step, where saving them would fail.

A run must not fail after days over a file of its base model that was wrong from the beginning.
"""

import re
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from gptft.console import Notify
from gptft.errors import ModelError
from gptft.files import is_disk_full
from gptft.terminal.words import short_value

_NAMED = re.compile(r"^- `(\w+)`:", re.MULTILINE)  # in what GenerationConfig.validate raises (5.23)


def check_savable(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, notify: Notify
) -> None:
    """Save config, generation config and tokenizer where nobody looks.

    Args:
        model: whose generation config is mended where fields in it contradict each other.
        tokenizer: saved beside it.
        notify: told what was mended.

    Raises:
        ModelError: one of them can't be saved, even so.
    """
    if _problem(model.generation_config):
        mend_generation_config(model.generation_config, notify=notify)
    parts: dict[str, Any] = {"config": model.config, "tokenizer": tokenizer}
    parts["generation config"] = model.generation_config
    for name, part in parts.items():
        if problem := _problem(part):
            raise ModelError(
                f"The base model's {name} can't be saved, and the run would fail at its end: "
                f"{problem}"
            )


def _problem(part: Any) -> str | None:
    """Why something can't be saved; None where it can, or where it can't be tried.

    A folder for temporary files that is full, or isn't there, says nothing of it.
    """
    with suppress(FileNotFoundError), TemporaryDirectory(prefix="gptft-") as folder:
        try:
            part.save_pretrained(folder)
        except Exception as error:  # each class checks its fields in its own way
            if not is_disk_full(error):
                return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def mend_generation_config(config: GenerationConfig, *, notify: Notify) -> None:
    """Leave out what `save_pretrained` refuses: fields that others leave without effect.

    What the model generates by default stays as it is: do_sample: false beside temperature: 0.6
    generates greedily, before and after.
    """
    left_out = {}
    for _ in vars(config):  # leaving out one field may make another one's contradiction visible
        try:
            config.validate(strict=True)
            break
        except ValueError as error:
            names = [name for name in _NAMED.findall(str(error)) if name not in left_out]
            if not names:
                break  # another kind of fault: saving names it
            for name in names:
                left_out[name] = getattr(config, name)
                setattr(config, name, getattr(GenerationConfig(), name))
    if left_out:
        fields = ", ".join(f"{name} {short_value(value)}" for name, value in left_out.items())
        notify(
            "The base model's generation_config.json contradicts itself and can't be saved. "
            f"The run leaves out what has no effect in it: {fields}."
        )
