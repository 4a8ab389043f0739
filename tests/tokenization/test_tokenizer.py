"""Tokenizers opened without transformers give the ids transformers gives, and its EOS."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import gptft.models
from gptft.errors import ModelError
from gptft.tokenization.tokenizer import END_OF_TEXT, TextTokenizer, load_tokenizer, save_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.conftest import SENTENCES

TEXTS = [
    *SENTENCES,
    "Ещё раз: ёлка, съёжился, Щука — «кавычки»…",
    "It's 12,345.67; don't  stop\n\n\tnow \r\n",
    "😀👨‍👩‍👧🇷🇺 e\u0301 \ufeff日本語 \x00\x1b",
    "a <|endoftext|> b</s><s> <pad><unk>",
    " ",
    "",
]
RU_GPT3 = ("<pad>", "<s>", "</s>", "<unk>", "<mask>")  # first ids of ruGPT3's vocabulary
RU_GPT3_NAMES = {
    "bos_token": "<s>",
    "eos_token": {"content": "</s>", "lstrip": False},
    "unk_token": "<unk>",
    "pad_token": "<pad>",
}


def trained(special: tuple[str, ...], *, prefix: bool = False) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 4, trainer)
    return backend


def write(folder: Path, **files: Any) -> Path:
    """Write name.json for every keyword."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def write_legacy(folder: Path, *, special: tuple[str, ...] = RU_GPT3, **files: Any) -> Path:
    """A folder as ruGPT3 ships it: vocab.json and merges.txt, no tokenizer.json."""
    write(folder, config={"model_type": "gpt2"}, **files)
    trained(special).model.save(str(folder))
    return folder


def auto_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        str(folder), trust_remote_code=False, local_files_only=True
    )


def check_same(folder: Path) -> tuple[TextTokenizer, Any]:
    """Check ids, size and EOS against transformers, and hand back both tokenizers."""
    ours, theirs = load_tokenizer(str(folder)), auto_tokenizer(folder)
    for text in TEXTS:
        ids = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ours.backend.encode(text, add_special_tokens=False).ids == ids, text
    assert ours.vocab_size == len(theirs)
    assert ours.eos_token_id == theirs.eos_token_id
    return ours, theirs


def test_a_folder_with_tokenizer_json(tmp_path: Path) -> None:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    folder = write(tmp_path, tokenizer_config=config, config={"model_type": "gpt2"})
    trained((END_OF_TEXT,)).save(str(folder / "tokenizer.json"))
    ours, _ = check_same(folder)
    assert ours.eos_token_id == 0
    assert ours.vocab_size == 320


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"add_prefix_space": False},
        {"add_prefix_space": True},
        {"add_prefix_space": True, "tokenizer_class": "GPT2Tokenizer", "errors": "replace"},
    ],
)
def test_a_legacy_folder_as_rugpt3_ships_it(config: dict[str, Any] | None, tmp_path: Path) -> None:
    more = {} if config is None else {"tokenizer_config": config}
    folder = write_legacy(tmp_path, special_tokens_map=RU_GPT3_NAMES, **more)
    ours, _ = check_same(folder)
    assert ours.eos_token_id == 2
    assert ours.special_tokens == {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    }
    word = ours.backend.encode("то").tokens[0]
    assert word.startswith("Ġ") == (config or {}).get("add_prefix_space", False)


def test_a_legacy_folder_with_added_tokens(tmp_path: Path) -> None:
    added = {"<second>": 321, "<first>": 320}
    folder = write_legacy(tmp_path, special_tokens_map=RU_GPT3_NAMES, added_tokens=added)
    ours, theirs = check_same(folder)
    text = "вихри <first>снежные<second>"
    ids = ours.backend.encode(text, add_special_tokens=False).ids
    assert ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert {320, 321} <= {*ids}


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ({"<far>": 400}, "gives '<far>' the id 400, and the vocabulary has 320 for it"),
        ({"<a>": "320"}, "doesn't give every token a number"),
    ],
)
def test_added_tokens_that_do_not_fit_are_refused(
    added: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write_legacy(tmp_path, added_tokens=added)
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(str(folder))
    assert str(folder) in str(caught.value)


def test_a_vocab_json_named_itself(tmp_path: Path) -> None:
    folder = write_legacy(tmp_path, special_tokens_map=RU_GPT3_NAMES)
    named, whole = load_tokenizer(str(folder / "vocab.json")), load_tokenizer(str(folder))
    assert named.digest == whole.digest


def test_special_tokens_have_the_first_ids() -> None:
    tokenizer = train_bpe(
        iter(SENTENCES), vocab_size=300, min_frequency=2, special=["<user>", "<bot>"]
    )
    ids = [tokenizer.backend.token_to_id(token) for token in (END_OF_TEXT, "<user>", "<bot>")]
    assert ids == [0, 1, 2]
    assert tokenizer.backend.decode(tokenizer.backend.encode("<user>").ids) == "<user>"


def test_tokenizer_json_alone_in_its_folder(tmp_path: Path) -> None:
    trained((END_OF_TEXT,)).save(str(tmp_path / "tokenizer.json"))
    ours, _ = check_same(tmp_path)
    assert ours.eos_token_id is None
    with pytest.raises(ModelError, match="has no EOS token"):
        ours.require_eos()


def test_a_tokenizer_json_named_itself(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    path = tmp_path / "tokenizer.json"
    trained((END_OF_TEXT,), prefix=True).save(str(path))
    ours = load_tokenizer(str(path))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(path))
    for text in TEXTS:
        ids = theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ours.backend.encode(text).ids == ids


def test_the_bundled_model() -> None:
    ours, _ = check_same(Path(gptft.models.__file__).parent / "pico")
    assert ours.eos_token_id == 0
    assert ours.context == 1024


@pytest.mark.parametrize(
    ("files", "eos"),
    [
        (["tokenizer_config", "special_tokens_map", "config"], "<a>"),
        (["special_tokens_map", "config"], "<b>"),
        (["config"], "<c>"),
        ([], None),
    ],
)
def test_where_eos_is_looked_up(files: list[str], eos: str | None, tmp_path: Path) -> None:
    contents = {
        "tokenizer_config": {"eos_token": {"content": "<a>", "special": True}},
        "special_tokens_map": {"eos_token": "<b>"},
        "config": {"eos_token_id": 2},
    }
    folder = write(tmp_path, **{name: contents[name] for name in files})
    trained(("<a>", "<b>", "<c>")).save(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.special_tokens.get("eos_token") == eos
    assert tokenizer.eos_token_id == (None if eos is None else "abc".index(eos[1]))


@pytest.mark.parametrize(
    ("named", "eos"),
    [
        ({"tokenizer_config": {"eos_token": "<nowhere>"}, "config": {"eos_token_id": 1}}, 1),
        ({"tokenizer_config": {"eos_token": None}, "config": {"eos_token_id": [1, 0]}}, 1),
        ({"config": {"eos_token_id": None}}, None),
        ({"config": {"eos_token_id": -1}}, None),
        ({"config": {"eos_token_id": 320}}, None),
        ({"config": {"eos_token_id": 2**40}}, None),
        ({"config": {"eos_token_id": "1"}}, None),
    ],
)
def test_an_eos_that_the_vocabulary_lacks_is_none(
    named: dict[str, Any], eos: int | None, tmp_path: Path
) -> None:
    folder = write(tmp_path, **named)
    trained(("<a>", "<b>")).save(str(folder / "tokenizer.json"))
    assert load_tokenizer(str(folder)).eos_token_id == eos


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path: Path) -> None:
    backend = trained((END_OF_TEXT,))
    plain = backend.encode(SENTENCES[0]).ids
    backend.enable_truncation(3)
    backend.enable_padding(length=500)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, 0)]
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    write(tmp_path, tokenizer_config={"eos_token": END_OF_TEXT})
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.backend.encode(SENTENCES[0], add_special_tokens=False).ids == plain
    batch = tokenizer.backend.encode_batch_fast([SENTENCES[0], "."], add_special_tokens=False)
    assert batch[0].ids == plain
    assert len(batch[1]) == 1


@pytest.mark.parametrize("special", [True, False])
def test_end_of_text_inside_a_text_stays_text(special: bool, tmp_path: Path) -> None:
    text = f"one{END_OF_TEXT}two"
    backend = trained((END_OF_TEXT,))
    assert 0 in backend.encode(text).ids  # what the library does unless told otherwise
    backend.save(str(tmp_path / "tokenizer.json"))
    content = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"][0]["special"] = special
    write(tmp_path, tokenizer=content, tokenizer_config={"eos_token": END_OF_TEXT})
    tokenizer = load_tokenizer(str(tmp_path))
    ids = tokenizer.backend.encode(text, add_special_tokens=False).ids
    assert 0 not in ids
    assert tokenizer.backend.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer.json": "{"}, "tokenizer.json is not a tokenizer.json"),
        ({"tokenizer.json": "{}"}, "tokenizer.json is not a tokenizer.json"),
        ({"tokenizer.json": b"\xff\xfe\0"}, "tokenizer.json is not a tokenizer.json"),
        ({"config.json": "{}"}, "holds no tokenizer: neither tokenizer.json nor vocab.json"),
        ({"vocab.json": "{}"}, "holds no tokenizer: neither tokenizer.json nor vocab.json"),
        ({"vocab.json": "[]", "merges.txt": ""}, "can't be read: .*vocabulary"),
        ({"vocab.json": '{"a": 0}', "merges.txt": "a b\n"}, "can't be read: .*out of vocabulary"),
        ({}, "holds no model"),
    ],
)
def test_missing_and_corrupt_files_are_one_line(
    files: dict[str, str | bytes], message: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(ModelError, match=message) as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer_config", "special_tokens_map", "config"])
@pytest.mark.parametrize("content", ["{", "[]", '"text"'])
def test_a_corrupt_file_beside_tokenizer_json_is_named(
    name: str, content: str, tmp_path: Path
) -> None:
    trained(("<a>",)).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / f"{name}.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=rf"{name}\.json") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_hub_model_that_is_not_here_is_one_line() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ModelError, match=r"^nobody/nothing: no such folder here") as caught:
        load_tokenizer("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_trained_tokenizer_gives_the_text_back() -> None:
    tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=300, min_frequency=2)
    assert tokenizer.eos_token_id == 0
    assert tokenizer.backend.id_to_token(0) == END_OF_TEXT
    assert tokenizer.vocab_size == 300  # EOS, 256 bytes and 43 merges
    for text in TEXTS:
        ids = tokenizer.backend.encode(text).ids
        assert 0 not in ids
        assert tokenizer.backend.decode(ids, skip_special_tokens=False) == text


def test_a_small_text_gives_a_small_vocabulary() -> None:
    tokenizer = train_bpe(iter(["abab"]), vocab_size=1000, min_frequency=2)
    assert tokenizer.vocab_size == 1 + 256 + 1  # one pair, "ab", is seen twice
    assert tokenizer.backend.encode("abab").tokens == ["ab", "ab"]


def test_end_of_text_in_the_training_text_is_not_learned_as_one() -> None:
    texts = [f"a{END_OF_TEXT}"] * 9
    tokenizer = train_bpe(iter(texts), vocab_size=400, min_frequency=2)
    assert 0 not in tokenizer.backend.encode(texts[0]).ids


def test_a_saved_tokenizer_opens_with_transformers(tmp_path: Path) -> None:
    tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=300, min_frequency=2)
    save_tokenizer(tokenizer, tmp_path / "new", model_max_length=64)
    ours, theirs = check_same(tmp_path / "new")
    assert theirs.eos_token == END_OF_TEXT
    assert theirs.model_max_length == 64
    assert ours.eos_token_id == 0
    for text in TEXTS:
        assert ours.backend.encode(text).ids == tokenizer.backend.encode(text).ids
        ids = theirs(text, split_special_tokens=True)["input_ids"]
        assert ids == tokenizer.backend.encode(text).ids  # it adds nothing around a text


def test_a_tokenizer_is_saved_completely_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=300, min_frequency=2)
    save_tokenizer(tokenizer, tmp_path / "new", model_max_length=64)
    tokenizer.backend.save(str(tmp_path / "library.json"))
    saved = (tmp_path / "new" / "tokenizer.json").read_bytes()
    assert saved == (tmp_path / "library.json").read_bytes()
    monkeypatch.setattr("gptft.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_tokenizer(tokenizer, tmp_path / "full", model_max_length=64)
    assert [*(tmp_path / "full").iterdir()] == []


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_ids_above_a_gap_are_counted(tmp_path: Path) -> None:
    vocab = {"a": 0, "b": 70_000, END_OF_TEXT: 1}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (tmp_path / "merges.txt").write_text("", encoding="utf-8")
    write(tmp_path, config={"eos_token_id": 1})
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.vocab_size == 70_001
    assert tokenizer.backend.encode("ab").ids == [0, 70_000]


def test_the_digest_follows_what_decides_ids() -> None:
    def digest(vocab_size: int, eos: str) -> str:
        tokenizer = train_bpe(iter(SENTENCES), vocab_size=vocab_size, min_frequency=2)
        return TextTokenizer(tokenizer.backend, {"eos_token": eos}, None, "any").digest

    assert digest(300, "a") == digest(300, "a")
    assert len({digest(300, "a"), digest(270, "a"), digest(300, "b")}) == 3


def test_a_file_that_would_end_the_process_is_refused(tmp_path):
    """The library cuts a prefix off each merge's right side, and dies where it is longer."""
    model = {
        "type": "BPE",
        "vocab": {"a": 0, "b": 1, "ab": 2},
        "merges": ["a b"],
        "continuing_subword_prefix": "####",
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "model": model}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"is not a tokenizer\.json: a merge's right side lacks"):
        load_tokenizer(str(path))
