"""Numbers that a command is given by flags: what is none, or beyond sense, is one line."""

import pytest
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.cli.settings_options import whole_number
from gptft.decoding.strategies import SETTINGS
from gptft.errors import GptftError

FLAGS = [
    pytest.param(f"--{row.name.replace('_', '-')}", row.name, id=row.name)
    for row in SETTINGS.values()
    if row.kind.name in ("int", "float", "ints")
]
BEYOND = ("nan", "inf", "1e20", "9" * 30, "9" * 5000)


@pytest.mark.parametrize(("flag", "name"), FLAGS)
def test_no_flag_of_a_strategy_takes_what_is_none_or_beyond_sense(flag: str, name: str):
    for value in BEYOND:
        run = CliRunner().invoke(app, ["generate", flag, value, "-p", "a"])
        said = run.output + run.stderr + str(run.exception)
        assert run.exit_code == 2 or "must be " in said, said
        assert flag in said or name in said
        assert len(said) < 2000
        assert isinstance(run.exception, SystemExit | GptftError)


@pytest.mark.parametrize(("text", "number"), [("8", 8), ("8.0", 8), ("1e3", 1000), ("-2.0", -2)])
def test_a_flag_takes_a_whole_number_as_yaml_does(text: str, number: int):
    assert whole_number(text) == number


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["--vocab-size", "9000000000"], "vocab_size is 9,000,000,000; the most is 10,000,000."),
        (["--vocab-size", "9" * 40], "vocab_size is a number of 40 digits; the most is"),
        (["--min-frequency", "9" * 20], "the most is 2,000,000,000."),
        (["--context", "9" * 20], "model_max_length is 99,999,999,999,999,999,999; the most is"),
        (["--held-out", "nan"], "nan of the text can't be held out."),
        (["--held-out", "inf"], "inf of the text can't be held out."),
    ],
)
@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_no_tokenizer_is_trained_by_numbers_that_would_end_the_process(
    kind: str, args: list[str], problem: str, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.txt").write_text("мама мыла раму", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["tokenizer", "train", "a.txt", "-o", "t", "--kind", kind, *args])
    assert run.exit_code != 0
    assert problem in str(run.exception)
    assert not (tmp_path / "t").exists()


def test_no_more_words_are_learned_than_a_vocabulary_holds(tmp_path):
    (tmp_path / "a.txt").write_text("мама мыла раму", encoding="utf-8")
    args = ["tokenizer", "extend", "pico", "-o", str(tmp_path / "t"), "--learn"]
    run = CliRunner().invoke(app, [*args, str(tmp_path / "a.txt"), "--num", "9" * 20])
    assert "10,000,000 are the most" in str(run.exception)
