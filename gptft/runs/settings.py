"""What run.json says -> the run's settings by their full names, and those that aren't defaults."""

from collections.abc import Iterator, Mapping
from typing import Any

from gptft.runs.read import as_mapping
from gptft.terminal.words import short_value

HIDDEN = "(set, not shown)"
SECRETS = ("hub_token", "push_to_hub_token", "token")
# Where a run lies, which is no setting of what it does.
PLACES = ("training.output_dir", "training.logging_dir", "training.resume_from_checkpoint")


def settings_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting of a run's config that has a value, by `section.key`; a secret's is hidden.

    >>> settings_of({"config": {"model": {"name": "pico"}, "training": {"hub_token": "x"}}})
    {'model.name': 'pico', 'training.hub_token': '(set, not shown)'}
    """
    return dict(_leaves("", as_mapping(facts.get("config"))))


def given_settings(facts: Mapping[str, Any]) -> dict[str, str]:
    """The settings that aren't what they are in an empty config, in short.

    `training` holds only what was given.
    """
    defaults = default_settings()
    return {
        name: short_value(value)
        for name, value in settings_of(facts).items()
        if name not in PLACES and not (name in defaults and defaults[name] == value)
    }


def default_settings() -> dict[str, Any]:
    """What the settings of every section but `training` are where a config doesn't name them."""
    from gptft.config import sections  # pydantic, which a report needs nothing of
    from gptft.config.data import DataConfig
    from gptft.config.lora import LoraConfig
    from gptft.config.section import Section

    known: Mapping[str, type[Section]] = {
        "model": sections.ModelConfig,
        "tokenizer": sections.TokenizerConfig,
        "lora": LoraConfig,
        "data": DataConfig,
        "samples": sections.SamplesConfig,
    }
    return {
        f"{section}.{name}": field.get_default(call_default_factory=True)
        for section, fields in known.items()
        for name, field in fields.model_fields.items()
        if not field.is_required()
    }


def _leaves(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(f"{prefix}{name}.", value)
        elif value not in ({}, [], None):
            yield f"{prefix}{name}", HIDDEN if name in SECRETS else value
