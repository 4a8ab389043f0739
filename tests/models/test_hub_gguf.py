"""A .gguf file of the hub: fetched alone, and its header alone where no weights are read."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import PreTrainedModel

from gptft.errors import ModelError
from gptft.inspection.model_facts import model_facts
from gptft.models import hub_blob
from gptft.models.dequantized import dequantized
from gptft.models.gguf_header import gguf_header_end, read_gguf
from gptft.models.hub import check_on_hub, find_model
from gptft.models.load import load_for_inference
from gptft.tokenization.tokenizer import load_tokenizer
from gptft.tokenization.training import open_local
from tests.models.gguf_writer import write_gguf
from tests.models.hub_server import Hub, cut
from tests.models.test_gguf import TOKENIZER, make

NAME = "owner/tiny-GGUF/tiny-F32.gguf"


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make("llama")


@pytest.fixture(scope="module")
def path(model: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    written = tmp_path_factory.mktemp("gguf") / "tiny-F32.gguf"
    return write_gguf(model, written, tokenizer=TOKENIZER)


@pytest.fixture
def repository(hub: Hub, path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setattr(hub_blob, "_HEAD", 50_000)  # the header has some 200,000 bytes
    other = {"tiny-Q8_0.gguf": b"GGUF", "imatrix.dat": b"1"}
    hub.add("owner/tiny-GGUF", {path.name: path.read_bytes(), **other})
    return hub


def test_it_generates_as_the_file_does(repository: Hub, model: PreTrainedModel):
    loaded = load_for_inference(NAME, device=torch.device("cpu"))
    ids = torch.arange(1, 40)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert repository.fetched() == ["tiny-F32.gguf"]
    asked = len(repository.asked)
    assert find_model(NAME).gguf == find_model(NAME, with_weights=False).gguf
    assert check_on_hub(NAME)
    assert find_model("owner/tiny-GGUF@main/tiny-F32.gguf").gguf == find_model(NAME).gguf
    assert len(repository.asked) == asked


def test_its_tokenizer_and_its_facts_take_its_header_alone(repository: Hub, path: Path):
    assert not check_on_hub(NAME)
    there, here = load_tokenizer(NAME), load_tokenizer(str(path))
    assert there.backend.to_str() == here.backend.to_str()
    assert open_local(NAME).backend.to_str() == here.backend.to_str()
    facts, own = model_facts(NAME), model_facts(str(path))
    assert facts.model == NAME
    assert facts.anatomy == own.anatomy
    assert facts.parameters == own.parameters
    assert facts.bytes_on_disk == own.bytes_on_disk == path.stat().st_size
    assert len(repository.ranges()) == 3  # at most 50,000 bytes, 200,000 and 800,000, in pieces
    partial = next(Path(constants.HF_HUB_CACHE).rglob("*.incomplete")).stat().st_size
    assert partial < path.stat().st_size / 4
    asked = len(repository.asked)
    load_tokenizer(NAME)
    assert len(repository.asked) == asked


def test_all_of_it_goes_on_behind_its_header(repository: Hub, path: Path):
    head = find_model(NAME, with_weights=False)
    with pytest.raises(ModelError, match="only its header was fetched"):
        dequantized(Path(str(head.gguf)), head.folder, name=NAME)
    have = next(Path(constants.HF_HUB_CACHE).rglob("*.incomplete")).stat().st_size
    repository.asked.clear()
    found = find_model(NAME).gguf
    assert found is not None
    assert found.read_bytes() == path.read_bytes()
    assert repository.ranges() == [f"bytes={have}-"]


def test_a_header_that_breaks_off_is_resumed(repository: Hub, path: Path):
    repository.faults += [cut("/store/", after=20_000), cut("/store/", after=10_000)]
    assert load_tokenizer(NAME).backend.to_str() == load_tokenizer(str(path)).backend.to_str()
    assert repository.ranges()[:3] == ["all", "bytes=20000-", "bytes=30000-"]


def test_no_gguf_file_is_said_to_be_none(repository: Hub):
    repository.add("owner/odd", {"odd.gguf": b"<html>" * 100, "cut.gguf": b"GGUF\3\0\0\0" * 2})
    with pytest.raises(ModelError, match=r"^owner/odd/odd\.gguf is not a GGUF file"):
        load_tokenizer("owner/odd/odd.gguf")
    with pytest.raises(ModelError, match=r"cut\.gguf is damaged or cut off"):
        load_tokenizer("owner/odd/cut.gguf")


def test_the_package_that_reads_it_is_asked_for_before_it_is_fetched(
    repository: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("gptft.models.gguf_files.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="takes the package gguf"):
        find_model(NAME)
    assert not repository.ranges()


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.99])
def test_where_a_header_ends_is_told_of_all_of_it_alone(path: Path, tmp_path: Path, share: float):
    pairs, tensors = read_gguf(path)
    end = gguf_header_end(path)
    assert end is not None
    first = min(tensor.start for tensor in tensors.values())
    assert end <= first < end + pairs.get("general.alignment", 32)
    part = tmp_path / "part.gguf"
    part.write_bytes(path.read_bytes()[: int(end * share)])
    assert gguf_header_end(part) is None
    part.write_bytes(path.read_bytes()[:end])
    assert gguf_header_end(part) == end
