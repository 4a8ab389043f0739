"""`pytorch_model.bin`: read without running code, and once."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gptft.errors import ModelError
from gptft.models.load import load_for_inference, load_for_training
from gptft.models.pickled import unpickled
from gptft.models.present import find_weights

CPU = torch.device("cpu")
IDS = torch.arange(1, 20)[None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("GPTFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def weights(tiny_model_dir: Path) -> dict[str, torch.Tensor]:
    """The tensors of the tiny model."""
    return load_file(tiny_model_dir / "model.safetensors")


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """The tiny model's folder without its weights."""
    made = Path(shutil.copytree(tiny_model_dir, tmp_path / "old"))
    (made / "model.safetensors").unlink()
    return made


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def save_zip(tensors: Any, path: Path) -> None:
    torch.save(tensors, path)


def save_legacy(tensors: Any, path: Path) -> None:
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


def with_buffers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As transformers saved GPT-2 before 2023: masks of each layer among the weights."""
    masks = {
        f"transformer.h.{layer}.attn.{name}": value
        for layer in range(2)
        for name, value in (
            ("bias", torch.ones(64, 64, dtype=torch.uint8).tril()[None, None]),
            ("masked_bias", torch.tensor(-1e4)),
        )
    }
    return {**tensors, **masks, "lm_head.weight": tensors["transformer.wte.weight"]}


class TestEqual:
    @pytest.mark.parametrize("save", [save_zip, save_legacy])
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
    def test_the_logits_are_those_of_safetensors(
        self, folder: Path, weights: dict[str, torch.Tensor], tiny_model_dir: Path,
        save: Callable[[Any, Path], None], prefix: str, capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        stored = {f"{prefix}{name}": value for name, value in with_buffers(weights).items()}
        save(stored, folder / "pytorch_model.bin")
        assert find_weights(str(folder))
        loaded = load_for_training(str(folder))
        stock = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
        assert torch.equal(logits(loaded), logits(stock))
        said = capsys.readouterr().err
        assert "was converted to safetensors; 4 buffers that models compute left out" in said
        assert "not used" not in said

    def test_half_precision_stays_what_it_is(
        self, folder: Path, weights: dict[str, torch.Tensor], cache: Path
    ) -> None:
        halves = {name: value.half() for name, value in weights.items()}
        torch.save(halves, folder / "pytorch_model.bin")
        loaded = load_for_training(str(folder)).state_dict()
        assert all(torch.equal(loaded[name], value.float()) for name, value in halves.items())
        (made,) = cache.glob("weights/*/model.safetensors")
        assert {value.dtype for value in load_file(made).values()} == {torch.float16}

    def test_the_parts_of_a_model_are_read_one_by_one(
        self, folder: Path, weights: dict[str, torch.Tensor], tiny_model_dir: Path
    ) -> None:
        names = sorted(weights)
        parts = {f"pytorch_model-0000{i}-of-00003.bin": names[i - 1 :: 3] for i in (1, 2, 3)}
        for file, own in parts.items():
            torch.save({name: weights[name] for name in own}, folder / file)
        index = {"weight_map": {name: file for file, own in parts.items() for name in own}}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
        stock = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
        assert torch.equal(logits(load_for_inference(str(folder), device=CPU)), logits(stock))
        (folder / "pytorch_model-00002-of-00003.bin").unlink()
        with pytest.raises(ModelError, match=r"lacks pytorch_model-00002-of-00003\.bin, one of 3"):
            load_for_training(str(folder))

    def test_views_of_one_memory_become_tensors_of_their_own(
        self, folder: Path, weights: dict[str, torch.Tensor], tiny_model_dir: Path
    ) -> None:
        """A transposed view, a slice of a larger one, and two names of the same."""
        stored = {name: value.t().contiguous().t() if value.dim() == 2 else value
                  for name, value in weights.items()}  # fmt: skip
        large = torch.cat([weights["transformer.wpe.weight"]] * 2)
        stored["transformer.wpe.weight"] = large[64:]
        torch.save(stored, folder / "pytorch_model.bin")
        stock = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
        assert torch.equal(logits(load_for_training(str(folder))), logits(stock))

    def test_the_models_own_generation_config_is_kept(
        self, folder: Path, weights: dict[str, torch.Tensor]
    ) -> None:
        torch.save(weights, folder / "pytorch_model.bin")
        (folder / "generation_config.json").write_text('{"top_k": 7}', encoding="utf-8")
        assert load_for_inference(str(folder), device=CPU).generation_config.top_k == 7

    def test_safetensors_come_first(
        self, folder: Path, weights: dict[str, torch.Tensor], tiny_model_dir: Path
    ) -> None:
        (folder / "pytorch_model.bin").write_bytes(b"not looked at")
        shutil.copy(tiny_model_dir / "model.safetensors", folder)
        assert load_for_training(str(folder))


class TestOnce:
    @pytest.fixture(autouse=True)
    def stored(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        torch.save(weights, folder / "pytorch_model.bin")

    def refuse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def load(*args: object, **kwargs: object) -> None:
            raise AssertionError("a pickle was opened")

        monkeypatch.setattr(torch, "load", load)

    def test_a_second_use_opens_no_pickle(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        first = logits(load_for_inference(str(folder), device=CPU))
        self.refuse(monkeypatch)
        monkeypatch.setattr("gptft.models.kept.file_checksum", None)  # nor is it read again
        capsys.readouterr()
        assert torch.equal(logits(load_for_inference(str(folder), device=CPU)), first)
        assert "converted" not in capsys.readouterr().err

    def test_a_copy_elsewhere_is_known_by_its_bytes(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load_for_training(str(folder))
        self.refuse(monkeypatch)
        copied = shutil.copytree(folder, tmp_path / "copied")
        assert load_for_training(str(copied))

    def test_a_file_that_changed_is_read_anew(
        self, folder: Path, weights: dict[str, torch.Tensor]
    ) -> None:
        load_for_training(str(folder))
        changed = {name: value + 1 for name, value in weights.items()}
        torch.save(changed, folder / "pytorch_model.bin")
        loaded = load_for_training(str(folder)).state_dict()
        assert torch.equal(loaded["transformer.wpe.weight"], changed["transformer.wpe.weight"])

    def test_what_was_cut_off_is_made_anew(
        self, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object, **kwargs: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("gptft.models.pickled.save_file", fail)
            with pytest.raises(ModelError, match="No space left on device"):
                load_for_training(str(folder))
        assert not list(cache.glob("weights/*"))
        assert load_for_training(str(folder))

    def test_a_disk_without_room_is_said_before_anything_is_written(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("gptft.models.kept.free_bytes", lambda folder: 1000)
        with pytest.raises(ModelError, match=r"1\.0 kB are free\. Make room, or set GPTFT_CACHE"):
            unpickled(folder, name="old")


class Calls:
    """Unpickled, it runs something."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> Any:
        return self.function, self.args


def malicious(mark: Path) -> Iterator[tuple[str, bytes]]:
    """Files that would make `mark` if they were opened as pickles are."""
    command = f"touch {mark}"
    calls: dict[str, Any] = {
        "os.system": Calls(os.system, command),
        "exec": Calls(exec, f"open({str(mark)!r}, 'w')"),
        "eval": Calls(eval, f"open({str(mark)!r}, 'w')"),
        "open": Calls(open, str(mark), "w"),
        "among weights": {"transformer.wte.weight": torch.ones(2), "x": Calls(os.system, command)},
        "as a name": {Calls(os.system, command): torch.ones(2)},
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
    }
    for name, value in calls.items():
        yield name, pickle.dumps(value, protocol=2)
        if name in ("os.system", "among weights"):
            buffer = io.BytesIO()
            torch.save(value, buffer)
            yield f"{name}, zipped", buffer.getvalue()


def broken() -> Iterator[tuple[str, bytes]]:
    buffer = io.BytesIO()
    torch.save({"transformer.wte.weight": torch.ones(64, 64)}, buffer)
    stored = buffer.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "nothing")
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    yield from {
        "empty": b"", "text": b"hello", "a pointer of git": lfs, "a cut file": stored[:-2000],
        "an archive of other things": archive.getvalue(), "zeros": bytes(1000),
        "a page": b"<!DOCTYPE html><html>404</html>", "a number": pickle.dumps(5, protocol=2),
        "an endless pickle": b"\x80\x02" + b"(" * 200_000,
        "a long count": b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x",
    }.items()  # fmt: skip


def refused(folder: Path, data: bytes) -> str:
    (folder / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load_for_training(str(folder))
    said = str(caught.value)
    assert "\n" not in said
    assert "pytorch_model.bin" in said
    assert len(said) < 800
    return said


@pytest.mark.parametrize("name", [name for name, _ in malicious(Path("x"))])
def test_no_code_runs(folder: Path, tmp_path: Path, name: str) -> None:
    mark = tmp_path / "ran"
    said = refused(folder, dict(malicious(mark))[name])
    assert not mark.exists()
    assert "would call" in said


@pytest.mark.parametrize("name", [name for name, _ in broken()])
def test_what_holds_no_weights_is_one_line(folder: Path, name: str) -> None:
    refused(folder, dict(broken())[name])


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({}, "an empty table"),
        ([torch.ones(2)], "a list"),
        (torch.ones(2), "a Tensor"),
        ({"state_dict": {"x": torch.ones(2)}, "epoch": 3}, "a table of 'state_dict', 'epoch'"),
        ({1: torch.ones(2)}, "a table of 1"),
    ],
)
def test_a_table_of_something_else_is_named(folder: Path, stored: Any, said: str) -> None:
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    assert said in refused(folder, buffer.getvalue())


@pytest.mark.parametrize(
    "index", ["{}", "[]", '{"weight_map": []}', '{"weight_map": {"x": 1}}', "{", 
              '{"weight_map": {"x": "../secret.bin"}}', '{"weight_map": {"x": "/etc/passwd"}}'],
)  # fmt: skip
def test_an_index_that_names_no_files_is_one_line(folder: Path, index: str) -> None:
    (folder / "pytorch_model.bin.index.json").write_text(index, encoding="utf-8")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin\.index\.json") as caught:
        load_for_training(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fields", [{"n_layer": 10**9}, {"vocab_size": 10**12}])
def test_sizes_that_pickled_weights_have_not_are_refused_before_a_model_is_built(
    folder: Path, weights: dict[str, torch.Tensor], fields: dict[str, int]
) -> None:
    torch.save(weights, folder / "pytorch_model.bin")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **fields}), encoding="utf-8")
    with pytest.raises(ModelError, match=f"its config.json says {next(iter(fields))}"):
        load_for_training(str(folder))
