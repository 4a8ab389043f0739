from pathlib import Path

import pytest

from gptft.errors import ModelError
from gptft.models.source import expand_models, resolve_model


def test_a_bundled_name_comes_before_a_folder_of_that_name(in_tmp: Path):
    (in_tmp / "pico").mkdir()
    path = resolve_model("pico")
    assert path is not None
    assert path.parent.name == "models"
    with pytest.raises(ModelError, match="holds no model"):
        resolve_model("./pico")


def test_a_model_folder_is_itself_and_a_run_folder_its_model(in_tmp: Path, tiny_model_dir: Path):
    assert resolve_model(str(tiny_model_dir)) == tiny_model_dir
    run = in_tmp / "run"
    run.mkdir()
    (run / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="has no finished model"):
        resolve_model("run")
    (run / "model").symlink_to(tiny_model_dir)
    assert resolve_model("run") == Path("run/model")


def test_what_is_neither_path_nor_bundled_is_a_hub_id(in_tmp: Path):
    for name in ("gpt2", "ai-forever/rugpt3small_based_on_gpt2", "runs.2/a-b"):
        assert resolve_model(name) is None
    (in_tmp / "runs.2").mkdir()
    with pytest.raises(ModelError, match=r"no such folder, though runs\.2/ is here"):
        resolve_model("runs.2/a-b")


@pytest.mark.parametrize("name", ["/no/such", "./none", "a/b/c", "tokenizer.json", "имя модели"])
def test_what_can_be_no_model_is_said(in_tmp: Path, name: str):
    with pytest.raises(ModelError, match="no such folder or file"):
        resolve_model(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("~nobody-of-this-name/model", "there is no such user"),
        ("a" * 300, "can't be opened: File name too long"),
        ("owner/" + "a" * 300, "can't be opened: File name too long"),
    ],
)
def test_a_name_that_cannot_be_looked_up_is_one_line(in_tmp: Path, name: str, said: str):
    (in_tmp / "owner").mkdir()
    with pytest.raises(ModelError, match=said):
        resolve_model(name)


def test_globs_below_a_user_that_is_not_there_are_one_line():
    with pytest.raises(ModelError, match="there is no such user"):
        expand_models(["~nobody-of-this-name/*"])


def test_a_file_that_is_no_model_is_said(in_tmp: Path):
    (in_tmp / "weights.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="is a file"):
        resolve_model("weights.bin")


def test_a_glob_of_models_is_the_folders_it_matches(in_tmp: Path):
    for name in ("b", "a", ".staging", "[odd]"):
        (in_tmp / "checkpoints" / name).mkdir(parents=True)
    (in_tmp / "checkpoints" / "file").touch()
    matched = ["checkpoints/[odd]", "checkpoints/a", "checkpoints/b"]
    assert expand_models(["pico", "checkpoints/*", "a/b"]) == ["pico", *matched, "a/b"]
    assert expand_models(["checkpoints/[odd]", "checkpoints/[ab]"]) == matched
    with pytest.raises(ModelError, match=r"checkpoints/\*\.pt matches no folder"):
        expand_models(["checkpoints/*.pt"])
