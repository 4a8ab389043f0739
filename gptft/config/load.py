"""A YAML file and overrides -> a `Config`, or every problem at once with file:line:column.

Precedence is default < YAML < override.
"""

import copy
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gptft.config.flags import flag_settings
from gptft.config.section import Section
from gptft.config.sections import Config
from gptft.config.settings import BOUNDS, Setting, read_settings
from gptft.config.source import YAML_SUFFIXES, KeyPath, Problem, Source, parse_value, read_yaml
from gptft.config.suggest import did_you_mean
from gptft.config.training_conflicts import training_problems
from gptft.config.training_fields import as_meant, known_fields, value_problems
from gptft.config.training_ignored import settle
from gptft.config.training_kwargs import kwargs_as_meant
from gptft.errors import ConfigError
from gptft.terminal.words import short_value, wrong_value
from gptft.text.unicode import text_problem

# How a text is trained on where no config says otherwise: by TrainingArguments' own defaults a poem
# gets three steps of 5e-5, which change nothing. By these it is memorized, which
# tests/test_quickstart.py holds them to.
TEXT_RECIPE: dict[str, Any] = {
    "num_train_epochs": 40,
    "per_device_train_batch_size": 1,
    "learning_rate": 2e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "save_strategy": "no",
    "stop_when_memorized": True,
}
# Beside it: documents that see each other are learned in their order, and their first lines, which
# begin a prompt, are not recognised (docs/experiments.md).
_BESIDE_RECIPE: dict[str, dict[str, Any]] = {
    "data": {"isolate_documents": "auto"},
    "samples": {"recite": True},
}

# How conversations are trained on where no config says otherwise: their answers alone are learned,
# each of them an example of many, and none is to be recited.
CHAT_RECIPE: dict[str, Any] = {
    "num_train_epochs": 8,
    "per_device_train_batch_size": 1,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "save_strategy": "no",
}

# Every setting of `generation` by name, asked for only where a config has one: each strategy's file
# is read for it.
GenerationSettings = Callable[[], Mapping[str, Setting]]
_Fields = dict[str, FieldInfo]
# Sections that may be written as one field alone: where, and which.
_WEIGHTED: dict[KeyPath, str] = {("data", "train"): "path", ("model", "average_with"): "name"}


@dataclass(frozen=True)
class Given:
    """A setting's value that doesn't come from the config.

    Attributes:
        keys: the setting's name, by its parts.
        value: as YAML gives it.
        place: where it was given, for messages.
    """

    keys: tuple[str, ...]
    value: Any
    place: str


# `section.key=value`, `--flag=value`, or a value that was read already.
Override = str | Given


@dataclass(frozen=True)
class ConfigFile:
    """A config as it was read.

    Attributes:
        source: its text's values and their places.
        config: None where its sections can't be made of the values.
        problems: all that is wrong with it.
        notices: sentences on settings that gave way to others.
    """

    source: Source
    config: Config | None
    problems: tuple[Problem, ...]
    notices: tuple[str, ...] = ()

    def checked(self, problems: Iterable[Problem] = ()) -> Config:
        """The config, where nothing is wrong with it.

        Args:
            problems: found by those who know more than the file.

        Raises:
            ConfigError: every problem, in the order of the file.
        """
        found = sorted(dict.fromkeys([*self.problems, *problems]), key=lambda problem: problem[0])
        if found or self.config is None:
            raise ConfigError(*(message for _, message in found))
        return self.config


def read_config(
    path: Path,
    *,
    overrides: Sequence[Override],
    generation: GenerationSettings,
    holds_chats: Callable[[Path], bool],
) -> ConfigFile:
    """Read a YAML file, or make the config of a text file or folder to train on.

    Args:
        path: a YAML file, a text file, or a folder of texts.
        holds_chats: whether what is no YAML file holds conversations.
        overrides: `section.key=value` each, or `--flag=value` (see `flag_settings`), the value as
            YAML reads it, or values that were read already; the last one wins.
        generation: the settings of the section of that name and of each of `strategies`.

    Raises:
        ConfigError: the file can't be read or isn't YAML, or an override has no key.
    """
    if is_yaml(path):
        return read_file(path, overrides=overrides, generation=generation)
    return default_file(path, overrides=overrides, generation=generation, is_chat=holds_chats(path))


def is_yaml(path: Path) -> bool:
    """Whether a path names a YAML config, there or not, and no text."""
    # os.path: Path.exists raises where a name is too long or its folder may not be looked into.
    return path.suffix.lower() in YAML_SUFFIXES or not os.path.exists(path)


def read_file(
    path: Path, *, overrides: Sequence[Override], generation: GenerationSettings
) -> ConfigFile:
    """Read a YAML file, whatever its name; see `read_config`."""
    return _build(read_yaml(path), overrides=overrides, generation=generation)


def default_file(
    text: Path | None,
    *,
    overrides: Sequence[Override],
    generation: GenerationSettings,
    is_chat: bool = False,
) -> ConfigFile:
    """Make the config of someone who wrote none; `text` is a file or folder to train on.

    With `is_chat` it holds conversations.
    """
    source = Source("--set")
    if text is not None and is_chat:
        source = Source(str(text), {"data": {"train": str(text)}, "training": dict(CHAT_RECIPE)})
    elif text is not None:
        values: dict[str, Any] = {name: dict(given) for name, given in _BESIDE_RECIPE.items()}
        values["data"]["train"], values["training"] = str(text), dict(TEXT_RECIPE)
        source = Source(str(text), values)
    return _build(source, overrides=overrides, generation=generation)


def _build(
    source: Source, *, overrides: Sequence[Override], generation: GenerationSettings
) -> ConfigFile:
    for override in overrides:
        _apply(override, source)
    problems = list(source.problems)
    training, data = source.values.get("training"), source.values.get("data")
    notices: list[str] = []
    if isinstance(training, dict):
        training.update(as_meant(training))
        training.update(kwargs_as_meant(training))
        notices = _settle(training, source)
        has_validation = isinstance(data, dict) and data.get("validation") is not None
        problems += [
            _located(source, ("training", *name.split(".")), message)
            for name, message in training_problems(training, has_validation=has_validation)
        ]
    problems += _read_strategies(source, generation)
    config = None
    # A section with nothing under it, which YAML reads as null, is as good as absent.
    given = {name: section for name, section in source.values.items() if section is not None}
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        details = _one_a_setting(error.errors(include_url=False))
        problems += [_problem(source, detail, generation) for detail in details]
    return ConfigFile(source, config, tuple(problems), tuple(notices))


def _settle(training: dict[str, Any], source: Source) -> list[str]:
    """Let what was meant least give way, where settings can't all be had; what to say of it."""
    wrong = {name for name, _ in value_problems(training)}
    right = {name: value for name, value in training.items() if name not in wrong}
    of_recipe, said = [], []
    for one in settle(right, lambda name: source.level(("training", name))):
        training.pop(one.name, None)
        if one.new is not None:
            training[one.name] = one.new
        became = "" if one.new is None else f" and is {short_value(one.new)}"
        if one.old is None:
            said.append(f"training.{one.name} is {short_value(one.new)}, as {one.to} needs.")
        elif source.level(path := ("training", one.name)):
            sentence = f"training.{one.name}: {short_value(one.old)} gives way to {one.to}{became}."
            said.append(source.problem(path, sentence)[1])
        else:
            of_recipe.append(f"{one.name}: {short_value(one.old)} gives way to {one.to}{became}")
    return [*(["Of the recipe, " + "; ".join(of_recipe) + "."] if of_recipe else []), *said]


def _read_strategies(source: Source, generation: GenerationSettings) -> list[Problem]:
    """Put the settings of `generation` and of each of `strategies` into the types they mean."""
    problems = []
    strategies = source.values.get("strategies")
    names = strategies if isinstance(strategies, dict) else {}
    paths: list[tuple[KeyPath, Any]] = [(("generation",), source.values.get("generation"))]
    paths += [(("strategies", name), values) for name, values in names.items()]
    for path, values in paths:
        if values and isinstance(values, dict):
            meant, wrong = read_settings(values, table=generation())
            problems += [_located(source, (*path, name), message) for name, message in wrong]
            values.clear()
            values.update(meant)
    return problems


def _apply(override: Override, source: Source) -> None:
    """Put one override into the source's values."""
    if isinstance(override, str):
        given, named = _given(override)
    else:
        given, named = override, override.place
    keys = given.keys
    target = source.values
    for end, key in enumerate(keys[:-1], start=1):
        if target.get(key) is None:
            target[key] = {}
        target = target[key]
        if not isinstance(target, dict):
            raise ConfigError(f"{named}: {'.'.join(keys[:end])} is not a section.")
    target[keys[-1]] = copy.deepcopy(given.value)  # which several configs may be given
    source.marks = {p: mark for p, mark in source.marks.items() if p[: len(keys)] != keys}
    source.overridden.pop(keys, None)  # the last one is put last
    source.overridden[keys] = given.place


def _given(override: str) -> tuple[Given, str]:
    """What `section.key=value` or `--flag=value` sets, and what to call it in a message."""
    name, sign, text = override.partition("=")
    if problem := text_problem(name):
        raise ConfigError(f"--set {override!r}: the setting's name {problem}, which is no text.")
    keys = flag_settings().get(name)
    place, named = ("--set", f"--set {override}") if keys is None else (name, name)
    keys = keys or tuple(name.strip().split("."))
    if not sign or not all(keys):
        raise ConfigError(
            f"--set {override}: write it as section.key=value, "
            "such as --set training.learning_rate=1e-4."
        )
    return Given(keys, parse_value(text, name=place), place), named


def _one_a_setting(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Keep the first error of each setting: a union reports each of its branches."""
    kept: dict[KeyPath, ErrorDetails] = {}
    for error in errors:
        kept.setdefault(_setting_path(error["loc"]), error)
    return list(kept.values())


def _setting_path(loc: tuple[int | str, ...]) -> KeyPath:
    """An error's place without the names pydantic adds for the branches of a union."""
    path: list[int | str] = []
    fields = Config.model_fields
    for part in loc:
        if isinstance(part, int):
            path.append(part)
        elif fields:
            path.append(part)
            fields = _fields_in(fields, part)
    return tuple(path)


def _fields_in(fields: _Fields, name: str) -> _Fields:
    """The fields of the section that one of `fields` holds; none where it holds no section."""
    return _fields_of(fields[name].annotation) if name in fields else {}


def _fields_of(annotation: Any) -> _Fields:
    """The fields of the section that a type is, may be, or is a list of."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation.model_fields
    return next(filter(None, map(_fields_of, get_args(annotation))), {})


def _fields_beside(path: KeyPath) -> _Fields:
    """The fields of the section that the setting `path` is written in."""
    fields = Config.model_fields
    for part in path[:-1]:
        fields = _fields_in(fields, part) if isinstance(part, str) else fields
    return fields


def _problem(source: Source, error: ErrorDetails, generation: GenerationSettings) -> Problem:
    path = _setting_path(error["loc"])
    if error["type"] == "extra_forbidden":
        known = list(_fields_beside(path))
        prefix = "".join(f"{part}." for part in path[:-1])
        hint = did_you_mean(str(path[-1]), known, prefix=prefix)
        hint = hint or _elsewhere(str(path[-1]), generation) or f"Known here: {', '.join(known)}."
        return _located(source, path, f"is not a setting. {hint}")
    if error["type"] == "missing":
        return _located(source, path, f"is missing. {_meaning(path)}")
    if error["type"] == "value_error":
        name, _, message = str(error["ctx"]["error"]).partition(" ")  # our validators name it first
        return _located(source, tuple(name.split(".")), f"{message}.")
    return _located(source, path, _wanted(error, path))


# What a value must be, by the type of pydantic's error, filled with the error's context.
_WANTED = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be text or a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a section of `key: value` lines",
    "literal_error": "must be {expected}",
    **{kind: f"must be {words} {{{bound}:,.15g}}" for kind, (bound, words) in BOUNDS.items()},
    "too_short": "must name something",
    "string_too_short": "must not be empty",
    "finite_number": "must be finite",
}

_OF_SEVERAL_TYPES: Mapping[KeyPath, str] = {
    ("data", "validation"): "must be a share between 0 and 1, a path, or a list of paths",
    ("data", "add_bos"): "must be auto, true or false",
    ("data", "isolate_documents"): "must be auto, true or false",
    ("samples", "recite"): "must be true, false or a number of documents",
}


def _wanted(error: ErrorDetails, path: KeyPath) -> str:
    """What a value must be, in the words of its type, and what it is."""
    words = _WANTED.get(error["type"])
    wanted = words.format(**error.get("ctx", {})) if words else error["msg"]
    if field := _WEIGHTED.get(path[:-1]):
        wanted = f"must be a {field}, or a {field} with a weight"
    wanted = _OF_SEVERAL_TYPES.get(path, wanted)
    return f"{wanted}, not {wrong_value(error['input'])}. {_meaning(path)}".rstrip()


def _elsewhere(name: str, generation: GenerationSettings) -> str:
    """Where a setting that is in the wrong section belongs."""
    homes = [
        f"{section}.{name}"
        for section, field in Config.model_fields.items()
        if name in _fields_of(field.annotation)
    ]
    if name in known_fields()[1]:
        homes.append(f"training.{name}")
    if name in generation():
        homes.append(f"generation.{name}")
    return f"Did you mean {' or '.join(homes)}?" if homes else ""


def _meaning(path: KeyPath) -> str:
    names = [part for part in path if isinstance(part, str)]
    field = _fields_beside((*names,)).get(names[-1])
    return (field.description if field else None) or ""


def _located(source: Source, path: KeyPath, message: str) -> Problem:
    """A problem whose message continues the setting's name."""
    return source.problem(path, f"{'.'.join(map(str, path))} {message}")
