"""Folders that hold something else than a model, and weights saved within a wrapper."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.models.load import load_for_inference, load_for_training
from gptft.models.wrapped import wrapper_prefix
from gptft.tokenization.auto import load_auto_tokenizer
from gptft.tokenization.tokenizer import load_tokenizer
from tests.tokenization.test_old_files import train_sentencepiece

LOADING = {
    "train": "train poem.txt --model MODEL --max-steps 1",
    "config check": "config check poem.txt --set model.name=MODEL",
    "average": "config check poem.txt --set model.name=TINY --set model.average_with=[MODEL]",
    "generate": "generate MODEL -p x",
    "score": "score MODEL x",
    "predict": "predict MODEL -p x",
}
TOKENIZING = {
    "tokenize": "tokenize x --model MODEL",
    "prepare": "prepare poem.txt --set model.name=MODEL",
}


def said_of(command: str, *, model: Path, tiny: Path) -> str:
    """The one message of a command that fails."""
    Path("poem.txt").write_text("Буря мглою небо кроет " * 20, encoding="utf-8")
    words = [w.replace("MODEL", str(model)).replace("TINY", str(tiny)) for w in command.split()]
    failed = CliRunner().invoke(app, words).exception
    assert getattr(failed, "exit_code", None) == 2, repr(failed)
    assert len(failed.problems) == 1, failed.problems  # type: ignore[union-attr]
    return str(failed)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("vocab.txt", "WordPiece"), ("tokenizer.model", "SentencePiece"), (None, None)],
)
@pytest.mark.parametrize("command", sorted({*LOADING, *TOKENIZING} - {"average"}))
def test_a_model_without_a_tokenizer_that_is_read(
    in_tmp: Path, tiny_model_dir: Path, command: str, name: str | None, kind: str | None
) -> None:
    folder = in_tmp / "model"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    if name == "tokenizer.model":
        train_sentencepiece(folder / name, model_type="unigram", vocab_size=110)
    elif name is not None:
        (folder / name).write_text("[PAD]\n[UNK]\na\n##b\n", encoding="utf-8")
    said = said_of({**LOADING, **TOKENIZING}[command], model=folder, tiny=tiny_model_dir)
    assert "model holds no tokenizer: neither tokenizer.json nor vocab.json" in said
    if name is None:
        assert said.endswith("Copy these from where the model comes from.")
    else:
        assert f"only {name} ({kind}), which transformers doesn't convert for a gpt2. Name" in said


def test_vocab_txt_is_read_where_its_class_is_named(tmp_path: Path, tiny_model_dir: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n")
    config = {"tokenizer_class": "BertTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_tokenizer(str(folder)).backend.encode("ab", add_special_tokens=False).ids == [5, 6]
    assert load_auto_tokenizer(str(folder)).encode("ab", add_special_tokens=False) == [5, 6]


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."]
)
@pytest.mark.parametrize("is_sharded", [False, True])
def test_weights_saved_within_a_wrapper_are_those_without(
    tmp_path: Path, tiny_model_dir: Path, prefix: str, is_sharded: bool
) -> None:
    folder, plain = tmp_path / "wrapped", load_for_training(str(tiny_model_dir))
    plain.save_pretrained(folder, max_shard_size="60KB" if is_sharded else "1GB")
    shutil.copy(tiny_model_dir / "tokenizer.json", folder)
    index = folder / "model.safetensors.index.json"
    assert index.is_file() is is_sharded
    for path in folder.glob("*.safetensors"):
        weights = {f"{prefix}{name}": tensor for name, tensor in load_file(path).items()}
        save_file(weights, path, metadata={"format": "pt"})
    if is_sharded:
        stored = json.loads(index.read_text(encoding="utf-8"))
        stored["weight_map"] = {f"{prefix}{k}": v for k, v in stored["weight_map"].items()}
        index.write_text(json.dumps(stored), encoding="utf-8")
    assert wrapper_prefix(folder) == prefix
    for model in (
        load_for_training(str(folder)),
        load_for_inference(str(folder), device=torch.device("cpu")),
    ):
        ours, theirs = model.state_dict(), plain.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    model.save_pretrained(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    assert saved.keys() == load_file(tiny_model_dir / "model.safetensors").keys()


def test_names_that_only_look_wrapped(tmp_path: Path) -> None:
    weights = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    save_file(weights, tmp_path / "model.safetensors")
    assert wrapper_prefix(tmp_path) == ""


def test_a_run_on_wrapped_weights_saves_plain_ones(in_tmp: Path, tiny_model_dir: Path) -> None:
    folder = in_tmp / "wrapped"
    shutil.copytree(tiny_model_dir, folder)
    weights = load_file(folder / "model.safetensors")
    names = weights.keys()
    wrapped = {f"_orig_mod.{name}": tensor for name, tensor in weights.items()}
    save_file(wrapped, folder / "model.safetensors", metadata={"format": "pt"})
    Path("poem.txt").write_text("Буря мглою небо кроет " * 20, encoding="utf-8")
    train = ["train", "poem.txt", "--model", "wrapped", "--max-steps", "2", "--use-cpu"]
    answer = CliRunner().invoke(app, ["score", "wrapped", "Буря"])
    assert "wrapped: its weights were saved in a wrapper; _orig_mod. is left out" in answer.stderr
    for more in (["--save-strategy", "steps", "--save-steps", "1"], ["--resume", "--extend"]):
        steps = ["--max-steps", "4"] if "--resume" in more else []
        done = CliRunner().invoke(app, [*train, *more, *steps])
        assert done.exit_code == 0, done.output
    assert load_file("runs/poem/model/model.safetensors").keys() == names
