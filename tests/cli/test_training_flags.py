"""Flags of `gptft train` that stand for settings: each is the same as its `--set`."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from transformers import HfArgumentParser, TrainingArguments
from typer.testing import CliRunner, Result

from gptft.api.training import CompleteRun
from gptft.cli.app import app, load_command
from gptft.config.load import TEXT_RECIPE, ConfigFile
from gptft.config.training_fields import known_fields
from gptft.errors import ConfigError


@pytest.fixture
def given(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> list[ConfigFile]:
    """The configs that `gptft train` was asked to train, instead of training; `a.txt` is a text."""
    files: list[ConfigFile] = []

    def train(file: ConfigFile, *, run_dir: Path, **_: Any) -> CompleteRun:
        file.checked()
        files.append(file)
        return CompleteRun(run_dir, {"steps": 0})

    monkeypatch.setattr("gptft.api.train", train)
    Path("a.txt").write_text("Мороз и солнце", encoding="utf-8")
    return files


def invoke(*args: str) -> Result:
    return CliRunner().invoke(app, ["train", *args])


def settings_of(given: list[ConfigFile], *args: str) -> dict[str, Any]:
    result = invoke("a.txt", *args)
    assert result.exit_code == 0, result.output + str(result.exception)
    return given[-1].checked().resolved()


@pytest.mark.parametrize(
    ("flags", "override"),
    [
        (["--epochs 3", "--num-train-epochs 3", "--num_epochs=3"], "training.num_train_epochs=3"),
        (["--lr 1e-4", "--learning-rate 1e-4", "--learning_rate=1e-4"],
         "training.learning_rate=1e-4"),
        (["--seed 7", "--seed=7"], "training.seed=7"),
        (["--out runs/a", "-o runs/a", "--output-dir runs/a"], "training.output_dir=runs/a"),
        (["--model gpt2", "--model_name_or_path gpt2"], "model.name=gpt2"),
        (["--max-steps 5", "--max_steps 5"], "training.max_steps=5"),
        (
            ["--batch-size 4", "--per_device_train_batch_size 4", "--train-batch-size 4"],
            "training.per_device_train_batch_size=4",
        ),
        (["--weight-decay 0.1", "--weight_decay .1"], "training.weight_decay=0.1"),
        (["--block-size 64", "--block_size 64"], "data.block_size=64"),
        (["--validation 0.1", "--validation_file 0.1"], "data.validation=0.1"),
        (["--bf16", "--bf16 True", "--bf16=TRUE", "--bf16 true"], "training.bf16=true"),
        (["--auto-batch", "--auto_batch true"], "training.auto_batch=true"),
        (["--dataloader-pin-memory False", "--dataloader_pin_memory=false"],
         "training.dataloader_pin_memory=false"),
        (["--dtype float32"], "model.dtype=float32"),
        (["--lr_scheduler_kwargs '{num_cycles: 0.4}'"],
         "training.lr_scheduler_kwargs={num_cycles: 0.4}"),
    ],
)  # fmt: skip
def test_a_flag_is_the_same_as_its_set(given: list[ConfigFile], flags: list[str], override: str):
    expected = settings_of(given, "--set", override)
    assert expected != settings_of(given)
    for flag in flags:
        assert settings_of(given, *shlex.split(flag)) == expected, flag


def test_what_transformers_scripts_are_given_means_the_same_here(given: list[ConfigFile]):
    line = (
        "--learning_rate 1e-4 --weight-decay 0.1 --num_train_epochs 3 --lr_scheduler_type linear "
        "--warmup_steps 10 --activation_checkpointing --per_device_train_batch_size 2 --seed 7 "
        "--save_strategy steps --save_steps 20 --dataloader_num_workers 2 --use_cpu True "
        "--max_grad_norm 0.5 --adam_beta2 0.95 --optim adamw_torch --full_determinism"
    )
    [stock] = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(  # type: ignore[arg-type]
        line.split()
    )
    ours = settings_of(given, *line.split())["training"]
    names = re.findall(r"--([\w-]+)", line)
    assert len(names) == 16
    for name in (name.replace("-", "_") for name in names):
        assert ours[name] == getattr(stock, name), name


def test_every_field_of_training_arguments_is_a_flag():
    options = {name for param in load_command("train").params for name in param.opts}
    fields = set(known_fields()[1])
    assert len(fields) > 100
    assert {f"--{name.replace('_', '-')}" for name in fields} <= options


@pytest.mark.parametrize(
    ("flag", "value", "override"),
    [
        ("--epochs", "3x", "training.num_train_epochs=3x"),
        ("--learning-rate", "-1", "training.learning_rate=-1"),
        ("--block-size", "1", "data.block_size=1"),
        ("--optim", "adamw_torh", "training.optim=adamw_torh"),
        ("--warmup-ratio", "0.1", "training.warmup_ratio=0.1"),
        ("--do-train", "true", "training.do_train=true"),
        ("--dtype", "float8", "model.dtype=float8"),
        ("--model", "[a, b]", "model.name=[a, b]"),
        ("--seed", "{a: 1, a: 2}", "training.seed={a: 1, a: 2}"),
    ],
)
def test_what_is_wrong_is_said_of_the_flag(
    given: list[ConfigFile], flag: str, value: str, override: str
):
    by_set, by_flag = invoke("a.txt", "--set", override), invoke("a.txt", flag, value)
    for result in (by_set, by_flag):
        assert isinstance(result.exception, ConfigError)
    said = str(by_set.exception)
    assert said.startswith("--set")
    assert str(by_flag.exception) == said.replace("--set", flag, 1)


def test_the_default_gives_way_to_yaml_that_to_set_and_that_to_a_flag(given: list[ConfigFile]):
    recipe = settings_of(given)
    assert recipe["training"] == TEXT_RECIPE
    assert (recipe["data"]["isolate_documents"], recipe["samples"]["recite"]) == ("auto", True)
    Path("a.yaml").write_text("{data: {train: a.txt}, training: {seed: 1, max_steps: 5}}", "utf-8")

    def of(*args: str) -> tuple[int, int]:
        assert invoke("a.yaml", *args).exit_code == 0
        training = given[-1].checked().training
        return training["seed"], training["max_steps"]

    assert of() == (1, 5)
    assert of("--set", "training.seed=2") == (2, 5)
    assert of("--seed", "3", "--set", "training.seed=2") == (3, 5)
    assert of("--seed", "3", "--seed", "4") == (4, 5)


def test_two_names_of_one_setting_are_an_error(given: list[ConfigFile]):
    result = invoke("a.txt", "--learning-rate", "1e-4", "--lr", "1e-3")
    assert isinstance(result.exception, ConfigError)
    said = "--lr and --learning-rate both set training.learning_rate. Give one of them."
    assert str(result.exception) == said
    assert given == []


def test_a_switch_takes_no_text_for_its_value(given: list[ConfigFile]):
    Path("bf16").write_text("Мороз и солнце", encoding="utf-8")
    for args in (["--bf16", "a.txt"], ["bf16", "--bf16"], ["--bf16", "--", "bf16"]):
        assert invoke(*args).exit_code == 0
        assert given[-1].checked().training["bf16"] is True


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--epoch", "--epochs"),
        ("--learning-rte", "--learning-rate"),
        ("--weigth_decay", "--weight-decay"),
        ("--blocksize", "--block-size"),
        ("--ouput-dir", "--output-dir"),
    ],
)
def test_an_unknown_flag_names_the_one_that_was_meant(
    given: list[ConfigFile], flag: str, meant: str
):
    result = invoke("a.txt", flag, "1")
    assert result.exit_code == 2
    assert meant in result.stderr


def test_help_is_short_and_its_examples_are_right(given: list[ConfigFile]):
    shown = invoke("--help").stdout
    assert len(shown.splitlines()) < 60
    assert "--weight-decay" in shown
    examples = re.findall(r"^ *gptft train (.+)$", shown, flags=re.MULTILINE)
    assert len(examples) == 3
    Path("my.yaml").write_text("data: {train: a.txt}", encoding="utf-8")
    for line in examples:
        words = [
            {"poem.txt": "a.txt", "my-texts": "a.txt"}.get(word, word) for word in line.split()
        ]
        assert invoke(*words).exit_code == 0, line
