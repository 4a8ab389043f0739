"""Words of a command line that no command has: what is said names what was meant."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.errors import ModelError

UsageError: Any = typer.BadParameter.__base__


def said_of(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        app(list(words), standalone_mode=False, prog_name="gptft")
    return str(caught.value.format_message())


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("evaluate", "gptft eval"),
        ("perplexity", "gptft score"),
        ("finetune", "gptft train"),
        ("fine-tune", "gptft train"),
        ("fine_tune", "gptft train"),
        ("Train", "gptft train"),
        ("trian", "gptft train"),
        ("generat", "gptft generate"),
        ("tokenise", "gptft tokenize"),
        ("chat", "gptft generate MODEL --chat"),
        ("sample", "gptft generate"),
        ("help", "gptft --help"),
        ("version", "gptft --version"),
        ("check", "gptft config check"),
        ("resume", "gptft train CONFIG --resume"),
        ("list", "gptft runs"),
        ("hlp", "gptft --help"),
        ("versoin", "gptft --version"),
        ("perplexty", "gptft score"),
        ("fine-tun", "gptft train"),
        ("eval-uate", "gptft eval"),
        ("infernce", "gptft generate"),
    ],
)
def test_a_command(word: str, meant: str) -> None:
    assert said_of(word, "x") == f"No such command {word!r}. Did you mean {meant}?"


def test_a_command_that_is_like_none() -> None:
    said = said_of("xyzzy")
    assert said.startswith("No such command 'xyzzy'. gptft --help lists what there is: tokenize, ")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["config", "chek"], "gptft config check"),
        (["tokenizer", "trian"], "gptft tokenizer train"),
        (["runs", "verfy", "runs"], "gptft runs verify"),
        (["runs", "comapre", "a", "b"], "gptft runs compare"),
        (["runs", "shwo", "a"], "gptft runs show"),
    ],
)
def test_a_command_of_a_group(words: list[str], meant: str) -> None:
    assert said_of(*words).endswith(f" Did you mean {meant}?")


@pytest.mark.parametrize(
    ("group", "meant"),
    [([], "train"), (["config"], "config check"), (["tokenizer"], "tokenizer train")],
)
@pytest.mark.parametrize(
    ("name", "as_word"),
    [("poem.txt", "poem.txt"), ("my poem.txt", "'my poem.txt'"), ("стих.txt", "стих.txt")],
)
def test_a_file_where_a_command_must_stand(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    group: list[str],
    meant: str,
    name: str,
    as_word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("Мороз", encoding="utf-8")
    assert said_of(*group, name).endswith(f" Did you mean gptft {meant} {as_word}?")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--hepl"], "--help"),
        (["--versoin"], "--version"),
        (["generate", "pico", "--temprature", "1"], "--temperature"),
        (["generate", "pico", "--temp", "1"], "--temperature"),
        (["generate", "pico", "--max-tokens", "1"], "--max-new-tokens"),
        (["generate", "pico", "--max_length", "1"], "--max-new-tokens"),
        (["generate", "pico", "--text", "x"], "--prompt"),
        (["generate", "pico", "--n", "2"], "--num-return-sequences"),
        (["predict", "pico", "--promt", "x"], "--prompt"),
        (["score", "pico", "--input", "a.txt"], "--file"),
        (["score", "pico", "--text", "a.txt"], "--file"),
        (["train", "a.txt", "--lerning-rate", "1"], "--learning-rate"),
        (["train", "a.txt", "--epoch", "1"], "--epochs"),
        (["train", "a.txt", "--output", "1"], "--out"),
        (["train", "a.txt", "--force"], "--overwrite"),
        (["train", "a.txt", "--steps", "1"], "--max-steps"),
    ],
)
def test_an_option(words: list[str], meant: str) -> None:
    option = next(word for word in words if word.startswith("-")).replace("_", "-")
    assert said_of(*words) == f"No such option: {option}. Did you mean {meant}?"


@pytest.mark.parametrize("words", [["tokenize", "a.txt"], ["score", "pico", "a.txt"]])
def test_a_file_that_is_given_as_a_text(in_tmp: Path, words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, "is a file" in done.stderr) == (0, False)
    Path("a.txt").write_text("Мороз", encoding="utf-8")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    assert done.stderr == "TEXT is taken as it is, and a.txt is a file: --file reads it.\n"


@pytest.mark.parametrize("command", ["score", "generate", "predict"])
def test_a_text_where_a_model_must_stand(in_tmp: Path, command: str) -> None:
    Path("a.txt").write_text("Мороз", encoding="utf-8")
    more = [] if command == "score" else ["-p", "x"]
    with pytest.raises(ModelError, match=r"^a\.txt is a text, and a model comes first: pico, say"):
        app([command, "a.txt", *more], standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "--data", "a.txt"], "without an option: gptft train poem.txt"),
        (["train", "a.txt", "--xyzzy"], "gptft train --help lists them."),
        (["train", "a.txt", "b.txt"], "Put several texts into a folder"),
        (["generate", "pico", "Мороз"], 'The prompt comes with -p: -p "Мороз и солнце".'),
        (["predict", "pico", "Мороз"], "The prompt comes with -p"),
        (["novelty", "a", "b"], "texts come with --file"),
        (["train"], "a YAML config: gptft train poem.txt"),
        (["config", "check"], "a YAML config: gptft config check poem.txt"),
        (["score"], "the bundled model: gptft score pico"),
        (["runs", "verify"], "a folder of them: gptft runs verify runs"),
        (["runs", "show"], "the folder of a run: gptft runs show runs/poem"),
        (["runs", "show", "a", "b"], "gptft runs compare shows several side by side"),
        (["config", "show", "a", "b"], "Put several texts into a folder"),
        (["runs", "compare"], "a folder of them: gptft runs compare runs"),
        (["novelty"], "the folder of a run: gptft novelty runs/poem"),
    ],
)
def test_other_words(words: list[str], says: str) -> None:
    assert says in said_of(*words)
