import json
from pathlib import Path
from typing import Any

import pytest

from gptft.errors import ModelError
from gptft.inspection.audit import audit_tokenizer
from gptft.models import model_files
from gptft.models.model_files import ModelFiles, context_length


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"n_positions": 1024, "n_ctx": 512}, 1024),
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_ctx": 512}, 512),
        ({}, None),
        ({"n_positions": None}, None),
    ],
)
def test_the_context_is_found_under_each_architectures_name(
    config: dict[str, object], context: int | None
):
    assert context_length(config) == context


def test_a_broken_json_is_named(tmp_path: Path):
    path = tmp_path / "config.json"
    assert ModelFiles("a", tmp_path).config == {}
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json is not readable .*line 1 column 2"):
        ModelFiles("a", tmp_path).json("config.json")
    path.write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(ModelError, match="holds a JSON list"):
        ModelFiles("a", tmp_path).json("config.json")


def test_a_json_file_is_read_once(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text('{"n_layer": 2}', encoding="utf-8")
    files = ModelFiles("a", tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert files.config == {"n_layer": 2}
    path.unlink()
    assert files.config == {"n_layer": 2}
    assert ModelFiles("a", tmp_path).config == {}


def test_an_audit_reads_every_json_file_once(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch):
    opened: list[str] = []

    def noted(path: Path) -> dict[str, Any]:
        opened.append(path.name)
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    monkeypatch.setattr(model_files, "read_json", noted)
    audit_tokenizer(str(tiny_model_dir))
    assert sorted(opened) == ["config.json", "generation_config.json", "tokenizer_config.json"]


def test_weights_are_there_when_every_file_of_the_index_is(tmp_path: Path):
    assert not ModelFiles("a", tmp_path).has_weights
    (tmp_path / "a-1.safetensors").touch()
    assert ModelFiles("a", tmp_path).has_weights
    index = {"weight_map": {"x": "a-1.safetensors", "y": "a-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert not ModelFiles("a", tmp_path).has_weights
    (tmp_path / "a-2.safetensors").touch()
    assert ModelFiles("a", tmp_path).has_weights
