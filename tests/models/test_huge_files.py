"""A file of a model that is a terabyte long, and has no room on the disk, is never read."""

import shutil
import time
from pathlib import Path

import pytest

from gptft.errors import ModelError
from gptft.inspection.audit_files import read_tokenizer_files
from gptft.models.hub import find_model
from gptft.tokenization.tokenizer import load_tokenizer

NAMES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "model.safetensors.index.json", "chat_template.jinja", "adapter_config.json",
)  # fmt: skip


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize("name", NAMES)
def test_a_huge_file_is_refused_with_its_size(
    tiny_model_dir: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    make_huge(folder / name)
    for read in (find_model, load_tokenizer, read_tokenizer_files):
        begun = time.monotonic()
        with pytest.raises(ModelError) as caught:
            read(str(folder))
        assert time.monotonic() - begun < 1
        assert str(caught.value).startswith(f"{folder / name} has 1,099,511,627,776 bytes, and no")


def test_a_huge_tokenizer_that_is_named_is_refused(tmp_path: Path) -> None:
    make_huge(tmp_path / "mine.json")
    with pytest.raises(ModelError, match=r"mine.json has 1,099,511,627,776 bytes"):
        load_tokenizer(str(tmp_path / "mine.json"))


def test_a_huge_template_beside_is_said_in_the_audit(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "additional_chat_templates").mkdir()
    make_huge(folder / "additional_chat_templates" / "tools.jinja")
    unreadable = read_tokenizer_files(str(folder)).unreadable
    assert unreadable["tools.jinja"].endswith("it has more than 10,000,000 bytes.")


def test_a_corpus_beside_a_tokenizer_is_no_file_of_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    make_huge(folder / "corpus.txt")
    assert load_tokenizer(str(folder)).vocab_size > 256
