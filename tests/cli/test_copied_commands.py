"""Commands that are printed to be copied name the very file or run, whatever is in its name."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gptft.api.copies import _not_a_run
from gptft.api.training import _which_recipe
from gptft.cli.app import app
from gptft.config.load import ConfigFile
from gptft.config.source import Source
from gptft.errors import ConfigError, Interrupted
from gptft.training.result import BeforeAfter, TrainResult

NAMES = ["my runs", "стих 1", "it's", '"a"', "-dash", "a$b;c"]


def words_of(text: str, name: str) -> list[str]:
    """The words of the command of gptft in a text, as a shell reads them."""
    (command,) = re.findall(rf"gptft {name} .+?(?=`|\n|$)", text)
    return shlex.split(command)


@pytest.mark.parametrize("name", NAMES)
class TestCommands:
    def test_generate_after_train(
        self, name: str, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("a.yaml").write_text("data: {train: a.txt}\n", encoding="utf-8")
        figures = BeforeAfter(2.0, 1.0, 7.389, 2.718, num_tokens=9)
        outcome = TrainResult(
            run_dir=Path(name), steps=2, planned_steps=2, is_memorized=False, model_step=2,
            seconds=1.0, num_tokens=9, num_text_tokens=12, train=figures, validation=None,
            best=None, samples=(),
        )  # fmt: skip
        monkeypatch.setattr("gptft.api.train", lambda file, **settings: outcome)
        done = CliRunner().invoke(app, ["train", "a.yaml"])
        _, _, run, *rest = words_of(done.stderr, "generate")
        assert (Path(run), rest) == (Path(name), ["-p", "..."])
        assert not run.startswith("-")

    def test_resume(self, name: str, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(*_: object, **__: object) -> None:
            raise Interrupted("Saved. Resume with --resume", signum=2, resumable=True)

        Path("a.yaml").write_text("data: {train: a.txt}\n", encoding="utf-8")
        monkeypatch.setattr("gptft.api.train", stop)
        given = ["train", "a.yaml", f"--out={name}"]
        monkeypatch.setattr(sys, "argv", ["gptft", *given])
        with pytest.raises(Interrupted) as caught:
            app(given, standalone_mode=False)
        assert words_of(str(caught.value), "train")[2:] == ["--resume", *given[1:]]

    def test_the_recipe_of_a_text(self, name: str, in_tmp: Path) -> None:
        Path(name).write_text("Мороз", encoding="utf-8")
        (said,) = _which_recipe(ConfigFile(Source(name), None, ()))
        *_, text = words_of(said, "config")
        assert Path(text) == Path(name)
        assert CliRunner().invoke(app, words_of(said, "config")[1:]).exit_code == 0

    def test_novelty_of_a_model_in_a_run(self, name: str, in_tmp: Path) -> None:
        Path(name, "model").mkdir(parents=True)
        Path(name, "run.json").write_text("{}", encoding="utf-8")
        *_, run = words_of(_not_a_run(Path(name, "model")), "novelty")
        assert Path(run) == Path(name)
        assert not run.startswith("-")

    def test_merge_after_a_shard(self, name: str, in_tmp: Path, tiny_model_dir: Path) -> None:
        Path("a.txt").write_text("Мороз и солнце", encoding="utf-8")
        config = {
            "data": {"train": "a.txt", "block_size": 8},
            "model": {"name": str(tiny_model_dir)},
        }
        Path(f"{name}.yaml").write_text(json.dumps(config), encoding="utf-8")
        setting = ["--set", f"training.run_name={name}"]
        given = ["prepare", f"./{name}.yaml", *setting]
        done = CliRunner().invoke(app, [*given, "--shard", "1/1"])
        assert done.exit_code == 0, done.output
        _, _, file, *rest = words_of(done.stderr, "prepare")
        assert (Path(file), rest) == (Path(f"{name}.yaml"), [*setting, "--merge"])
        assert CliRunner().invoke(app, words_of(done.stderr, "prepare")[1:]).exit_code == 0


def test_a_folder_that_is_no_run_and_one_that_is_not_there(in_tmp: Path) -> None:
    Path("runs/poem").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"^poem: no such folder\. Did you mean runs/poem\?$"):
        app(["novelty", "poem"], standalone_mode=False)
