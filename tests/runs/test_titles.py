"""What a page calls a model: its own name, wherever it lies."""

import json
import shutil
from pathlib import Path

import pytest

from gptft.runs.titles import ModelTitle, title_of


@pytest.fixture
def model_dir(tiny_model_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "somewhere" / "tiny"))


def put_into_run(model_dir: Path, name: str, model: dict[str, object]) -> Path:
    run = model_dir.parent / name
    run.mkdir()
    facts = json.dumps({"state": "done", "config": {"model": model}})
    (run / "run.json").write_text(facts, encoding="utf-8")
    (run / "config.yaml").write_text("", encoding="utf-8")
    shutil.copytree(model_dir, run / "model")
    shutil.copytree(model_dir, run / "checkpoints" / "checkpoint-3")
    return run


@pytest.mark.parametrize("part", ["", "model", "checkpoints/checkpoint-3"])
@pytest.mark.parametrize(
    ("model", "base"),
    [
        ({"name": "pico"}, "pico"),
        ({"name": "openai-community/gpt2"}, "openai-community/gpt2"),
        ({"name": "/home/somebody/models/rugpt3"}, "rugpt3"),
        ({"name": "/home/somebody/runs/first/model"}, "first"),
        ({"from_scratch": {"model_type": "llama"}}, None),
        ({"name": "  "}, None),
        ({}, None),
    ],
)
def test_a_run_is_called_by_its_name_and_that_of_its_base(
    model_dir: Path, part: str, model: dict[str, object], base: str | None
) -> None:
    run = put_into_run(model_dir, "pushkin", model)
    assert title_of(str(run / part)) == ModelTitle("pushkin", base)


def test_a_run_in_the_folder_that_one_stands_in(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(put_into_run(model_dir, "pushkin", {"name": "pico"}))
    assert title_of(".") == ModelTitle("pushkin", "pico")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pico", "pico"),
        ("openai-community/gpt2", "openai-community/gpt2"),
        ("gpt2", "gpt2"),
        ("/no/such/folder", "folder"),
    ],
)
def test_a_model_that_is_no_folder_here(name: str, expected: str) -> None:
    assert title_of(name) == ModelTitle(expected)


def test_a_folder_of_the_hub_s_cache_is_its_repository(model_dir: Path, tmp_path: Path) -> None:
    for repo in ("ai-forever/rugpt3small_based_on_gpt2", "Qwen/Qwen3-0.6B"):
        folder = tmp_path / f"models--{repo.replace('/', '--')}" / "snapshots" / "ab12"
        shutil.copytree(model_dir, folder)
        assert title_of(str(folder)) == ModelTitle(repo)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nmodel_name: Poems of mine\n---\n", "Poems of mine"),
        ("---\nlicense: mit\n---\n# Something\n", "tiny"),
        ("---\nmodel_name: [\n---\n", "tiny"),
        (None, "tiny"),
    ],
)
def test_a_folder_is_called_as_its_card_calls_it(
    model_dir: Path, card: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if card is not None:
        (model_dir / "README.md").write_text(card, encoding="utf-8")
    assert title_of(f"{model_dir}/") == ModelTitle(expected)
    monkeypatch.chdir(model_dir)
    assert title_of(".") == ModelTitle(expected)


@pytest.mark.parametrize(("named", "expected"), [("My Poems", "My Poems"), (None, "poems-q8")])
def test_a_gguf_file_is_called_as_it_says(tmp_path: Path, named: str | None, expected: str) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "poems-q8.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    if named is not None:
        writer.add_name(named)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert title_of(str(path)) == ModelTitle(expected)
