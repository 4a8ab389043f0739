import dataclasses
from importlib.metadata import version
from importlib.resources import files

import pytest

from gptft.api import config_schema
from gptft.config.sections import Config
from gptft.config.training_conflicts import training_problems
from gptft.config.training_fields import (
    MEANT,
    OWN_FIELDS,
    RENAMED,
    WITHOUT_EFFECT,
    known_fields,
)


def test_the_snapshot_is_of_the_class_itself():
    from transformers import TrainingArguments

    from gptft.training.fields import snapshot

    if version("transformers") != known_fields()[0]:
        pytest.skip(f"the snapshot is of transformers {known_fields()[0]}")
    text = (files("gptft.config") / "training_fields.json").read_text(encoding="utf-8")
    assert text == snapshot()
    names = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    assert set(known_fields()[1]) == names


def test_the_tables_name_real_fields_and_only_gone_ones():
    _, fields = known_fields()
    assert not set(RENAMED) & set(fields)
    assert not set(MEANT) & set(fields)
    assert set(MEANT.values()) <= set(fields)
    assert set(WITHOUT_EFFECT) <= set(fields)


def test_every_default_of_the_class_passes():
    from transformers import TrainingArguments

    defaults = {
        field.name: field.default
        for field in dataclasses.fields(TrainingArguments)
        if field.init and field.default is not dataclasses.MISSING
    }
    plain = {name: getattr(value, "value", value) for name, value in defaults.items()}
    checked = {name: value for name, value in plain.items() if name not in WITHOUT_EFFECT}
    # Values that only mean "unset" to the class; nobody writes them.
    assert training_problems(checked) == []


@pytest.mark.parametrize("value", [10**400, "0.5", True], ids=["huge", "text", "flag"])
def test_a_number_of_our_own_is_one_that_a_computer_holds(value: object):
    [(name, message)] = training_problems({"unlikelihood_weight": value})
    assert name == "unlikelihood_weight"
    assert message.startswith("must be a number, not ")


def test_another_version_leaves_unknown_names_to_the_live_class(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gptft.config.training_fields.version", lambda name: "5.99.0")
    assert training_problems({"brand_new_field": 1}) == []
    assert training_problems({"max_steps": "5"}) != []


def test_the_schema_has_every_section_and_every_training_field():
    schema = config_schema()
    assert set(schema["properties"]) == set(Config.model_fields)
    assert set(schema["properties"]["training"]["properties"]) == {*known_fields()[1], *OWN_FIELDS}
    assert schema["additionalProperties"] is False
