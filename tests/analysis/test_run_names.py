"""A run's training texts are found from any folder, and where the run or all of it was moved."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gptft.analysis.run_names import StartingPlace
from gptft.cli.app import app
from gptft.config.sections import Config
from gptft.errors import DataError, RunError
from tests.conftest import SENTENCES


def invoke(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=stdin)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A project folder: texts, base and a run that were all named relative to it."""
    project = tmp_path_factory.mktemp("made") / "my project"
    (project / "texts" / "drafts").mkdir(parents=True)
    shutil.copytree(tiny_model_dir, project / "base")
    for number, text in enumerate(SENTENCES * 2):
        path = project / "texts" / f"{number}[a].txt"
        path.write_text(f"{number}. {text}\n" * 3, encoding="utf-8")
    (project / "texts" / "drafts" / "x.txt").write_text("Черновик", encoding="utf-8")
    config = {
        "model": {"name": "base"},
        "data": {
            "train": ["texts/[0-6]*.txt", "texts/drafts"],
            "exclude": "texts/drafts/*",
            "validation": "texts/7[[]a].txt",
            "block_size": 16,
        },
        "samples": {"prompts": ["Буря"]},
        "training": {"max_steps": 1, "save_strategy": "no", "use_cpu": True},
    }
    (project / "my.yaml").write_text(json.dumps(config), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("GPTFT_CACHE", str(project / "cache"))
        done = invoke("train", "my.yaml")
        assert done.exit_code == 0, done.output
    shutil.rmtree(project / "cache")
    return project


@pytest.fixture
def project(made: Path, in_tmp: Path) -> Path:
    """A copy of the project whose run says it was started there; the test stands elsewhere."""
    folder = in_tmp / "my project"
    shutil.copytree(made, folder)
    told(folder / "runs" / "my", working_dir=str(folder))
    (in_tmp / "elsewhere").mkdir()
    return folder


def told(run: Path, **facts: object) -> None:
    path = run / "run.json"
    stored = {**json.loads(path.read_text(encoding="utf-8")), **facts}
    stored = {name: value for name, value in stored.items() if value is not None}
    path.write_text(json.dumps(stored), encoding="utf-8")


def measured(run: Path) -> dict[str, object]:
    """What novelty says of a text copied from the texts, the cache being empty."""
    done = invoke("novelty", str(run), "--file", "-", "--json", stdin=SENTENCES[0])
    assert done.exit_code == 0, repr(done.exception)
    assert "made again" in done.stderr
    answer: dict[str, object] = json.loads(done.stdout)["texts"][0]["longest"]
    return answer


def test_a_run_says_where_it_was_started(made: Path):
    facts = json.loads((made / "runs" / "my" / "run.json").read_text(encoding="utf-8"))
    assert Path(facts["working_dir"]) == made
    assert str(made) not in (made / "runs" / "my" / "model" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("stand", [".", "elsewhere", "my project", "my project/texts"])
def test_from_any_folder(project: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, stand: str):
    monkeypatch.chdir(in_tmp / stand)
    file = Path(str(measured(project / "runs" / "my")["file"]))
    assert file.resolve() == project / "texts" / "0[a].txt"
    assert file.is_absolute() is (stand != "my project")


def test_of_a_run_that_was_moved(project: Path, in_tmp: Path):
    moved = shutil.move(project / "runs" / "my", in_tmp / "elsewhere" / "run")
    assert measured(Path(moved))["file"]


def test_of_a_project_that_was_moved(project: Path, in_tmp: Path):
    moved = Path(shutil.move(project, in_tmp / "elsewhere" / "project"))
    assert measured(moved / "runs" / "my")["file"]


def test_from_the_folder_of_the_texts_where_only_they_were_moved(
    project: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("texts", "base"):
        shutil.move(project / name, in_tmp / "elsewhere")
    monkeypatch.chdir(in_tmp / "elsewhere")
    assert measured(project / "runs" / "my")["file"]


def test_texts_that_are_gone(project: Path, in_tmp: Path):
    shutil.rmtree(project / "texts")
    done = invoke("novelty", str(project / "runs" / "my"), "--file", "-", stdin="Буря")
    assert isinstance(done.exception, RunError)
    said = str(done.exception)
    assert f"(looked from {project} and {in_tmp}). Put them back" in said
    assert "texts/[0-6]*.txt, texts/drafts, texts/7[[]a].txt: no such file" in said


def test_an_older_run_says_where_to_stand(
    project: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
):
    run = project / "runs" / "my"
    config = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    config["training"]["output_dir"] = str(run)
    told(run, working_dir=None, config=config)
    done = invoke("novelty", str(run), "--file", "-", stdin="Буря")
    assert isinstance(done.exception, RunError)
    assert f"(looked from {in_tmp}). Its run.json doesn't say where" in str(done.exception)
    monkeypatch.chdir(project)
    assert measured(run)["file"]


def test_comparing_strategies_looks_copies_up(
    project: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(in_tmp / "elsewhere")
    run = str(project / "runs" / "my")
    done = invoke(
        "generate", run, "-p", "Буря", "--compare", "greedy", "--max-new-tokens", "9", "--cpu"
    )
    assert done.exit_code == 0, done.output
    assert "made again" in done.stderr
    assert "isn't available" not in done.stderr


@pytest.mark.parametrize("value", [None, 5, "", ["x"], "a\0b", "x" * 5000])
def test_a_working_dir_that_is_none(tmp_path: Path, in_tmp: Path, value: object):
    config = Config.model_validate({"data": {"train": "gone.txt"}})
    start = StartingPlace.of(tmp_path / "run", {"working_dir": value})
    with pytest.raises(DataError, match=r"^gone\.txt: no such file or folder \(looked from "):
        start.locate(config)


@pytest.mark.parametrize("name", ["hub:a/b", "~/poem.txt", "/poem.txt"])
def test_names_that_hold_anywhere_stay(tmp_path: Path, name: str):
    config = Config.model_validate({"data": {"train": name}})
    assert StartingPlace.of(tmp_path, {"working_dir": "/"}).locate(config) == config
