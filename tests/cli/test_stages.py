"""`prepare`, `train` and `config` as a person runs them, from an empty folder."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gptft.api.training import CompleteRun
from gptft.cli import main
from gptft.cli.app import app, load_command
from gptft.console import stderr
from gptft.errors import GptftError
from gptft.runs.read import BeforeAfter, Sample
from gptft.runs.recital import Recital, RecitedText
from gptft.training.result import TrainResult
from tests.conftest import SENTENCES


def invoke(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


@pytest.fixture
def config_file(in_tmp: Path, corpus_dir: Path, tiny_model_dir: Path) -> Path:
    """A config that trains the tiny model for two steps into runs/my."""
    path = in_tmp / "my.yaml"
    path.write_text(
        f"""
model: {{name: '{tiny_model_dir}'}}
data: {{train: '{corpus_dir}', validation: 0.3, block_size: 32}}
training: {{max_steps: 2, use_cpu: true, save_strategy: 'no', learning_rate: 1e-3}}
samples: {{prompts: [Буря мглою]}}
generation: {{max_new_tokens: 5}}
""",
        encoding="utf-8",
    )
    return path


def test_train_prints_the_figures_and_leaves_a_run(config_file: Path, in_tmp: Path):
    result = invoke("train", str(config_file))
    assert result.exit_code == 0, result.output
    assert "training text" in result.stdout
    assert "held out" in result.stdout
    assert "Буря мглою" in result.stdout
    assert "step 1/2" in result.stderr
    assert "gptft generate runs/my" in result.stderr
    run = in_tmp / "runs" / "my"
    assert (run / "report.html").is_file()
    assert "gptft" in (run / "model" / "README.md").read_text(encoding="utf-8")
    written = invoke("generate", "runs/my", "-p", "Буря", "--max-new-tokens", "3")
    assert written.exit_code == 0
    assert written.stdout.startswith("Буря")
    again = invoke("train", str(config_file))
    assert isinstance(again.exception, GptftError)
    assert again.exception.exit_code == 2
    assert "--overwrite" in str(again.exception)
    assert invoke("train", str(config_file), "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((), []),
        (
            ("learning_rate=1",),
            [
                "The model got worse on the very text it was trained on: loss ",
                "Held-out loss was lowest before training, ",
                "What helps: lower training.learning_rate; keep the best step's model by ",
            ],
        ),
        (
            ("learning_rate=0.05", "max_steps=8", "eval_strategy=steps", "eval_steps=2"),
            [
                "Held-out loss was lowest at step ",
                "No checkpoint of step ",
            ],
        ),
        (
            (
                "learning_rate=0.05", "max_steps=8", "eval_strategy=steps", "eval_steps=2",
                "save_strategy=steps", "save_steps=2",
            ),
            [
                "Held-out loss was lowest at step ",
                "runs/my/checkpoints/checkpoint-",
            ],
        ),
    ],
    ids=["better", "worse on its own text", "no checkpoint", "a checkpoint"],
)  # fmt: skip
def test_train_ends_with_what_became_worse(
    config_file: Path, settings: tuple[str, ...], said: list[str]
):
    """Also where the run is complete already, and beside JSON."""
    words = ["train", str(config_file)]
    for setting in settings:
        words += ["--set", f"training.{setting}"]
    first, *again = (invoke(*words, *more) for more in ((), ("--resume",), ("--resume", "--json")))
    lines = [*first.stderr.partition("gptft generate ")[2].splitlines()[1:]]
    assert [line[: len(one)] for line, one in zip(lines, said, strict=True)] == said
    for result in again:
        assert result.exit_code == 0, result.output
        assert result.stderr.splitlines()[-len(lines) :] == lines or not lines


def test_train_answers_in_json(config_file: Path):
    result = invoke("train", str(config_file), "--json", "--set", "training.max_steps=1")
    answer = json.loads(result.stdout)
    assert answer["steps"] == 1
    assert answer["validation"]["perplexity_before"] > 1
    assert answer["samples"][0]["prompt"] == "Буря мглою"


def test_train_on_a_text_without_a_config(in_tmp: Path, corpus_dir: Path, tiny_model_dir: Path):
    poem = corpus_dir / "0.txt"
    settings = (f"model.name={tiny_model_dir}", "training.max_steps=1", "training.use_cpu=true")
    flags = [flag for setting in settings for flag in ("--set", setting)]
    result = invoke("train", str(poem), *flags)
    assert result.exit_code == 0, result.output
    assert (in_tmp / "runs" / "0" / "model" / "model.safetensors").is_file()
    assert "shorter than one block" in result.stderr


def test_gptft_alone_shows_three_commands_to_begin_with():
    result = invoke()
    assert (result.exit_code, result.stderr) == (0, "")
    shown = re.findall(r"^  gptft (.+?)(?:   .*)?$", result.stdout, flags=re.MULTILINE)
    assert len(shown) == 3
    for name, *words in map(shlex.split, shown):
        load_command(name).make_context(name, words)  # fails where it doesn't parse


def test_prepare_prints_the_ledger(config_file: Path):
    result = invoke("prepare", str(config_file))
    assert result.exit_code == 0, result.output
    assert "4 files, 4 documents" in result.stdout
    assert "one after each document" in result.stdout
    answer = json.loads(invoke("prepare", str(config_file), "--json").stdout)
    assert answer["cached"] is True
    names = ("documents", "bytes", "tokens", "num_eos", "num_blocks", "block_size", "tail_tokens")
    assert all(isinstance(answer[name], int) for name in names)
    assert Path(answer["path"]).is_dir()


def test_prepare_takes_a_text_itself(in_tmp: Path, corpus_dir: Path, tiny_model_dir: Path):
    result = invoke("prepare", str(corpus_dir), "--set", f"model.name={tiny_model_dir}", "--json")
    assert json.loads(result.stdout)["bytes"] == sum(len(s.encode()) for s in SENTENCES)


def test_config_check_show_and_schema(config_file: Path):
    result = invoke("config", "check", str(config_file))
    assert result.stdout.splitlines() == [
        f"{config_file}: every setting is right. Documents to train on: 3, to validate on: 1."
    ]
    shown = invoke("config", "show", str(config_file), "--set", "data.tail=drop")
    assert "  tail: drop" in shown.stdout.splitlines()
    assert json.loads(invoke("config", "show", str(config_file), "--json").stdout)["data"]
    assert json.loads(invoke("config", "schema").stdout)["properties"]["training"]


def test_what_a_model_wrote_cant_act_on_the_terminal(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
):
    figures = BeforeAfter(2.0, 1.0, 7.389, 2.718, num_tokens=9)
    sample = Sample("Буря", ((0, "\x1b[2J"), (2, " мглою\n\tнебо")))
    outcome = TrainResult(
        Path("runs/my"), 2, 2, False, 2, 1.0, 9, 12, figures, None, None, (sample,)
    )
    monkeypatch.setattr("gptft.api.train", lambda file, **settings: outcome)
    done = invoke("train", str(config_file))
    shown = done.stdout
    assert "2 steps, 9 tokens (75.0% of the text) in 1.0 s." in done.stderr
    assert "--- before:\nБуря⟨U+001B⟩[2J\n--- after:\nБуря мглою\n" in shown
    assert "\x1b" not in shown


def recited(*prompts: str) -> Recital:
    """Each recites two lines of seven, and one before."""
    after = "\n" + "\n".join(f"строка {n}" for n in range(1, 8)) + "\n"
    return Recital(tuple(RecitedText(one, 7, 1, 2, "\x1b[2J" + after, after) for one in prompts))


def test_training_ends_with_the_poem(config_file: Path, monkeypatch: pytest.MonkeyPatch):
    figures = BeforeAfter(2.0, 1.0, 7.389, 2.718, num_tokens=9)
    plain = TrainResult(Path("runs/my"), 12, 40, True, 12, 1.0, 9, 12, figures, None, None, ())
    outcome = replace(plain, recital=recited("Мороз"))
    monkeypatch.setattr("gptft.api.train", lambda file, **settings: outcome)
    done = invoke("train", str(config_file))
    assert done.stdout.split("--- ")[1:] == [
        "before training the model recites 1 of 7 lines after the first:\n"
        "Мороз⟨U+001B⟩[2J\nстрока 1\nстрока 2\nстрока 3\n...\n\n",
        "after step 12:\nМороз\nстрока 1\nстрока 2\nстрока 3\nстрока 4\nстрока 5\nстрока 6\n"
        "строка 7\n\nIt recites 2 of 7 lines that follow the first.\n",
    ]
    assert done.stderr.endswith("\n  gptft generate runs/my -p Мороз\n")
    endless = replace(recited("Мороз").texts[0], before=" и" * 5000)
    outcome = replace(plain, recital=Recital((endless,)))
    assert len(invoke("train", str(config_file)).stdout) < 1000
    several = replace(plain, recital=recited("Мороз", "Буря " * 20))
    outcome = several
    rows = invoke("train", str(config_file)).stdout.splitlines()[-4:]
    assert rows[0].split("\t") == ["recited after", "before", "after", "of"]
    assert rows[1].split("\t") == ["«Мороз»", "1", "2", "7 lines"]
    assert len(rows[2].split("\t")[0]) < 60
    assert rows[3] == "It recites 4 of 14 lines of all texts."


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "runs/my is complete: 12 steps. Train further with --extend."),
        (
            {"is_memorized": True, "planned_steps": 4000},
            "runs/my is complete: 12 steps of 4,000, every token of its text is known. Train "
            "further with --extend --set training.stop_when_memorized=false.",
        ),
        (
            {"ended": "early_stopping", "without_improvement": 2, "planned_steps": 40},
            "runs/my is complete: 12 steps of 40, held-out loss had not fallen enough for 2 "
            "evaluations. Train further with --extend --set training.early_stopping_patience=null.",
        ),
    ],
)
def test_a_complete_run_says_why_and_how_to_go_on(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, object], said: str
):
    complete = CompleteRun(Path("runs/my"), {"steps": 12, **more})
    monkeypatch.setattr("gptft.api.train", lambda file, **settings: complete)
    assert " ".join(invoke("train", str(config_file), "--resume").stdout.split()) == said


@pytest.mark.parametrize(
    ("recite", "is_said"), [("true", True), ("1", False), ("null", False), ("false", False)]
)
def test_a_text_too_long_to_be_recited_says_so(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, recite: str, is_said: bool
):
    monkeypatch.setattr("gptft.api.training.MAX_TOKENS", 20)
    done = invoke("train", str(config_file), "--set", f"samples.recite={recite}")
    assert done.exit_code == 0, done.output
    assert ("samples.recite: true recites a text of up to 20 tokens" in done.stderr) is is_said


def _bad_configs(folder: Path) -> dict[str, tuple[str, str]]:
    """Name -> (YAML, what the one message must say)."""
    (folder / "empty").mkdir()
    (folder / "binary").mkdir()
    (folder / "binary" / "a.txt").write_bytes(bytes(range(256)))
    (folder / "binary" / "b.bin").write_bytes(b"\x89PNG")
    (folder / "poem.txt").write_text("Буря мглою", encoding="utf-8")
    return {
        "misspelt": ("data: {train: poem.txt}\ntraining: {learning_rte: 1}\n", "Did you mean"),
        "type": ("data: {train: poem.txt}\ntraining: {max_steps: many}\n", "whole number"),
        "removed": ("data: {train: poem.txt}\ntraining: {warmup_ratio: 0.1}\n", "warmup_steps"),
        "duplicate": ("data: {train: poem.txt}\ndata: {train: poem.txt}\n", "is set twice"),
        "missing": ("data: {train: none.txt}\n", "no such file"),
        "empty": ("data: {train: empty}\n", "is an empty folder"),
        "binary": ("data: {train: binary}\n", "is not a text file in UTF-8"),
        "block": ("data: {train: poem.txt, block_size: 2048}\n", "context of 1,024"),
        "model": ("data: {train: poem.txt}\nmodel: {name: ./none}\n", "no such folder"),
        "average": (
            "data: {train: poem.txt}\nmodel: {average_with: [pico, ./none]}\n",
            "no such folder",
        ),
        "nothing": ("training: {seed: 1}\n", "no data section"),
        "strategy": ("data: {train: poem.txt}\ngeneration: {strategy: gready}\n", "Did you mean"),
    }


def run_gptft(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gptft", *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


BAD = [
    "misspelt",
    "type",
    "removed",
    "duplicate",
    "missing",
    "empty",
    "binary",
    "block",
    "model",
    "nothing",
    "strategy",
]


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_config_is_one_message_and_exit_2(in_tmp: Path, name: str):
    text, said = _bad_configs(in_tmp)[name]
    (in_tmp / "bad.yaml").write_text(text, encoding="utf-8")
    done = run_gptft("train", "bad.yaml", cwd=in_tmp)
    assert done.returncode == 2
    assert done.stdout == ""
    message = done.stderr.strip()
    assert message.startswith("error: ")
    assert said in message
    assert "Traceback" not in message
    assert len([line for line in message.splitlines() if "data.exclude leaves" not in line]) == 1
    assert not (in_tmp / "runs").exists()


def test_a_fault_we_did_not_foresee_is_one_message_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.delenv("GPTFT_DEBUG", raising=False)
    monkeypatch.setattr("gptft.cli.app.app", fail)
    stderr.cache_clear()
    with pytest.raises(SystemExit) as caught:
        main()
    stderr.cache_clear()
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: The disk is full: a file can't be written (No space left")
    assert "Traceback" not in said


def test_a_cache_that_cannot_be_written_is_one_message(in_tmp: Path):
    (in_tmp / "file").write_text("", encoding="utf-8")
    (in_tmp / "poem.txt").write_text("Буря мглою", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "gptft", "prepare", "poem.txt"],
        cwd=in_tmp,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        env={**os.environ, "GPTFT_CACHE": str(in_tmp / "file" / "x")},
    )
    assert done.returncode == 2
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr
