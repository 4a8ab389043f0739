"""Which documents are recited, what each is given, and which lines count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from gptft.config.sections import Config
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.recital import (
    MAX_DOCUMENTS,
    MAX_TOKENS,
    Passage,
    count_recited,
    find_passages,
    lines_of,
)
from gptft.data.store import BlockStore
from gptft.data.stored_documents import stored_documents
from tests.conftest import SENTENCES
from tests.framed import BOS, EOS, GPT2, LLAMA, OPT, write_tokenizer

VERSE = "\n".join(SENTENCES)


Find = Callable[..., list[Passage]]


def prepared_store(folder: Path, model_dir: Path, texts: list[str], **settings: object) -> Any:
    """A store of documents, `%%` between them in one file, and the plan it was made by."""
    (folder / "texts.txt").write_bytes("%%".join(texts).encode())
    data = {"train": str(folder / "texts.txt"), "document_separator": "%%", **settings}
    plan = plan_packing(Config.model_validate({"data": data, "model": {"name": str(model_dir)}}))
    return BlockStore(prepare_blocks(plan).path), plan


@pytest.fixture
def find(tmp_path: Path, tiny_model_dir: Path) -> Find:
    """The passages of documents: `find(texts, asked=True, model_dir=..., **settings)`."""

    def find(
        texts: list[str],
        *,
        asked: bool | int | None = True,
        model_dir: Path = tiny_model_dir,
        **settings: object,
    ) -> list[Passage]:
        store, plan = prepared_store(tmp_path, model_dir, texts, **settings)
        return find_passages(
            store,
            asked=asked,
            tokenizer=plan.tokenizer.backend,
            eos_token_id=plan.tokenizer.require_eos(),
            bos=plan.bos,
        )

    return find


def encode(model_dir: Path, text: str) -> list[int]:
    ids: list[int] = Tokenizer.from_file(str(model_dir / "tokenizer.json")).encode(text).ids
    return ids


def test_a_document_is_given_by_its_first_line_and_may_be_as_long_as_it_is(
    find: Find, tiny_model_dir: Path
):
    first, second = "Буря мглою небо кроет,", "вихри снежные крутя;"
    two = f"{first}\n{second}"
    [passage] = find([two], block_size=64)
    assert (passage.prompt, passage.text) == (first, f"\n{second}")
    assert list(passage.prompt_ids) == encode(tiny_model_dir, first)
    whole = encode(tiny_model_dir, two)
    assert list(passage.prompt_ids) == whole[: len(passage.prompt_ids)]
    # EOS is one of the tokens it may write, where the block has a place for it.
    left = len(whole) - len(passage.prompt_ids)
    assert passage.num_tokens == left + 1


@pytest.mark.parametrize(
    ("texts", "prompts"),
    [
        (["\n\n  Заглавие\n\nА\nБ"], ["\n\n  Заглавие"]),
        (["* * *\nА\nБ", "* * *\nВ\nГ"], ["* * *\nА", "* * *\nВ"]),
        (["А\nБ\nВ", "А\nБ\nГ\nД"], ["А", "А\nБ\nГ"]),  # all but the end of the first is shared
        (["А\nБ", "А\nБ"], ["А"]),  # equal documents once
        (["А\r\nБ\r\n"], ["А\r"]),
        (["одно два три четыре пять шесть семь восемь"], ["одно два"]),  # no line but one
        (["Q"], []),  # nothing follows its only token
        (["А"], []),  # nor its only character, which is two tokens
    ],
)
def test_a_beginning_is_as_long_as_it_must_be(find: Find, texts: list[str], prompts: list[str]):
    found = find(texts)
    if len(prompts) == 1 and "\n" not in texts[0]:  # tokens decide where a word of a line ends
        [passage] = found
        assert texts[0] == passage.prompt + passage.text
        assert passage.text[0] == " "
        assert len(passage.prompt_ids) <= 32
    else:
        assert [passage.prompt for passage in found] == prompts
        for passage in found:
            assert any(text == passage.prompt + passage.text for text in texts)


def test_what_a_block_cannot_hold_is_not_asked_for(find: Find):
    [passage] = find([VERSE], block_size=32)
    assert len(passage.prompt_ids) + passage.num_tokens == 32
    assert VERSE.startswith(passage.prompt + passage.text)
    # The line that the block's end cuts is left out, but where no other is there.
    for block_size, lines in ((7, ["Z", "J"]), (8, ["Z", "J", "Q"])):  # a letter is a token
        [passage] = find(["Q\nZ\nJ\n" * 20], block_size=block_size)
        assert lines_of(passage.text) == lines


@pytest.mark.parametrize(
    ("template", "before"), [(GPT2, []), (LLAMA, [BOS]), (OPT, [EOS])], ids=["none", "bos", "eos"]
)
def test_what_begins_a_text_begins_each_passage(
    find: Find, tmp_path: Path, template: str | None, before: list[int]
):
    """As `gptft generate` begins a prompt: by the tokenizer's own template."""
    folder = write_tokenizer(tmp_path / "model", template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = find(["А\nБ", "В\nГ"], model_dir=folder)
    assert [list(one.prompt_ids) for one in found] == [tokenizer(text).input_ids for text in "АВ"]
    for passage in found:
        assert list(passage.prompt_ids[: len(before)]) == before
    assert [(one.prompt, one.text) for one in found] == [("А", "\nБ"), ("В", "\nГ")]


@pytest.mark.parametrize(
    ("asked", "number"), [(None, 0), (False, 0), (True, 3), (1, 1), (2, 2), (7, 3)]
)
def test_as_many_are_recited_as_are_asked_for(find: Find, asked: bool | int | None, number: int):
    texts = ["А\nБ", "В\nГ", "Д\nЕ"]
    found = find(texts, asked=asked)
    assert [passage.prompt for passage in found] == ["А", "В", "Д"][:number]


def test_a_large_text_is_recited_only_where_a_number_is_given(find: Find):
    many = [f"{n}\nБ" for n in range(MAX_DOCUMENTS + 1)]
    assert find(many) == []
    assert len(find(many[:-1])) == MAX_DOCUMENTS
    assert len(find(many, asked=2)) == 2
    long = ["А\n" * MAX_TOKENS]
    assert find(long) == []
    assert len(find(long, asked=1)) == 1


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("\nА\n\nБ\nВ", 3),
        ("\nА\nВ", 2),
        ("\nБ\nА\nВ", 2),  # in their order
        ("\nА\nБ \r\nВ\nГ\nА", 3),
        (" А\nб\nВ,", 0),  # word for word
        ("", 0),
    ],
)
def test_lines_count_where_they_stand_whole_and_in_order(written: str, number: int):
    assert count_recited(written, "\nА\nБ\n\nВ") == number


def test_blank_lines_are_none():
    assert lines_of("\n\n \t\n") == []


@pytest.mark.parametrize("template", [GPT2, LLAMA, OPT], ids=["none", "bos", "eos"])
@pytest.mark.parametrize("block_size", [7, 1000])
def test_every_document_of_a_store_is_found_across_its_blocks(
    tmp_path: Path, template: str | None, block_size: int
):
    folder = write_tokenizer(tmp_path / "model", template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [f"{sentence} {n}" for n in range(9) for sentence in SENTENCES]
    store, plan = prepared_store(tmp_path, folder, texts, block_size=block_size)
    found = [*stored_documents(store, eos_token_id=EOS, bos=plan.bos)]
    encoded = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    assert [one.ids.tolist() for one in found] == encoded
    assert all(one.is_whole for one in found)


def test_a_document_that_the_end_of_the_store_cuts_is_not_whole(
    tmp_path: Path, tiny_model_dir: Path
):
    store, plan = prepared_store(tmp_path, tiny_model_dir, [VERSE], block_size=16, tail="drop")
    [document] = stored_documents(store, eos_token_id=plan.tokenizer.require_eos())
    assert (len(document.ids), document.is_whole) == (store.num_tokens, False)
