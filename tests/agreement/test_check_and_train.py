"""What `gptft config check` calls right, `gptft train` runs; what it calls wrong, it refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gptft.cli.config import check
from gptft.cli.train import train
from gptft.config.source import dump_yaml
from gptft.errors import GptftError
from gptft.tokenization.tokenizer import save_tokenizer
from gptft.tokenization.trainers import train_bpe
from gptft.training import arguments
from tests.agreement.adapters import RIGHT_ADAPTERS, WRONG_ADAPTERS
from tests.agreement.cases import BASE, NOTICED, RIGHT, WRONG, Case, Sections
from tests.agreement.samples import RIGHT_SAMPLES, WRONG_SAMPLES
from tests.conftest import SENTENCES

RUN = "runs/my"
GENERATE = sorted((Path(__file__).parents[2] / "configs" / "generate").glob("*.yaml"))


@pytest.fixture(scope="module")
def other_models(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of another tokenizer, and one that sees 16 tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("models")
    for name, size, context in (("another", 300, 64), ("short", 320, 16)):
        tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=size, min_frequency=2)
        save_tokenizer(tokenizer, folder / name, model_max_length=context)
        config = GPT2Config(
            vocab_size=size, n_layer=1, n_head=2, n_embd=16, n_positions=context, eos_token_id=0
        )
        GPT2LMHeadModel(config).save_pretrained(folder / name)
    return folder


@pytest.fixture
def place(
    tmp_path: Path, tiny_model_dir: Path, other_models: Path, corpus_dir: Path, in_tmp: Path
) -> Path:
    """A folder with models and texts of all kinds, which the test runs in."""
    Path("tiny").symlink_to(tiny_model_dir)
    for folder in other_models.iterdir():
        Path(folder.name).symlink_to(folder)
    for name, kept in (
        ("weightless", ("config.json", "tokenizer.json", "tokenizer_config.json")),
        ("opt", ("tokenizer.json", "tokenizer_config.json", "model.safetensors")),
    ):
        Path(name).mkdir()
        for file in kept:
            Path(name, file).symlink_to(tiny_model_dir / file)
    Path("opt/config.json").write_text('{"model_type": "opt"}', encoding="utf-8")
    Path("unfinished").mkdir()
    Path("unfinished/run.json").write_text("{}", encoding="utf-8")
    Path("old").mkdir()
    for file in ("run.json", "config.yaml"):
        Path("old", file).write_text("{}", encoding="utf-8")
    records = [{"title": "Зима", "body": "Снег идёт."}, {"title": "Лето", "body": "Тепло и пыль."}]
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    Path("poems.jsonl").write_text(lines, encoding="utf-8")
    Path("empty.txt").write_text("\n", encoding="utf-8")
    return tmp_path


def merged(sections: Sections) -> Sections:
    """`BASE` with some sections over it; a null removes a setting."""
    whole = {name: dict(BASE.get(name, {})) for name in (*BASE, *sections)}
    for name, section in sections.items():
        whole[name] |= section
        whole[name] = {key: value for key, value in whole[name].items() if value is not None}
    return {**whole, "training": whole["training"] | _nulls(sections.get("training", {}))}


def _nulls(training: dict[str, Any]) -> dict[str, Any]:
    return {name: None for name, value in training.items() if value is None}


def written(case: Case) -> Path:
    path = Path("my.yaml")
    text = dump_yaml(merged(case.sections)) if case.text is None else case.text
    path.write_text(text, encoding="utf-8")
    return path


def said(command: Any, path: Path) -> str:
    """Why a command refuses a config; empty where it doesn't."""
    try:
        command(path)
    except GptftError as error:
        return str(error) if error.exit_code == 2 else f"exit code {error.exit_code}"
    return ""


# Of stock peft 0.21 beside transformers 5.23.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize(
    "case", [*RIGHT, *RIGHT_SAMPLES, *RIGHT_ADAPTERS], ids=lambda case: case.name
)
def test_what_is_right_trains(case: Case, place: Path, capsys: pytest.CaptureFixture[str]):
    path = written(case)
    assert said(check, path) == ""
    assert "every setting is right" in capsys.readouterr().out
    assert said(train, path) == ""
    assert json.loads(Path(RUN, "run.json").read_text(encoding="utf-8"))["state"] == "done"


@pytest.mark.parametrize("case", NOTICED, ids=lambda case: case.notice)
def test_what_may_not_be_meant_is_said_by_both(
    case: Case, place: Path, capsys: pytest.CaptureFixture[str]
):
    path = written(case)
    for command in (check, train):
        assert said(command, path) == ""
        lines = capsys.readouterr().err.splitlines()
        assert [case.notice in line for line in lines].count(True) == 1, lines


def test_a_recipe_gives_way_to_what_is_asked_for(place: Path, capsys: pytest.CaptureFixture[str]):
    Path("poem.txt").write_text(SENTENCES[0], encoding="utf-8")
    asked = ["max_steps=8", "lr_scheduler_type=constant", "use_cpu=true"]
    overrides = ["model.name=tiny", *(f"training.{setting}" for setting in asked)]
    train(Path("poem.txt"), overrides)
    facts = json.loads(Path("runs/poem/run.json").read_text(encoding="utf-8"))
    assert facts["result"]["steps"] == 8
    assert "num_train_epochs" not in facts["config"]["training"]
    assert capsys.readouterr().err.count("Of the recipe, num_train_epochs: 40 gives way") == 1


@pytest.mark.parametrize(
    "case", [*WRONG, *WRONG_SAMPLES, *WRONG_ADAPTERS], ids=lambda case: case.name
)
def test_what_is_wrong_is_refused_by_both_in_the_same_words(case: Case, place: Path):
    path = written(case)
    problem = said(check, path)
    assert case.wrong in problem
    for line in problem.splitlines():
        assert re.match(r"my\.yaml(:\d+:\d+)?  \S", line), line
    assert said(train, path) == problem
    assert not Path(RUN).exists()


@pytest.mark.parametrize(
    "case",
    [case for case in WRONG if case.crosses and not case.ignored],
    ids=lambda case: case.name,
)
def test_without_the_check_it_would_fail_in_training(
    case: Case, place: Path, monkeypatch: pytest.MonkeyPatch
):
    """No check is stricter than what it stands for."""
    monkeypatch.setattr("gptft.config.load.training_problems", lambda values, **kwargs: [])
    monkeypatch.setattr("gptft.api.check.unmet_needs", lambda training: [])
    for name in ("conflicts", "unmet_needs"):
        monkeypatch.setattr(arguments, name, lambda training, **kwargs: [])
    with pytest.raises(Exception):  # noqa: B017, PT011
        train(written(case))


@pytest.mark.parametrize(
    "case",
    [case for case in WRONG_SAMPLES if "samples" in case.sections],
    ids=lambda case: case.name,
)
def test_without_the_check_no_samples_could_be_generated(
    case: Case, place: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gptft.api.samples.sample_problems", lambda *args, **kwargs: [])
    monkeypatch.setattr("gptft.decoding.settings.problems_of", lambda settings: [])
    with pytest.raises(Exception):  # noqa: B017, PT011
        train(written(case))


def test_all_problems_of_samples_are_named_at_once(place: Path):
    text = (
        "model:\n  name: tiny\ndata:\n  train: texts\nsamples:\n  prompts:\n    - Буря\n"
        f"    - {'Буря ' * 20}\ngeneration:\n  max_new_tokens: 9\n  suppress_tokens: [400]\n"
        "  logit_bias:\n    небо: 1\n    '500': 2\n  dola_layers: [7]\n"
    )
    lines = said(check, written(Case(text=text))).splitlines()
    assert [int(line.split(":")[1]) for line in lines] == [8, 11, 12, 12, 15]


def test_all_problems_are_named_at_once_in_the_order_of_the_file(place: Path):
    text = (
        "model:\n  name: weightless\ndata:\n  train: nowhere\n  validation: 0.1\n"
        "training:\n  seed: -1\n  report_to: wandb\n  greater_is_better: true\n"
        "  eval_strategy: steps\n  lr_scheduler_type: cosine_with_min_lr\n"
        "generation:\n  strategy: no such\n"
    )
    lines = said(check, written(Case(text=text))).splitlines()
    places = [int(line.split(":")[1]) for line in lines]
    assert places == [2, 4, 7, 8, 9, 11, 13]


@pytest.mark.parametrize("path", GENERATE, ids=lambda path: path.stem)
def test_a_shipped_config_that_generates_is_right_for_that(
    path: Path, capsys: pytest.CaptureFixture[str]
):
    check(path)
    good = "It is good for generating; gptft train also needs data.train."
    assert capsys.readouterr().out == f"{path}: every setting is right. {good}\n"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("training: {}\n", "There is no data section"),
        ("samples: {prompts: Буря}\n", "There is no data section"),
        ("model: {average_with: tiny}\n", "There is no data section"),
        (
            "model: {from_scratch: {model_type: gpt2}}\ntokenizer: {train: {vocab_size: 300}}\n",
            "There is no data section",
        ),
        ("model: {name: weightless}\n", "holds no weights"),
        ("strategies: {mine: {top_pp: 1}}\n", "Did you mean"),
    ],
)
def test_a_config_that_generates_is_wrong_where_it_trains_or_cant_generate(
    more: str, problem: str, place: Path
):
    assert problem in said(check, written(Case(text=f"generation: {{top_k: 5}}\n{more}")))


def test_a_config_that_generates_needs_the_models_it_names(place: Path):
    problem = said(check, written(Case(text="generation:\n  assistant_model: weightless\n")))
    assert problem.startswith("my.yaml:2:3  ")
    assert "holds no weights" in problem


def test_a_config_that_generates_cant_be_trained_by(place: Path):
    path = written(Case(text="generation: {top_k: 5}\n"))
    assert said(check, path) == ""
    assert said(train, path) == (
        "my.yaml  There is no data section. Set data.train to a text file or folder."
    )
