"""What only the end of a run needs is tried before its first step."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig, GPT2Config, PreTrainedTokenizerFast

from gptft.errors import ModelError
from tests.training.conftest import Run

# What `GenerationConfig.save_pretrained` refuses, and what is left when it is mended.
CONTRADICTORY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sampling fields without sampling": (
        {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "top_k": 20},
        {"do_sample": False},
    ),
    "beam fields without beams": ({"early_stopping": True, "length_penalty": 2.0}, {}),
    "a cache that isn't used": ({"use_cache": False, "cache_config": {}}, {"use_cache": False}),
    "scores that nobody gets": ({"output_scores": True, "max_length": 30}, {"max_length": 30}),
}


def with_generation_config(base: Path, folder: Path, **fields: Any) -> Path:
    shutil.copytree(base, folder)
    own = json.loads((base / "generation_config.json").read_text(encoding="utf-8"))
    text = json.dumps({**own, **fields})
    (folder / "generation_config.json").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("case", CONTRADICTORY)
def test_a_generation_config_that_contradicts_itself_is_mended_and_said(
    run: Run, tiny_model_dir: Path, tmp_path: Path, case: str
):
    fields, left = CONTRADICTORY[case]
    base = with_generation_config(tiny_model_dir, tmp_path / "base", **fields)
    stock = GenerationConfig.from_pretrained(base)
    stock.pad_token_id = 1  # transformers lets an untouched one through
    with pytest.raises(ValueError, match="GenerationConfig is invalid"):
        stock.save_pretrained(tmp_path / "stock")
    said: list[str] = []
    result = run(model={"name": str(base)}, notify=said.append)
    (notice,) = [line for line in said if "generation_config.json contradicts itself" in line]
    assert all(name in notice for name in fields.keys() - left.keys())
    saved = json.loads((result.run_dir / "model" / "generation_config.json").read_text())
    assert {name: saved[name] for name in fields if saved.get(name) is not None} == left


def test_a_sound_generation_config_is_kept_without_a_word(
    run: Run, tiny_model_dir: Path, tmp_path: Path
):
    fields = {"do_sample": True, "temperature": 0.6, "top_p": 0.9}
    base = with_generation_config(tiny_model_dir, tmp_path / "base", **fields)
    said: list[str] = []
    result = run(model={"name": str(base)}, notify=said.append)
    assert not [line for line in said if "contradicts" in line]
    saved = json.loads((result.run_dir / "model" / "generation_config.json").read_text())
    assert {name: saved[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (PreTrainedTokenizerFast, "tokenizer"),
        (GenerationConfig, "generation config"),
        (GPT2Config, "config"),
    ],
)
def test_what_cannot_be_saved_is_an_error_before_the_run_is_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: Any, what: str
):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise TypeError("Object of type dtype is not JSON serializable")

    monkeypatch.setattr(part, "save_pretrained", refuse)
    said = (
        f"base model's {what} can't be saved, and the run would fail at its end: TypeError: Object"
    )
    with pytest.raises(ModelError, match=said):
        run()
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize("folder", ["full", "gone"])
def test_a_folder_for_temporary_files_that_cannot_be_written_to_says_nothing_of_the_base(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
):
    def fail(self: Any, folder: str, *args: Any, **kwargs: Any) -> Any:
        if str(tmp_path / "run") not in folder:
            raise OSError(28, "No space left on device")
        return original(self, folder, *args, **kwargs)

    if folder == "gone":
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    else:
        original = GenerationConfig.save_pretrained
        monkeypatch.setattr(GenerationConfig, "save_pretrained", fail)
    assert (run().model_dir / "config.json").is_file()
