"""Every number of every section: what is none is refused at its line, and a whole one is a float.

The fields are found in the schema, so that a new one is tested without being named here.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gptft.api import config_schema, default_config, load_config
from gptft.config.flags import flag
from gptft.config.numbers import LARGEST, LARGEST_WHOLE
from gptft.config.settings import Setting
from gptft.config.training_fields import OWN_FIELDS, WITHOUT_EFFECT, as_meant, known_fields
from gptft.config.training_kwargs import CHECKPOINTING, OPTIM_ARGS, SCHEDULES
from gptft.decoding.strategies import SETTINGS
from gptft.errors import ConfigError

Path_ = tuple[str, ...]
SCHEMA = config_schema()
BEYOND = {"20 digits": 10**20, "30 digits": 10**30, "400 digits": 10**400, "1e20": 1e20}
NONE = {"NaN": math.nan, "infinity": math.inf, "less than that": -math.inf}
AS_YAML = {
    "NaN": ".nan", "infinity": ".inf", "less than that": "-.inf",
    **{name: str(value) for name, value in BEYOND.items()},
}  # fmt: skip
BEFORE = {
    ("tokenizer", "train"): "    vocab_size: 300\n",
    ("data",): "  train: a.txt\n",
    ("samples",): "  prompts: [a]\n",
}


def numbers_in(schema: dict[str, Any], path: Path_) -> Iterator[tuple[Path_, dict[str, Any]]]:
    """The numbers that a schema has: their paths, and what it says of each."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    types = schema.get("type", [])
    if {"integer", "number"} & {*([types] if isinstance(types, str) else types)}:
        yield path, schema
    for branch in schema.get("anyOf", []):
        yield from numbers_in(branch, path)
    for name, field in schema.get("properties", {}).items():
        yield from numbers_in(field, (*path, name))
    if isinstance(schema.get("items"), dict):
        yield from numbers_in(schema["items"], (*path, "[]"))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from numbers_in(schema["additionalProperties"], (*path, "mine"))


FOUND = [
    (path, number)
    for path, number in numbers_in(SCHEMA, ())
    if path[0] != "strategies" and not (path[0] == "training" and path[1] in WITHOUT_EFFECT)
]
ONCE = {".".join(path): (path, number) for path, number in FOUND}
EVERY_NUMBER = [pytest.param(*one, id=name) for name, one in ONCE.items()]
FLOATS = [
    pytest.param(*one, id=name)
    for name, one in ONCE.items()
    if "number" in one[1]["type"] and "[]" not in one[0] and "mine" not in one[0]
]


def written(path: Path_, value: str) -> tuple[str, int]:
    """YAML that sets one number, and the line it is in."""
    lines: list[str] = []
    here: Path_ = ()
    for depth, name in enumerate(path[:-1]):
        here = (*here, name)
        if name == "[]":
            continue
        lines.append("  " * depth + f"{name}:")
        if path[-1] not in BEFORE.get(here, ""):
            lines += BEFORE.get(here, "").splitlines()
    if path[:2] == ("data", "train") or path[:2] == ("model", "average_with"):
        key = "path" if path[0] == "data" else "name"
        return f"{path[0]}:\n  {path[1]}:\n  - {key}: a\n    {path[-1]}: {value}\n", 4
    if path[-1] == "[]":
        filled = "[1.0, " if "decay" in path[-2] else "["
        lines[-1] += f" {filled}{value}]"
    else:
        lines.append("  " * (len(path) - 1) + f"{path[-1]}: {value}")
    if path[-1] == "mine":  # a key of the user's own: its setting is what is named
        return "\n".join(lines) + "\n", len(lines) - 1
    return "\n".join(lines) + "\n", len(lines)


def test_the_numbers_of_every_section_are_found():
    names = set(ONCE)
    fields = known_fields()[1]
    assert {"data.block_size", "data.seed", "samples.steps", "tokenizer.train.vocab_size"} <= names
    assert "model.average_with.weight" in {name.replace(".[]", "") for name in names}
    ours = {name for name, row in OWN_FIELDS.items() if row.kind.name in ("int", "float")}
    theirs = {name for name, entry in fields.items() if {"int", "float"} & {*entry["types"]}}
    assert {f"training.{name}" for name in (ours | theirs) - WITHOUT_EFFECT.keys()} <= names
    kinds = ("int", "float", "ints", "layers", "weights", "decay")
    drawn = {name for name, row in SETTINGS.items() if row.kind.name in kinds}
    assert drawn == {name.split(".")[1] for name in names if name.startswith("generation.")}


@pytest.mark.parametrize(("path", "number"), EVERY_NUMBER)
def test_every_number_has_a_bound_on_each_side(path: Path_, number: dict[str, Any]):
    assert {"minimum", "exclusiveMinimum"} & number.keys()
    most = min(number[key] for key in ("maximum", "exclusiveMaximum") if key in number)
    assert most <= (LARGEST if "number" in number["type"] else 2**32 - 1)


@pytest.mark.parametrize(("path", "number"), EVERY_NUMBER)
def test_what_is_no_number_or_beyond_sense_is_one_line_at_its_place(
    path: Path_, number: dict[str, Any], tmp_path: Path
):
    file = tmp_path / "my.yaml"
    for value in AS_YAML.values():
        text, line = written(path, value)
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_config(file)
        assert len(caught.value.problems) == 1, (text, caught.value.problems)
        (problem,) = caught.value.problems
        assert problem.startswith(f"{file}:{line}:"), problem
        named = ".".join(part for part in path if part not in ("[]", "mine"))
        assert named in problem.replace(".0.", "."), problem
        assert " must be " in problem
        assert "\n" not in problem
        assert len(problem) - len(str(file)) < 300


@pytest.mark.parametrize(("path", "number"), FLOATS)
def test_a_whole_number_is_taken_where_a_float_is_meant(
    path: Path_, number: dict[str, Any], tmp_path: Path
):
    file = tmp_path / "my.yaml"
    low = number.get("minimum", number.get("exclusiveMinimum", 0))
    high = number.get("maximum", number.get("exclusiveMaximum", 2))
    right = [n for n in (0, 1, 2) if low <= n <= high and n not in exclusive(number)]
    for value in right:
        text, _ = written(path, str(value))
        file.write_text(text, encoding="utf-8")
        load_or_combine(file, ".".join(path))
        file.write_text("{}\n", encoding="utf-8")


@pytest.mark.parametrize(("path", "number"), [one for one in FLOATS if "training" in one.id])
@pytest.mark.parametrize("how", ["--set", "flag"])
def test_it_is_taken_by_flags_and_overrides_too(path: Path_, number: dict[str, Any], how: str):
    name = path[-1]
    some = (n for n in (0, 1) if number.get("minimum", 0) <= n and n not in exclusive(number))
    value = next(some, 0.5)
    override = f"training.{name}={value}" if how == "--set" else f"{flag(name)}={value}"
    try:
        found = default_config(overrides=[override]).training
    except ConfigError as error:  # it has no effect without another setting
        assert all("must be a" not in problem for problem in error.problems)  # noqa: PT017
        return
    assert found[name] == value


def exclusive(number: dict[str, Any]) -> set[float]:
    return {number[key] for key in ("exclusiveMinimum", "exclusiveMaximum") if key in number}


def load_or_combine(file: Path, name: str) -> None:
    """Load a config in which a number is right, whatever else it may need beside it."""
    try:
        load_config(file)
    except ConfigError as error:
        for problem in error.problems:
            assert "must be a" not in problem, problem
            assert "not a whole" not in problem, problem


@pytest.mark.parametrize("value", ["8.0", "8e0", "0.8e1"])
@pytest.mark.parametrize(
    "name",
    [
        "training.max_steps", "training.unlikelihood_ngram_size", "data.block_size",
        "samples.steps", "data.seed", "training.seed", "training.save_total_limit",
        "generation.top_k", "generation.seed",
    ],
)  # fmt: skip
def test_a_whole_number_may_have_a_point(name: str, value: str, tmp_path: Path):
    file = tmp_path / "my.yaml"
    file.write_text("data: {train: a}\nsamples: {prompts: a}\n", encoding="utf-8")
    section, key = name.split(".")
    more = ["training.unlikelihood_weight=1", "training.save_strategy=steps"]
    config = load_config(file, overrides=[f"{name}={value}", *more[: "ngram" in key or -1]])
    read = getattr(config, section)
    found = read[key] if isinstance(read, dict) else getattr(read, key)
    assert found == 8
    assert type(found) is int


@pytest.mark.parametrize("name", ["training.max_steps", "data.block_size", "generation.top_k"])
def test_a_number_that_is_not_whole_is_none_of_these(name: str, tmp_path: Path):
    file = tmp_path / "my.yaml"
    file.write_text("data: {train: a}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"must be a whole number, not 8\.5") as caught:
        load_config(file, overrides=[f"{name}=8.5"])
    assert str(caught.value).startswith(f"--set  {name} must be")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("training.max_steps", 10**9),
        ("training.warmup_steps", 10**9),
        ("training.save_total_limit", 10**6),
        ("training.seed", 2**32 - 1),
        ("data.seed", 2**32 - 1),
        ("data.block_size", 10**7),
        ("generation.seed", 2**32 - 1),
        ("generation.max_new_tokens", 10**9),
        ("generation.top_k", 10**9),
        ("training.max_grad_norm", 10**9),
    ],
)
def test_what_is_only_large_is_allowed(name: str, value: int, tmp_path: Path):
    file = tmp_path / "my.yaml"
    file.write_text("data: {train: a}\n", encoding="utf-8")
    more = ["training.save_strategy=steps"] if "save" in name else []
    load_config(file, overrides=[f"{name}={value}", *more])


TABLES: dict[str, dict[str, Setting]] = {
    **{f"lr_scheduler_kwargs of {kind}": table for kind, table in SCHEDULES.items()},
    **{f"optim_args of {optim}": table for optim, table in OPTIM_ARGS.items()},
    "checkpointing_kwargs": CHECKPOINTING,
}
IN_MAPPINGS = [
    pytest.param(row, id=f"{where}: {row.name}")
    for where, table in TABLES.items()
    for row in table.values()
    if row.kind.name in ("int", "float")
]


@pytest.mark.parametrize("row", IN_MAPPINGS)
def test_numbers_in_mappings_have_bounds_and_are_read_as_meant(row: Setting):
    for value in (*NONE.values(), *BEYOND.values()):
        with pytest.raises(ValueError, match="must be "):
            row.read(value)
    low = next(value for value in (0.5, 1, 2) if row.kind.name == "float" or value >= 1)
    assert type(row.read(low)) is {"int": int, "float": float}[row.kind.name]
    if row.kind.name == "int":
        assert type(row.read(4.0)) is int


@pytest.mark.parametrize(
    ("kind", "given", "meant"),
    [
        ("inverse_sqrt", {"timescale": 8.0}, {"timescale": 8}),
        ("inverse_sqrt", '{"timescale": 1e3}', {"timescale": 1000}),
        ("cosine", {"num_cycles": 1}, {"num_cycles": 1.0}),
        ("polynomial", {"power": 2, "lr_end": 0}, {"power": 2.0, "lr_end": 0.0}),
    ],
)
def test_numbers_in_a_mapping_reach_training_as_they_are_meant(
    kind: str, given: object, meant: dict[str, float]
):
    overrides = [f"training.lr_scheduler_type={kind}", f"training.lr_scheduler_kwargs={given}"]
    found = default_config(overrides=overrides).training["lr_scheduler_kwargs"]
    assert found == meant
    assert [*map(type, found.values())] == [*map(type, meant.values())]


def test_the_bound_is_in_the_message(tmp_path: Path):
    file = tmp_path / "my.yaml"
    text = f"training:\n  max_steps: {10**30}\ngeneration:\n  num_beams: {10**20}\n"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert caught.value.problems == (
        f"{file}:2:3  training.max_steps must be at most {LARGEST_WHOLE:,}, not a number of 31 "
        "digits.",
        f"{file}:4:3  generation.num_beams must be at most 10,000, not {10**20}.",
    )


def test_a_section_is_read_as_meant():
    assert as_meant({"max_steps": 1e3, "learning_rate": 1, "seed": 1.5, "bf16": True}) == {
        "max_steps": 1000, "learning_rate": 1, "seed": 1.5, "bf16": True,
    }  # fmt: skip
